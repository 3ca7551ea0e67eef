import { Channel, type ChannelHost, type SendOptions } from './channel.js';
import {
  isChanged,
  isCount,
  isJoined,
  isObject,
  isOverview,
  isPosition,
  isPresence,
  isRead,
  isReceipt,
  isStateChanged,
  isText,
  positionOf,
  shape,
} from './check.js';
import { Connection, type ConnectionState } from './connection.js';
import { ChatError, closed, errorOf, invalid, otherUser, tooLarge } from './error.js';
import {
  type CallData,
  type CallReply,
  type ChatCalls,
  type ChatEvents,
  type ChatQuestions,
  Emitter,
  type EventData,
  type EventType,
  type Listener,
  type Unsubscribe,
} from './events.js';
import { newId } from './id.js';
import type { ChatOptions } from './options.js';
import { Outbox, type Outgoing, type SendEvent } from './outbox.js';
import {
  type Durable,
  type Envelope,
  isDurable,
  type Joined,
  type Overview,
  type Position,
  type Presence,
  type PrivateRef,
  type Receipt,
  type User,
  type Welcome,
  withEpoch,
} from './protocol.js';
import { cancellable, encode, Requests, type WaitOptions } from './requests.js';
import { Room } from './room.js';
import { isOver, toJSON, wellFormed } from './text.js';
import { listing, NOBODY, type Users, usersAfter, usersOf } from './users.js';

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

export interface CallOptions extends SendOptions {
  room?: string | undefined;
  to?: string | undefined;
}

/** Types that are not declared. */
type Unknown<K, Known> = K extends Known ? never : K;

type DurableData<E, K extends Durable> = EventData<E, K extends 'send-notification' ? 'notification' : K>;

/** The answer to `resume`. */
interface Resumed {
  readonly inbox: Joined;
  /** A Joined for each room, or an object with an `error`. */
  readonly rooms: Readonly<Record<string, unknown>>;
}

const isResumed = shape<Resumed>({ inbox: isJoined, rooms: isObject });

const INVALID_TEXT = 1007; // close codes
const TOO_BIG = 1009;
const CHECKS = [
  [/^(online-users|user-(online|offline|joined|left))$/, isPresence],
  [/^message-changed$/, isChanged],
  [/^state-changed$/, isStateChanged],
  [/^read$/, isRead],
] as const;
const REMEMBERED = 1_000; // ids of own private messages

/**
 * ChatClient talks to a hub over one connection, which it restores by itself.
 * Nothing happens before `connect()`. E, C and Q are the types of the
 * application's events, calls and questions. By default they are the declared
 * ones.
 */
export class ChatClient<E = ChatEvents, C = ChatCalls, Q = ChatQuestions> {
  readonly #options: ChatOptions;
  readonly #connection: Connection;
  readonly #outbox: Outbox;
  readonly #requests: Requests;
  readonly #events: Emitter;
  readonly #answers = new Map<string, (data: never, event: Envelope<never>) => unknown>();
  readonly #rooms = new Map<string, Room<E>>();
  readonly #conversations = new Map<string, Channel<EventData<E, 'private-message'>, PrivateRef>>();
  readonly #own = new Set<string>(); // ids of private messages sent by this client
  readonly #host: ChannelHost;
  #inbox: Position | null = null;
  #inboxLive = false; // whether the next event comes after the position
  #heardFrom = 0; // everything after this position of the inbox was heard
  #user: User | undefined;
  #off: readonly string[] = [];
  #online = NOBODY;
  readonly #list = listing(() => this.#connection.write({ type: 'online-users' }));

  /**
   * `url` is the URL of the hub, with the scheme ws, wss, http or https, or a
   * path on the page's origin.
   */
  constructor(url: string, options: ChatOptions = {}) {
    this.#options = options;
    if (isPosition(options.inbox)) this.#inbox = options.inbox;
    const report = (err: unknown) => this.#report(err);
    this.#events = new Emitter(report);
    this.#connection = new Connection(url, options, {
      welcome: (w) => this.#welcome(w),
      receive: (e) => this.#receive(e),
      dropped: (code) => this.#dropped(code),
      changed: (state) => this.#changed(state),
      refresh: async (token) => {
        const { data } = await this.#requests.send({ type: 'refresh-token', data: { token } }, 'now');
        return isObject(data) && isCount(data.expires) ? data.expires : undefined;
      },
    });
    this.#outbox = new Outbox(
      {
        roomReady: (room) => this.#rooms.get(room)?.canSend,
        epochOf: (message) => this.#epochOf(message),
        write: (text) => this.#connection.write(text),
        changed: (event) => {
          this.#events.emit('\nsend', event);
          if (event.status !== 'failed' || event.error.code !== 'not_in_room') return;
          this.#rooms.get(event.message.room ?? '')?.lost(event.error);
        },
        report,
      },
      options.maxOutbox,
      options.storage,
    );
    this.#requests = new Requests(this.#connection, options.maxOutbox, options.timeout);
    this.#host = {
      connection: this.#connection,
      outbox: this.#outbox,
      requests: this.#requests,
      events: this.#events,
      me: () => this.#user?.id,
      epochOf: (to) => this.#epochOf(to),
      heardFrom: ({ room }) => (room === undefined ? this.#heardFrom : (this.#rooms.get(room)?.heardFrom ?? 0)),
      count: ({ room }) => this.overview(room === undefined ? { inbox: true } : { rooms: [room] }),
      send: (type, data, options) => this.send(type, data as never, options),
    };
  }

  /** Connects, and from then on reconnects by itself. */
  connect(): void {
    this.#connection.open();
  }

  /**
   * Ends the connection and all attempts, and stops all timers. Waiting calls
   * reject with code `closed`. Messages in the outbox are sent after the next
   * `connect()`.
   */
  close(): void {
    this.#connection.close();
  }

  /**
   * Connects at once, or checks whether the server is alive. To be called when
   * the app becomes active, on platforms without `online` and
   * `visibilitychange` events.
   */
  wake(): void {
    this.#connection.wake();
  }

  get state(): ConnectionState {
    return this.#connection.state;
  }

  /** Calls `fn` after each change of `state`. */
  onState(fn: (state: ConnectionState) => void): Unsubscribe {
    return this.#events.on('\nstate', fn);
  }

  /** The user that the server last connected this client as. */
  get user(): User | undefined {
    return this.#user;
  }

  /**
   * What the server has turned off: `online-users` and `room-users` (presence),
   * `message` (messages to everyone).
   */
  get off(): readonly string[] {
    return this.#off;
  }

  /** Position of the last private message or notification. */
  get inbox(): Position | null {
    return this.#inbox;
  }

  /**
   * Calls `fn` when reading the inbox starts, before its messages. With
   * `recovered: false` some messages may be missing.
   */
  onInbox(fn: (info: InboxInfo) => void): Unsubscribe {
    return this.#events.on('\ninbox', fn);
  }

  /**
   * Listens to one type of event. Durable events come exactly once and in
   * order.
   */
  on<K extends EventType<E>>(type: K, fn: Listener<EventData<E, K>>): Unsubscribe;
  on<K extends string>(type: Unknown<K, EventType<E>>, fn: Listener<unknown>): Unsubscribe;
  on(type: string, fn: Listener<never>): Unsubscribe {
    return this.#events.on(type, fn);
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
    this.#answers.set(type, fn);
    return () => {
      if (this.#answers.get(type) === fn) this.#answers.delete(type);
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
  async send(type: string, data?: unknown, options: CallOptions = {}): Promise<unknown> {
    const [room, to] = [options.room, options.to].map((name) => name && wellFormed(name));
    const event = { type, room, to, re: options.re, data };
    if (isDurable(type)) return this.#keep(event, options);
    return (await this.#requests.send(event, 'once', options)).data;
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
    return named(this.#rooms, name, (name) => new Room<E>(name, this.#host));
  }

  /** The private messages with a user, always the same object. */
  conversation(userId: string): Channel<EventData<E, 'private-message'>, PrivateRef> {
    return named(this.#conversations, userId, (id) => new Channel(this.#host, 'private-message', id));
  }

  /**
   * Asks for the newest message and the unread count of up to 500 rooms, joined
   * or not, and of all private conversations if `inbox` is set.
   */
  async overview(
    what: { rooms?: readonly string[] | undefined; inbox?: boolean | undefined },
    options?: WaitOptions,
  ): Promise<Overview<EventData<E, 'room-message'>, EventData<E, 'private-message'>>> {
    const { data } = await this.#requests.send({ type: 'overview', data: what }, 'read', options);
    if (!isOverview(data)) throw invalid();
    for (const [name, { epoch, seq, read, unread }] of Object.entries(data.rooms)) {
      this.#rooms.get(name)?.learn({ seq: read, unread, head: seq }, epoch);
    }
    for (const { user, read, unread, last } of data.conversations ?? []) {
      this.conversation(user.id).learn(
        { seq: read, unread, head: data.inbox?.seq ?? last?.seq ?? 0 },
        data.inbox?.epoch,
      );
    }
    return data as never;
  }

  /**
   * The users online, as far as the server lists them. Stays as it was while
   * the connection is lost.
   */
  get online(): Users {
    return this.#online;
  }

  /** Calls `fn` after each change of `online`. */
  onOnline(fn: (online: Users) => void): Unsubscribe {
    return this.#events.on('\nonline', fn);
  }

  /** Requests the whole list again, and resolves with it. */
  async onlineUsers(options?: SendOptions): Promise<Users> {
    // The list comes before its ack.
    await this.#requests.send({ type: 'online-users' }, 'read', options);
    return this.#online;
  }

  /** Durable messages that the server has not acknowledged, oldest first. */
  get outbox(): readonly Outgoing[] {
    return this.#outbox.messages;
  }

  /**
   * Calls `fn` when a durable message is queued, and when it is stored or has
   * failed for good.
   */
  onSend(fn: (event: SendEvent) => void): Unsubscribe {
    return this.#events.on('\nsend', fn);
  }

  /**
   * Removes a message from the outbox, and returns whether it was there. The
   * server may have it already.
   */
  discard(id: string): boolean {
    return this.#outbox.fail((m) => m.id === wellFormed(id), new ChatError('aborted'));
  }

  // The connection.

  #changed(state: ConnectionState): void {
    if (this.#connection.stopped) {
      this.#requests.dropped(closed());
      this.#outbox.abandon(closed());
    }
    this.#events.emit('\nstate', state);
  }

  #dropped(code: number | undefined): void {
    this.#inboxLive = false;
    // The same message would end the next connection too.
    if (code === TOO_BIG || code === INVALID_TEXT) {
      this.#outbox.fail((_, inFlight) => inFlight, tooLarge());
    }
    this.#outbox.dropped();
    for (const room of this.#rooms.values()) room.dropped();
    this.#requests.dropped();
  }

  #welcome(welcome: Welcome): void {
    const { user, inbox, off = [] } = welcome;
    if (this.#user && this.#user.id !== user.id) {
      this.#inbox = null;
      this.#own.clear();
      this.#requests.dropped(otherUser());
      for (const room of this.#rooms.values()) room.forget();
      for (const conversation of this.#conversations.values()) conversation.renew();
    }
    this.#user = user;
    this.#off = off;
    this.#requests.maxMessage = welcome.maxMessage || Infinity;
    const resumed = this.#inbox !== null;
    this.#inbox ??= { epoch: inbox.epoch, seq: this.#options.inbox === 'new' ? inbox.seq : 0 };
    let resuming = [...this.#rooms.values()].filter((r) => r.resumeFrom);
    // fromEntries defines own properties, so a room may be called __proto__.
    const rooms = Object.fromEntries(resuming.map((r) => [r.name, r.resumeFrom]));
    const data = { rooms, inbox: this.#inbox };
    if (isOver(JSON.stringify(data), this.#requests.maxMessage - 100)) {
      data.rooms = {};
      resuming = []; // rejoin takes them one by one
    }
    this.#requests.ask({ type: 'resume', data }, 'now', (answer) => {
      if (answer instanceof ChatError) {
        if (answer.code !== 'disconnected') this.#connection.lost(answer);
      } else if (isResumed(answer.data)) this.#resumed(answer.data, resuming, resumed);
      else this.#connection.lost(invalid());
    });
  }

  // The missed messages follow in the same task, so this must not wait for a
  // microtask.
  #resumed({ inbox, rooms }: Resumed, resuming: Room<E>[], resumed: boolean): void {
    if (inbox.epoch !== this.#inbox?.epoch) {
      for (const conversation of this.#conversations.values()) conversation.renew();
    }
    const asked = this.#inbox?.seq ?? 0;
    this.#inbox = { epoch: inbox.epoch, seq: inbox.recovered ? asked : 0 };
    this.#heardFrom = inbox.recovered ? asked : inbox.seq;
    this.#inboxLive = true;
    const { socket } = this.#connection;
    const gone = () => socket !== this.#connection.socket; // closed by a listener
    this.#connection.markReady();
    if (gone()) return;
    this.#events.emit('\ninbox', { ...inbox, resumed });
    const answers = new Map(Object.entries(rooms));
    for (const room of resuming) {
      const part = answers.get(room.name);
      if (gone()) return;
      if (isJoined(part)) room.resumed(part);
      // If not, rejoin follows.
      else if (isObject(part) && part.error) room.resumed(errorOf(part.error));
    }
    if (gone()) return;
    for (const room of this.#rooms.values()) room.rejoin();
    if (this.#user) this.#outbox.opened(this.#user.id, this.#requests.maxMessage);
    this.#requests.flush();
  }

  // Receiving.

  #receive(e: Envelope): void {
    if (CHECKS.some(([type, check]) => type.test(e.type) && !check(e.data))) return;
    switch (e.type) {
      case 'ack':
      case 'error':
        return this.#answered(e);
      case 'online-users':
        this.#setOnline(usersOf(e.data as Presence));
        break;
      case 'user-online':
      case 'user-offline': {
        const change = e.data as Presence;
        this.#setOnline(usersAfter(this.#online, change, e.type === 'user-online'));
        this.#list(change, this.#online);
        break;
      }
      case 'removed':
        if (!isObject(e.data) || !isText(e.data.reason)) e = { ...e, data: { reason: '' } };
        break;
    }
    if (e.ack) return void this.#reply(e);
    const room = e.room === undefined ? undefined : this.#rooms.get(e.room);
    // A marker is kept in the inbox, that of a room too. Its position is in
    // data.
    const inInbox = e.room === undefined || e.type === 'read';
    const seq = e.type === 'read' ? positionOf(e.data) : e.seq;
    if (seq !== undefined) {
      if (!(inInbox ? this.#isNew(e, seq) : (room?.isNew(seq) ?? true))) return;
      e = withEpoch(e, this.#epochOf(inInbox ? {} : e));
    }
    if (e.room !== undefined) room?.observe(e);
    else this.#conversations.get((e.from?.id === this.#user?.id ? e.to : e.from?.id) ?? '')?.observe(e);
    this.#events.emit(e.type, e.data, e);
    if (e.room !== undefined) this.#events.emit(`${e.type}\n${e.room}`, e.data, e);
  }

  // For events of the inbox. After a reconnect it repeats the user's own
  // private messages, which this client has already.
  #isNew(e: Envelope, seq: number): boolean {
    if (!this.#inboxLive || !this.#inbox || seq <= this.#inbox.seq) return false;
    this.#inbox = { epoch: this.#inbox.epoch, seq };
    return !(e.id !== undefined && e.from?.id === this.#user?.id && this.#own.has(e.id));
  }

  #epochOf({ room }: { readonly room?: string | undefined }): string | undefined {
    return room === undefined ? this.#inbox?.epoch : this.#rooms.get(room)?.epoch;
  }

  #setOnline(online: Users): void {
    this.#online = online;
    this.#events.emit('\nonline', online);
  }

  async #reply(e: Envelope): Promise<void> {
    const fn = this.#answers.get(e.type);
    const { socket } = this.#connection;
    let reply: string;
    try {
      if (!fn) throw new ChatError('unknown_type');
      const data = (await fn(e.data as never, e as Envelope<never>)) ?? null;
      reply = toJSON({ type: 'ack', id: e.id, data });
    } catch (err) {
      const known = err instanceof ChatError;
      if (!known) this.#report(err);
      const { code, message } = known ? err : new ChatError('internal', 'Internal error');
      reply = toJSON({ type: 'error', id: e.id, data: { code, message } });
    }
    if (socket === this.#connection.socket) this.#connection.write(reply);
  }

  // An onError that throws must not stop the client either.
  #report(err: unknown): void {
    try {
      (this.#options.onError ?? rethrow)(err);
    } catch (thrown) {
      rethrow(thrown);
    }
  }

  // Sending.

  async #keep(event: Omit<Outgoing, 'id'>, options: SendOptions): Promise<Receipt> {
    const { room = '', type } = event;
    const epoch = type === 'room-message' ? undefined : this.#rooms.get(room)?.resumeFrom?.epoch;
    const text = encode({ id: wellFormed(options.id ?? newId()), ...event, epoch });
    if (text instanceof ChatError) throw text;
    // As the server gets it. If the application changed its data later, what
    // the storage keeps would be another message with the same id.
    const message: Outgoing = JSON.parse(text);
    if (message.type === 'private-message') this.#own.add(message.id);
    if (this.#own.size > REMEMBERED) this.#own.delete(this.#own.values().next().value as string);
    return cancellable<Receipt>(
      (settle) => {
        this.#outbox.add(message, text, settle);
        if (this.#connection.stopped) this.#outbox.abandon(closed());
      },
      (error) => this.#outbox.fail((m) => m === message, error),
      options,
    );
  }

  #answered(e: Envelope): void {
    const { id = '', data } = e;
    const error = e.type === 'error' && errorOf(data);
    const kept = this.#outbox.answer(id, error || (isReceipt(data) ? { ...data, id } : { id }));
    if (!kept) this.#requests.answer(id, error || e);
  }
}

// Returns the value of a name, as the server's events have it. Makes it first
// if it is not there.
function named<V>(map: Map<string, V>, name: string, make: (name: string) => V): V {
  name = wellFormed(name);
  const value = map.get(name) ?? make(name);
  map.set(name, value);
  return value;
}

// Makes it an uncaught error, which the platform reports.
function rethrow(err: unknown): void {
  queueMicrotask(() => {
    throw err;
  });
}
