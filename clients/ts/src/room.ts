import { Channel, type ChannelHost, type SendOptions } from './channel.js';
import { isJoined } from './check.js';
import { ChatError, invalid } from './error.js';
import type { ChatEvents, EventData, Listener, Unsubscribe } from './events.js';
import { newId } from './id.js';
import { Log } from './log.js';
import type { WaitOptions } from './outbox.js';
import type { Envelope, Joined, Position, Presence, Receipt, Removed, StateChanged, User } from './protocol.js';
import { has, listing, NOBODY, type Users, usersAfter, usersOf, without } from './users.js';

/** Immutable: a change makes a new object. */
export interface RoomState extends Users {
  /**
   * `joining` also means that the connection is lost. If it is `refused`,
   * `error` says why.
   */
  readonly status: 'left' | 'joining' | 'joined' | 'refused';
  readonly error?: ChatError | undefined;
  /**
   * Set if the application took this client out of the room. The status is
   * `refused` then, and the client does not join again by itself.
   */
  readonly removed?: Removed | undefined;
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

const LEFT: RoomState = {
  ...NOBODY,
  status: 'left',
  error: undefined,
  removed: undefined,
  typing: [],
  state: {},
  versions: {},
};

/**
 * A room, from `client.room(name)`. Once joined, it is joined again after each
 * reconnect, until `leave()`.
 */
export class Room<E = ChatEvents> extends Channel<EventData<E, 'room-message'>, number> {
  #state = LEFT;
  #wanted: JoinOptions | null = null;
  #joinSent = false; // whether a join was sent on this connection
  #joinId = ''; // of the last request to join
  #joining: Promise<JoinedRoom> | null = null;
  #resolve!: (info: JoinedRoom) => void; // for `#joining`
  #reject!: (error: ChatError) => void;
  readonly #list = listing(() => this.#refresh());
  #typingSince = 0; // when `typing` was sent last, or 0
  #typingTimer: ReturnType<typeof setTimeout> | undefined;

  /** @internal */
  constructor(core: ChannelHost, name: string) {
    super(core, 'room-message', name, new Log());
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
    return this._log._position;
  }

  /** Calls `fn` after each change of `state`. */
  onState(fn: (state: RoomState) => void): Unsubscribe {
    return this._events.on('\nstate', fn);
  }

  /**
   * Calls `fn` at each join, before the messages that follow it. With
   * `recovered: false` some messages may be missing.
   */
  onJoined(fn: (info: JoinedRoom) => void): Unsubscribe {
    return this._events.on('\njoined', fn);
  }

  /** Listens to one type of event in this room. */
  on<K extends string>(type: K, fn: Listener<EventData<E, K>>): Unsubscribe {
    return this._events.on(type, fn);
  }

  /**
   * Joins the room, and joins it again after each reconnect. Resolves when the
   * server has answered, which may be after a reconnect. Options are ignored if
   * the room is joined already.
   */
  join(options: JoinOptions = {}): Promise<JoinedRoom> {
    if (!this.#wanted || !this.#joining) {
      this.#wanted = { ...options };
      this._log._position = options.since ?? null;
      this.#joining = new Promise((resolve, reject) => {
        this.#resolve = resolve;
        this.#reject = reject;
      });
      this.#set({ ...LEFT, status: 'joining' });
      if (this._core._connection._ready) this.#joinNow();
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
    return this._core._send('set-state', { key, value, expect }, { ...options, room: this.name });
  }

  /**
   * To be called at each keystroke. Notifies the others at most every 2 s, and
   * again 4 s after the last call, that typing has ended.
   */
  typing(): void {
    if (!this._log._live) return;
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
    if (this.#typingSince > 0) this.#write('stop-typing');
    this.#typingSince = 0;
  }

  /**
   * Whether messages can be sent. Undefined if the application has not joined.
   * @internal
   */
  get _canSend(): boolean | undefined {
    return this.#wanted ? this._log._live : undefined;
  }

  /** The position to resume from. Null if there is none. @internal */
  get _resumeFrom(): Position | null {
    return this.#wanted && this._log._position;
  }

  /** The connection is gone. @internal */
  _dropped(): void {
    this.#rest();
    if (this.#wanted) this.#set({ status: 'joining', typing: [] });
  }

  /** The connection is back. Joins if it was not resumed. @internal */
  _rejoin(): void {
    if (this.#wanted && !this._log._live && !this.#joinSent) this.#joinNow();
  }

  /** Another user has connected, who has seen nothing yet. @internal */
  _forget(): void {
    this._log._position = this.#wanted?.since ?? null;
    this._renew();
  }

  /** Takes this room's part of the answer to `resume`. @internal */
  _resumed(answer: Joined | ChatError): void {
    if (!this.#wanted) return this.#write('leave-room'); // left meanwhile
    if (!(answer instanceof ChatError)) {
      this.#joined(answer);
      if (answer.state === null) this.#refresh(); // there were too many
    } else if (!answer.temporary) this.#refused(answer); // if it is, rejoin follows
  }

  /** The server says that the client is not in this room. @internal */
  _lost(error: ChatError): void {
    if (this._log._live) this.#refused(error);
  }

  /**
   * Whether a durable event is new. If so, moves the position to it. @internal
   */
  _isNew(seq: number): boolean {
    if (!this.#wanted) return true; // the server put the client into this room
    if (this._log._live) return this._log._isNew(seq);
    // Events that come before the answer come again after it, in their place.
    return this._log._position === null && !this.#wanted.history;
  }

  /** @internal */
  override _observe(e: Envelope): void {
    super._observe(e);
    if (!this._log._live) return; // the answer to the join has the users
    const s = this.#state;
    const { type, from } = e;
    const data = e.data as Presence & Removed & StateChanged;
    if (type === 'user-joined' || type === 'user-left') {
      const came = type === 'user-joined';
      this.#set({ ...usersAfter(s, data, came), typing: came ? s.typing : without(s.typing, data.users ?? []) });
      this.#list(data, this.#state);
    } else if (type === 'removed') {
      const removed = e.data as Removed;
      this.#refused(new ChatError('not_in_room', removed.reason || 'Removed from the room'), removed);
    } else if (type === 'state-changed') {
      const { key, value } = data;
      const seq = e.seq as number;
      if (seq <= (s.versions[key] as number)) return; // false if there is none
      const after = <T>(map: Readonly<Record<string, T>>, next: T) => {
        const changed = { ...map, [key]: next };
        if (value === null) delete changed[key];
        return changed;
      };
      this.#set({ state: after(s.state, value), versions: after(s.versions, seq) });
    } else if (type === 'typing') {
      if (from && from.id !== this._core._user?.id && !has(s.typing, from)) this.#set({ typing: [...s.typing, from] });
    } else if ((type === 'stop-typing' || type === 'room-message') && has(s.typing, from)) {
      this.#set({ typing: without(s.typing, [from]) });
    }
  }

  #joinNow(): void {
    this.#joinSent = true;
    const wanted = this.#wanted;
    const since = this._log._position;
    this.#askToJoin(since ? { since } : wanted?.history ? { history: wanted.history } : undefined, (answer) => {
      if (wanted !== this.#wanted) return; // left meanwhile
      if (!(answer instanceof ChatError)) this.#joined(answer);
      // If the connection is gone, the next one joins.
      else if (this._core._connection._ready) this.#refused(answer);
    });
  }

  #askToJoin(data: object | undefined, settle: (answer: Joined | ChatError) => void): void {
    const queue = this._core._queue;
    queue._forget(this.#joinId);
    this.#joinId = newId();
    queue._ask(
      { type: 'join-room', room: this.name, data },
      'now',
      (answer) => settle(answer instanceof ChatError ? answer : isJoined(answer.data) ? answer.data : invalid()),
      this.#joinId,
    );
  }

  // The answer to another join has the whole list of users, and the state.
  #refresh(): void {
    const { versions } = this.#state;
    this.#askToJoin(undefined, (answer) => {
      if (!this._log._live || answer instanceof ChatError) return;
      // A state-changed that came meanwhile may be newer.
      if (versions !== this.#state.versions) this.#refresh();
      else this.#set({ ...usersOf(answer), ...stateOf(answer) });
    });
  }

  #joined(info: Joined): void {
    const { epoch, seq, read, unread } = info;
    const resumed = this._log._begin(info, this.#wanted?.history ? 0 : seq);
    this.#joinSent = false;
    if (read !== undefined && unread !== undefined) this._learn({ seq: read, unread, head: seq }, epoch);
    this.#set({ status: 'joined', ...usersOf(info), typing: [], ...stateOf(info) });
    const joined = { ...info, resumed };
    this._events._emit('\njoined', joined);
    this.#resolve(joined);
  }

  #refused(error: ChatError, removed?: Removed): void {
    this.#end({ ...LEFT, status: 'refused', error, removed }, error);
  }

  #end(state: RoomState, error: ChatError): void {
    this.#wanted = this._log._position = this.#joining = null;
    this.#rest();
    this._core._queue._forget(this.#joinId); // it may be waiting to be sent again
    this.#reject(error);
    this.#set(state);
    this._core._queue._fail((m) => m.room === this.name, error);
  }

  #rest(): void {
    this.#joinSent = false;
    this._log._end();
    clearTimeout(this.#typingTimer);
    this.#typingSince = 0;
  }

  #set(change: Partial<RoomState>): void {
    this.#state = { ...this.#state, ...change };
    this._events._emit('\nstate', this.#state);
  }

  #write(type: string): void {
    if (this._core._connection._ready) this._core._connection._write({ type, room: this.name });
  }
}

// The state of a room in an answer. Nothing if the server could not find it out
// or it was too large, so that what is known stays.
function stateOf({ unread, state, versions = {} }: Joined): Partial<RoomState> {
  if (state === null || (!state && unread === undefined)) return {};
  return { state: state ?? {}, versions };
}
