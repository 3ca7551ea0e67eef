// A server in memory for scripted tests. It keeps logs, resumes and
// acknowledges as the real one does, except for the types of events that a test
// answers itself.
import type { ChatOptions, Envelope, Position, User, WebSocketLike } from '../src/index.js';
import { ChatClient } from '../src/index.js';
import { after, change, history, type Log, markRead, overview, position, reading, type Sent } from './fake-chat.js';

export type { Sent };

/** One connection, seen from both sides. */
export class FakeSocket implements WebSocketLike {
  onopen: ((event: never) => unknown) | null = null;
  onmessage: ((event: never) => unknown) | null = null;
  onclose: ((event: never) => unknown) | null = null;
  onerror: ((event: never) => unknown) | null = null;
  readonly url: string;
  readonly protocols: string[];
  /** The frames from the client. */
  readonly sent: Sent[] = [];
  readonly rooms = new Set<string>();
  user: User = { id: 'u1', name: 'Ana' };
  closed = false;
  #hub: FakeHub;
  #queue: string[] = [];

  constructor(hub: FakeHub, url: string, protocols: string[]) {
    // As a browser does.
    if (!protocols.every((p) => /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(p))) throw new SyntaxError('invalid subprotocol');
    this.#hub = hub;
    this.url = url;
    this.protocols = protocols;
    hub.sockets.push(this);
    queueMicrotask(() => !this.closed && hub.connected(this));
  }

  get token(): string | undefined {
    const [, form, token] = this.protocols[1]?.match(/^chathub\.(bearer|bearer64)\.(.+)$/) ?? [];
    return form === 'bearer64' ? Buffer.from(token ?? '', 'base64url').toString() : token;
  }

  send(data: string): void {
    if (this.closed || this.#hub.deaf) return;
    const e = JSON.parse(data, wellFormed) as Sent;
    this.sent.push(e);
    this.#hub.received(this, e);
  }

  close(): void {
    this.closed = true;
  }

  /**
   * Sends to the client. Frames sent together arrive in one task, as if they
   * came in one TCP segment.
   */
  say(e: object | string): void {
    this.#queue.push(typeof e === 'string' ? e : JSON.stringify(this.#hub.change(e)) || '');
    if (this.#queue.length > 1) return;
    queueMicrotask(() => {
      const frames = this.#queue;
      this.#queue = [];
      for (const data of frames) if (!this.closed) this.onmessage?.({ data } as never);
    });
  }

  /** Closes from the server's side. 1006 means a broken connection. */
  end(code = 1006, reason = ''): void {
    if (this.closed) return;
    this.closed = true;
    this.onclose?.({ code, reason } as never);
  }

  /** The frames of a type from the client. */
  of(type: string): Sent[] {
    return this.sent.filter((e) => e.type === type);
  }
}

export class FakeHub {
  readonly sockets: FakeSocket[] = [];
  readonly rooms = new Map<string, Log>();
  readonly inboxes = new Map<string, Log>();
  /** Functions by type. If one returns a value, it has answered for the hub. */
  readonly script = new Map<string, (socket: FakeSocket, e: Sent) => unknown>();
  /** Fields of the welcome. Null if there is to be none. */
  welcome: object | null = {};
  /** Changes each frame to a client. */
  change = (e: object): unknown => e;
  /** Positions of markers. */
  readonly markers = new Map<string, number>();
  /** Whether it is a server from before messages changed. */
  old = false;
  /** Whether to ignore all frames from clients. */
  deaf = false;
  #seq = 0;
  #epoch = 1;

  readonly WebSocket = ((hub: FakeHub) =>
    class extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(hub, url, protocols);
      }
    })(this);

  /** Makes a client of this hub. The token is the user's id. */
  client(options: ChatOptions = {}): ChatClient {
    return new ChatClient('ws://hub.test/ws', { WebSocket: this.WebSocket, ...options });
  }

  /** The newest connection. */
  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (!socket) throw new Error('there is no connection');
    return socket;
  }

  connected(socket: FakeSocket): void {
    if (socket.token) socket.user = { id: socket.token, name: socket.token };
    if (!this.welcome) return;
    const { user } = socket;
    const inbox = position(this.inbox(user.id));
    const data = { clientId: `c${this.sockets.length}`, user, time: Date.now(), inbox, pingInterval: 25_000 };
    socket.say({ type: 'welcome', data: { ...data, maxMessage: 65_536, ...this.welcome } });
  }

  room(name: string): Log {
    return this.#log(this.rooms, name);
  }

  inbox(user: string): Log {
    return this.#log(this.inboxes, user);
  }

  /** Forgets all logs, like a restarted server without a durable broker. */
  forget(): void {
    this.rooms.clear();
    this.inboxes.clear();
    this.markers.clear();
    this.#seq = 0;
  }

  /** Stores a message in a room and delivers it. */
  message(room: string, data: unknown, from: User = { id: 'u2', name: 'Ben' }, id?: string, re?: unknown): Envelope {
    const more = { ...(id && { id }), ...(re !== undefined && { re }) };
    const e = this.#store(this.room(room), { type: 'room-message', ...more, room, from, data });
    for (const s of this.#open()) if (s.rooms.has(room)) s.say(e);
    return e;
  }

  /** Stores a durable event of the application in a room and delivers it. */
  emit(room: string, type: string, data: unknown): void {
    const e = this.#store(this.room(room), { type, room, data });
    for (const s of this.#open()) if (s.rooms.has(room)) s.say(e);
  }

  /** Takes everyone out of a room, as the application can. */
  remove(room: string, reason: string): void {
    for (const s of this.#open()) if (s.rooms.delete(room)) s.say({ type: 'removed', room, data: { reason } });
  }

  /** Stores a private message and delivers it to all connections but one. */
  whisper(
    to: string,
    data: unknown,
    from: User = { id: 'u2', name: 'Ben' },
    id?: string,
    except?: FakeSocket,
    re?: unknown,
  ) {
    const more = { ...(id && { id }), ...(re !== undefined && { re }) };
    const whisper = { type: 'private-message', ...more, to, from, data };
    let receipt: Envelope | undefined;
    for (const user of new Set([to, from.id])) {
      const e = this.#store(this.inbox(user), whisper);
      for (const s of this.#open()) if (s.user.id === user && s !== except) s.say(e);
      receipt = e;
    }
    return receipt as Envelope;
  }

  received(socket: FakeSocket, e: Sent): void {
    if (this.script.get(e.type)?.(socket, e) !== undefined) return;
    const ack = (more: object = {}) => e.id && socket.say({ type: 'ack', id: e.id, ...more });
    const data = (e.data ?? {}) as Record<string, never>;
    const room = e.room ?? '';
    switch (e.type) {
      case 'ping':
        return socket.say({ type: 'pong' });
      case 'resume': {
        const inbox = this.#since(socket, this.inbox(socket.user.id), data.inbox);
        const rooms = Object.entries((data.rooms ?? {}) as Record<string, Position>).map(([name, since]) => {
          socket.rooms.add(name);
          const { answer, events } = this.#since(socket, this.room(name), since);
          return { name, answer: { ...answer, ...this.#read(socket, name) }, events };
        });
        ack({
          data: {
            rooms: Object.fromEntries(rooms.map((r) => [r.name, { ...r.answer, users: [socket.user], count: 1 }])),
            inbox: inbox.answer,
          },
        });
        for (const missed of [inbox, ...rooms]) for (const m of missed.events) socket.say(m);
        return;
      }
      case 'join-room': {
        socket.rooms.add(room);
        const log = this.room(room);
        const { history = 0, since } = data as { history?: number; since?: Position };
        const { answer, events } = since
          ? this.#since(socket, log, since)
          : {
              answer: { ...position(log), recovered: false },
              events: history
                ? after(log, 0, socket.user.id)
                    .filter((m) => log.events.some((e) => e.seq === m.seq))
                    .slice(-history)
                : [],
            };
        ack({ data: { ...answer, ...this.#read(socket, room), users: [socket.user], count: 1 } });
        for (const m of events) socket.say(m);
        return;
      }
      case 'leave-room':
        socket.rooms.delete(room);
        return void ack();
      case 'room-message': {
        const log = this.room(room);
        const dup = log.events.find((m) => m.id === e.id && m.from?.id === socket.user.id);
        if (!socket.rooms.has(room)) return this.refuse(socket, e, 'not_in_room');
        if (dup && !isRepeated(dup, e)) return this.refuse(socket, e, 'conflict');
        const { seq, ts } = dup ?? this.message(room, e.data, socket.user, e.id, e.re);
        return void ack({ room, seq, ts, data: { seq, ts, ...(dup && { dup: true }) } });
      }
      case 'private-message': {
        const there = this.inbox(e.to ?? '').events.find((m) => m.id === e.id && m.from?.id === socket.user.id);
        if (there && !isRepeated(there, e)) return this.refuse(socket, e, 'conflict');
        const own = this.inbox(socket.user.id).events.find((m) => m.id === e.id && m.from?.id === socket.user.id);
        const { seq, ts } = own ?? this.whisper(e.to ?? '', e.data, socket.user, e.id, socket, e.re);
        return void ack({ seq, ts, data: { seq, ts, ...(own && { dup: true }) } });
      }
      case 'history': {
        const log = e.to === undefined ? this.room(room) : this.#with(socket.user.id, e.to);
        return void ack({
          data: history(log, (this.old ? { ...data, types: undefined } : data) as never, socket.user.id),
        });
      }
      case 'edit-message':
      case 'delete-message':
      case 'react':
        return this.old ? this.refuse(socket, e, 'unknown_type') : change(this, socket, e);
      case 'mark-read':
        return this.old ? this.refuse(socket, e, 'unknown_type') : markRead(this, socket, e);
      case 'overview':
        return this.old ? this.refuse(socket, e, 'unknown_type') : overview(this, socket, e);
      case 'online-users':
        socket.say({ type: 'online-users', data: { users: [socket.user], count: 1 } });
        return void ack();
      case 'typing':
      case 'stop-typing':
        for (const s of this.#open()) {
          if (s !== socket && s.rooms.has(room)) s.say({ type: e.type, room, from: socket.user });
        }
        return;
      case 'ack':
      case 'error':
        return;
      case 'send-notification': {
        const there = this.inbox(e.to ?? '').events.find((m) => m.id === e.id && m.from?.id === socket.user.id);
        if (there && !isRepeated(there, { ...e, type: 'notification' })) return this.refuse(socket, e, 'conflict');
        const notification = { type: 'notification', id: e.id, to: e.to, from: socket.user, data: e.data };
        const stored = there ?? this.#store(this.inbox(e.to ?? ''), notification);
        for (const s of this.#open()) if (!there && s.user.id === e.to) s.say(stored);
        return void ack();
      }
      case 'message':
        return void ack();
      default:
        this.refuse(socket, e, 'unknown_type');
    }
  }

  refuse(socket: Pick<FakeSocket, 'say'>, e: Sent, code: string, more: object = {}): void {
    socket.say({ type: 'error', id: e.id, data: { code, message: code, ...more } });
  }

  /** Sends an event to some of the connections. */
  tell(whom: (socket: Pick<FakeSocket, 'rooms' | 'user' | 'say'>) => boolean, e: object): void {
    for (const s of this.#open()) if (whom(s)) s.say(e);
  }

  /** Returns the next position, of whatever log. */
  next(): number {
    return ++this.#seq;
  }

  #read(socket: FakeSocket, room: string): object {
    const { seq: read, unread } = reading(this, socket.user.id, { room });
    return this.old ? {} : { read, unread };
  }

  /** The private messages of a user with another. */
  #with(user: string, peer: string): Log {
    const log = this.inbox(user);
    const isTheirs = ({ type, from, to }: Envelope) =>
      type === 'private-message' && (from?.id === peer || (from?.id === user && to === peer));
    return { ...log, events: log.events.filter(isTheirs) };
  }

  #open(): FakeSocket[] {
    return this.sockets.filter((s) => !s.closed);
  }

  #log(logs: Map<string, Log>, key: string): Log {
    let log = logs.get(key);
    if (!log) {
      log = { epoch: `e${this.#epoch++}`, events: [], named: new Map(), ids: new Map() };
      logs.set(key, log);
    }
    return log;
  }

  #store(log: Log, e: object): Envelope {
    const stored = { ...e, seq: this.next(), ts: 1_771_718_400_000 + this.#seq } as Envelope;
    log.events.push(stored);
    return stored;
  }

  #since(socket: FakeSocket, log: Log, since: Position | undefined) {
    const recovered = since?.epoch === log.epoch;
    const events = recovered ? after(log, since.seq, socket.user.id) : log.events.slice(-10);
    return { answer: { ...position(log), recovered }, events };
  }
}

function isRepeated(stored: Envelope, e: Envelope): boolean {
  return JSON.stringify([stored.type, stored.to, stored.data]) === JSON.stringify([e.type, e.to, e.data]);
}

// Accepts well-formed text only, as the server does.
function wellFormed(name: string, value: unknown): unknown {
  if (/[\ud800-\udfff]/u.test(`${name}\n${typeof value === 'string' ? value : ''}`))
    throw new Error('unpaired surrogate');
  return value;
}
