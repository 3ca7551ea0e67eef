import type { Connection } from './connection.js';
import { ChatError } from './error.js';
import type { ChatEvents, Emitter, EventData, Listener, Unsubscribe } from './events.js';
import type { Outbox } from './outbox.js';
import type { Envelope, History, Joined, Position, Presence, Receipt, User } from './protocol.js';
import type { Requests, WaitOptions } from './requests.js';
import { changed, has, LIST_EVERY, listed, NOBODY, type Users } from './users.js';

/** Never changed: a new state is a new object. */
export interface RoomState extends Users {
  /** `joining` also while the connection is away; `refused`: `error` says why. */
  readonly status: 'left' | 'joining' | 'joined' | 'refused';
  readonly error?: ChatError;
  /** The others who type just now. */
  readonly typing: readonly User[];
}

export interface JoinOptions {
  /** How many of the newest messages follow. */
  history?: number | undefined;
  /** Everything after this position follows, as far as the log has it. */
  since?: Position | undefined;
}

/** How a room was joined. */
export interface JoinedRoom extends Joined {
  /** It was joined from a position: after a reconnect, or with `since`. */
  readonly resumed: boolean;
}

export type SendOptions = WaitOptions;

/** What a room needs of its client. */
export interface RoomHost {
  readonly connection: Connection;
  readonly outbox: Outbox;
  readonly requests: Requests;
  readonly events: Emitter<[data: never, event: Envelope<never>]>;
  /** What is no event of the server. */
  readonly local: Emitter<[value: never]>;
  /** The id of the user that the client is connected as. */
  me(): string | undefined;
  send(room: string, data: unknown, options: SendOptions | undefined): Promise<Receipt>;
}

const TYPING_EVERY = 2_000;
const TYPING_END = 4_000; // without another key

const LEFT: RoomState = { ...NOBODY, status: 'left', typing: [] };

/** A room, from `client.room(name)`. It stays joined over reconnects until `leave()`. */
export class Room<E = ChatEvents> {
  readonly name: string;
  readonly #host: RoomHost;
  #state: RoomState = LEFT;
  #wanted: JoinOptions | null = null;
  #position: Position | null = null; // of the last message seen
  #asked = false; // by a join on this connection
  #live = false; // whether what comes has its place after the position
  #joining: Deferred<JoinedRoom> | null = null;
  #listAsked = 0;
  #typingSince = 0; // when `typing` was sent last; 0: not typing
  #typingTimer: ReturnType<typeof setTimeout> | undefined;

  /** @internal */
  constructor(name: string, host: RoomHost) {
    this.name = name;
    this.#host = host;
  }

  get state(): RoomState {
    return this.#state;
  }

  /** Who is there, as far as the server tells. */
  get users(): readonly User[] {
    return this.#state.users;
  }

  /** Where a later client could go on with `join({since})`. */
  get position(): Position | null {
    return this.#position;
  }

  /** Is called when `state` is another one. */
  onState(fn: (state: RoomState) => void): Unsubscribe {
    return this.#host.local.on(`state\n${this.name}`, fn);
  }

  /** Is called at each join, before its messages: `recovered: false` tells that some were missed. */
  onJoined(fn: (info: JoinedRoom) => void): Unsubscribe {
    return this.#host.local.on(`joined\n${this.name}`, fn);
  }

  /** Listens to one type of event in this room. */
  on<K extends string>(type: K, fn: Listener<EventData<E, K>>): Unsubscribe {
    return this.#host.events.on(`${type}\n${this.name}`, fn as Listener<never>);
  }

  /**
   * Joins, and joins again after every reconnect. Resolves when the server has
   * answered, also if that is after a reconnect. Where it is joined already, options mean nothing.
   */
  join(options: JoinOptions = {}): Promise<JoinedRoom> {
    if (!this.#wanted || !this.#joining) {
      this.#wanted = { ...options };
      this.#position = options.since ?? null;
      this.#joining = new Deferred();
      this.#set({ ...LEFT, status: 'joining' });
      if (this.#host.connection.ready) this.#joinNow();
    }
    return this.#joining.promise;
  }

  /** Leaves. What waits for this room in the outbox fails. */
  leave(): void {
    if (!this.#wanted) return;
    this.#write('leave-room');
    this.#end(LEFT, new ChatError('not_in_room', 'The room was left'));
  }

  /** Sends a message, which is kept and repeated until the server has it. */
  send(data: EventData<E, 'room-message'>, options?: SendOptions): Promise<Receipt> {
    this.stopTyping();
    return this.#host.send(this.name, data, options);
  }

  /** To be called at every key. Tells the others at most every 2 s, and that it has ended 4 s after the last call. */
  typing(): void {
    if (!this.#live) return;
    clearTimeout(this.#typingTimer);
    this.#typingTimer = setTimeout(() => this.stopTyping(), TYPING_END);
    const now = Date.now();
    if (now - this.#typingSince < TYPING_EVERY) return;
    this.#typingSince = now;
    this.#write('typing');
  }

  /** Ends typing at once. */
  stopTyping(): void {
    clearTimeout(this.#typingTimer);
    if (this.#typingSince === 0) return;
    this.#typingSince = 0;
    this.#write('stop-typing');
  }

  /** Reads the log: messages before a `seq`, or the newest. The server has a limit of its own. */
  async history(options: { before?: number; limit?: number } = {}): Promise<History<EventData<E, 'room-message'>>> {
    const { data } = await this.#host.requests.send({ type: 'history', room: this.name, data: options }, 'read');
    return data as History<EventData<E, 'room-message'>>;
  }

  /** Whether messages can be sent; undefined: nobody wanted to be in it. @internal */
  get canSend(): boolean | undefined {
    return this.#wanted ? this.#live : undefined;
  }

  /** Where to resume from; null where there is nothing to resume. @internal */
  get resumeFrom(): Position | null {
    return this.#wanted && this.#position;
  }

  /** The connection has gone. @internal */
  dropped(): void {
    this.#live = this.#asked = false;
    clearTimeout(this.#typingTimer);
    this.#typingSince = 0;
    if (this.#wanted) this.#set({ ...this.#state, status: 'joining', typing: [] });
  }

  /** The connection is back, and the room was not resumed. @internal */
  rejoin(): void {
    if (this.#wanted && !this.#live && !this.#asked) this.#joinNow();
  }

  /** A new user: what the old one saw counts no more. @internal */
  forget(): void {
    this.#position = this.#wanted?.since ?? null;
  }

  /** The part of a resume's answer that is about this room. @internal */
  resumed(answer: Joined | ChatError): void {
    if (!this.#wanted) return this.#write('leave-room'); // left meanwhile
    if (!(answer instanceof ChatError)) this.#joined(answer);
    else if (!answer.temporary) this.#refused(answer); // otherwise rejoin follows
  }

  /** The server says that the client is not in this room. @internal */
  lost(error: ChatError): void {
    if (this.#live) this.#refused(error);
  }

  /** Whether a durable event was not seen yet; if so, it is seen now. @internal */
  isNew(seq: number): boolean {
    if (!this.#wanted) return true; // the server has put the client into this room
    // Until the answer, what was asked for comes again in its place.
    if (!this.#live || !this.#position) return this.#position === null && !this.#wanted.history;
    if (seq <= this.#position.seq) return false;
    this.#position = { epoch: this.#position.epoch, seq };
    return true;
  }

  /** Follows who is there and who types. @internal */
  observe(e: Envelope): void {
    if (!this.#live) return; // the answer to a join says who is there
    const s = this.#state;
    const data = e.data as Presence;
    const quiet = (gone: readonly (User | undefined)[]) => s.typing.filter((u) => !gone.some((g) => g?.id === u.id));
    switch (e.type) {
      case 'user-joined':
        this.#set({ ...s, ...changed(s, data, true) });
        return this.#list(data);
      case 'user-left':
        this.#set({ ...s, ...changed(s, data, false), typing: quiet(data.users ?? []) });
        return this.#list(data);
      case 'typing':
        if (!e.from || e.from.id === this.#host.me() || has(s.typing, e.from)) return;
        return this.#set({ ...s, typing: [...s.typing, e.from] });
      case 'stop-typing':
      case 'room-message':
        if (has(s.typing, e.from)) this.#set({ ...s, typing: quiet([e.from]) });
    }
  }

  // Some came while the server sent counts only; now it sends lists: the answer to another join has one.
  #list({ users, count }: Presence): void {
    const now = Date.now();
    if (!users || this.users.length === count || now - this.#listAsked < LIST_EVERY) return;
    this.#listAsked = now;
    this.#host.requests.ask({ type: 'join-room', room: this.name }, 'now', (answer) => {
      if (this.#live && !(answer instanceof ChatError)) this.#set({ ...this.#state, ...listed(answer.data as Joined) });
    });
  }

  #joinNow(): void {
    this.#asked = true;
    const wanted = this.#wanted;
    const since = this.#position;
    const data = since ? { since } : wanted?.history ? { history: wanted.history } : undefined;
    this.#host.requests.ask({ type: 'join-room', room: this.name, data }, 'now', (answer) => {
      if (wanted !== this.#wanted) return; // left meanwhile
      if (!(answer instanceof ChatError)) this.#joined(answer.data as Joined);
      // Without a connection, the next one asks again.
      else if (this.#host.connection.ready) this.#refused(answer);
    });
  }

  #joined(info: Joined): void {
    const { epoch, seq, recovered } = info;
    const asked = this.#position;
    if (asked) this.#position = { epoch, seq: recovered ? asked.seq : 0 };
    else this.#position = { epoch, seq: this.#wanted?.history ? 0 : seq };
    this.#live = true;
    this.#asked = false;
    this.#set({ status: 'joined', ...listed(info), typing: [] });
    const told = { ...info, resumed: asked !== null };
    this.#host.local.emit(`joined\n${this.name}`, told as never);
    this.#joining?.resolve(told);
    this.#host.outbox.flush();
  }

  #refused(error: ChatError): void {
    this.#end({ ...LEFT, status: 'refused', error }, error);
  }

  #end(state: RoomState, error: ChatError): void {
    const joining = this.#joining;
    this.#wanted = this.#position = this.#joining = null;
    this.#live = this.#asked = false;
    clearTimeout(this.#typingTimer);
    this.#typingSince = 0;
    joining?.reject(error);
    this.#set(state);
    this.#host.outbox.fail((m) => m.room === this.name, error);
  }

  #set(state: RoomState): void {
    this.#state = state;
    this.#host.local.emit(`state\n${this.name}`, state as never);
  }

  #write(type: string): void {
    if (this.#host.connection.ready) this.#host.connection.write({ type, room: this.name });
  }
}

class Deferred<T> {
  resolve!: (value: T) => void;
  reject!: (err: unknown) => void;
  readonly promise = new Promise<T>((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });
}
