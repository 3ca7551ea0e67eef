import { isReceipt } from './check.js';
import type { Connection } from './connection.js';
import { ChatError, conflict, lostLog, otherUser } from './error.js';
import { newId } from './id.js';
import type { ChatOptions } from './options.js';
import type { Outgoing, SendEvent, StoredOutbox, WaitOptions } from './outbox.js';
import { newPace, type Pace } from './pace.js';
import { type Envelope, type Receipt, withEpoch } from './protocol.js';
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

interface Entry {
  readonly _id: string;
  readonly _text: string;
  /** If it is durable. */
  readonly _message?: Outgoing;
  /** If it is not. */
  readonly _mode?: Mode;
  /** Of those that are sent again if the server asks to wait. */
  readonly _pace: Pace | undefined;
  /** Whether it was sent on this connection and has no answer yet. */
  _inFlight?: boolean;
  /** How often the server has asked to send it later. */
  _refusals: number;
  /**
   * Whether it comes from the storage. Then no caller waits for it, and its
   * room may not be joined yet.
   */
  readonly _restored?: boolean | undefined;
  _settle?: ((result: never) => void) | undefined;
  /** Sets a new time to give up after, in ms from now. */
  readonly _expireIn?: ((ms: number) => void) | undefined;
}

export interface QueueOwner {
  /**
   * Whether messages for a room can be sent. Undefined if the application has
   * not joined the room.
   */
  _canSend(room: string): boolean | undefined;
  /** The epoch of the log that the server stores a message in. */
  _epochOf(message: Outgoing): string | undefined;
  _changed(event: SendEvent): void;
  _report(err: unknown): void;
}

/**
 * Sends events, and matches them with their answers. Durable events stay in it,
 * oldest first, until the server has answered: these are the outbox. It sends
 * one of them at a time for each room, and one at a time of those without a
 * room. So an event that has to be repeated is not overtaken by the next.
 */
export interface Queue extends StoredOutbox {
  /** Size of the largest message that the server accepts, in bytes. */
  _maxMessage: number;
  /** Sends a durable event and resolves with its receipt. */
  _keep(event: Omit<Outgoing, 'id'>, options: WaitOptions): Promise<Receipt>;
  /**
   * Sends another event and resolves with its answer. Without a `timeout` in
   * the options, it waits as long as the server asks to.
   */
  _send(event: object, mode: Mode, options?: WaitOptions): Promise<Envelope>;
  /**
   * Sends another event and calls `settle` with its answer, before the client
   * handles the frames that follow the answer.
   */
  _ask(event: object, mode: Mode, settle: (answer: Answer) => void, id?: string, expireIn?: (ms: number) => void): void;
  /**
   * Ends what has that id, with an answer or an error. Ignores an unknown id.
   */
  _answer(id: string, answer: Answer): void;
  /** Forgets what has that id. Its answer is ignored. */
  _forget(id: string): void;
  /** Fails the chosen messages. Returns whether there were any. */
  _fail(choose: (message: Outgoing, inFlight: boolean | undefined) => unknown, error: ChatError): boolean;
  /**
   * The connection can be used. Messages that another user left here fail,
   * since this user must not send them.
   */
  _open(user: string): void;
  /**
   * The connection is gone. With an `error`, all callers get it, and only the
   * durable events stay.
   */
  _dropped(error?: ChatError): void;
}

export function newQueue(connection: Connection, owner: QueueOwner, options: ChatOptions): Queue {
  const { maxOutbox = 256, timeout = 10_000, storage } = options;
  let entries = new Map<string, Entry>();
  let user: string | undefined;
  let isOpen = false;
  const kept = newPace(flush);
  const asked = newPace(flush); // of each `read` and `now`

  const list = (isKept: boolean) => [...entries.values()].filter((e) => !e._message !== isKept);

  function flush() {
    const busyRooms = new Set<string>();
    const next: Entry[] = [];
    kept._waiting = asked._waiting = 0;
    for (const e of entries.values()) {
      const { _message: message, _inFlight, _restored } = e;
      if (_inFlight && e._pace) e._pace._waiting++;
      if (message) {
        const { room = '' } = message;
        if (busyRooms.has(room)) continue;
        busyRooms.add(room);
        if (_inFlight || !isOpen || (room && !(owner._canSend(room) ?? !_restored))) continue;
        const epoch = owner._epochOf(message);
        const lost = (message.epoch ?? epoch) !== epoch;
        if (lost || isOver(e._text, queue._maxMessage)) {
          end(e, lost ? lostLog() : new ChatError('too_large'));
          return flush();
        }
      } else if (_inFlight || (e._mode !== 'now' && !connection._ready)) continue;
      next.push(e);
    }
    // What the server goes on refusing does not hold up the others.
    next.sort((a, b) => a._refusals - b._refusals);
    for (const e of next) {
      // A listener may have sent it meanwhile.
      if (e._inFlight || (e._pace && !e._pace._canSend(e._pace._waiting++))) continue;
      e._inFlight = true;
      e._expireIn?.(timeout);
      connection._write(e._text);
    }
  }

  function end(e: Entry, answer: Answer) {
    const { _id: id, _message: message } = e;
    entries.delete(id);
    e._inFlight = true; // it must not be sent any more
    if (!message) return e._settle?.(answer as never);
    save();
    if (answer instanceof ChatError) {
      e._settle?.(answer as never);
      owner._changed({ status: 'failed', message, error: answer });
    } else {
      const receipt = withEpoch({ ...(isReceipt(answer.data) && answer.data), id }, owner._epochOf(message));
      e._settle?.(receipt as never);
      owner._changed({ status: 'sent', message, receipt });
    }
  }

  function entryOf(message: Outgoing, text: string, restored?: boolean): Entry {
    return { _id: message.id, _text: text, _message: message, _pace: kept, _refusals: 0, _restored: restored };
  }

  function queued(message: Outgoing) {
    owner._changed({ status: 'queued', message });
  }

  function answer(id: string, result: Answer) {
    const e = entries.get(id);
    if (!e || (e._message && !e._inFlight)) return;
    if (e._pace && result instanceof ChatError && result.temporary) {
      e._inFlight = false;
      if (e._message) e._refusals++;
      else entries.delete(id);
      entries.set(id, e); // a request goes behind the others
      e._expireIn?.(Infinity);
      return connection._postpone(e._pace._postpone(result));
    }
    end(e, result);
    e._pace?._answer(list(!!e._message).length);
  }

  function fail(choose: (message: Outgoing, inFlight: boolean | undefined) => unknown, error: ChatError) {
    const failed = list(true).filter((e) => choose(e._message as Outgoing, e._inFlight));
    for (const e of failed) end(e, error);
    flush();
    return failed.length > 0;
  }

  function abandon(e: Entry, error: ChatError) {
    e._settle?.(error as never);
    e._settle = undefined;
  }

  const queue: Queue = {
    get messages() {
      return list(true).map((e) => e._message as Outgoing);
    },
    get user() {
      return user;
    },
    restore(messages, from) {
      const found = messages.filter(({ id }) => !entries.has(id));
      entries = new Map([...found.map((m) => [m.id, entryOf(m, toJSON(m), true)] as const), ...entries]);
      for (const message of found) queued(message);
      if ((from ?? user) !== (user ?? from)) fail((m) => found.includes(m), otherUser());
      user ??= from;
      flush();
    },
    _maxMessage: Infinity,
    async _keep(event, options) {
      const text = encode({ id: options.id ?? newId(), ...event });
      if (text instanceof ChatError) throw text;
      // As the server gets it. If the application changed its data later, what
      // the storage keeps would be another message with the same id.
      const message: Outgoing = JSON.parse(text);
      return cancellable<Receipt>(
        (settle) => {
          if (entries.has(message.id)) return settle(conflict());
          const e = entryOf(message, text);
          e._settle = settle;
          if (list(true).length >= maxOutbox) return end(e, new ChatError('overflow'));
          entries.set(e._id, e);
          save();
          queued(message);
          flush();
          if (connection._stopped) abandon(e, new ChatError('closed'));
        },
        (error) => fail((m) => m === message, error),
        options,
      );
    },
    _send(event, mode, options = {}) {
      const id = wellFormed(options.id ?? newId());
      return cancellable<Envelope>(
        (settle, expireIn) =>
          queue._ask(event, mode, settle, id, mode === 'once' || options.timeout !== undefined ? undefined : expireIn),
        (error) => answer(id, error),
        { ...options, timeout: options.timeout ?? timeout },
      );
    },
    _ask(event, mode, settle, id = newId(), expireIn) {
      const text = encode({ ...event, id });
      const { length } = list(false);
      if (text instanceof ChatError) return settle(text);
      if (connection._stopped) return settle(new ChatError('closed'));
      if (isOver(text, queue._maxMessage)) return settle(new ChatError('too_large'));
      if (mode !== 'now' && !(asked._canSend(length) && connection._ready) && length >= maxOutbox) {
        return settle(new ChatError('overflow'));
      }
      if (entries.has(id)) return settle(conflict());
      entries.set(id, {
        _id: id,
        _text: text,
        _mode: mode,
        _pace: mode === 'once' ? undefined : asked,
        _refusals: 0,
        _settle: settle,
        _expireIn: expireIn,
      });
      flush();
    },
    _answer: answer,
    _forget(id) {
      entries.delete(id);
      flush();
    },
    _fail: fail,
    _open(id) {
      if ((user ?? id) !== id) fail(() => true, otherUser());
      user = id;
      isOpen = true;
      save();
      flush();
    },
    _dropped(error) {
      isOpen = false;
      kept._dropped();
      asked._dropped();
      for (const e of entries.values()) {
        if (!e._message && (error || e._mode === 'now' || (e._mode === 'once' && e._inFlight))) {
          answer(e._id, error ?? new ChatError('disconnected'));
        } else {
          e._inFlight = false;
          e._expireIn?.(timeout);
          if (error) abandon(e, error);
        }
      }
    },
  };
  const save = storage?.(queue, owner._report) ?? (() => {});
  return queue;
}

function encode(envelope: object): string | ChatError {
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
function cancellable<T>(
  begin: (settle: (result: T | ChatError) => void, expireIn: (ms: number) => void) => void,
  cancel: (error: ChatError) => void,
  { timeout = Infinity, signal }: WaitOptions,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const aborted = () => new ChatError('aborted', undefined, { cause: signal?.reason });
    if (signal?.aborted) return reject(aborted());
    const abort = () => cancel(aborted());
    signal?.addEventListener('abort', abort);
    const late = () => cancel(new ChatError('timeout'));
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
