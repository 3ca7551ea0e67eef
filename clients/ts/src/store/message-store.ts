import {
  type Changed,
  type Channel,
  type Envelope,
  newId,
  type Outgoing,
  type Re,
  type Reading,
  type Receipt,
  type SendEvent,
} from '../index.js';
import type { Message } from './message.js';
import { Messages, missing } from './messages.js';
import { type AnyClient, Store } from './store.js';

/** The part of a message that names it. */
export type Named = Pick<Message, 'id' | 'seq' | 'from' | 'epoch'>;

/** What rooms and private conversations show. */
export interface Shown<Data = unknown> {
  /**
   * First the messages of the server's log, then those that are being sent or
   * have failed.
   */
  readonly messages: readonly Message<Data>[];
  /** Whether the server may have older messages for `loadMore`. */
  readonly hasMore: boolean;
  /** Whether there are newer messages for `loadNewer`, after `loadAround`. */
  readonly hasNewer: boolean;
  /** Whether a page is being loaded. */
  readonly loading: boolean;
  /** The position of the marker. Undefined if unknown. */
  readonly read: number | undefined;
  /** How many messages of others follow the marker. 100 means 100 or more. */
  readonly unread: number | undefined;
  /**
   * The key of the message that a line "new messages" stands above. It stays
   * when the messages are marked as read, until another one is unread.
   * Undefined while the message is not loaded.
   */
  readonly firstUnread: string | undefined;
}

export const NOTHING = { messages: [], hasMore: false, hasNewer: false, loading: false } as unknown as Shown<never>;

/**
 * What can be done with the messages. Changes are shown at once. If the server
 * refuses one, it is taken back and the promise rejects.
 */
export interface Actions<Data = unknown> {
  /**
   * Shows a message at once, and repeats it until the server has stored it. If
   * that fails, the promise rejects and the message has the error too.
   */
  readonly send: (data: Data) => Promise<Receipt>;
  /** Like `send`, as the answer to a message. */
  readonly reply: (to: Named, data: Data) => Promise<Receipt>;
  /**
   * Sends a failed message again, with the same id, so that the server stores
   * it once.
   */
  readonly retry: (id: string) => Promise<Receipt>;
  /** Removes a message that is being sent or has failed. */
  readonly discard: (id: string) => void;
  /** Replaces the data of a message of one's own. */
  readonly edit: (message: Named, data: Data) => Promise<Receipt>;
  /** Deletes a message for everyone. */
  readonly remove: (message: Named) => Promise<Receipt>;
  /** Reacts, or takes the reaction back if `on` is false. */
  readonly react: (message: Named, key: string, on?: boolean) => Promise<Receipt>;
  /**
   * Marks everything up to a message as read: the newest one by default. Does
   * nothing if it is read already.
   */
  readonly markRead: (message?: Named) => Promise<Reading | undefined>;
  /** Loads older messages. Resolves when they are in `messages`. */
  readonly loadMore: (limit?: number) => Promise<void>;
  /** Loads newer messages, after `loadAround`. */
  readonly loadNewer: (limit?: number) => Promise<void>;
  /** Shows the messages around a position of the log. */
  readonly loadAround: (seq: number, limit?: number) => Promise<void>;
  /** Shows the newest messages again, after `loadAround`. */
  readonly showNewest: () => void;
}

const KEEP = 1_000; // live messages

/** The messages of a room, or those with one user. */
export abstract class MessageStore<S extends Shown> extends Store<S> {
  protected readonly _client: AnyClient;
  protected readonly _messages: Messages;
  readonly #channel: Channel;
  readonly #types: readonly string[];
  readonly #limit: number;
  #before: number | undefined; // the lowest seq loaded, of any type of event
  #after: number | undefined; // the highest one of an older part
  #more: boolean | undefined; // whether the log has older events, once known
  #gaps = 0; // counts the times that events next to a page were dropped
  #loading = false;
  #late: Envelope<Changed>[] = []; // changes since a page was asked for
  #unread: number | undefined;
  #line: number | undefined; // where the unread messages began

  constructor(client: AnyClient, initial: S, channel: Channel, types: readonly string[], limit: number) {
    super(client, initial);
    this._client = client;
    this.#channel = channel;
    this.#types = types;
    this.#limit = limit || 50;
    this._messages = new Messages(KEEP, () => client.user?.id);
  }

  /** What names a message on the wire. Undefined if it is not stored yet. */
  protected abstract _ref(message: Named): Re | undefined;

  /** Whether something in the outbox belongs here. */
  protected abstract _isMine(m: Outgoing): boolean;

  /** Whether pages can be loaded. */
  protected abstract get _ready(): boolean;

  /** Whether the log may have something before the messages, as a guess. */
  protected abstract get _mayHaveMore(): boolean;

  get #hasMore(): boolean {
    return this.#more ?? this._mayHaveMore;
  }

  protected get _shown(): Shown {
    const { all, oldest, isOlder } = this._messages;
    const line = this.#line;
    // Older messages that are not loaded may be unread too.
    const known = line !== undefined && ((oldest ?? Infinity) <= line || !this.#hasMore);
    return {
      messages: all,
      hasMore: this.#hasMore,
      hasNewer: isOlder,
      loading: this.#loading,
      read: this.#channel.read,
      unread: this.#channel.unread,
      firstUnread: known ? this._messages.firstAfter(line)?.key : undefined,
    };
  }

  override readonly actions: Actions = {
    send: (data) => this.#send(newId(), data),
    reply: (to, data) => this.#send(newId(), data, this._ref(to)),
    retry: (id) => this._messages.again(id, (id, data, re) => this.#send(id, data, re)),
    discard: (id) => {
      this._client.discard(id);
      this._messages.remove(id);
      this._changed();
    },
    edit: (message, data) => this.#change(message, (ref) => this.#channel.edit(ref, data)),
    remove: (message) => this.#change(message, (ref) => this.#channel.remove(ref)),
    react: (message, key, on) => this.#change(message, (ref) => this.#channel.react(ref, key, on)),
    markRead: async (message) => {
      const { seq = 0 } = message ?? { seq: this._messages.newest };
      if (message && this._ref(message) === undefined) return; // of another life of the log
      return seq > (this.#channel.read ?? 0) ? this.#channel.markRead(seq) : undefined;
    },
    loadMore: async (limit) => {
      while (this.#hasMore && (await this.#load('before', this.#before ?? this._messages.oldest, limit)) === 0);
    },
    loadNewer: async (limit) => {
      while (this._messages.isOlder && (await this.#load('after', this.#after ?? this._messages.newest, limit)) === 0);
    },
    loadAround: async (seq, limit) => {
      if (!this._messages.has(seq)) await this.#load('around', seq, limit);
    },
    showNewest: () => {
      if (!this._messages.isOlder) return;
      this._messages.showNewest();
      this._dropped(true);
      this._changed();
    },
  };

  #send(id: string, data: unknown, re?: Re): Promise<Receipt> {
    this.actions.showNewest();
    return handled(this.#channel.send(data, { id, re }));
  }

  #change(message: Named, send: (ref: Re) => Promise<Receipt>): Promise<Receipt> {
    const ref = this._ref(message);
    return handled(ref === undefined ? missing() : send(ref));
  }

  // Loads a page, and returns how many messages it has. Undefined if it is not
  // wanted.
  async #load(where: 'before' | 'after' | 'around', seq: number | undefined, limit = this.#limit) {
    if (this.#loading || !this._ready) return;
    const gaps = this.#gaps;
    this.#loading = true;
    this.#late = [];
    this._changed();
    try {
      const page = await this.#channel.history({ [where]: seq, limit, types: this.#types });
      if (gaps !== this.#gaps) return; // there would be a hole next to it
      const found = page.messages.filter((e) => this.#types.includes(e.type));
      if (where === 'around') {
        this._messages.showOlder();
        this.#before = this.#after = undefined;
      }
      this._messages.take(found, false);
      for (const e of this.#late) this._messages.change(e);
      const seqs = page.messages.map((e) => e.seq ?? Infinity);
      if (where !== 'after') {
        const first = (where === 'before' && page.next) || Math.min(...seqs);
        this.#more = page.more && (where === 'around' || first < (this.#before ?? seq ?? Infinity));
        this.#before = first;
      }
      if (where !== 'before') {
        const last = (where === 'after' && page.next) || Math.max(...seqs.filter((s) => s < Infinity));
        this._messages.join(!(page.newer && last > (this.#after ?? 0)));
        this.#after = last;
      }
      return found.length;
    } finally {
      this.#loading = false;
      this._changed();
    }
  }

  /**
   * Another log begins. Its messages follow those of the old one. @internal
   */
  _newLife(): void {
    this._messages.newLife();
    this._dropped(undefined);
    this._changed();
  }

  /** Forgets everything. @internal */
  _clear(): void {
    this._messages.clear();
    this.#unread = this.#line = undefined;
    this._dropped(undefined);
    this._changed();
  }

  /** To be called after changes of the channel's marker. @internal */
  _marked(): void {
    const { read, unread } = this.#channel;
    if (unread && !this.#unread) this.#line = read;
    this.#unread = unread;
    this._changed();
  }

  /** Takes a live event. @internal */
  _take(e: Envelope): void {
    if (e.type === 'message-changed') {
      this._messages.change(e as Envelope<Changed>);
      if (this.#loading) this.#late.push(e as Envelope<Changed>);
    } else {
      this._messages.take([e], true);
      if (this._messages.trim()) this._dropped(true);
    }
    this._changed();
  }

  protected override get _busy(): boolean {
    return this._client.outbox.some((m) => this._isMine(m));
  }

  /** Takes what happens to something in the outbox. @internal */
  _sending(event: SendEvent): void {
    const { message } = event;
    if (!this._isMine(message)) return;
    if (!/^(room|private)-message$/.test(message.type)) {
      if (event.status === 'queued') this._messages.drafted(message);
      else this._messages.settled(message, event.status === 'sent' ? event.receipt : undefined);
    } else if (event.status === 'queued') this._messages.queued(message, this._client.user);
    else if (event.status === 'sent') this._messages.acknowledged(message, event.receipt);
    else this._messages.failed(message, event.error, this._client.user);
    this._changed();
    if (event.status !== 'queued') setTimeout(() => this._release());
  }

  /** Events next to the pages are no longer here. */
  protected _dropped(more: boolean | undefined): void {
    this.#gaps++;
    this.#more = more;
    this.#before = this.#after = undefined;
  }
}

// The message has the error, or the change is taken back. So nobody has to
// catch it.
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}
