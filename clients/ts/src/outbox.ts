import { ChatError, conflict, lostLog, otherUser, overflow, tooLarge } from './error.js';
import { newPace } from './pace.js';
import { type Re, type Receipt, withEpoch } from './protocol.js';
import { isOver, toJSON } from './text.js';

/** A durable event that the server has not acknowledged. */
export interface Outgoing {
  readonly type: string;
  readonly id: string;
  readonly room?: string | undefined;
  readonly to?: string | undefined;
  readonly re?: Re | undefined;
  /** Of a change: the life of the log that the changed message is in. */
  readonly epoch?: string | undefined;
  readonly data: unknown;
}

/** A change in the state of a durable event. */
export type SendEvent =
  | { readonly status: 'queued'; readonly message: Outgoing }
  | { readonly status: 'sent'; readonly message: Outgoing; readonly receipt: Receipt }
  | { readonly status: 'failed'; readonly message: Outgoing; readonly error: ChatError };

type Result = Receipt | ChatError;

interface Entry {
  readonly message: Outgoing;
  readonly _text: string;
  /** Whether it was sent on this connection and has no answer yet. */
  _inFlight?: boolean;
  /** How often the server has asked to send it later. */
  _refusals: number;
  /**
   * Whether it comes from the storage. Then no caller waits for it, and its
   * room may not be joined yet.
   */
  readonly _restored?: boolean;
  _settle?: (result: Result) => void;
}

export interface OutboxOwner {
  /**
   * Whether messages for a room can be sent. Undefined if the application has
   * not joined the room.
   */
  _roomReady(room: string): boolean | undefined;
  /** The epoch of the log that the server stores a message in. */
  _epochOf(message: Outgoing): string | undefined;
  _write(text: string): void;
  _changed(event: SendEvent): void;
  _report(err: unknown): void;
}

/** What a storage keeps of an outbox. */
export interface StoredOutbox {
  readonly messages: readonly Outgoing[];
  /** Whose messages these are. Undefined: of the next user to connect. */
  readonly user: string | undefined;
  /**
   * Puts what another outbox left in front. It fails if it is of another user.
   */
  restore(messages: readonly Outgoing[], user: string | undefined): void;
}

/**
 * Keeps an outbox for the next page, as `keptIn` of `chathub-client/storage`
 * does. Returns a function that is called after changes.
 */
export type OutboxStorage = (outbox: StoredOutbox, report: (err: unknown) => void) => () => void;

/**
 * Keeps durable events, oldest first, until the server has answered. It sends
 * one event at a time for each room, and one at a time of those without a room.
 * So an event that has to be repeated is not overtaken by the next.
 */
export interface Outbox extends StoredOutbox {
  /** Adds a message. Calls `settle` with its receipt or its error. */
  _add(message: Outgoing, text: string, settle: (result: Result) => void): void;
  /**
   * The connection can be used. Messages that another user left here fail,
   * since this user must not send them.
   */
  _opened(user: string, maxMessage: number): void;
  _dropped(): void;
  /** Gives all callers an error. The messages stay. */
  _abandon(error: ChatError): void;
  /** Sends all messages that can be sent now. */
  _flush(): void;
  /** Takes an answer. Returns false if the id is not one of the outbox. */
  _answer(id: string, result: Result): boolean;
  /** Fails the chosen messages. Returns whether there were any. */
  _fail(choose: (message: Outgoing, inFlight: boolean | undefined) => boolean, error: ChatError): boolean;
}

export function newOutbox(owner: OutboxOwner, max = 256, storage?: OutboxStorage): Outbox {
  let entries: Entry[] = [];
  let user: string | undefined;
  let maxMessage = Infinity;
  let isOpen = false;
  const pace = newPace(flush);

  function flush() {
    if (!isOpen) return;
    const busyRooms = new Set<string>();
    const next: Entry[] = [];
    for (const entry of entries) {
      const { message } = entry;
      const { room = '' } = message;
      if (busyRooms.has(room)) continue;
      busyRooms.add(room);
      if (entry._inFlight || (room && !(owner._roomReady(room) ?? !entry._restored))) continue;
      const epoch = owner._epochOf(message);
      const lost = (message.epoch ?? epoch) !== epoch;
      if (lost || isOver(entry._text, maxMessage)) {
        settle(entry, lost ? lostLog() : tooLarge());
        return flush();
      }
      next.push(entry);
    }
    // A room that the server goes on refusing does not hold up the others.
    next.sort((a, b) => a._refusals - b._refusals);
    let waiting = entries.filter((e) => e._inFlight).length;
    for (const entry of next) {
      if (!pace._allows(waiting++)) break;
      entry._inFlight = true;
      owner._write(entry._text);
    }
  }

  function settle(entry: Entry, result: Result) {
    const { message } = entry;
    entries = entries.filter((e) => e !== entry);
    save();
    entry._settle?.(result);
    owner._changed(
      result instanceof ChatError
        ? { status: 'failed', message, error: result }
        : { status: 'sent', message, receipt: result },
    );
  }

  function queued(message: Outgoing) {
    owner._changed({ status: 'queued', message });
  }

  function fail(choose: (message: Outgoing, inFlight: boolean | undefined) => boolean, error: ChatError) {
    const failed = entries.filter((e) => choose(e.message, e._inFlight));
    for (const entry of failed) settle(entry, error);
    if (failed.length > 0) flush();
    return failed.length > 0;
  }

  const outbox: Outbox = {
    get messages() {
      return entries.map((e) => e.message);
    },
    get user() {
      return user;
    },
    restore(messages, from) {
      const ids = new Set(entries.map((e) => e.message.id));
      const found = messages.filter(({ id }) => !ids.has(id) && ids.add(id));
      entries.unshift(...found.map((message) => ({ message, _text: toJSON(message), _refusals: 0, _restored: true })));
      for (const message of found) queued(message);
      if (user !== undefined && from !== undefined && from !== user) fail((m) => found.includes(m), otherUser());
      user ??= from;
      flush();
    },
    _add(message, text, done) {
      if (entries.some((e) => e.message.id === message.id)) return done(conflict());
      const entry: Entry = { message, _text: text, _refusals: 0, _settle: done };
      if (entries.length >= max) return settle(entry, overflow());
      entries.push(entry);
      save();
      queued(message);
      flush();
    },
    _opened(id, bytes) {
      if (user !== undefined && user !== id) fail(() => true, otherUser());
      user = id;
      maxMessage = bytes;
      isOpen = true;
      save();
      flush();
    },
    _dropped() {
      isOpen = false;
      pace._reset();
      for (const entry of entries) entry._inFlight = false;
    },
    _abandon(error) {
      for (const entry of entries) {
        entry._settle?.(error);
        delete entry._settle;
      }
    },
    _flush: flush,
    _answer(id, result) {
      const entry = entries.find((e) => e._inFlight && e.message.id === id);
      if (!entry) return false;
      entry._inFlight = false;
      if (result instanceof ChatError && result.temporary) {
        entry._refusals++;
        pace._refused(result);
      } else {
        settle(entry, result instanceof ChatError ? result : withEpoch(result, owner._epochOf(entry.message)));
        pace._answered(entries.length);
      }
      return true;
    },
    _fail: fail,
  };
  const save = storage?.(outbox, owner._report) ?? (() => {});
  return outbox;
}
