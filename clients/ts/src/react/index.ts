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
  User,
  Users,
} from '../index.js';
import type { Message } from './messages.js';
import { type Conversation, NO_CONVERSATIONS, PrivateStore } from './private-store.js';
import { EMPTY_ROOM, type RoomSnapshot, RoomStore } from './room-store.js';
import type { AnyClient } from './store.js';

export type { Conversation, Message, RoomSnapshot };

/** What the hooks of one client share. */
interface Shared {
  readonly client: AnyClient;
  readonly inbox: PrivateStore;
  readonly rooms: Map<string, RoomStore>;
  users: number;
}

const shares = new WeakMap<AnyClient, Shared>();
const Context = createContext<Shared | null>(null);

const IDLE: ConnectionState = { status: 'disconnected', reason: 'idle', retryAt: null };
const NOBODY: Users = { users: [], count: 0 };

function shareOf(client: AnyClient): Shared {
  let shared = shares.get(client);
  if (!shared) {
    shared = { client, inbox: new PrivateStore(client), rooms: new Map(), users: 0 };
    shares.set(client, shared);
  }
  return shared;
}

/**
 * Gives a client to the hooks below it: connects it when it is mounted, and closes it
 * when the last provider of that client is gone. Make the client once, outside of rendering or
 * in useState: making one costs nothing before it connects.
 */
export function ChatProvider({ client, children }: { client: AnyClient; children?: ReactNode }): ReactNode {
  const shared = shareOf(client);
  useEffect(() => {
    shared.users++;
    // What arrives of the inbox is kept from the beginning on, whoever looks at it later.
    const stop = shared.inbox.subscribe(() => {});
    client.connect();
    return () => {
      stop();
      shared.users--;
      // StrictMode mounts twice: the second one finds the connection of the first.
      setTimeout(() => {
        if (shared.users === 0) client.close();
      });
    };
  }, [client, shared]);
  return createElement(Context.Provider, { value: shared }, children);
}

function useShared(): Shared {
  const shared = useContext(Context);
  if (!shared) throw new Error('chathub-client/react: there is no <ChatProvider> above this component');
  return shared;
}

/** The client of the provider. */
export function useChat<E = ChatEvents, C = ChatCalls, Q = ChatQuestions>(): ChatClient<E, C, Q> {
  return useShared().client;
}

/** The state of the connection. */
export function useConnection(): ConnectionState {
  const { client } = useShared();
  const subscribe = useCallback((fn: () => void) => client.onState(fn), [client]);
  return useSyncExternalStore(
    subscribe,
    () => client.state,
    () => IDLE,
  );
}

/** Calls `fn`, always the one of the last render, for each event of a type. */
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

/** Who is online. */
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
  /** Shows the message at once, and keeps it until the server has it. A failure shows in the message too. */
  readonly send: (data: Data) => Promise<Receipt>;
  /** Sends a failed message again, under its id: it is stored once. */
  readonly retry: (id: string) => Promise<Receipt>;
  /** Gives up a message that is being sent or has failed. */
  readonly discard: (id: string) => void;
  /** Gets older messages; resolves when they are in `messages`. */
  readonly loadMore: (limit?: number) => Promise<void>;
  /** To be called at every key. */
  readonly setTyping: () => void;
  readonly stopTyping: () => void;
}

/**
 * A room: joined as long as a component shows it, with its newest messages (`history`, 50, of
 * the first component that does). Several components share one.
 */
export function useRoom<E = ChatEvents>(
  name: string,
  options: { history?: number } = {},
): RoomView<EventData<E, 'room-message'>> {
  const shared = useShared();
  const { history = 50 } = options;
  let store = shared.rooms.get(name);
  if (!store) {
    store = new RoomStore(shared.client, name, history);
    shared.rooms.set(name, store);
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
 * The private messages since the provider was mounted, with what the server still had of
 * them: all conversations, the one heard of last first, or the one with a user.
 */
export function usePrivateMessages<E = ChatEvents>(): readonly Conversation<EventData<E, 'private-message'>>[];
export function usePrivateMessages<E = ChatEvents>(userId: string): ConversationView<EventData<E, 'private-message'>>;
export function usePrivateMessages(userId?: string): unknown {
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
