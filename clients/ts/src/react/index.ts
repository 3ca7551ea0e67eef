import {
  createContext,
  createElement,
  type ReactNode,
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
} from '../index.js';
import {
  type Actions,
  type AnyClient,
  type Conversation,
  type Message,
  type OverviewOptions,
  type OverviewSnapshot,
  type PresenceView,
  type RoomActions,
  type RoomOptions,
  type RoomSnapshot,
  type Store,
  storesOf,
} from '../store/index.js';

export type { Conversation, Message, OverviewOptions, OverviewSnapshot, PresenceView, RoomOptions, RoomSnapshot };

const Context = createContext<AnyClient | null>(null);
const providers = new WeakMap<AnyClient, number>(); // how many are mounted

/**
 * Gives a client to the hooks below it. It connects the client when it is
 * mounted, and closes it when the last provider of that client is unmounted.
 * Create the client once, outside of rendering or in useState.
 */
export function ChatProvider({ client, children }: { client: AnyClient; children?: ReactNode }): ReactNode {
  useEffect(() => {
    const count = (change: number) => {
      const now = (providers.get(client) ?? 0) + change;
      providers.set(client, now);
      return now;
    };
    count(1);
    // Keeps private messages from the start, for components that mount later.
    const stop = storesOf(client).conversations.subscribe(() => {});
    client.connect();
    return () => {
      stop();
      count(-1);
      // StrictMode mounts twice. The second time finds the connection open.
      setTimeout(() => {
        if (count(0) === 0) client.close();
      });
    };
  }, [client]);
  return createElement(Context.Provider, { value: client }, children);
}

/** Returns the client of the provider. */
export function useChat<E = ChatEvents, C = ChatCalls, Q = ChatQuestions>(): ChatClient<E, C, Q> {
  const client = useContext(Context);
  if (!client) throw new Error('This needs a <ChatProvider> above it');
  return client;
}

const useStores = () => storesOf(useChat());

/** Returns the snapshot of a store, and renders again when it changes. */
export function useStore<T>(store: Store<T>): T {
  return useSyncExternalStore(
    store.subscribe,
    () => store.snapshot,
    () => store.initial,
  );
}

function useActions<T>(store: Store<T>): unknown {
  const snapshot = useStore(store);
  return useMemo(() => (store.actions ? { ...snapshot, ...store.actions } : snapshot), [store, snapshot]);
}

/** Returns the state of the connection. */
export function useConnection(): ConnectionState {
  return useStore(useStores().connection);
}

/** Calls the `fn` of the last render for each event of a type. */
export function useEvent<K extends EventType<ChatEvents>>(type: K, fn: Listener<EventData<ChatEvents, K>>): void;
export function useEvent(type: string, fn: Listener<unknown>): void;
export function useEvent(type: string, fn: Listener<never>): void {
  const client = useChat();
  const latest = useRef(fn);
  useEffect(() => {
    latest.current = fn;
  });
  useEffect(() => client.on(type, (data, e) => latest.current(data as never, e as never)), [client, type]);
}

/** Returns the users who are online. */
export function usePresence(): PresenceView {
  return useStore(useStores().presence);
}

export type RoomView<Data> = RoomSnapshot<Data> & RoomActions<Data>;

/**
 * Returns a room with its messages. The room is joined while at least one
 * component uses it, and all of them share its state. `history` is how many of
 * the newest messages to load, 50 by default. The first component decides.
 */
export function useRoom<E = ChatEvents>(name: string, options?: RoomOptions): RoomView<EventData<E, 'room-message'>> {
  return useActions(useStores().room(name, options)) as never;
}

export type ConversationView<Data> = Conversation<Data> & Actions<Data>;

/**
 * Returns private messages: those that the server still had when the provider
 * was mounted, and those since. Without `userId` it returns all conversations,
 * the most recent first. With `userId` it returns the one with that user, and
 * `loadMore` loads older messages.
 */
export function usePrivateMessages<E = ChatEvents>(): readonly Conversation<EventData<E, 'private-message'>>[];
export function usePrivateMessages<E = ChatEvents>(userId: string): ConversationView<EventData<E, 'private-message'>>;
export function usePrivateMessages(userId?: string): unknown {
  const stores = useStores();
  const store = userId === undefined ? stores.conversations : stores.conversation(userId);
  return useActions<unknown>(store as Store<unknown>);
}

export interface OverviewView<RoomData, PrivateData> extends OverviewSnapshot<RoomData, PrivateData> {
  /** Asks the server again. */
  readonly refresh: () => Promise<void>;
}

/**
 * Returns the newest message and the unread count of rooms, which need not be
 * joined, and of private conversations if `inbox` is set.
 */
export function useOverview<E = ChatEvents>(
  rooms: readonly string[],
  { inbox, every }: OverviewOptions = {},
): OverviewView<EventData<E, 'room-message'>, EventData<E, 'private-message'>> {
  const stores = useStores();
  const names = JSON.stringify([...rooms].sort()); // an array with the same rooms changes nothing
  const store = useMemo(() => stores.overview(JSON.parse(names), { inbox, every }), [stores, names, inbox, every]);
  return useActions(store) as never;
}
