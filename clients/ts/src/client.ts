import { Connection, type ConnectionState } from './connection.js';
import { ChatError, errorOf } from './error.js';
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
import { isOver, newId } from './id.js';
import type { ChatOptions } from './options.js';
import { Outbox, type Outgoing, type SendEvent } from './outbox.js';
import {
  type Durable,
  type Envelope,
  isDurable,
  type Joined,
  type Position,
  type Presence,
  type Receipt,
  type User,
  type Welcome,
} from './protocol.js';
import { Room, type RoomHost, type SendOptions } from './room.js';
import { changed, listed, NOBODY, type Users } from './users.js';

/** How the inbox was taken up: once connected, and after every reconnect. */
export interface InboxInfo extends Position {
  /** Whether all that was missed follows; else the newest messages do. */
  readonly recovered: boolean;
  /** Whether this client had seen something of it, or was given a position. */
  readonly resumed: boolean;
}

export interface CallOptions extends SendOptions {
  room?: string | undefined;
  to?: string | undefined;
}

/**
 * How an event is sent that no log keeps. `once`: as soon as there is a connection, and never again.
 * `read`: again, also on the next connection, until there is an answer: it changes nothing.
 * `now`: on this connection or not at all, and again where the server cannot do it yet.
 */
type Mode = 'once' | 'read' | 'now';

/** Types that nothing is known of. */
type Unknown<K, Known> = K extends Known ? never : K;

type DurableData<E, K extends Durable> = EventData<E, K extends 'send-notification' ? 'notification' : K>;

interface Pending {
  readonly id: string;
  readonly text: string;
  readonly mode: Mode;
  /** Waits for a connection. */
  queued: boolean;
  settle(result: Envelope | ChatError): void;
}

/** The answer to `resume`. */
interface Resumed {
  readonly inbox: Joined;
  readonly rooms: Readonly<Record<string, Joined & { readonly error?: unknown }>>;
}

const INVALID_TEXT = 1007; // close codes
const TOO_BIG = 1009;
const REMEMBERED = 1_000; // ids of own private messages
const CLOSED = 'The client is closed';
const LIST_EVERY = 5_000; // between two requests for the list of who is online

/**
 * ChatClient speaks to a hub over one connection that comes back by itself.
 * Nothing happens before `connect()`. E, C and Q say what the application's
 * events, calls and questions carry; by default what it has declared.
 */
export class ChatClient<E = ChatEvents, C = ChatCalls, Q = ChatQuestions> {
  readonly #options: ChatOptions;
  readonly #connection: Connection;
  readonly #outbox: Outbox;
  readonly #events: Emitter<[data: never, event: Envelope<never>]>;
  readonly #local: Emitter<[value: never]>;
  readonly #answers = new Map<string, (data: never, event: Envelope<never>) => unknown>();
  readonly #rooms = new Map<string, Room<E>>();
  readonly #pending = new Map<string, Pending>();
  readonly #retries = new Set<ReturnType<typeof setTimeout>>();
  readonly #own = new Set<string>(); // ids of private messages sent from here
  readonly #host: RoomHost;
  #inbox: Position | null = null;
  #inboxLive = false; // whether what comes has its place after the position
  #user: User | undefined;
  #maxMessage = Infinity;
  #online = NOBODY;
  #listAsked = 0;

  /** `url` is that of the hub: ws, wss, http or https, or a path of the page's origin. */
  constructor(url: string, options: ChatOptions = {}) {
    this.#options = options;
    if (typeof options.inbox === 'object') this.#inbox = options.inbox;
    const report = options.onError ?? rethrow;
    this.#events = new Emitter(report);
    this.#local = new Emitter(report);
    this.#connection = new Connection(url, options, {
      welcome: (w) => this.#welcome(w),
      receive: (e) => this.#receive(e),
      dropped: (code) => this.#dropped(code),
      changed: (state) => this.#changed(state),
      refresh: async (token) => {
        const { data } = await this.#request({ type: 'refresh-token', data: { token } }, 'now');
        return (data as { expires?: number } | undefined)?.expires;
      },
    });
    this.#outbox = new Outbox(
      {
        roomReady: (room) => this.#rooms.get(room)?.canSend,
        write: (text) => this.#connection.writeText(text),
        changed: (event) => {
          this.#local.emit('send', event as never);
          if (event.status !== 'failed' || event.error.code !== 'not_in_room') return;
          this.#rooms.get(event.message.room ?? '')?.lost(event.error);
        },
        report,
      },
      this.#maxWaiting,
      options.storage,
      options.storageKey ?? 'chathub:outbox',
    );
    this.#host = {
      connection: this.#connection,
      outbox: this.#outbox,
      events: this.#events,
      local: this.#local,
      userId: () => this.#user?.id,
      ask: (e, done) => this.#ask(e, 'now', done),
      read: (e) => this.#request(e, 'read'),
      sendDurable: (type, target, data, opts) => this.#sendDurable(type, target, data, opts),
    };
  }

  /** Connects, and from then on comes back by itself. */
  connect(): void {
    this.#connection.open();
  }

  /**
   * Ends the connection and all attempts: no timer is left. Whoever waits gets an
   * error of code `closed`; what is in the outbox goes out after the next `connect()`.
   */
  close(): void {
    this.#connection.close();
  }

  /** Connects now, or finds out whether the server is there: for apps that know when they wake up. */
  wake(): void {
    this.#connection.wake();
  }

  get state(): ConnectionState {
    return this.#connection.state;
  }

  /** Is called when `state` is another one. */
  onState(fn: (state: ConnectionState) => void): Unsubscribe {
    return this.#local.on('state', fn);
  }

  /** Whom the server took this client for, last. */
  get user(): User | undefined {
    return this.#user;
  }

  /** Where the inbox stands: the last private message or notification seen. */
  get inbox(): Position | null {
    return this.#inbox;
  }

  /** Is called when the inbox is taken up, before its messages: `recovered: false` tells that some were missed. */
  onInbox(fn: (info: InboxInfo) => void): Unsubscribe {
    return this.#local.on('inbox', fn);
  }

  /** Listens to one type of event: durable ones come exactly once and in order. */
  on<K extends EventType<E>>(type: K, fn: Listener<EventData<E, K>>): Unsubscribe;
  on<K extends string>(type: Unknown<K, EventType<E>>, fn: Listener<unknown>): Unsubscribe;
  on(type: string, fn: Listener<never>): Unsubscribe {
    return this.#events.on(type, fn);
  }

  /**
   * Answers a question of the server (`EmitWithAck`): with what `fn` returns, or with the
   * ChatError that it throws; any other error is told as `internal`.
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
   * Sends an event and resolves with the answer. A durable one (`room-message`,
   * `private-message`, `send-notification`) is kept until the server has it; any other is sent
   * once, as soon as there is a connection. Rejects with a ChatError.
   */
  send<K extends Durable>(type: K, data: DurableData<E, K>, options?: CallOptions): Promise<Receipt>;
  send<K extends keyof C & string>(type: K, data: CallData<C, K>, options?: CallOptions): Promise<CallReply<C, K>>;
  send<K extends string>(type: Unknown<K, keyof C | Durable>, data?: unknown, options?: CallOptions): Promise<unknown>;
  async send(type: string, data?: unknown, options: CallOptions = {}): Promise<unknown> {
    const { room, to } = options;
    const target = { ...(room !== undefined && { room }), ...(to !== undefined && { to }) };
    if (isDurable(type)) return this.#sendDurable(type, target, data, options);
    const answer = await this.#request({ type, ...target, data }, 'once', options);
    return answer.data;
  }

  /** Sends a message to every connection of a user; it is kept while they are away. */
  privateMessage(to: string, data: EventData<E, 'private-message'>, options?: SendOptions): Promise<Receipt> {
    return this.#sendDurable('private-message', { to }, data, options);
  }

  /** Sends a notification to a user; it is kept while they are away. */
  notify(to: string, data: EventData<E, 'notification'>, options?: SendOptions): Promise<Receipt> {
    return this.#sendDurable('send-notification', { to }, data, options);
  }

  /** The room of that name, always the same object. */
  room(name: string): Room<E> {
    let room = this.#rooms.get(name);
    if (!room) {
      room = new Room<E>(name, this.#host);
      this.#rooms.set(name, room);
    }
    return room;
  }

  /** Who is online, as far as the server tells; it is kept while the connection is away. */
  get online(): Users {
    return this.#online;
  }

  /** Is called when `online` is another one. */
  onOnline(fn: (online: Users) => void): Unsubscribe {
    return this.#local.on('online', fn);
  }

  /** Asks for the list anew. */
  async onlineUsers(options?: SendOptions): Promise<Users> {
    await this.#request({ type: 'online-users' }, 'read', options); // the list comes before its ack
    return this.#online;
  }

  /** Durable messages that the server has not acknowledged, oldest first. */
  get outbox(): readonly Outgoing[] {
    return this.#outbox.messages;
  }

  /** Is called when a durable message is queued, and when it is sent or has failed for good. */
  onSend(fn: (event: SendEvent) => void): Unsubscribe {
    return this.#local.on('send', fn);
  }

  /** Takes a message out of the outbox; false where it is not there. It may have arrived. */
  discard(id: string): boolean {
    return this.#outbox.fail((m) => m.id === id, new ChatError('aborted', 'The message was discarded'));
  }

  get #maxWaiting(): number {
    return this.#options.maxOutbox ?? 256;
  }

  // The connection.

  #changed(state: ConnectionState): void {
    if (this.#connection.stopped) {
      const error = new ChatError('closed', CLOSED);
      this.#rejectPending(() => true, error);
      this.#outbox.abandon(error);
    }
    this.#local.emit('state', state as never);
  }

  #dropped(code: number | undefined): void {
    this.#inboxLive = false;
    for (const timer of this.#retries) clearTimeout(timer);
    this.#retries.clear();
    // The same message would end the next connection too.
    if (code === TOO_BIG || code === INVALID_TEXT) {
      this.#outbox.fail((_, inFlight) => inFlight, new ChatError('too_large', 'The server cannot take the message'));
    }
    this.#outbox.dropped();
    for (const room of this.#rooms.values()) room.dropped();
    for (const p of this.#pending.values()) p.queued ||= p.mode === 'read';
    this.#rejectPending((p) => !p.queued, new ChatError('disconnected', 'The connection was lost before the answer'));
  }

  #welcome(welcome: Welcome): void {
    const { user, inbox } = welcome;
    if (this.#user && this.#user.id !== user.id) {
      this.#inbox = null;
      this.#own.clear();
      for (const room of this.#rooms.values()) room.forget();
    }
    this.#user = user;
    this.#maxMessage = welcome.maxMessage || Infinity;
    const resumed = this.#inbox !== null;
    this.#inbox ??= { epoch: inbox.epoch, seq: this.#options.inbox === 'new' ? inbox.seq : 0 };
    let asked = [...this.#rooms.values()].filter((r) => r.resumeFrom);
    // fromEntries makes own properties, so a room may be called __proto__.
    const rooms = Object.fromEntries(asked.map((r) => [r.name, r.resumeFrom]));
    const data = { rooms, inbox: this.#inbox };
    if (isOver(JSON.stringify(data), this.#maxMessage - 100)) {
      data.rooms = {};
      asked = []; // they are joined one by one
    }
    this.#ask({ type: 'resume', data }, 'now', (answer) => {
      if (!(answer instanceof ChatError)) this.#resumed(answer.data as Resumed, asked, resumed);
      else if (answer.code !== 'disconnected') this.#connection.lost(answer);
    });
  }

  // What was missed follows: it is handled here and now, not in a later microtask.
  #resumed({ inbox, rooms }: Resumed, asked: Room<E>[], resumed: boolean): void {
    this.#inbox = { epoch: inbox.epoch, seq: inbox.recovered ? (this.#inbox?.seq ?? 0) : 0 };
    this.#inboxLive = true;
    const socket = this.#connection.socket;
    this.#connection.markReady();
    this.#local.emit('inbox', { ...inbox, resumed } as never);
    const answers = new Map(Object.entries(rooms));
    for (const room of asked) {
      const part = answers.get(room.name);
      if (part) room.resumed(part.error ? errorOf(part.error) : part);
    }
    if (socket !== this.#connection.socket) return; // a listener has closed it
    for (const room of this.#rooms.values()) room.rejoin();
    if (this.#user) this.#outbox.opened(this.#user.id, this.#maxMessage);
    for (const p of [...this.#pending.values()]) {
      if (p.queued) this.#writePending(p);
    }
  }

  // Receiving.

  #receive(e: Envelope): void {
    switch (e.type) {
      case 'ack':
      case 'error':
        return this.#answered(e);
      case 'online-users':
        this.#setOnline(listed(e.data as Presence));
        break;
      case 'user-online':
      case 'user-offline': {
        const change = e.data as Presence;
        this.#setOnline(changed(this.#online, change, e.type === 'user-online'));
        if (change.users && this.#online.users.length !== change.count) this.#list();
        break;
      }
    }
    if (e.ack) return void this.#reply(e);
    const room = e.room === undefined ? undefined : this.#rooms.get(e.room);
    if (e.seq !== undefined && !(e.room === undefined ? this.#isNew(e, e.seq) : (room?.isNew(e.seq) ?? true))) return;
    room?.observe(e);
    this.#events.emit(e.type, e.data as never, e as Envelope<never>);
    if (e.room !== undefined) this.#events.emit(`${e.type}\n${e.room}`, e.data as never, e as Envelope<never>);
  }

  // Of the inbox. Own private messages come back after a reconnect; their sender has them already.
  #isNew(e: Envelope, seq: number): boolean {
    if (!this.#inboxLive || !this.#inbox || seq <= this.#inbox.seq) return false;
    this.#inbox = { epoch: this.#inbox.epoch, seq };
    return !(e.id !== undefined && e.from?.id === this.#user?.id && this.#own.has(e.id));
  }

  #setOnline(online: Users): void {
    this.#online = online;
    this.#local.emit('online', online as never);
  }

  // Some came while the server sent counts only; now it sends lists.
  #list(): void {
    const now = Date.now();
    if (now - this.#listAsked < LIST_EVERY) return;
    this.#listAsked = now;
    this.#connection.write({ type: 'online-users' });
  }

  async #reply(e: Envelope): Promise<void> {
    const fn = this.#answers.get(e.type);
    const { socket } = this.#connection;
    let reply: object;
    try {
      if (!fn) throw new ChatError('unknown_type', 'Nobody answers this here');
      reply = { type: 'ack', id: e.id, data: (await fn(e.data as never, e as Envelope<never>)) ?? null };
    } catch (err) {
      const known = err instanceof ChatError;
      if (!known) (this.#options.onError ?? rethrow)(err);
      const data = known ? { code: err.code, message: err.message } : { code: 'internal', message: 'Internal error' };
      reply = { type: 'error', id: e.id, data };
    }
    if (socket === this.#connection.socket) this.#connection.write(reply);
  }

  // Sending.

  async #sendDurable(
    type: string,
    target: { room?: string; to?: string },
    data: unknown,
    { id = newId(), timeout, signal }: SendOptions = {},
  ): Promise<Receipt> {
    const message: Outgoing = { type, id, ...target, data };
    const text = encode(message);
    if (type === 'private-message') {
      this.#own.add(id);
      if (this.#own.size > REMEMBERED)
        for (const first of [...this.#own].slice(0, REMEMBERED / 2)) this.#own.delete(first);
    }
    return settled<Receipt>(
      (settle) => {
        this.#outbox.add(message, text, settle);
        if (this.#connection.stopped) this.#outbox.abandon(new ChatError('closed', CLOSED));
      },
      (error) => this.#outbox.fail((m) => m === message, error),
      timeout,
      signal,
    );
  }

  async #request(event: object, mode: Mode, options: SendOptions = {}): Promise<Envelope> {
    const { id = newId(), timeout = this.#options.timeout ?? 10_000, signal } = options;
    return settled<Envelope>(
      (settle) => this.#ask(event, mode, settle, id),
      (error) => {
        const p = this.#pending.get(id);
        this.#pending.delete(id);
        p?.settle(error);
      },
      timeout,
      signal,
    );
  }

  #ask(event: object, mode: Mode, settle: (answer: Envelope | ChatError) => void, id = newId()): void {
    let text: string;
    try {
      text = encode({ ...event, id });
    } catch (err) {
      return settle(err as ChatError);
    }
    if (this.#connection.stopped) return settle(new ChatError('closed', CLOSED));
    if (isOver(text, this.#maxMessage)) {
      return settle(new ChatError('too_large', `The event is over ${this.#maxMessage} bytes`));
    }
    const queued = mode !== 'now' && !this.#connection.ready;
    if (queued && [...this.#pending.values()].filter((p) => p.queued).length >= this.#maxWaiting) {
      return settle(new ChatError('overflow', `${this.#maxWaiting} events wait already`));
    }
    const p: Pending = { id, text, mode, queued, settle };
    this.#pending.set(id, p);
    if (!queued) this.#writePending(p);
  }

  #writePending(p: Pending): void {
    p.queued = false;
    this.#connection.writeText(p.text);
  }

  #answered(e: Envelope): void {
    if (e.id === undefined) return;
    const error = e.type === 'error' ? errorOf(e.data) : undefined;
    if (this.#outbox.answer(e.id, error ?? { id: e.id, ...(e.data as object | undefined) })) {
      return;
    }
    const p = this.#pending.get(e.id);
    if (!p) return;
    if (error?.temporary && p.mode !== 'once') {
      const timer = setTimeout(() => {
        this.#retries.delete(timer);
        if (this.#pending.get(p.id) === p) this.#writePending(p);
      }, error.retryAfterMs ?? 1_000);
      this.#retries.add(timer);
      return;
    }
    this.#pending.delete(e.id);
    p.settle(error ?? e);
  }

  #rejectPending(choose: (p: Pending) => boolean, error: ChatError): void {
    for (const [id, p] of [...this.#pending]) {
      if (!choose(p)) continue;
      this.#pending.delete(id);
      p.settle(error);
    }
  }
}

function encode(envelope: object): string {
  try {
    return JSON.stringify(envelope);
  } catch (err) {
    throw new ChatError('bad_request', 'The data is not JSON', { cause: err });
  }
}

/** Resolves with what `begin` settles, and calls `cancel` when the time is over or the signal is given. */
function settled<T>(
  begin: (settle: (result: T | ChatError) => void) => void,
  cancel: (error: ChatError) => void,
  timeout: number | undefined,
  signal: AbortSignal | undefined,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const aborted = () => new ChatError('aborted', 'Aborted', { cause: signal?.reason });
    const abort = () => cancel(aborted());
    if (signal?.aborted) return reject(aborted());
    let timer: ReturnType<typeof setTimeout> | undefined;
    signal?.addEventListener('abort', abort);
    if (timeout !== undefined && timeout !== Infinity) {
      timer = setTimeout(() => cancel(new ChatError('timeout', `No answer within ${timeout} ms`)), timeout);
    }
    begin((result) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      if (result instanceof ChatError) reject(result);
      else resolve(result);
    });
  });
}

// As an uncaught error, where the platform shows those.
function rethrow(err: unknown): void {
  queueMicrotask(() => {
    throw err;
  });
}
