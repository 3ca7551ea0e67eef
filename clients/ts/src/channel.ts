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
export interface Channel<Data = unknown, Ref extends Re = Re> {
  /** The name of the room, or the id of the other user. */
  readonly name: string;
  /** Sends a message, and repeats it until the server has stored it. */
  send(data: Data, options?: SendOptions<Ref>): Promise<Receipt>;
  /** Replaces the data of a message of one's own. Repeated like `send`. */
  edit(message: Ref, data: Data, options?: WaitOptions): Promise<Receipt>;
  /** Deletes a message for everyone. Repeated like `send`. */
  remove(message: Ref, options?: WaitOptions): Promise<Receipt>;
  /**
   * Reacts to a message, or takes the reaction back if `on` is false. `key` is
   * 1 to 32 bytes. Repeated like `send`.
   */
  react(message: Ref, key: string, on?: boolean, options?: WaitOptions): Promise<Receipt>;
  /**
   * Reads the server's log, or one's own inbox for private messages: the
   * newest messages, unless the options say otherwise. The application's other
   * durable events in a room are among them unless `types` leaves them out, so
   * check the `type`. The server may return fewer than `limit`. It may also ask
   * to wait, which this does.
   */
  history(options?: HistoryOptions<Ref>): Promise<History<Data>>;
  /** The position up to which this user has read. Undefined if unknown. */
  readonly read: number | undefined;
  /**
   * How many messages of others follow the marker. 100 means 100 or more.
   * Undefined if unknown: until the room is joined, or `overview` was called.
   */
  readonly unread: number | undefined;
  /** Calls `fn` after changes of `read` and `unread`. */
  onRead(fn: () => void): Unsubscribe;
  /**
   * Marks everything up to a position as read, on all devices. It is sent until
   * the server has answered. Of several calls at once, the highest position is
   * sent. Resolves with the marker, which only moves forward.
   */
  markRead(seq: number): Promise<Reading>;

  /** Calls those who listen here. @internal */
  readonly _events: Emitter;
  /**
   * Takes what the server says about the marker. Returns whether it is news.
   * @internal
   */
  _learn(next: Reading, epoch: string | undefined): boolean;
  /** Another log begins, whose positions do not compare. @internal */
  _renew(): void;
  /** Updates the state from an event. @internal */
  _receive(e: Envelope): void;
}

/** Makes a channel of a log. `type` is that of its messages. */
export function newChannel<Data, Ref extends Re>(
  host: ChannelHost,
  type: Durable,
  name: string,
  log: Log,
): Channel<Data, Ref> {
  const events = newEmitter(host._report);
  const queue = host._queue;
  const to: { room?: string; to?: string } = type === 'room-message' ? { room: name } : { to: name };
  let epoch: string | undefined; // of the reading
  let reading: Reading | undefined;
  let seen: Envelope[] = []; // the newest messages of others
  let stale = false; // whether a deletion has come since the last count
  let counting = false;
  let mark = 0; // the highest position to mark as read
  const markId = newId();
  let marking: Promise<Reading> | undefined;

  function change(type: Durable, message: Re, more: object, options?: WaitOptions): Promise<Receipt> {
    const data = { ...(typeof message === 'number' ? { seq: message } : message), ...more };
    return host._send(type, data, { ...options, ...to });
  }

  async function sendMark(): Promise<Reading> {
    for (;;) {
      const seq = mark;
      const event = { type: 'mark-read', ...to, data: { seq } };
      const { data } = await queue._send(event, 'read', { id: markId, timeout: Infinity });
      if (!isReading(data)) throw invalid();
      learn(data, epoch);
      if (seq === mark) return data;
    }
  }

  function learn(next: Reading, of: string | undefined): boolean {
    if (epoch !== undefined && of !== epoch) renew();
    epoch = of;
    const { seq, head } = reading ?? next;
    // An older answer may come later.
    if (next.seq < seq || (next.seq === seq && next.head < head)) return false;
    reading = next;
    tell();
    return true;
  }

  function renew() {
    reading = epoch = undefined;
    seen = [];
    queue._answer(markId, lostLog());
  }

  function deleted(at = Infinity, gone?: Envelope, when = 0) {
    seen = seen.filter((m) => m !== gone);
    // The server has counted it, unless it knew of the deletion.
    if (reading?.unread && at > reading.seq && (at <= reading.head || !gone) && when > reading.head) {
      if (gone && reading.unread < MANY) reading = { ...reading, unread: reading.unread - 1 };
      else void count();
    }
    tell();
  }

  // For a message that is not known here, or if the server has not counted all.
  // Deletions in quick succession are counted together.
  async function count() {
    stale = true;
    if (counting) return;
    counting = true;
    while (stale) {
      stale = false;
      await host._count(to).catch(() => {});
    }
    counting = false;
  }

  function tell() {
    events._emit('\nread');
  }

  return {
    name,
    send: (data, options) => host._send(type, data, { ...options, ...to }),
    edit: (message, data, options) => change('edit-message', message, { data }, options),
    remove: (message, options) => change('delete-message', message, {}, options),
    react: (message, key, on = true, options) => change('react', message, { key, on }, options),
    async history(options = {}) {
      const { data } = await queue._send({ type: 'history', ...to, data: options }, 'read');
      const { messages, more, newer, next } = (isObject(data) ? data : {}) as Partial<History>;
      if (!Array.isArray(messages)) throw invalid();
      return {
        messages: messages.filter(isEnvelope).map((e) => withEpoch(e, log._epoch)) as Envelope<never>[],
        more: more === true,
        newer: newer === true,
        next,
      };
    },
    get read() {
      return reading?.seq;
    },
    get unread() {
      const r = reading;
      return r && Math.min(r.unread + seen.filter((e) => (e.seq ?? 0) > r.head).length, MANY);
    },
    onRead: (fn) => events.on('\nread', fn),
    markRead(seq) {
      mark = Math.max(mark, seq);
      marking ??= sendMark().finally(() => {
        marking = undefined;
        mark = 0;
      });
      return marking;
    },
    _events: events,
    _learn: learn,
    _renew: renew,
    _receive(e) {
      const { data } = e;
      if (e.type === 'read') {
        if (!isReading(data)) return;
        // It may lack messages that this client has not heard of.
        if (learn(data, epoch) && data.head < log._heardFrom) void count();
      } else if (e.type === type && e.deleted === undefined && e.from?.id !== host._user?.id) {
        seen = [...seen.slice(1 - MANY), e];
        tell();
      } else if (e.type === 'message-changed' && (data as Changed).change === 'deleted') {
        const { seq, id } = data as Changed;
        const gone = seen.find((m) => (id ? m.id === id : m.seq === seq));
        deleted(gone?.seq ?? seq, gone, e.seq);
      }
    },
  };
}
