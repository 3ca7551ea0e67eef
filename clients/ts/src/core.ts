// The part of a client that applications do not see: it resumes on each
// connection, hands events to where they belong, and keeps what is sent.
import { type Channel, type ChannelHost, newChannel } from './channel.js';
import { CHECKS, isCount, isJoined, isObject, isOverview, isPosition, isText, shape } from './check.js';
import { newConnection } from './connection.js';
import { ChatError, errorOf, invalid, otherUser } from './error.js';
import { type Emitter, newEmitter } from './events.js';
import { newId } from './id.js';
import { type Log, newLog } from './log.js';
import type { ChatOptions } from './options.js';
import type { WaitOptions } from './outbox.js';
import {
  type Envelope,
  isDurable,
  type Joined,
  type Overview,
  type Position,
  type Presence,
  type Welcome,
  withEpoch,
} from './protocol.js';
import { newQueue } from './queue.js';
import { newRoom, type Room } from './room.js';
import { isOver, wellFormed } from './text.js';
import { listing, NOBODY, type Users, usersAfter, usersOf } from './users.js';

/** The answer to `resume`. */
interface Resumed {
  readonly inbox: Joined;
  /** A Joined for each room, or an object with an `error`. */
  readonly rooms: Readonly<Record<string, unknown>>;
}

export interface Core extends ChannelHost {
  readonly _events: Emitter;
  /** Answer the server's questions, by type. */
  readonly _answers: Map<string, (data: never, event: Envelope<never>) => unknown>;
  readonly _log: Log;
  _off: readonly string[];
  _online: Users;
  _room(name: string): Room<never>;
  _conversation(userId: string): Channel<never, never>;
  _overview(what: object, options?: WaitOptions): Promise<Overview>;
}

const isResumed = shape<Resumed>({ inbox: isJoined, rooms: isObject });

const INVALID_TEXT = 1007; // close codes
const TOO_BIG = 1009;
const REMEMBERED = 1_000; // ids of own private messages

export function newCore(url: string, options: ChatOptions): Core {
  const { inbox: start, onError = rethrow } = options;
  const rooms = new Map<string, Room<never>>();
  const conversations = new Map<string, Channel<never, never>>();
  const own = new Set<string>(); // ids of private messages sent by this client
  const inbox = newLog();
  if (isPosition(start)) inbox._position = start;
  const list = listing(() => connection._write({ type: 'online-users' }));

  // An onError that throws must not stop the client either.
  function report(err: unknown) {
    try {
      onError(err);
    } catch (thrown) {
      rethrow(thrown);
    }
  }

  const events = newEmitter(report);
  const connection = newConnection(url, options, {
    _welcome: welcomed,
    _receive: receive,
    _dropped(code) {
      inbox._close();
      // The same message would end the next connection too.
      if (code === TOO_BIG || code === INVALID_TEXT) queue._fail((_, inFlight) => inFlight, new ChatError('too_large'));
      for (const room of rooms.values()) room._dropped();
      queue._dropped();
    },
    _changed(state) {
      if (connection._stopped) queue._dropped(new ChatError('closed'));
      events._emit('\nstate', state);
    },
    async _refresh(token) {
      const { data } = await queue._send({ type: 'refresh-token', data: { token } }, 'now');
      return isObject(data) && isCount(data.expires) ? data.expires : undefined;
    },
  });
  const queue = newQueue(
    connection,
    {
      _canSend: (room) => rooms.get(room)?._canSend,
      _epochOf: ({ room }) => logOf(room)?._epoch,
      _changed(event) {
        events._emit('\nsend', event);
        if (event.status === 'failed' && event.error.code === 'not_in_room') {
          rooms.get(event.message.room ?? '')?._lost(event.error);
        }
      },
      _report: report,
    },
    options,
  );

  const logOf = (room: string | undefined) => (room === undefined ? inbox : rooms.get(room)?._log);

  // Connecting.

  function renewConversations() {
    for (const conversation of conversations.values()) conversation._renew();
  }

  function welcomed({ user, inbox: head, off = [], maxMessage }: Welcome) {
    if (core._user && core._user.id !== user.id) {
      inbox._position = null;
      own.clear();
      queue._dropped(otherUser());
      for (const room of rooms.values()) room._forget();
      renewConversations();
    }
    core._user = user;
    core._off = off;
    queue._maxMessage = maxMessage || Infinity;
    const resumed = !!inbox._position;
    inbox._position ??= { epoch: head.epoch, seq: start === 'new' ? head.seq : 0 };
    const resuming = [...rooms.values()].filter((r) => r._resumeFrom);
    // fromEntries defines own properties, so a room may be called __proto__.
    const data = { rooms: Object.fromEntries(resuming.map((r) => [r.name, r._resumeFrom])), inbox: inbox._position };
    // If there are too many, rejoin takes them one by one.
    if (isOver(JSON.stringify(data), queue._maxMessage - 100)) data.rooms = {};
    queue._ask({ type: 'resume', data }, 'now', (answer) => {
      if (answer instanceof ChatError) {
        if (answer.code !== 'disconnected') connection._lost(answer);
      } else if (isResumed(answer.data)) whenResumed(answer.data, resumed, user.id);
      else connection._lost(invalid());
    });
  }

  // The missed messages follow in the same task, so this must not wait for a
  // microtask.
  function whenResumed({ inbox: info, rooms: parts }: Resumed, resumed: boolean, userId: string) {
    if (info.epoch !== inbox._position?.epoch) renewConversations();
    inbox._open(info);
    connection._markReady();
    // Each listener may close the connection.
    if (connection._ready) events._emit('\ninbox', { ...info, resumed });
    for (const room of rooms.values()) {
      if (!connection._ready) return;
      const part = parts[room.name]; // no room is called like a method with an epoch
      if (isJoined(part)) room._resumed(part);
      else if (isObject(part) && part.error) room._resumed(errorOf(part.error));
      room._open();
    }
    if (connection._ready) queue._open(userId);
  }

  // Receiving.

  function receive(e: Envelope) {
    const { type, room: name, id = '', from, to = '' } = e;
    const data = e.data as Presence & { position?: number };
    if (CHECKS[type]?.(data) === false) return;
    if (type === 'ack') return queue._answer(id, e);
    if (type === 'error') return queue._answer(id, errorOf(data));
    if (type === 'online-users') setOnline(usersOf(data));
    else if (type === 'user-online' || type === 'user-offline') {
      setOnline(usersAfter(core._online, data, type === 'user-online'));
      list(data, core._online);
    } else if (type === 'removed' && !(isObject(e.data) && isText(e.data.reason))) e = { ...e, data: { reason: '' } };
    if (e.ack) return reply(e);
    const channel =
      name === undefined
        ? conversations.get((from?.id === core._user?.id ? to : from?.id) ?? '')
        : (rooms.get(name) as Room<never> | undefined);
    // A marker is kept in the inbox, that of a room too. Its position is in
    // data.
    const isRead = type === 'read';
    const log = logOf(isRead ? undefined : name);
    const seq = isRead ? data.position : e.seq;
    if (seq !== undefined) {
      if (!(log === inbox ? isNew(e, seq) : (rooms.get(name ?? '')?._isNew(seq) ?? true))) return;
      e = withEpoch(e, log?._epoch);
    }
    channel?._receive(e);
    events._emit(type, e.data, e);
    channel?._events._emit(type, e.data, e);
  }

  // For events of the inbox. After a reconnect it repeats the user's own
  // private messages, which this client has already.
  function isNew({ id, from }: Envelope, seq: number): boolean {
    return inbox._isNew(seq) && !(from?.id === core._user?.id && own.has(id ?? ''));
  }

  function setOnline(online: Users) {
    core._online = online;
    events._emit('\nonline', online);
  }

  async function reply(e: Envelope) {
    const { type, id } = e;
    const { _socket } = connection;
    const write = (type: string, data: unknown) => {
      if (_socket === connection._socket) connection._write({ type, id, data });
    };
    try {
      const fn = core._answers.get(type);
      if (!fn) throw new ChatError('unknown_type');
      write('ack', (await fn(e.data as never, e as Envelope<never>)) ?? null);
    } catch (err) {
      const known = err instanceof ChatError;
      if (!known) report(err);
      const { code, message } = known ? err : new ChatError('internal', 'Internal error');
      write('error', { code, message });
    }
  }

  const core: Core = {
    _connection: connection,
    _queue: queue,
    _events: events,
    _answers: new Map(),
    _log: inbox,
    _user: undefined,
    _off: [],
    _online: NOBODY,
    _report: report,
    _room: (name) => named(rooms, name, (name) => newRoom(name, core)),
    _conversation: (id) => named(conversations, id, (id) => newChannel(core, 'private-message', id, inbox)),
    async _send(type, data, options = {}) {
      const { room, to, re } = options;
      const event = { type, room, to, re, data };
      if (!isDurable(type)) return (await queue._send(event, 'once', options)).data;
      const id = wellFormed(options.id ?? newId());
      if (type === 'private-message') own.add(id);
      if (own.size > REMEMBERED) own.delete(own.values().next().value as string);
      const epoch = type === 'room-message' ? undefined : rooms.get(wellFormed(room ?? ''))?._resumeFrom?.epoch;
      return queue._keep({ ...event, epoch }, { ...options, id });
    },
    async _overview(what, options) {
      const { data } = await queue._send({ type: 'overview', data: what }, 'read', options);
      if (!isOverview(data)) throw invalid();
      for (const [name, { epoch, seq, read, unread }] of Object.entries(data.rooms)) {
        rooms.get(name)?._learn({ seq: read, unread, head: seq }, epoch);
      }
      for (const { user, read, unread, last } of data.conversations ?? []) {
        const { seq = last?.seq ?? 0, epoch } = data.inbox ?? ({} as Partial<Position>);
        core._conversation(user.id)._learn({ seq: read, unread, head: seq }, epoch);
      }
      return data;
    },
    _count: ({ room }) => core._overview(room ? { rooms: [room] } : { inbox: true }),
  };
  return core;
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
