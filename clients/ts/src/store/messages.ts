import {
  type Changed,
  ChatError,
  type Envelope,
  newId,
  type Outgoing,
  type Re,
  type Receipt,
  type User,
} from '../index.js';
import { applied, changed, type Message, mineOf, refersTo } from './message.js';

/** A change by this client that is shown before the server has told of it. */
interface Draft {
  readonly change: Outgoing;
  /** The position that the server has stored it at. */
  seq?: number;
}

/**
 * Messages keeps the messages of one conversation in the order to show. Adding
 * or changing a live message takes the same time however many there are, save
 * for copying the list when it is read.
 */
export class Messages {
  readonly #keep: number;
  readonly #me: () => string | undefined;
  #max: number;
  #past: Message[] = []; // of earlier epochs, whose numbers do not compare
  #pastIdentities = new Set<string | undefined>(); // may have dropped ones too
  #log: Message[] = []; // of the present epoch, by seq, without a gap
  #live: Message[] | undefined; // the newest, while `#log` is an older part
  #open: Message[] = []; // sending or failed, in the order of sending
  #drafts: Draft[] = [];
  readonly #stored = new WeakMap<Message, Message>(); // without the drafts
  #all: readonly Message[] | undefined; // until something changes

  /** `keep` is how many live messages to keep. `me` returns the user's id. */
  constructor(keep: number, me: () => string | undefined) {
    this.#keep = this.#max = keep;
    this.#me = me;
  }

  /** All messages to show. The same array until something changes. */
  get all(): readonly Message[] {
    this.#all ??= this.#live ? [...this.#log] : this.#past.concat(this.#log, this.#open);
    return this.#all;
  }

  /** The lowest seq of the present epoch. */
  get oldest(): number | undefined {
    return this.#log[0]?.seq;
  }

  /** The highest seq to show. */
  get newest(): number | undefined {
    return this.#log.at(-1)?.seq;
  }

  /** Whether an older part of the log is shown, and newer messages are not. */
  get isOlder(): boolean {
    return this.#live !== undefined;
  }

  has(seq: number): boolean {
    return this.#log[this.#place(this.#log, seq)]?.seq === seq;
  }

  /** The first message of others after a seq. */
  firstAfter(seq: number): Message | undefined {
    for (let at = this.#place(this.#log, seq + 1); at < this.#log.length; at++) {
      const m = this.#log[at];
      if (m?.from?.id !== this.#me() && m?.deleted === undefined) return m;
    }
    return;
  }

  /** A new epoch begins. The messages of the old one stay in front of it. */
  newLife(): void {
    this.#past = this.#past.concat(this.#live ?? this.#log);
    this.#pastIdentities = new Set(this.#past.map(identity));
    this.dropLog();
  }

  /**
   * Drops the messages of the log, since there is a gap between them and the
   * next. The server still has them.
   */
  dropLog(): void {
    this.#log = [];
    this.#live = undefined;
    this.#max = this.#keep;
    this.#drafts = this.#drafts.filter((d) => d.seq === undefined);
    this.#all = undefined;
  }

  clear(): void {
    this.#past = [];
    this.#pastIdentities.clear();
    this.#open = [];
    this.#drafts = [];
    this.dropLog();
  }

  /** Leaves the newest messages, to show an older part of the log. */
  showOlder(): void {
    this.#live ??= this.#log;
    this.#log = [];
  }

  /** Shows the newest messages in place of the older part. */
  showNewest(): void {
    this.#log = this.#live ?? this.#log;
    this.#live = this.#all = undefined;
  }

  /** Adds the newest messages to the older part if they meet: at its `end`. */
  join(end: boolean): void {
    const live = this.#live;
    const first = live?.[0]?.seq ?? Infinity;
    if (!live || !(end || (this.newest ?? 0) >= first)) return;
    this.#log = this.#log.slice(0, this.#place(this.#log, first)).concat(live);
    this.#live = this.#all = undefined;
  }

  /**
   * Adds events of the log, in any order: live ones, or those of a page.
   * Ignores those that are here already.
   */
  take(events: readonly Envelope[], live: boolean): void {
    const log = live ? (this.#live ?? this.#log) : this.#log;
    for (const e of events) {
      if (e.seq === undefined) continue;
      const own = this.#open.find((m) => isSame(m, e));
      if (own) this.#open = this.#open.filter((m) => m !== own);
      // A server that lost its log in a restart got this message a second time.
      if (e.id !== undefined && this.#pastIdentities.delete(identity(e))) {
        this.#past = this.#past.filter((m) => identity(m) !== identity(e));
      }
      const at = this.#place(log, e.seq);
      if (log[at]?.seq !== e.seq) log.splice(at, 0, this.#shown(messageOf(e, own?.key)));
    }
    const length = this.#past.length + log.length;
    if (!live && length > this.#max) this.#max = length + this.#keep;
    this.#all = undefined;
  }

  /** Takes a `message-changed`. Ignores it if a newer one has come. */
  change({ seq = 0, data }: Envelope<Changed>): void {
    this.#update(data, (m, { mine }) => {
      if (m.deleted !== undefined || (m.version ?? 0) >= seq) return m;
      return { ...changed(m, data, seq), mine: mineOf(mine, data.message.reactions, this.#me()) };
    });
  }

  /** Shows a change that was put into the outbox. */
  drafted(change: Outgoing): void {
    this.#drafts.push({ change });
    this.#update(change.data, (m) => m);
  }

  /**
   * The server has answered a change. Its `message-changed` may come later, so
   * the change is shown until then. Without a receipt it is taken back.
   */
  settled(change: Outgoing, receipt?: Receipt): void {
    const draft = this.#drafts.find((d) => d.change.id === change.id);
    if (!draft) return;
    draft.seq = receipt?.dup ? 0 : (receipt?.seq ?? 0);
    if (!this.#update(change.data, (m) => m)) this.#drafts = this.#drafts.filter((d) => d !== draft);
  }

  // Changes a message as the server has it, and shows it with the drafts that
  // the server has not told of. Returns whether it is here.
  #update(ref: unknown, change: (stored: Message, shown: Message) => Message): boolean {
    let found = false;
    for (const log of this.#live ? [this.#log, this.#live] : [this.#log]) {
      const at = this.#find(log, ref);
      const m = log[at];
      if (!m) continue;
      const stored = change(this.#stored.get(m) ?? m, m);
      this.#drafts = this.#drafts.filter(
        (d) => !(refersTo(d.change.data, stored, this.#me()) && (d.seq ?? Infinity) <= (stored.version ?? 0)),
      );
      log[at] = this.#shown(stored);
      this.#all = undefined;
      found = true;
    }
    return found;
  }

  #shown(stored: Message): Message {
    let shown = stored;
    for (const { change } of this.#drafts) {
      if (refersTo(change.data, stored, this.#me())) shown = applied(shown, change, this.#me());
    }
    if (shown !== stored) this.#stored.set(shown, stored);
    return shown;
  }

  // Room messages are found by seq. Private ones are found by id, from the end.
  #find(log: readonly Message[], ref: unknown): number {
    const { seq } = (ref ?? {}) as Changed;
    let at = seq === undefined ? log.length - 1 : this.#place(log, seq);
    while (seq === undefined && at >= 0 && !refersTo(ref, log[at] as Message, this.#me())) at--;
    return seq === undefined || log[at]?.seq === seq ? at : -1;
  }

  /** A message was put into the outbox, for the first time or again. */
  queued({ room, epoch, ...m }: Outgoing, from: User | undefined): void {
    const key = this.find(m.id)?.key ?? m.id;
    this.remove(m.id);
    this.#open = [...this.#open, { key, ...m, from, status: 'sending' }];
  }

  /** The server has stored a message. */
  acknowledged(message: Outgoing, receipt: Receipt): void {
    const own = this.find(message.id);
    if (!own) return; // its event came before the ack
    if (receipt.seq === undefined) this.#change(message.id, { status: 'sent' });
    const { key, status, ...e } = { ...own, ...receipt };
    this.take([e as Envelope], true);
  }

  failed(message: Outgoing, error: ChatError, from: User | undefined): void {
    if (!this.find(message.id)) this.queued(message, from);
    this.#change(message.id, { status: 'failed', error });
  }

  find(id: string): Message | undefined {
    return this.#open.find((m) => m.id === id);
  }

  /**
   * Sends a message again, with its id, so that the server stores it once.
   * After a conflict it gets a new id, since the server has another message
   * with that one.
   */
  again(id: string, send: (id: string, data: unknown, re: Re | undefined) => Promise<Receipt>): Promise<Receipt> {
    const message = this.find(id);
    if (!message) return missing();
    const { data, re, error } = message;
    if (error?.code !== 'conflict') return send(id, data, re);
    this.remove(id);
    return send(newId(), data, re);
  }

  remove(id: string): void {
    this.#open = this.#open.filter((m) => m.id !== id);
    this.#all = undefined;
  }

  /**
   * Drops the oldest live messages over the bound, and returns whether some of
   * the present epoch are no longer shown. Not to be called for a page.
   */
  trim(): boolean {
    const log = this.#live ?? this.#log;
    let cut = false;
    for (let over = this.#past.length + log.length - this.#max; over > 0; over--) {
      if (!this.#past.shift()) cut = log.shift() !== undefined;
      this.#all = undefined;
    }
    return cut && !this.#live;
  }

  // Returns the place of a seq in a log. A live message has the last one.
  #place(log: readonly Message[], seq: number): number {
    let [low, high] = [0, log.length];
    if ((log[high - 1]?.seq ?? 0) < seq) return high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((log[middle]?.seq ?? 0) < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #change(id: string, change: Partial<Message>): void {
    this.#open = this.#open.map((m) => (m.id === id ? { ...m, ...change } : m));
    this.#all = undefined;
  }
}

/** For a message that cannot be changed or sent again. */
export const missing = () => Promise.reject(new ChatError('bad_request', 'No such message'));

// Whether an event of the log is a message that is being sent or has failed.
// After a conflict it is another message with the same id.
function isSame(m: Message, e: Envelope): boolean {
  return m.id === e.id && m.error?.code !== 'conflict' && (m.from?.id ?? e.from?.id) === e.from?.id;
}

// Ids are unique per user only. No user id has a line break.
function identity({ id, from }: Message | Envelope): string | undefined {
  return id === undefined ? undefined : `${from?.id ?? ''}\n${id}`;
}

function messageOf({ room, ack, ...e }: Envelope, key = `${e.epoch}\n${e.seq}`): Message {
  return { key, ...e, status: 'sent' };
}
