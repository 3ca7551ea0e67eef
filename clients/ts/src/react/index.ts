import {
  createContext,
  createElement,
  type ReactNode,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useSyncExternalStore,
} from 'react';
import type {
  ChatCalls,
  ChatClient,
  ChatEvents,
  ChatQuestions,
  ConnectionState,
  EventData,
  EventType,
  Listener,
  Receipt,
  Room,
  User,
  Users,
} from '../index.js';
import { wellFormed } from '../text.js';
import type { Message } from './messages.js';
import { type Conversation, NO_CONVERSATIONS, PrivateStore } from './private-store.js';
import { EMPTY_ROOM, type RoomSnapshot, RoomStore } from './room-store.js';
import type { AnyClient } from './store.js';

export type { Conversation, Message, RoomSnapshot };

/** Shared by all hooks of one client. */
interface Shared {
  readonly client: AnyClient;
  readonly inbox: PrivateStore;
  readonly rooms: Map<Room, RoomStore>;
  /** How many providers are mounted. */
  providers: number;
}

const shares = new WeakMap<AnyClient, Shared>();
const Context = createContext<Shared | null>(null);

const IDLE: ConnectionState = { status: 'disconnected', reason: 'idle', retryAt: null };
const NOBODY: Users = { users: [], count: 0 };

function shareOf(client: AnyClient): Shared {
  let shared = shares.get(client);
  if (!shared) {
    shared = { client, inbox: new PrivateStore(client), rooms: new Map(), providers: 0 };
    shares.set(client, shared);
  }
  return shared;
}

/**
 * Gives a client to the hooks below it. It connects the client when it is
 * mounted, and closes it when the last provider of that client is unmounted.
 * Create the client once, outside of rendering or in useState.
 */
export function ChatProvider({ client, children }: { client: AnyClient; children?: ReactNode }): ReactNode {
  const shared = shareOf(client);
  useEffect(() => {
    shared.providers++;
    // Keeps private messages from the start, for components that mount later.
    const stop = shared.inbox.subscribe(() => {});
    client.connect();
    return () => {
      stop();
      shared.providers--;
      // StrictMode mounts twice. The second time finds the connection open.
      setTimeout(() => {
        if (shared.providers === 0) client.close();
      });
    };
  }, [client, shared]);
  return createElement(Context.Provider, { value: shared }, children);
}

function useShared(): Shared {
  const shared = useContext(Context);
  if (!shared) throw new Error('chathub-client/react: this component needs a <ChatProvider> above it');
  return shared;
}

/** Returns the client of the provider. */
export function useChat<E = ChatEvents, C = ChatCalls, Q = ChatQuestions>(): ChatClient<E, C, Q> {
  return useShared().client;
}

/** Returns the state of the connection. */
export function useConnection(): ConnectionState {
  const { client } = useShared();
  const subscribe = useCallback((fn: () => void) => client.onState(fn), [client]);
  return useSyncExternalStore(
    subscribe,
    () => client.state,
    () => IDLE,
  );
}

/** Calls the `fn` of the last render for each event of a type. */
export function useEvent<K extends EventType<ChatEvents>>(type: K, fn: Listener<EventData<ChatEvents, K>>): void;
export function useEvent(type: string, fn: Listener<unknown>): void;
export function useEvent(type: string, fn: Listener<never>): void {
  const { client } = useShared();
  const latest = useRef(fn);
  useEffect(() => {
    latest.current = fn;
  });
  useEffect(() => client.on(type, (data, e) => latest.current(data as never, e as never)), [client, type]);
}

export interface PresenceView extends Users {
  isOnline(userId: string): boolean;
}

/** Returns the users who are online. */
export function usePresence(): PresenceView {
  const { client } = useShared();
  const subscribe = useCallback((fn: () => void) => client.onOnline(fn), [client]);
  const online = useSyncExternalStore(
    subscribe,
    () => client.online,
    () => NOBODY,
  );
  return useMemo(() => {
    const ids = new Set(online.users.map((u: User) => u.id));
    return { ...online, isOnline: (id) => ids.has(id) };
  }, [online]);
}

export interface RoomView<Data> extends RoomSnapshot<Data> {
  /**
   * Shows a message at once, and repeats it until the server has stored it. If
   * that fails, the promise rejects and the message has the error too.
   */
  readonly send: (data: Data) => Promise<Receipt>;
  /**
   * Sends a failed message again, with the same id, so that the server stores
   * it once.
   */
  readonly retry: (id: string) => Promise<Receipt>;
  /** Removes a message that is being sent or has failed. */
  readonly discard: (id: string) => void;
  /** Loads older messages. Resolves when they are in `messages`. */
  readonly loadMore: (limit?: number) => Promise<void>;
  /** To be called at each keystroke. */
  readonly setTyping: () => void;
  readonly stopTyping: () => void;
}

/**
 * Returns a room with its messages. The room is joined while at least one
 * component uses it, and all of them share its state. `history` is how many of
 * the newest messages to load, 50 by default. The first component decides.
 */
export function useRoom<E = ChatEvents>(
  name: string,
  options: { history?: number } = {},
): RoomView<EventData<E, 'room-message'>> {
  const shared = useShared();
  const { history = 50 } = options;
  const key = shared.client.room(name);
  let store = shared.rooms.get(key);
  if (!store) {
    store = new RoomStore(shared.client, key, history);
    shared.rooms.set(key, store);
  }
  const room = store;
  const snapshot = useSyncExternalStore(
    room.subscribe,
    () => room.snapshot,
    () => EMPTY_ROOM,
  );
  return useMemo(() => {
    const { send, retry, discard, loadMore, typing, stopTyping } = room;
    return { ...snapshot, send, retry, discard, loadMore, setTyping: typing, stopTyping };
  }, [room, snapshot]) as RoomView<EventData<E, 'room-message'>>;
}

export interface ConversationView<Data> extends Conversation<Data> {
  readonly send: (data: Data) => Promise<Receipt>;
  readonly retry: (id: string) => Promise<Receipt>;
  readonly discard: (id: string) => void;
}

/**
 * Returns private messages: those that the server still had when the provider
 * was mounted, and those since. Without `userId` it returns all conversations,
 * the most recent first. With `userId` it returns the one with that user.
 */
export function usePrivateMessages<E = ChatEvents>(): readonly Conversation<EventData<E, 'private-message'>>[];
export function usePrivateMessages<E = ChatEvents>(userId: string): ConversationView<EventData<E, 'private-message'>>;
export function usePrivateMessages(user?: string): unknown {
  const userId = user && wellFormed(user); // as the client sends it
  const { inbox } = useShared();
  const snapshot = useSyncExternalStore<unknown>(
    inbox.subscribe,
    () => (userId === undefined ? inbox.snapshot : inbox.with(userId)),
    () => NO_CONVERSATIONS,
  );
  return useMemo(() => {
    if (userId === undefined) return snapshot;
    const conversation =
      snapshot === NO_CONVERSATIONS ? { userId, user: undefined, messages: [] } : (snapshot as object);
    return {
      ...conversation,
      send: (data: unknown) => inbox.send(userId, data),
      retry: (id: string) => inbox.retry(userId, id),
      discard: (id: string) => inbox.discard(userId, id),
    };
  }, [inbox, userId, snapshot]);
}
