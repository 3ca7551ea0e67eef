import { ChatError, conflict, lostLog, otherUser, overflow, tooLarge } from './error.js';
import { Pace } from './pace.js';
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

interface Entry {
  readonly message: Outgoing;
  readonly text: string;
  /** Whether it was sent on this connection and has no answer yet. */
  inFlight: boolean;
  /** How often the server has asked to send it later. */
  refusals: number;
  /**
   * Whether it comes from the storage. Then no caller waits for it, and its
   * room may not be joined yet.
   */
  readonly restored: boolean;
  settle?: (result: Receipt | ChatError) => void;
}

export interface OutboxOwner {
  /**
   * Whether messages for a room can be sent. Undefined if the application has
   * not joined the room.
   */
  roomReady(room: string): boolean | undefined;
  /** The epoch of the log that the server stores a message in. */
  epochOf(message: Outgoing): string | undefined;
  write(text: string): void;
  changed(event: SendEvent): void;
  report(err: unknown): void;
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
 * Outbox keeps durable events, oldest first, until the server has answered. It
 * sends one event at a time for each room, and one at a time of those without a
 * room. So an event that has to be repeated is not overtaken by the next.
 */
export class Outbox {
  readonly #owner: OutboxOwner;
  readonly #max: number;
  readonly #save: () => void;
  #entries: Entry[] = [];
  /** Whose messages these are. Undefined: of the next user to connect. */
  user: string | undefined;
  #maxMessage = Infinity;
  #open = false;
  readonly #pace = new Pace(() => this.flush());

  constructor(owner: OutboxOwner, max = 256, storage?: OutboxStorage) {
    this.#owner = owner;
    this.#max = max;
    this.#save = storage?.(this, owner.report) ?? (() => {});
  }

  get messages(): readonly Outgoing[] {
    return this.#entries.map((e) => e.message);
  }

  /** Adds a message. Calls `settle` with its receipt or its error. */
  add(message: Outgoing, text: string, settle: (result: Receipt | ChatError) => void): void {
    if (this.#entries.some((e) => e.message.id === message.id)) {
      return settle(conflict());
    }
    const entry = { message, text, inFlight: false, refusals: 0, restored: false, settle };
    if (this.#entries.length >= this.#max) return this.#settle(entry, overflow());
    this.#entries.push(entry);
    this.#save();
    this.#owner.changed({ status: 'queued', message });
    this.flush();
  }

  /**
   * The connection can be used. Messages that another user left here fail,
   * since this user must not send them.
   */
  opened(user: string, maxMessage: number | undefined): void {
    if (this.user !== undefined && this.user !== user) {
      this.fail(() => true, otherUser());
    }
    this.user = user;
    this.#maxMessage = maxMessage || Infinity;
    this.#open = true;
    this.#save();
    this.flush();
  }

  dropped(): void {
    this.#open = false;
    this.#pace.reset();
    for (const entry of this.#entries) entry.inFlight = false;
  }

  /** Gives all callers an error. The messages stay. */
  abandon(error: ChatError): void {
    for (const entry of this.#entries) {
      entry.settle?.(error);
      delete entry.settle;
    }
  }

  /** Sends all messages that can be sent now. */
  flush(): void {
    if (!this.#open) return;
    const busyRooms = new Set<string>();
    const next: Entry[] = [];
    for (const entry of this.#entries) {
      const room = entry.message.room ?? '';
      if (busyRooms.has(room)) continue;
      busyRooms.add(room);
      if (entry.inFlight) continue;
      const epoch = this.#owner.epochOf(entry.message);
      if (room !== '' && !(this.#owner.roomReady(room) ?? !entry.restored)) continue;
      const lost = (entry.message.epoch ?? epoch) !== epoch;
      if (lost || isOver(entry.text, this.#maxMessage)) {
        this.#settle(entry, lost ? lostLog() : tooLarge());
        return this.flush();
      }
      next.push(entry);
    }
    // A room that the server goes on refusing does not hold up the others.
    next.sort((a, b) => a.refusals - b.refusals);
    let waiting = this.#entries.filter((e) => e.inFlight).length;
    for (const entry of next) {
      if (!this.#pace.allows(waiting++)) break;
      entry.inFlight = true;
      this.#owner.write(entry.text);
    }
  }

  /** Takes an answer. Returns false if the id is not one of the outbox. */
  answer(id: string, result: Receipt | ChatError): boolean {
    const entry = this.#entries.find((e) => e.inFlight && e.message.id === id);
    if (!entry) return false;
    entry.inFlight = false;
    if (result instanceof ChatError && result.temporary) {
      entry.refusals++;
      this.#pace.refused(result);
      return true;
    }
    this.#settle(entry, result instanceof ChatError ? result : withEpoch(result, this.#owner.epochOf(entry.message)));
    this.#pace.answered(this.#entries.length);
    return true;
  }

  /** Fails the chosen messages. Returns whether there were any. */
  fail(choose: (message: Outgoing, inFlight: boolean) => boolean, error: ChatError): boolean {
    const entries = this.#entries.filter((e) => choose(e.message, e.inFlight));
    for (const entry of entries) this.#settle(entry, error);
    if (entries.length > 0) this.flush();
    return entries.length > 0;
  }

  #settle(entry: Entry, result: Receipt | ChatError): void {
    this.#entries = this.#entries.filter((e) => e !== entry);
    this.#save();
    const { message } = entry;
    entry.settle?.(result);
    if (result instanceof ChatError) this.#owner.changed({ status: 'failed', message, error: result });
    else this.#owner.changed({ status: 'sent', message, receipt: result });
  }

  /**
   * Puts what another outbox left in front. It fails if it is of another user.
   * @internal
   */
  restore(messages: readonly Outgoing[], user: string | undefined): void {
    const ids = new Set(this.#entries.map((e) => e.message.id));
    const entries = messages
      .filter(({ id }) => !ids.has(id) && ids.add(id))
      .map((message) => ({ message, text: toJSON(message), inFlight: false, refusals: 0, restored: true }));
    this.#entries.unshift(...entries);
    for (const { message } of entries) this.#owner.changed({ status: 'queued', message });
    if (this.user !== undefined && user !== undefined && user !== this.user) {
      this.fail((m) => messages.includes(m), otherUser());
    }
    this.user ??= user;
    this.flush();
  }
}
