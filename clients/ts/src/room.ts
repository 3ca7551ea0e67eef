import { Channel, type ChannelHost, type SendOptions } from './channel.js';
import { isJoined } from './check.js';
import { ChatError, invalid } from './error.js';
import type { ChatEvents, EventData, Listener, Unsubscribe } from './events.js';
import { newId } from './id.js';
import type { Envelope, Joined, Position, Presence, Receipt, Removed, StateChanged, User } from './protocol.js';
import type { Answer, WaitOptions } from './requests.js';
import { has, listing, NOBODY, type Users, usersAfter, usersOf, without } from './users.js';

/** Immutable: a change makes a new object. */
export interface RoomState extends Users {
  /**
   * `joining` also means that the connection is lost. If it is `refused`,
   * `error` says why.
   */
  readonly status: 'left' | 'joining' | 'joined' | 'refused';
  readonly error?: ChatError;
  /**
   * Set if the application took this client out of the room. The status is
   * `refused` then, and the client does not join again by itself.
   */
  readonly removed?: Removed;
  /** The other users who are typing. */
  readonly typing: readonly User[];
  /** The values that were set with `setState`, by key. */
  readonly state: Readonly<Record<string, unknown>>;
  /** The positions at which the keys of `state` were set, for `expect`. */
  readonly versions: Readonly<Record<string, number>>;
}

export interface SetStateOptions extends WaitOptions {
  /**
   * The version that the key must have, or else the code is `conflict`. 0: the
   * key must not be set.
   */
  expect?: number | undefined;
}

export interface JoinOptions {
  /** How many of the newest messages to deliver after the join. */
  history?: number | undefined;
  /**
   * Deliver all messages after this position, if the server still has them all.
   * If not, it delivers the newest ones.
   */
  since?: Position | undefined;
}

/** How a room was joined. */
export interface JoinedRoom extends Joined {
  /**
   * Whether the join continued from a position: after a reconnect, or with
   * `since`.
   */
  readonly resumed: boolean;
}

const TYPING_EVERY = 2_000;
const TYPING_END = 4_000; // without another key

const LEFT: RoomState = { ...NOBODY, status: 'left', typing: [], state: {}, versions: {} };

/**
 * A room, from `client.room(name)`. Once joined, it is joined again after each
 * reconnect, until `leave()`.
 */
export class Room<E = ChatEvents> extends Channel<EventData<E, 'room-message'>, number> {
  readonly #host: ChannelHost;
  #state: RoomState = LEFT;
  #wanted: JoinOptions | null = null;
  #position: Position | null = null; // of the last message
  #joinSent = false; // whether a join was sent on this connection
  #joinId = ''; // of the last request to join
  #live = false; // whether the next message comes after the position
  #joining: Promise<JoinedRoom> | null = null;
  #resolve!: (info: JoinedRoom) => void; // for `#joining`
  #reject!: (error: ChatError) => void;
  // The answer to another join has the whole list.
  readonly #list = listing(() =>
    this.#askToJoin(undefined, (answer) => {
      if (!this.#live || answer instanceof ChatError || !isJoined(answer.data)) return;
      this.#set({ ...this.#state, ...usersOf(answer.data) });
    }),
  );
  /** Everything after this position was heard. @internal */
  heardFrom = 0;
  #typingSince = 0; // when `typing` was sent last, or 0
  #typingTimer: ReturnType<typeof setTimeout> | undefined;

  /** @internal */
  constructor(name: string, host: ChannelHost) {
    super(host, 'room-message', name);
    this.#host = host;
  }

  get state(): RoomState {
    return this.#state;
  }

  /** The users in this room, as far as the server lists them. */
  get users(): readonly User[] {
    return this.#state.users;
  }

  /**
   * Position of the last message, from which a later client can continue with
   * `join({since})`.
   */
  get position(): Position | null {
    return this.#position;
  }

  /** Calls `fn` after each change of `state`. */
  onState(fn: (state: RoomState) => void): Unsubscribe {
    return this.#host.events.on(`\nstate\n${this.name}`, fn);
  }

  /**
   * Calls `fn` at each join, before the messages that follow it. With
   * `recovered: false` some messages may be missing.
   */
  onJoined(fn: (info: JoinedRoom) => void): Unsubscribe {
    return this.#host.events.on(`\njoined\n${this.name}`, fn);
  }

  /** Listens to one type of event in this room. */
  on<K extends string>(type: K, fn: Listener<EventData<E, K>>): Unsubscribe {
    return this.#host.events.on(`${type}\n${this.name}`, fn);
  }

  /**
   * Joins the room, and joins it again after each reconnect. Resolves when the
   * server has answered, which may be after a reconnect. Options are ignored if
   * the room is joined already.
   */
  join(options: JoinOptions = {}): Promise<JoinedRoom> {
    if (!this.#wanted || !this.#joining) {
      this.#wanted = { ...options };
      this.#position = options.since ?? null;
      this.#joining = new Promise((resolve, reject) => {
        this.#resolve = resolve;
        this.#reject = reject;
      });
      this.#set({ ...LEFT, status: 'joining' });
      if (this.#host.connection.ready) this.#joinNow();
    }
    return this.#joining;
  }

  /** Leaves the room. Its messages in the outbox fail. */
  leave(): void {
    if (!this.#wanted) return;
    this.#write('leave-room');
    this.#end(LEFT, new ChatError('not_in_room'));
  }

  override send(data: EventData<E, 'room-message'>, options?: SendOptions<number>): Promise<Receipt> {
    this.stopTyping();
    return super.send(data, options);
  }

  /**
   * Sets a key of the room's state to a JSON value, or removes it with null, if
   * the application allows it. Repeated like `send`.
   */
  setState(key: string, value: unknown, { expect, ...options }: SetStateOptions = {}): Promise<Receipt> {
    return this.#host.send('set-state', { key, value, expect }, { ...options, room: this.name });
  }

  /**
   * To be called at each keystroke. Notifies the others at most every 2 s, and
   * again 4 s after the last call, that typing has ended.
   */
  typing(): void {
    if (!this.#live) return;
    clearTimeout(this.#typingTimer);
    this.#typingTimer = setTimeout(() => this.stopTyping(), TYPING_END);
    const now = Date.now();
    if (now - this.#typingSince < TYPING_EVERY) return;
    this.#typingSince = now;
    this.#write('typing');
  }

  /** Notifies the others at once that typing has ended. */
  stopTyping(): void {
    clearTimeout(this.#typingTimer);
    if (this.#typingSince === 0) return;
    this.#typingSince = 0;
    this.#write('stop-typing');
  }

  /**
   * Whether messages can be sent. Undefined if the application has not joined.
   * @internal
   */
  get canSend(): boolean | undefined {
    return this.#wanted ? this.#live : undefined;
  }

  /** The epoch of the room's events. Undefined if it is unknown. @internal */
  get epoch(): string | undefined {
    return this.#live ? this.#position?.epoch : undefined;
  }

  /** The position to resume from. Null if there is none. @internal */
  get resumeFrom(): Position | null {
    return this.#wanted && this.#position;
  }

  /** The connection is gone. @internal */
  dropped(): void {
    this.#rest();
    if (this.#wanted) this.#set({ ...this.#state, status: 'joining', typing: [] });
  }

  /** The connection is back. Joins if it was not resumed. @internal */
  rejoin(): void {
    if (this.#wanted && !this.#live && !this.#joinSent) this.#joinNow();
  }

  /** Another user has connected, who has seen nothing yet. @internal */
  forget(): void {
    this.#position = this.#wanted?.since ?? null;
    this.renew();
  }

  /** Takes this room's part of the answer to `resume`. @internal */
  resumed(answer: Joined | ChatError): void {
    if (!this.#wanted) return this.#write('leave-room'); // left meanwhile
    if (!(answer instanceof ChatError)) this.#joined(answer);
    else if (!answer.temporary) this.#refused(answer); // if it is, rejoin follows
  }

  /** The server says that the client is not in this room. @internal */
  lost(error: ChatError): void {
    if (this.#live) this.#refused(error);
  }

  /**
   * Whether a durable event is new. If so, moves the position to it. @internal
   */
  isNew(seq: number): boolean {
    if (!this.#wanted) return true; // the server put the client into this room
    // Events that come before the answer come again after it, in their place.
    if (!this.#live || !this.#position) return this.#position === null && !this.#wanted.history;
    if (seq <= this.#position.seq) return false;
    this.#position = { epoch: this.#position.epoch, seq };
    return true;
  }

  /** @internal */
  override observe(e: Envelope): void {
    super.observe(e);
    if (!this.#live) return; // the answer to the join has the users
    const s = this.#state;
    const data = e.data as Presence;
    switch (e.type) {
      case 'user-joined':
      case 'user-left': {
        const came = e.type === 'user-joined';
        const typing = came ? s.typing : without(s.typing, data.users ?? []);
        this.#set({ ...s, ...usersAfter(s, data, came), typing });
        return this.#list(data, this.#state);
      }
      case 'removed': {
        const removed = e.data as Removed;
        return this.#refused(new ChatError('not_in_room', removed.reason || 'Removed from the room'), { removed });
      }
      case 'state-changed': {
        const { key, value } = e.data as StateChanged;
        const seq = e.seq as number;
        if (seq <= (s.versions[key] as number)) return; // false if there is none
        const state = { ...s.state, [key]: value };
        const versions = { ...s.versions, [key]: seq };
        if (value === null) {
          delete state[key];
          delete versions[key];
        }
        return this.#set({ ...s, state, versions });
      }
      case 'typing':
        if (!e.from || e.from.id === this.#host.me() || has(s.typing, e.from)) return;
        return this.#set({ ...s, typing: [...s.typing, e.from] });
      case 'stop-typing':
      case 'room-message':
        if (has(s.typing, e.from)) this.#set({ ...s, typing: without(s.typing, [e.from]) });
    }
  }

  #joinNow(): void {
    this.#joinSent = true;
    const wanted = this.#wanted;
    const since = this.#position;
    const data = since ? { since } : wanted?.history ? { history: wanted.history } : undefined;
    this.#askToJoin(data, (answer) => {
      if (wanted !== this.#wanted) return; // left meanwhile
      if (answer instanceof ChatError) {
        // If the connection is gone, the next one joins.
        if (this.#host.connection.ready) this.#refused(answer);
      } else if (isJoined(answer.data)) this.#joined(answer.data);
      else this.#refused(invalid());
    });
  }

  #askToJoin(data: object | undefined, settle: (answer: Answer) => void): void {
    this.#host.requests.forget(this.#joinId);
    this.#joinId = newId();
    this.#host.requests.ask({ type: 'join-room', room: this.name, data }, 'now', settle, this.#joinId);
  }

  #joined(info: Joined): void {
    const { epoch, seq, recovered, read, unread, state = {}, versions = {} } = info;
    const asked = this.#position;
    if (asked) this.#position = { epoch, seq: recovered ? asked.seq : 0 };
    else this.#position = { epoch, seq: this.#wanted?.history ? 0 : seq };
    this.heardFrom = asked && recovered ? asked.seq : seq;
    this.#live = true;
    this.#joinSent = false;
    if (read !== undefined && unread !== undefined) this.learn({ seq: read, unread, head: seq }, epoch);
    const known = state && { state, versions };
    this.#set({ ...this.#state, status: 'joined', ...usersOf(info), typing: [], ...known });
    const joined = { ...info, resumed: asked !== null };
    this.#host.events.emit(`\njoined\n${this.name}`, joined);
    this.#resolve(joined);
    this.#host.outbox.flush();
  }

  #refused(error: ChatError, more: { removed?: Removed } = {}): void {
    this.#end({ ...LEFT, status: 'refused', error, ...more }, error);
  }

  #end(state: RoomState, error: ChatError): void {
    this.#wanted = this.#position = this.#joining = null;
    this.#rest();
    this.#host.requests.forget(this.#joinId); // it may be waiting to be sent again
    this.#reject(error);
    this.#set(state);
    this.#host.outbox.fail((m) => m.room === this.name, error);
  }

  #rest(): void {
    this.#live = this.#joinSent = false;
    this.heardFrom = 0;
    clearTimeout(this.#typingTimer);
    this.#typingSince = 0;
  }

  #set(state: RoomState): void {
    this.#state = state;
    this.#host.events.emit(`\nstate\n${this.name}`, state);
  }

  #write(type: string): void {
    if (this.#host.connection.ready) this.#host.connection.write({ type, room: this.name });
  }
}
