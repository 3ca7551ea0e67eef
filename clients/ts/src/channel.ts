import { isEnvelope, isObject, isReading } from './check.js';
import type { Connection } from './connection.js';
import { invalid, lostLog } from './error.js';
import { type Emitter, newEmitter, type Unsubscribe } from './events.js';
import { newId } from './id.js';
import type { Log } from './log.js';
import type { WaitOptions } from './outbox.js';
import {
  type Changed,
  type Durable,
  type Envelope,
  type History,
  type Re,
  type Reading,
  type Receipt,
  type User,
  withEpoch,
} from './protocol.js';
import type { Queue } from './queue.js';

export interface SendOptions<Ref extends Re = Re> extends WaitOptions {
  /** The message that this one answers. */
  re?: Ref | undefined;
}

export interface HistoryOptions<Ref extends Re = Re> {
  /** Messages before this position, the newest of them. */
  before?: number | undefined;
  /** Messages after this position, the oldest of them. */
  after?: number | undefined;
  /**
   * Messages on both sides of this position, and the one that has it. Excludes
   * `before` and `after`.
   */
  around?: number | undefined;
  limit?: number | undefined;
  /** The types of events to list. Default: all durable ones. */
  types?: readonly string[] | undefined;
  /** Lists the answers to this message. In rooms only. */
  re?: Ref | undefined;
}

export interface CallOptions extends SendOptions {
  room?: string | undefined;
  to?: string | undefined;
}

/** What a channel needs of its client. */
export interface ChannelHost {
  readonly _connection: Connection;
  readonly _queue: Queue;
  /** Whom the server last connected this client as. */
  _user: User | undefined;
  /** Takes whatever code of the application throws. */
  _report(err: unknown): void;
  // biome-ignore lint/suspicious/noExplicitAny: what it is depends on the type
  _send(type: string, data: unknown, options?: CallOptions): Promise<any>;
  /** Has the server say anew what is unread. */
  _count(to: { room?: string; to?: string }): Promise<unknown>;
}

const MANY = 100; // unread messages: no more are counted

/**
 * Where messages go: a room, or the private messages with one user, from
 * `client.conversation(userId)`. `Ref` names a message: its `seq` in a room,
 * and a PrivateRef in private.
 */
export class Channel<Data = unknown, Ref extends Re = Re> {
  /** The name of the room, or the id of the other user. */
  declare readonly name: string;
  /** @internal */
  readonly _core: ChannelHost;
  /** The log that its messages are in. @internal */
  readonly _log: Log;
  /** Calls those who listen here. @internal */
  readonly _events: Emitter;
  readonly #type: Durable;
  readonly #to: { room?: string; to?: string };
  #epoch: string | undefined; // of the reading
  #reading: Reading | undefined;
  #seen: Envelope[] = []; // the newest messages of others
  #stale = false; // whether a deletion has come since the last count
  #counting = false;
  #mark = 0; // the highest position to mark as read
  readonly #markId = newId();
  #marking: Promise<Reading> | undefined;

  /** @internal */
  constructor(core: ChannelHost, type: Durable, name: string, log: Log) {
    this._core = core;
    this._log = log;
    this._events = newEmitter(core._report);
    this.#type = type;
    this.name = name;
    this.#to = type === 'room-message' ? { room: name } : { to: name };
  }

  /** Sends a message, and repeats it until the server has stored it. */
  send(data: Data, options?: SendOptions<Ref>): Promise<Receipt> {
    return this._core._send(this.#type, data, { ...options, ...this.#to });
  }

  /** Replaces the data of a message of one's own. Repeated like `send`. */
  edit(message: Ref, data: Data, options?: WaitOptions): Promise<Receipt> {
    return this.#change('edit-message', message, { data }, options);
  }

  /** Deletes a message for everyone. Repeated like `send`. */
  remove(message: Ref, options?: WaitOptions): Promise<Receipt> {
    return this.#change('delete-message', message, {}, options);
  }

  /**
   * Reacts to a message, or takes the reaction back if `on` is false. `key` is
   * 1 to 32 bytes. Repeated like `send`.
   */
  react(message: Ref, key: string, on = true, options?: WaitOptions): Promise<Receipt> {
    return this.#change('react', message, { key, on }, options);
  }

  #change(type: Durable, message: Re, more: object, options?: WaitOptions): Promise<Receipt> {
    const data = { ...(typeof message === 'number' ? { seq: message } : message), ...more };
    return this._core._send(type, data, { ...options, ...this.#to });
  }

  /**
   * Reads the server's log, or one's own inbox for private messages: the
   * newest messages, unless the options say otherwise. The application's other
   * durable events in a room are among them unless `types` leaves them out, so
   * check the `type`. The server may return fewer than `limit`. It may also ask
   * to wait, which this does.
   */
  async history(options: HistoryOptions<Ref> = {}): Promise<History<Data>> {
    const { data } = await this._core._queue._send({ type: 'history', ...this.#to, data: options }, 'read');
    if (!isObject(data) || !Array.isArray(data.messages)) throw invalid();
    const messages = data.messages.filter(isEnvelope).map((e) => withEpoch(e, this._log._epoch));
    const { more, newer, next } = data as unknown as History;
    return { messages: messages as Envelope<never>[], more: more === true, newer: newer === true, next };
  }

  /** The position up to which this user has read. Undefined if unknown. */
  get read(): number | undefined {
    return this.#reading?.seq;
  }

  /**
   * How many messages of others follow the marker. 100 means 100 or more.
   * Undefined if unknown: until the room is joined, or `overview` was called.
   */
  get unread(): number | undefined {
    const r = this.#reading;
    return r && Math.min(r.unread + this.#seen.filter((e) => (e.seq ?? 0) > r.head).length, MANY);
  }

  /** Calls `fn` after changes of `read` and `unread`. */
  onRead(fn: () => void): Unsubscribe {
    return this._events.on('\nread', fn);
  }

  /**
   * Marks everything up to a position as read, on all devices. It is sent until
   * the server has answered. Of several calls at once, the highest position is
   * sent. Resolves with the marker, which only moves forward.
   */
  markRead(seq: number): Promise<Reading> {
    this.#mark = Math.max(this.#mark, seq);
    this.#marking ??= this.#sendMark().finally(() => {
      this.#marking = undefined;
      this.#mark = 0;
    });
    return this.#marking;
  }

  async #sendMark(): Promise<Reading> {
    for (;;) {
      const seq = this.#mark;
      const event = { type: 'mark-read', ...this.#to, data: { seq } };
      const { data } = await this._core._queue._send(event, 'read', { id: this.#markId, timeout: Infinity });
      if (!isReading(data)) throw invalid();
      this._learn(data);
      if (seq === this.#mark) return data;
    }
  }

  /** Takes what the server says about the marker. @internal */
  _learn(reading: Reading, epoch = this.#epoch): void {
    if (this.#epoch !== undefined && epoch !== this.#epoch) this._renew();
    this.#epoch = epoch;
    const { seq, head } = this.#reading ?? reading;
    // An older answer may come later.
    if (reading.seq < seq || (reading.seq === seq && reading.head < head)) return;
    this.#reading = reading;
    this.#tell();
  }

  /** Another log begins, whose positions do not compare. @internal */
  _renew(): void {
    this.#reading = this.#epoch = undefined;
    this.#seen = [];
    this._core._queue._answer(this.#markId, lostLog());
  }

  /** Updates the state from an event. @internal */
  _observe(e: Envelope): void {
    if (e.type === 'read') {
      if (!isReading(e.data)) return;
      this._learn(e.data);
      // It lacks messages that this client has not heard of.
      if (this.#reading === e.data && e.data.head < this._log._heardFrom) void this.#count();
    } else if (e.type === this.#type && e.deleted === undefined && e.from?.id !== this._core._user?.id) {
      this.#seen = [...this.#seen.slice(1 - MANY), e];
      this.#tell();
    } else if (e.type === 'message-changed' && (e.data as Changed).change === 'deleted') {
      const { seq, id } = e.data as Changed;
      const gone = this.#seen.find((m) => (id === undefined ? m.seq === seq : m.id === id));
      this.#deleted(gone?.seq ?? seq, gone, e.seq);
    }
  }

  #deleted(at = Infinity, gone?: Envelope, when = 0): void {
    this.#seen = this.#seen.filter((m) => m !== gone);
    const r = this.#reading;
    // The server has counted it, unless it knew of the deletion.
    if (r?.unread && at > r.seq && (at <= r.head || !gone) && when > r.head) {
      if (gone && r.unread < MANY) this.#reading = { ...r, unread: r.unread - 1 };
      else void this.#count();
    }
    this.#tell();
  }

  // For a message that is not known here, or if the server has not counted all.
  // Deletions in quick succession are counted together.
  async #count(): Promise<void> {
    this.#stale = true;
    if (this.#counting) return;
    this.#counting = true;
    while (this.#stale) {
      this.#stale = false;
      await this._core._count(this.#to).catch(() => {});
    }
    this.#counting = false;
  }

  #tell(): void {
    this._events._emit('\nread');
  }
}
