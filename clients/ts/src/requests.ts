import type { Connection } from './connection.js';
import { ChatError, closed, conflict, overflow, timedOut, tooLarge } from './error.js';
import { newId } from './id.js';
import { newPace } from './pace.js';
import type { Envelope } from './protocol.js';
import { isOver, toJSON, wellFormed } from './text.js';

/**
 * How to send an event that the server does not keep in a log. `once`: as soon
 * as there is a connection, and never again. `read`: until there is an answer,
 * on the next connection too, because it changes nothing. `now`: on this
 * connection only. A `read` and a `now` are sent again if the server asks to
 * wait.
 */
export type Mode = 'once' | 'read' | 'now';

export type Answer = Envelope | ChatError;

export interface WaitOptions {
  /**
   * Gives up after this many ms, however long the server has asked to wait. The
   * server may have done the work.
   */
  timeout?: number | undefined;
  /** Gives up when it is aborted. The server may have done the work. */
  signal?: AbortSignal | undefined;
  /** Your own id: at most 64 bytes, unique among the events of this user. */
  id?: string | undefined;
}

interface Pending {
  readonly _id: string;
  readonly _text: string;
  readonly _mode: Mode;
  /** Whether it was sent on this connection and has no answer yet. */
  _inFlight?: boolean;
  _settle(answer: Answer): void;
  /** Sets a new time to give up after, in ms from now. */
  readonly _expireIn: ((ms: number) => void) | undefined;
}

/**
 * Sends events that the server does not keep in a log, and matches them with
 * their answers.
 */
export interface Requests {
  /** Size of the largest message that the server accepts, in bytes. */
  _maxMessage: number;
  /**
   * Sends an event and resolves with its answer. Without a `timeout` in the
   * options, it waits as long as the server asks to.
   */
  _send(event: object, mode: Mode, options?: WaitOptions): Promise<Envelope>;
  /**
   * Sends an event and calls `settle` with its answer, before the client
   * handles the frames that follow the answer.
   */
  _ask(event: object, mode: Mode, settle: (answer: Answer) => void, id?: string, expireIn?: (ms: number) => void): void;
  /**
   * Ends the request with that id, with an answer or an error. Ignores an
   * unknown id.
   */
  _answer(id: string, answer: Answer): void;
  /** Forgets a request. Its answer is ignored. */
  _forget(id: string): void;
  /** The connection is gone. With an `error`, it will not come back. */
  _dropped(error?: ChatError): void;
  /** Sends all that can be sent now. */
  _flush(): void;
}

export function newRequests(connection: Connection, max = 256, timeout = 10_000): Requests {
  const pending = new Map<string, Pending>();
  const pace = newPace(flush); // of each `read` and `now`

  function flush() {
    let waiting = 0;
    for (const p of pending.values()) {
      const once = p._mode === 'once';
      if (!p._inFlight) {
        if (p._mode !== 'now' && !connection._ready) continue;
        // What was sent earlier is in front of it.
        if (!once && !pace._allows(waiting)) continue;
        p._inFlight = true;
        p._expireIn?.(timeout);
        connection._write(p._text);
      }
      if (!once) waiting++;
    }
  }

  function answer(id: string, result: Answer) {
    const p = pending.get(id);
    if (!p) return;
    pending.delete(id);
    const once = p._mode === 'once';
    if (!once && result instanceof ChatError && result.temporary) {
      pending.set(id, p); // behind the others
      p._inFlight = false;
      p._expireIn?.(Infinity);
      return connection._postpone(pace._refused(result));
    }
    p._settle(result);
    if (!once) pace._answered(pending.size);
  }

  const requests: Requests = {
    _maxMessage: Infinity,
    _send(event, mode, options = {}) {
      const id = wellFormed(options.id ?? newId());
      return cancellable<Envelope>(
        (settle, expireIn) =>
          requests._ask(
            event,
            mode,
            settle,
            id,
            mode === 'once' || options.timeout !== undefined ? undefined : expireIn,
          ),
        (error) => answer(id, error),
        { ...options, timeout: options.timeout ?? timeout },
      );
    },
    _ask(event, mode, settle, id = newId(), expireIn) {
      const text = encode({ ...event, id });
      const waits = mode !== 'now' && !(pace._allows(pending.size) && connection._ready);
      if (text instanceof ChatError) return settle(text);
      if (connection._stopped) return settle(closed());
      if (isOver(text, requests._maxMessage)) return settle(tooLarge());
      if (waits && pending.size >= max) return settle(overflow());
      if (pending.has(id)) return settle(conflict());
      pending.set(id, { _id: id, _text: text, _mode: mode, _settle: settle, _expireIn: expireIn });
      flush();
    },
    _answer: answer,
    _forget(id) {
      pending.delete(id);
      flush();
    },
    _dropped(error) {
      pace._reset();
      for (const p of pending.values()) {
        if (error || p._mode === 'now' || (p._mode === 'once' && p._inFlight)) {
          answer(p._id, error ?? new ChatError('disconnected'));
        } else {
          p._inFlight = false;
          p._expireIn?.(timeout);
        }
      }
    },
    _flush: flush,
  };
  return requests;
}

export function encode(envelope: object): string | ChatError {
  try {
    return toJSON(envelope);
  } catch (cause) {
    return new ChatError('bad_request', 'No valid JSON', { cause });
  }
}

/**
 * Resolves with the result that `begin` settles. Calls `cancel` on a timeout or
 * when the signal is aborted. `begin` may set the time of the timeout anew.
 */
export function cancellable<T>(
  begin: (settle: (result: T | ChatError) => void, expireIn: (ms: number) => void) => void,
  cancel: (error: ChatError) => void,
  { timeout = Infinity, signal }: WaitOptions,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const aborted = () => new ChatError('aborted', undefined, { cause: signal?.reason });
    if (signal?.aborted) return reject(aborted());
    const abort = () => cancel(aborted());
    signal?.addEventListener('abort', abort);
    const late = () => cancel(timedOut());
    let timer: ReturnType<typeof setTimeout> | undefined;
    const expireIn = (ms: number) => {
      clearTimeout(timer);
      timer = ms < Infinity ? setTimeout(late, ms) : undefined;
    };
    expireIn(timeout);
    begin((result) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      if (result instanceof ChatError) reject(result);
      else resolve(result);
    }, expireIn);
  });
}
