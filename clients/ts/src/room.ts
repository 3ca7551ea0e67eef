import { type Channel, type ChannelHost, newChannel } from './channel.js';
import { isJoined } from './check.js';
import { ChatError, invalid } from './error.js';
import type { ChatEvents, EventData, Listener, Unsubscribe } from './events.js';
import { newId } from './id.js';
import { type Log, newLog } from './log.js';
import type { WaitOptions } from './outbox.js';
import type { Joined, Position, Presence, Receipt, Removed, StateChanged, User } from './protocol.js';
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
  typing: [],
  state: {},
  versions: {},
};

/**
 * A room, from `client.room(name)`. Once joined, it is joined again after each
 * reconnect, until `leave()`.
 */
export interface Room<E = ChatEvents> extends Channel<EventData<E, 'room-message'>, number> {
  readonly state: RoomState;
  /** The users in this room, as far as the server lists them. */
  readonly users: readonly User[];
  /**
   * Position of the last message, from which a later client can continue with
   * `join({since})`.
   */
  readonly position: Position | null;
  /** Calls `fn` after each change of `state`. */
  onState(fn: (state: RoomState) => void): Unsubscribe;
  /**
   * Calls `fn` at each join, before the messages that follow it. With
   * `recovered: false` some messages may be missing.
   */
  onJoined(fn: (info: JoinedRoom) => void): Unsubscribe;
  /** Listens to one type of event in this room. */
  on<K extends string>(type: K, fn: Listener<EventData<E, K>>): Unsubscribe;
  /**
   * Joins the room, and joins it again after each reconnect. Resolves when the
   * server has answered, which may be after a reconnect. Options are ignored if
   * the room is joined already.
   */
  join(options?: JoinOptions): Promise<JoinedRoom>;
  /** Leaves the room. Its messages in the outbox fail. */
  leave(): void;
  /**
   * Sets a key of the room's state to a JSON value, or removes it with null, if
   * the application allows it. Repeated like `send`.
   */
  setState(key: string, value: unknown, options?: SetStateOptions): Promise<Receipt>;
  /**
   * To be called at each keystroke. Notifies the others at most every 2 s, and
   * again 4 s after the last call, that typing has ended.
   */
  typing(): void;
  /** Notifies the others at once that typing has ended. */
  stopTyping(): void;

  /** @internal */
  readonly _log: Log;
  /**
   * Whether messages can be sent. Undefined if the application has not joined.
   * @internal
   */
  readonly _canSend: boolean | undefined;
  /** The position to resume from. Null if there is none. @internal */
  readonly _resumeFrom: Position | null;
  /** The connection is gone. @internal */
  _dropped(): void;
  /** The connection is back. Joins if it was not resumed. @internal */
  _open(): void;
  /** Another user has connected, who has seen nothing yet. @internal */
  _forget(): void;
  /** Takes this room's part of the answer to `resume`. @internal */
  _resumed(answer: Joined | ChatError): void;
  /** The server says that the client is not in this room. @internal */
  _lost(error: ChatError): void;
  /**
   * Whether a durable event is new. If so, moves the position to it. @internal
   */
  _isNew(seq: number): boolean;
}

export function newRoom<E>(name: string, host: ChannelHost): Room<E> {
  const log = newLog();
  const { _connection: connection, _queue: queue } = host;
  const channel = newChannel<EventData<E, 'room-message'>, number>(host, 'room-message', name, log);
  const { on, _emit } = channel._events;
  let state = LEFT;
  let wanted: JoinOptions | null = null;
  let joinSent = false; // whether a join was sent on this connection
  let joinId = ''; // of the last request to join
  let joining: Promise<JoinedRoom> | null = null;
  let resolve: (info: JoinedRoom) => void; // for `joining`
  let reject: (error: ChatError) => void;
  const list = listing(refresh);
  let typingSince = 0; // when `typing` was sent last, or 0
  let typingTimer: ReturnType<typeof setTimeout> | undefined;

  function set(change: Partial<RoomState>, from = state) {
    state = { ...from, ...change };
    _emit('\nstate', state);
  }

  function write(type: string) {
    if (connection._ready) connection._write({ type, room: name });
  }

  function stopTyping() {
    clearTimeout(typingTimer);
    if (typingSince) write('stop-typing');
    typingSince = 0;
  }

  function joinNow() {
    if (!connection._ready) return;
    joinSent = true;
    const options = wanted;
    const since = log._position;
    askToJoin(since ? { since } : options?.history ? { history: options.history } : undefined, (answer) => {
      if (options !== wanted) return; // left meanwhile
      if (!(answer instanceof ChatError)) joined(answer);
      // If the connection is gone, the next one joins.
      else if (connection._ready) refused(answer);
    });
  }

  function askToJoin(data: object | undefined, settle: (answer: Joined | ChatError) => void) {
    queue._forget(joinId);
    joinId = newId();
    queue._ask(
      { type: 'join-room', room: name, data },
      'now',
      (answer) => settle(answer instanceof ChatError ? answer : isJoined(answer.data) ? answer.data : invalid()),
      joinId,
    );
  }

  // The answer to another join has the whole list of users, and the state.
  function refresh() {
    const { versions } = state;
    askToJoin(undefined, (answer) => {
      if (!log._live || answer instanceof ChatError) return;
      // A state-changed that came meanwhile may be newer.
      if (versions !== state.versions) refresh();
      else set({ ...usersOf(answer), ...stateOf(answer) });
    });
  }

  function joined(info: Joined) {
    const { epoch, seq, read, unread } = info;
    const resumed = log._open(info, wanted?.history ? 0 : seq);
    joinSent = false;
    if (read !== undefined && unread !== undefined) channel._learn({ seq: read, unread, head: seq }, epoch);
    set({ status: 'joined', ...usersOf(info), typing: [], ...stateOf(info) });
    const result = { ...info, resumed };
    _emit('\njoined', result);
    resolve(result);
  }

  function refused(error: ChatError, removed?: Removed) {
    end({ status: 'refused', error, removed }, error);
  }

  function end(last: Partial<RoomState>, error: ChatError) {
    wanted = log._position = joining = null;
    rest();
    queue._forget(joinId); // it may be waiting to be sent again
    reject(error);
    set(last, LEFT);
    queue._fail((m) => m.room === name, error);
  }

  function rest() {
    joinSent = false;
    log._close();
    clearTimeout(typingTimer);
    typingSince = 0;
  }

  const room: Omit<Room<E>, keyof Channel> & Partial<Room<E>> = {
    get state() {
      return state;
    },
    get users() {
      return state.users;
    },
    get position() {
      return log._position;
    },
    onState: (fn) => on('\nstate', fn),
    onJoined: (fn) => on('\njoined', fn),
    on,
    join(options = {}) {
      if (!joining) {
        wanted = { ...options };
        log._position = options.since ?? null;
        joining = new Promise((done, failed) => {
          resolve = done;
          reject = failed;
        });
        set({ status: 'joining' }, LEFT);
        joinNow();
      }
      return joining;
    },
    leave() {
      if (!wanted) return;
      write('leave-room');
      end({}, new ChatError('not_in_room'));
    },
    send(data, options) {
      stopTyping();
      return channel.send(data, options);
    },
    setState: (key, value, { expect, ...options } = {}) =>
      host._send('set-state', { key, value, expect }, { ...options, room: name }),
    typing() {
      if (!log._live) return;
      clearTimeout(typingTimer);
      typingTimer = setTimeout(stopTyping, TYPING_END);
      const now = Date.now();
      if (now - typingSince < TYPING_EVERY) return;
      typingSince = now;
      write('typing');
    },
    stopTyping,
    _log: log,
    get _canSend() {
      return wanted ? log._live : undefined;
    },
    get _resumeFrom() {
      return wanted && log._position;
    },
    _dropped() {
      rest();
      if (wanted) set({ status: 'joining', typing: [] });
    },
    _open() {
      if (wanted && !log._live && !joinSent) joinNow();
    },
    _forget() {
      log._position = wanted?.since ?? null;
      channel._renew();
    },
    _resumed(answer) {
      if (!wanted) return write('leave-room'); // left meanwhile
      if (!(answer instanceof ChatError)) {
        joined(answer);
        if (answer.state === null) refresh(); // there were too many
      } else if (!answer.temporary) refused(answer); // if it is, rejoin follows
    },
    _lost(error) {
      if (log._live) refused(error);
    },
    _isNew(seq) {
      if (!wanted) return true; // the server put the client into this room
      if (log._live) return log._isNew(seq);
      // Events that come before the answer come again after it, in their place.
      return log._position === null && !wanted.history;
    },
    _receive(e) {
      channel._receive(e);
      if (!log._live) return; // the answer to the join has the users
      const { type, from } = e;
      const data = e.data as Presence & Removed & StateChanged;
      const { typing } = state;
      if (type === 'user-joined' || type === 'user-left') {
        set({ ...usersAfter(state, data, type === 'user-joined'), typing: without(typing, data.users ?? []) });
        list(data, state);
      } else if (type === 'removed') {
        refused(new ChatError('not_in_room', data.reason || 'Removed from the room'), data);
      } else if (type === 'state-changed') {
        const { key, value } = data;
        const seq = e.seq as number;
        if (seq <= (state.versions[key] as number)) return; // false if there is none
        const after = <T>({ [key]: _, ...others }: Readonly<Record<string, T>>, next: T) =>
          value === null ? others : { ...others, [key]: next };
        set({ state: after(state.state, value), versions: after(state.versions, seq) });
      } else if (type === 'typing') {
        if (from && from.id !== host._user?.id && !has(typing, from)) set({ typing: [...typing, from] });
      } else if ((type === 'stop-typing' || type === 'room-message') && has(typing, from)) {
        set({ typing: without(typing, [from]) });
      }
    },
  };
  return Object.setPrototypeOf(room, channel);
}

// The state of a room in an answer. Nothing if the server could not find it out
// or it was too large, so that what is known stays.
function stateOf({ unread, state, versions = {} }: Joined): Partial<RoomState> {
  return state || (state === undefined && unread !== undefined) ? { state: state ?? {}, versions } : {};
}
