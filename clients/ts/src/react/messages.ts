import type { ChatError, Envelope, Outgoing, Receipt, User } from '../index.js';

/** A message as it is shown. Never changed: a new state of it is a new object. */
export interface Message<Data = unknown> {
  /** Stays the same from sending to the end: for React's `key`. */
  readonly key: string;
  /** Absent where the sender chose none. */
  readonly id?: string;
  /** Absent where the application wrote it. */
  readonly from?: User;
  readonly to?: string;
  readonly data: Data;
  readonly seq?: number;
  /** The server's time; absent until it has the message. */
  readonly ts?: number;
  readonly status: 'sending' | 'sent' | 'failed';
  /** Why it failed. */
  readonly error?: ChatError;
}

/** Messages keeps those of one conversation in the order in which they are shown. */
export class Messages {
  readonly #max: number;
  #past: Message[] = []; // of earlier lives of the log, whose numbers do not compare
  #log: Message[] = []; // of this one, by seq
  #open: Message[] = []; // sending and failed ones, in the order of sending
  #all: readonly Message[] = [];
  #cut = false; // whether older ones were dropped for lack of place

  constructor(max: number) {
    this.#max = max;
  }

  /** All of them; the same array as long as nothing has changed. */
  get all(): readonly Message[] {
    return this.#all;
  }

  /** The smallest seq of the present log. */
  get oldest(): number | undefined {
    return this.#log[0]?.seq;
  }

  /** How many of the present log are here. */
  get length(): number {
    return this.#log.length;
  }

  /** Whether older ones were dropped since the last call for lack of place. */
  takeCut(): boolean {
    const cut = this.#cut;
    this.#cut = false;
    return cut;
  }

  /** A new log begins: what is here stays in front of it. */
  newLife(): void {
    this.#past = [...this.#past, ...this.#log];
    this.#log = [];
    this.#changed();
  }

  /** There is a gap behind what is here, and the log has all of it still. */
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

  /** Takes events of the log, in any order; those that are here already are left as they are. */
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
      // Sent again over a restart that has forgotten it: it is the same message.
      if (e.id !== undefined) this.#past = this.#past.filter((m) => !(m.id === e.id && m.from?.id === e.from?.id));
      sorted &&= e.seq > (this.#log.at(-1)?.seq ?? 0);
      this.#log.push(sent(e, own?.key));
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

  /** The server has it. */
  acknowledged(message: Outgoing, receipt: Receipt): void {
    const own = this.#open.find((m) => m.id === message.id);
    if (!own) return; // its event came first
    const { seq, ts } = receipt;
    this.take([{ type: message.type, ...own, ...(seq && { seq }), ...(ts && { ts }) } as Envelope]);
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

  /** Drops the oldest beyond the bound; not what was scrolled back to. */
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

function sent(e: Envelope, key: string | undefined): Message {
  const { id, from, to, data, seq, ts } = e;
  return {
    key: key ?? (id === undefined ? `#${seq}` : from ? `${from.id}/${id}` : id),
    ...(id !== undefined && { id }),
    ...(from && { from }),
    ...(to !== undefined && { to }),
    data,
    ...(seq !== undefined && { seq }),
    ...(ts !== undefined && { ts }),
    status: 'sent',
  };
}
