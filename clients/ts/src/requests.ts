import type { Connection } from './connection.js';
import { ChatError, closed, conflict, overflow, timedOut, tooLarge } from './error.js';
import { newId } from './id.js';
import { Pace } from './pace.js';
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
  readonly id: string;
  readonly text: string;
  readonly mode: Mode;
  /** Whether it was sent on this connection and has no answer yet. */
  inFlight: boolean;
  settle(answer: Answer): void;
  /** Sets a new time to give up after, in ms from now. */
  readonly expireIn: ((ms: number) => void) | undefined;
}

/**
 * Requests sends events that the server does not keep in a log, and matches
 * them with their answers.
 */
export class Requests {
  readonly #connection: Connection;
  readonly #max: number;
  readonly #timeout: number;
  readonly #pending = new Map<string, Pending>();
  readonly #pace = new Pace(() => this.flush()); // of each `read` and `now`
  /** Size of the largest message that the server accepts, in bytes. */
  maxMessage = Infinity;

  constructor(connection: Connection, max = 256, timeout = 10_000) {
    this.#connection = connection;
    this.#max = max;
    this.#timeout = timeout;
  }

  /**
   * Sends an event and resolves with its answer. Without a `timeout` in the
   * options, it waits as long as the server asks to.
   */
  send(event: object, mode: Mode, options: WaitOptions = {}): Promise<Envelope> {
    const { timeout = this.#timeout } = options;
    const id = wellFormed(options.id ?? newId());
    return cancellable<Envelope>(
      (settle, expireIn) =>
        this.ask(event, mode, settle, id, mode === 'once' || options.timeout !== undefined ? undefined : expireIn),
      (error) => this.answer(id, error),
      { ...options, timeout },
    );
  }

  /**
   * Sends an event and calls `settle` with its answer, before the client
   * handles the frames that follow the answer.
   */
  ask(
    event: object,
    mode: Mode,
    settle: (answer: Answer) => void,
    id = newId(),
    expireIn?: (ms: number) => void,
  ): void {
    const text = encode({ ...event, id });
    const waits = mode !== 'now' && !(this.#pace.allows(this.#pending.size) && this.#connection.ready);
    if (text instanceof ChatError) return settle(text);
    if (this.#connection.stopped) return settle(closed());
    if (isOver(text, this.maxMessage)) return settle(tooLarge());
    if (waits && this.#pending.size >= this.#max) return settle(overflow());
    if (this.#pending.has(id)) return settle(conflict());
    this.#pending.set(id, { id, text, mode, inFlight: false, settle, expireIn });
    this.flush();
  }

  /**
   * Ends the request with that id, with an answer or an error. Ignores an
   * unknown id.
   */
  answer(id: string, answer: Answer): void {
    const p = this.#pending.get(id);
    if (!p) return;
    this.#pending.delete(id);
    if (answer instanceof ChatError && answer.temporary && p.mode !== 'once') {
      this.#pending.set(id, p); // behind the others
      p.inFlight = false;
      p.expireIn?.(Infinity);
      return this.#connection.postpone(this.#pace.refused(answer));
    }
    p.settle(answer);
    if (p.mode !== 'once') this.#pace.answered(this.#pending.size);
  }

  /** Forgets a request. Its answer is ignored. */
  forget(id: string): void {
    this.#pending.delete(id);
    this.flush();
  }

  /** The connection is gone. With an `error`, it will not come back. */
  dropped(error?: ChatError): void {
    this.#pace.reset();
    for (const p of this.#pending.values()) {
      if (error || p.mode === 'now' || (p.mode === 'once' && p.inFlight)) {
        this.answer(p.id, error ?? new ChatError('disconnected'));
      } else {
        p.inFlight = false;
        p.expireIn?.(this.#timeout);
      }
    }
  }

  /** Sends all that can be sent now. */
  flush(): void {
    let waiting = 0;
    for (const p of this.#pending.values()) {
      if (!p.inFlight) {
        if (p.mode !== 'now' && !this.#connection.ready) continue;
        // What was sent earlier is in front of it.
        if (p.mode !== 'once' && !this.#pace.allows(waiting)) continue;
        p.inFlight = true;
        p.expireIn?.(this.#timeout);
        this.#connection.write(p.text);
      }
      if (p.mode !== 'once') waiting++;
    }
  }
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
