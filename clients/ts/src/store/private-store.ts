import type { Channel, Envelope, Outgoing, PrivateRef, SendEvent, User } from '../index.js';
import { MessageStore, type Named, NOTHING, type Shown } from './message-store.js';
import { type AnyClient, Store } from './store.js';

/**
 * The private messages with one user. Immutable: a change makes a new object.
 */
export interface Conversation<Data = unknown> extends Shown<Data> {
  readonly userId: string;
  /** Known if the user has written or is online. */
  readonly user: User | undefined;
}

const TYPES = ['private-message'];

/** The private messages with one user. */
export class ConversationStore extends MessageStore<Conversation> {
  readonly #all: PrivateStore;
  readonly #channel: Channel;
  /** Known if the user has written. @internal */
  user: User | undefined;

  constructor(client: AnyClient, channel: Channel<unknown, PrivateRef>, all: PrivateStore) {
    super(client, { userId: channel.name, user: undefined, ...NOTHING }, channel as Channel, TYPES, 50);
    this.#all = all;
    this.#channel = channel as Channel;
  }

  protected override _ref({ id, from }: Named): PrivateRef | undefined {
    return id === undefined || from === undefined ? undefined : { id, author: from.id };
  }

  protected override _isMine({ room, to, type }: Outgoing): boolean {
    return room === undefined && to === this.#channel.name && type !== 'send-notification';
  }

  protected override _read(): Conversation {
    const userId = this.#channel.name;
    const user = this.user ?? this._client.online.users.find((u) => u.id === userId);
    return { userId, user, ...this._shown };
  }

  protected override get _ready(): boolean {
    return this._client.inbox !== null;
  }

  protected override get _mayHaveMore(): boolean {
    return true;
  }

  protected override _start(): () => void {
    // An older server does not know it.
    const ask = () => {
      if (this._ready && this.#channel.unread === undefined) this._client.overview({ inbox: true }).catch(() => {});
    };
    const ends = [this.#all.subscribe(() => {}), this._client.onInbox(ask)];
    ask();
    return () => {
      for (const end of ends) end();
    };
  }

  protected override _changed(): void {
    super._changed();
    this.#all._update();
  }
}

/** The private messages since the client connected, by user. */
export class PrivateStore extends Store<readonly Conversation[]> {
  readonly #client: AnyClient;
  readonly #stores = new Map<string, ConversationStore>();
  readonly #recent = new Set<ConversationStore>(); // the most recent last
  #me: string | undefined;
  #epoch: string | undefined;

  constructor(client: AnyClient) {
    super(client, []);
    this.#client = client;
  }

  /** The conversations that have messages, the most recent first. */
  protected override _read(): readonly Conversation[] {
    return [...this.#recent].reverse().map((store) => store.snapshot);
  }

  /** Returns the conversation with a user, always the same object. */
  with(userId: string): ConversationStore {
    const channel = this.#client.conversation(userId);
    let store = this.#stores.get(channel.name);
    if (!store) {
      store = new ConversationStore(this.#client, channel, this);
      this.#stores.set(channel.name, store);
      channel.onRead(() => store?._marked());
      store._marked();
    }
    return store;
  }

  /** A conversation has changed. @internal */
  _update(): void {
    this._changed();
  }

  protected override _start(): () => void {
    const client = this.#client;
    this.#me = client.user?.id;
    for (const message of client.outbox) this.#sending({ status: 'queued', message });
    const ends = [
      client.on('private-message', (_, e) => this.#take(e)),
      client.on('message-changed', (_, e) => e.room === undefined && this.#take(e)),
      client.onSend((event) => this.#sending(event)),
      client.onInbox(({ epoch }) => {
        if (this.#me !== undefined && this.#me !== client.user?.id) this.#clear();
        this.#me = client.user?.id;
        if (this.#epoch !== undefined && this.#epoch !== epoch) {
          for (const store of this.#stores.values()) store._newLife();
        }
        this.#epoch = epoch;
      }),
    ];
    return () => {
      for (const end of ends) end();
      this.#clear();
    };
  }

  #take(e: Envelope): void {
    const mine = e.from !== undefined && e.from.id === this.#client.user?.id;
    const store = this.with((mine ? e.to : e.from?.id) ?? '');
    if (!mine && e.from) store.user = e.from;
    if (e.type === 'private-message') this.#first(store);
    store._take(e);
  }

  #sending(event: SendEvent): void {
    const { type, to = '' } = event.message;
    if (event.message.room !== undefined || type === 'send-notification') return;
    const store = this.with(to);
    if (event.status === 'queued' && type === 'private-message') this.#first(store);
    store._sending(event);
  }

  #first(store: ConversationStore): void {
    this.#recent.delete(store);
    this.#recent.add(store);
  }

  #clear(): void {
    this.#recent.clear();
    for (const store of this.#stores.values()) {
      store.user = undefined;
      store._clear();
    }
  }
}
