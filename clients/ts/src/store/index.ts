import type { ConnectionState, Users } from '../index.js';
import { type OverviewOptions, OverviewStore } from './overview-store.js';
import { type ConversationStore, PrivateStore } from './private-store.js';
import { type RoomOptions, RoomStore } from './room-store.js';
import { type AnyClient, type Store, View } from './store.js';

export type { Message } from './message.js';
export type { Actions, Named, Shown } from './message-store.js';
export type { OverviewOptions, OverviewSnapshot, OverviewStore } from './overview-store.js';
export type { Conversation, ConversationStore, PrivateStore } from './private-store.js';
export type { RoomActions, RoomOptions, RoomSnapshot, RoomStore } from './room-store.js';
export type { AnyClient, Store } from './store.js';

export interface PresenceView extends Users {
  isOnline(userId: string): boolean;
}

/**
 * The stores of one client. Each has a `snapshot`, and `subscribe`, which calls
 * a function after changes. A store follows the client while it has
 * subscribers.
 */
export class Stores {
  readonly #client: AnyClient;
  readonly #rooms = new Map<string, RoomStore>();
  readonly connection: Store<ConnectionState>;
  readonly presence: Store<PresenceView>;
  /** All private conversations, the most recent first. */
  readonly conversations: PrivateStore;

  constructor(client: AnyClient) {
    this.#client = client;
    this.conversations = new PrivateStore(client);
    this.connection = new View<ConnectionState>(
      client,
      { status: 'disconnected', reason: 'idle', retryAt: null },
      (fn) => client.onState(fn),
      () => client.state,
    );
    this.presence = new View<PresenceView>(
      client,
      { users: [], count: 0, isOnline: () => false },
      (fn) => client.onOnline(fn),
      () => {
        const ids = new Set(client.online.users.map((u) => u.id));
        return { ...client.online, isOnline: (id) => ids.has(id) };
      },
    );
  }

  /** A room, always the same object. The options of the first call count. */
  room(name: string, options?: RoomOptions): RoomStore {
    const room = this.#client.room(name);
    let store = this.#rooms.get(room.name);
    if (!store) {
      store = new RoomStore(this.#client, room, options);
      this.#rooms.set(room.name, store);
    }
    return store;
  }

  /** The private messages with a user, always the same object. */
  conversation(userId: string): ConversationStore {
    return this.conversations.with(userId);
  }

  /** A new store of the newest messages and unread counts of many rooms. */
  overview(rooms: readonly string[], options?: OverviewOptions): OverviewStore {
    return new OverviewStore(this.#client, rooms, options);
  }
}

const all = new WeakMap<AnyClient, Stores>();

/** Returns the stores of a client, always the same object. */
export function storesOf(client: AnyClient): Stores {
  const stores = all.get(client) ?? new Stores(client);
  all.set(client, stores);
  return stores;
}
