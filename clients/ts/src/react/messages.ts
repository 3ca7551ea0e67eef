import { ChatError, type Envelope, newId, type Outgoing, type Receipt, type User } from '../index.js';

/** A message to show. Immutable: a change makes a new object. */
export interface Message<Data = unknown> {
  /** For React's `key`. Stays the same after the server has stored it. */
  readonly key: string;
  /** Absent if the sender chose none. */
  readonly id?: string;
  /** The author. Absent if the application is the author. */
  readonly from?: User;
  readonly to?: string;
  readonly data: Data;
  /** The life of the log that `seq` belongs to. Absent until it is stored. */
  readonly epoch?: string;
  /** Position in the log. Absent until it is stored. */
  readonly seq?: number;
  /** When the server stored it. Absent until then. */
  readonly ts?: number;
  readonly status: 'sending' | 'sent' | 'failed';
  /** Why it failed, if `status` is `failed`. */
  readonly error?: ChatError;
}

/**
 * Messages keeps the messages of one conversation in the order to show. Adding
 * a live message takes the same time however many there are, because the list
 * is made when it is read.
 */
export class Messages {
  readonly #max: number;
  #past: Message[] = []; // of earlier epochs, whose numbers do not compare
  #pastIdentities = new Set<string | undefined>(); // may have dropped ones too
  #log: Message[] = []; // of the present epoch, by seq
  #open: Message[] = []; // sending or failed, in the order of sending
  #all: readonly Message[] | undefined; // until something changes

  constructor(max: number) {
    this.#max = max;
  }

  /** All messages. The same array until something changes. */
  get all(): readonly Message[] {
    this.#all ??= this.#past.concat(this.#log, this.#open);
    return this.#all;
  }

  /** The lowest seq of the present epoch. */
  get oldest(): number | undefined {
    return this.#log[0]?.seq;
  }

  /** A new epoch begins. The messages of the old one stay in front of it. */
  newLife(): void {
    this.#past = this.#past.concat(this.#log);
    this.#pastIdentities = new Set(this.#past.map(identity));
    this.dropLog();
  }

  /**
   * Drops the messages of the log, since there is a gap between them and the
   * next. The server still has them.
   */
  dropLog(): void {
    this.#log = [];
    this.#all = undefined;
  }

  clear(): void {
    this.#past = [];
    this.#pastIdentities.clear();
    this.#open = [];
    this.dropLog();
  }

  /**
   * Adds events of the log, in any order. Ignores those that are here already.
   */
  take(events: readonly Envelope[]): void {
    for (const e of events) {
      if (e.seq === undefined) continue;
      const own = this.#open.find((m) => isSame(m, e));
      if (own) this.#open = this.#open.filter((m) => m !== own);
      // A server that lost its log in a restart got this message a second time.
      if (e.id !== undefined && this.#pastIdentities.delete(identity(e))) {
        this.#past = this.#past.filter((m) => identity(m) !== identity(e));
      }
      const at = this.#place(e.seq);
      if (at === this.#log.length) this.#log.push(messageOf(e, own?.key));
      else if (this.#log[at]?.seq !== e.seq) this.#log.splice(at, 0, messageOf(e, own?.key));
    }
    this.#all = undefined;
  }

  /** A message was put into the outbox, for the first time or again. */
  queued(message: Outgoing, from: User | undefined): void {
    const { id, to, data } = message;
    const old = this.find(id);
    const now: Message = {
      key: old?.key ?? id,
      id,
      ...(from && { from }),
      ...(to !== undefined && { to }),
      data,
      status: 'sending',
    };
    this.remove(id);
    this.#open = [...this.#open, now];
  }

  /** The server has stored a message. */
  acknowledged(message: Outgoing, receipt: Receipt): void {
    const own = this.find(message.id);
    if (!own) return; // its event came before the ack
    if (receipt.seq === undefined) this.#change(message.id, { status: 'sent' });
    this.take([{ type: message.type, ...own, ...receipt }]);
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
  again(id: string, send: (id: string, data: unknown) => Promise<Receipt>): Promise<Receipt> {
    const message = this.find(id);
    if (!message) return Promise.reject(new ChatError('bad_request', 'There is no message with this id to retry'));
    const { data, error } = message;
    if (error?.code !== 'conflict') return send(id, data);
    this.remove(id);
    return send(newId(), data);
  }

  remove(id: string): void {
    this.#open = this.#open.filter((m) => m.id !== id);
    this.#all = undefined;
  }

  /**
   * Drops the oldest messages over the bound, and returns whether some were of
   * the present epoch. Not to be called for a page.
   */
  trim(): boolean {
    let cut = false;
    for (let over = this.#past.length + this.#log.length - this.#max; over > 0; over--) {
      if (!this.#past.shift()) cut = this.#log.shift() !== undefined;
      this.#all = undefined;
    }
    return cut;
  }

  // Returns the place of a seq in the log. A live message has the last one.
  #place(seq: number): number {
    let [low, high] = [0, this.#log.length];
    if ((this.#log[high - 1]?.seq ?? 0) < seq) return high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#log[middle]?.seq ?? 0) < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #change(id: string, change: Partial<Message>): void {
    this.#open = this.#open.map((m) => (m.id === id ? { ...m, ...change } : m));
    this.#all = undefined;
  }
}

// Whether an event of the log is a message that is being sent or has failed.
// After a conflict it is another message with the same id.
function isSame(m: Message, e: Envelope): boolean {
  return m.id === e.id && m.error?.code !== 'conflict' && (m.from?.id ?? e.from?.id) === e.from?.id;
}

// Ids are unique per user only. No user id has a line break.
function identity({ id, from }: Message | Envelope): string | undefined {
  return id === undefined ? undefined : `${from?.id ?? ''}\n${id}`;
}

function messageOf(e: Envelope, key: string | undefined): Message {
  const { id, from, to, data, epoch, seq, ts } = e;
  return {
    key: key ?? `${epoch}\n${seq}`,
    ...(id !== undefined && { id }),
    ...(from && { from }),
    ...(to !== undefined && { to }),
    data,
    ...(epoch !== undefined && { epoch }),
    ...(seq !== undefined && { seq }),
    ...(ts !== undefined && { ts }),
    status: 'sent',
  };
}
