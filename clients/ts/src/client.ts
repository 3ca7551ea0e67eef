import type { CallOptions, Channel, SendOptions } from './channel.js';
import type { ConnectionState } from './connection.js';
import { type Core, newCore } from './core.js';
import { ChatError } from './error.js';
import type {
  CallData,
  CallReply,
  ChatCalls,
  ChatEvents,
  ChatQuestions,
  EventData,
  EventType,
  Listener,
  Unsubscribe,
} from './events.js';
import type { ChatOptions } from './options.js';
import type { Outgoing, SendEvent, WaitOptions } from './outbox.js';
import type { Durable, Envelope, Overview, Position, PrivateRef, Receipt, User } from './protocol.js';
import type { Room } from './room.js';
import { wellFormed } from './text.js';
import type { Users } from './users.js';

/** How reading the inbox started, at a connect or a reconnect. */
export interface InboxInfo extends Position {
  /** Whether all missed messages follow. If not, only the newest ones do. */
  readonly recovered: boolean;
  /**
   * Whether reading continues from a position: after a reconnect, or from
   * `options.inbox`.
   */
  readonly resumed: boolean;
}

/** Types that are not declared. */
type Unknown<K, Known> = K extends Known ? never : K;

type DurableData<E, K extends Durable> = EventData<E, K extends 'send-notification' ? 'notification' : K>;

/**
 * ChatClient talks to a hub over one connection, which it restores by itself.
 * Nothing happens before `connect()`. E, C and Q are the types of the
 * application's events, calls and questions. By default they are the declared
 * ones.
 */
export class ChatClient<E = ChatEvents, C = ChatCalls, Q = ChatQuestions> {
  readonly #core: Core;

  /**
   * `url` is the URL of the hub, with the scheme ws, wss, http or https, or a
   * path on the page's origin.
   */
  constructor(url: string, options: ChatOptions = {}) {
    this.#core = newCore(url, options);
  }

  /** Connects, and from then on reconnects by itself. */
  connect(): void {
    this.#core._connection._open();
  }

  /**
   * Ends the connection and all attempts, and stops all timers. Waiting calls
   * reject with code `closed`. Messages in the outbox are sent after the next
   * `connect()`.
   */
  close(): void {
    this.#core._connection._close();
  }

  /**
   * Connects at once, or checks whether the server is alive. To be called when
   * the app becomes active, on platforms without `online` and
   * `visibilitychange` events.
   */
  wake(): void {
    this.#core._connection._wake();
  }

  get state(): ConnectionState {
    return this.#core._connection._state;
  }

  /** Calls `fn` after each change of `state`. */
  onState(fn: (state: ConnectionState) => void): Unsubscribe {
    return this.#core._events.on('\nstate', fn);
  }

  /** The user that the server last connected this client as. */
  get user(): User | undefined {
    return this.#core._user;
  }

  /**
   * What the server has turned off: `online-users` and `room-users` (presence),
   * `message` (messages to everyone).
   */
  get off(): readonly string[] {
    return this.#core._off;
  }

  /** Position of the last private message or notification. */
  get inbox(): Position | null {
    return this.#core._log._position;
  }

  /**
   * Calls `fn` when reading the inbox starts, before its messages. With
   * `recovered: false` some messages may be missing.
   */
  onInbox(fn: (info: InboxInfo) => void): Unsubscribe {
    return this.#core._events.on('\ninbox', fn);
  }

  /**
   * Listens to one type of event. Durable events come exactly once and in
   * order.
   */
  on<K extends EventType<E>>(type: K, fn: Listener<EventData<E, K>>): Unsubscribe;
  on<K extends string>(type: Unknown<K, EventType<E>>, fn: Listener<unknown>): Unsubscribe;
  on(type: string, fn: Listener<never>): Unsubscribe {
    return this.#core._events.on(type, fn);
  }

  /**
   * Answers a question of the server (`EmitWithAck`) with the value that `fn`
   * returns, or with the ChatError that it throws. If it throws anything else,
   * the server gets `internal`.
   */
  answer<K extends keyof Q & string>(
    type: K,
    fn: (data: CallData<Q, K>, event: Envelope<CallData<Q, K>>) => CallReply<Q, K> | Promise<CallReply<Q, K>>,
  ): Unsubscribe;
  answer<K extends string>(type: Unknown<K, keyof Q>, fn: (data: unknown, event: Envelope) => unknown): Unsubscribe;
  answer(type: string, fn: (data: never, event: Envelope<never>) => unknown): Unsubscribe {
    const answers = this.#core._answers.set(type, fn);
    return () => {
      if (answers.get(type) === fn) answers.delete(type);
    };
  }

  /**
   * Sends an event and resolves with the answer. A durable event
   * (`room-message`, `private-message`, `send-notification`, and the changes of
   * messages) is repeated until the server has stored it. Any other event is
   * sent once, as soon as there is a connection. Rejects with a ChatError.
   */
  send<K extends Durable>(type: K, data: DurableData<E, K>, options?: CallOptions): Promise<Receipt>;
  send<K extends keyof C & string>(type: K, data: CallData<C, K>, options?: CallOptions): Promise<CallReply<C, K>>;
  send<K extends string>(type: Unknown<K, keyof C | Durable>, data?: unknown, options?: CallOptions): Promise<unknown>;
  send(type: string, data?: unknown, options?: CallOptions): Promise<unknown> {
    return this.#core._send(type, data, options);
  }

  /**
   * Sends a message to all connections of a user. The server keeps it while the
   * user is away.
   */
  privateMessage(to: string, data: EventData<E, 'private-message'>, options?: SendOptions): Promise<Receipt> {
    return this.send('private-message', data as never, { ...options, to });
  }

  /**
   * Sends a notification to a user. The server keeps it while the user is away.
   */
  notify(to: string, data: EventData<E, 'notification'>, options?: SendOptions): Promise<Receipt> {
    return this.send('send-notification', data as never, { ...options, to });
  }

  /** Returns the room of that name, always the same object. */
  room(name: string): Room<E> {
    return this.#core._room(name) as never;
  }

  /** The private messages with a user, always the same object. */
  conversation(userId: string): Channel<EventData<E, 'private-message'>, PrivateRef> {
    return this.#core._conversation(userId) as never;
  }

  /**
   * Asks for the newest message and the unread count of up to 500 rooms, joined
   * or not, and of all private conversations if `inbox` is set.
   */
  overview(
    what: { rooms?: readonly string[] | undefined; inbox?: boolean | undefined },
    options?: WaitOptions,
  ): Promise<Overview<EventData<E, 'room-message'>, EventData<E, 'private-message'>>> {
    return this.#core._overview(what, options) as never;
  }

  /**
   * The users online, as far as the server lists them. Stays as it was while
   * the connection is lost.
   */
  get online(): Users {
    return this.#core._online;
  }

  /** Calls `fn` after each change of `online`. */
  onOnline(fn: (online: Users) => void): Unsubscribe {
    return this.#core._events.on('\nonline', fn);
  }

  /** Requests the whole list again, and resolves with it. */
  async onlineUsers(options?: SendOptions): Promise<Users> {
    // The list comes before its ack.
    await this.#core._queue._send({ type: 'online-users' }, 'read', options);
    return this.#core._online;
  }

  /** Durable messages that the server has not acknowledged, oldest first. */
  get outbox(): readonly Outgoing[] {
    return this.#core._queue.messages;
  }

  /**
   * Calls `fn` when a durable message is queued, and when it is stored or has
   * failed for good.
   */
  onSend(fn: (event: SendEvent) => void): Unsubscribe {
    return this.#core._events.on('\nsend', fn);
  }

  /**
   * Removes a message from the outbox, and returns whether it was there. The
   * server may have it already.
   */
  discard(id: string): boolean {
    return this.#core._queue._fail((m) => m.id === wellFormed(id), new ChatError('aborted'));
  }
}
