import type { ChatError, Envelope, Outgoing, Receipt, User } from '../index.js';

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

/** Messages keeps the messages of one conversation in the order to show. */
export class Messages {
  readonly #max: number;
  #past: Message[] = []; // of earlier epochs, whose numbers do not compare
  #log: Message[] = []; // of the present epoch, by seq
  #open: Message[] = []; // sending or failed, in the order of sending
  #all: readonly Message[] = [];
  #cut = false; // whether trim has dropped messages of the log

  constructor(max: number) {
    this.#max = max;
  }

  /** All messages. The same array until something changes. */
  get all(): readonly Message[] {
    return this.#all;
  }

  /** The lowest seq of the present epoch. */
  get oldest(): number | undefined {
    return this.#log[0]?.seq;
  }

  /** The number of messages of the present epoch. */
  get length(): number {
    return this.#log.length;
  }

  /** Whether `trim` has dropped messages of the log since the last call. */
  takeCut(): boolean {
    const cut = this.#cut;
    this.#cut = false;
    return cut;
  }

  /** A new epoch begins. The messages of the old one stay in front of it. */
  newLife(): void {
    this.#past = [...this.#past, ...this.#log];
    this.#log = [];
    this.#changed();
  }

  /**
   * Drops the messages of the log, since there is a gap between them and the
   * next. The server still has them.
   */
  dropLog(): void {
    this.#log = [];
    this.#changed();
  }

  clear(): void {
    this.#past = [];
    this.#log = [];
    this.#open = [];
    this.#changed();
  }

  /**
   * Adds events of the log, in any order. Ignores those that are here already.
   */
  take(events: readonly Envelope[]): void {
    const seqs = new Set(this.#log.map((m) => m.seq));
    let sorted = true;
    for (const e of events) {
      if (e.seq === undefined || seqs.has(e.seq)) continue;
      const own =
        e.id === undefined
          ? undefined
          : this.#open.find((m) => m.id === e.id && (m.from?.id ?? e.from?.id) === e.from?.id);
      if (own) this.#open = this.#open.filter((m) => m !== own);
      // A server that lost its log in a restart got this message a second time.
      if (e.id !== undefined) this.#past = this.#past.filter((m) => !(m.id === e.id && m.from?.id === e.from?.id));
      sorted &&= e.seq > (this.#log.at(-1)?.seq ?? 0);
      this.#log.push(messageOf(e, own?.key));
    }
    if (!sorted) this.#log.sort((a, b) => (a.seq ?? 0) - (b.seq ?? 0));
    this.#changed();
  }

  /** A message was put into the outbox, for the first time or again. */
  queued(message: Outgoing, from: User | undefined): void {
    const { id, to, data } = message;
    const old = this.#open.find((m) => m.id === id);
    const now: Message = {
      key: old?.key ?? id,
      id,
      ...(from && { from }),
      ...(to !== undefined && { to }),
      data,
      status: 'sending',
    };
    this.#open = [...this.#open.filter((m) => m !== old), now];
    this.#changed();
  }

  /** The server has stored a message. */
  acknowledged(message: Outgoing, receipt: Receipt): void {
    const own = this.#open.find((m) => m.id === message.id);
    if (!own) return; // its event came before the ack
    this.take([{ type: message.type, ...own, ...receipt } as Envelope]);
  }

  failed(message: Outgoing, error: ChatError, from: User | undefined): void {
    if (!this.find(message.id)) this.queued(message, from);
    this.#open = this.#open.map((m) => (m.id === message.id ? { ...m, status: 'failed', error } : m));
    this.#changed();
  }

  find(id: string): Message | undefined {
    return this.#open.find((m) => m.id === id);
  }

  remove(id: string): void {
    this.#open = this.#open.filter((m) => m.id !== id);
    this.#changed();
  }

  /** Drops the oldest messages over the bound. Not to be called for a page. */
  trim(): void {
    const over = this.#past.length + this.#log.length - this.#max;
    if (over <= 0) return;
    const past = Math.min(over, this.#past.length);
    this.#past = this.#past.slice(past);
    if (over > past) {
      this.#log = this.#log.slice(over - past);
      this.#cut = true;
    }
    this.#changed();
  }

  #changed(): void {
    this.#all = [...this.#past, ...this.#log, ...this.#open];
  }
}

function messageOf(e: Envelope, key: string | undefined): Message {
  const { id, from, to, data, epoch, seq, ts } = e;
  return {
    key: key ?? (id === undefined ? `#${seq}` : from ? `${from.id}/${id}` : id),
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
