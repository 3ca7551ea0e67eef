// What the server in memory does with messages that change, and with reading.
import type { Envelope, Position, PrivateRef, Reading, User } from '../src/index.js';

export type Sent = Envelope & { readonly id: string };

export interface Log {
  epoch: string;
  events: Envelope[];
  /** The newest message of each name: changes of messages, and markers. */
  named: Map<string, Envelope>;
  /** Receipts of changes, by user and id. */
  ids: Map<string, object>;
}

interface FakeSocket {
  readonly rooms: ReadonlySet<string>;
  readonly user: User;
  say(e: object): void;
}

interface FakeHub {
  readonly rooms: ReadonlyMap<string, Log>;
  /** Positions of markers. */
  readonly markers: Map<string, number>;
  room(name: string): Log;
  inbox(user: string): Log;
  /** Returns the next position, of whatever log. */
  next(): number;
  /** Sends an event to some of the connections. */
  tell(whom: (socket: FakeSocket) => boolean, e: object): void;
  refuse(socket: FakeSocket, e: Sent, code: string): void;
}

const MANY = 100;

type Stored = { -readonly [K in keyof Envelope]: Envelope[K] };

/** Messages in their present form, as this user gets them. */
// The position of an event in its log.
const seqOf = (e: Envelope): number => e.seq ?? (e.data as { position?: number }).position ?? 0;

export function present(e: Envelope, user: string): Envelope {
  const mine = Object.entries(e.reactions ?? {}).flatMap(([key, { users }]) => (users.includes(user) ? [key] : []));
  return mine.length > 0 ? { ...e, mine } : e;
}

/** Everything after a position: messages, and the newest change of each. */
export function after(log: Log, seq: number, user: string): Envelope[] {
  return [...log.events.map((e) => present(e, user)), ...log.named.values()]
    .filter((e) => seqOf(e) > seq)
    .sort((a, b) => seqOf(a) - seqOf(b));
}

/** The answer to a history request. */
export function history(log: Log, data: Record<string, never>, user: string): object {
  const { limit = 50, types, re } = data as { limit?: number; types?: string[]; re?: number };
  const { before = Infinity, after, around } = data as { before?: number; after?: number; around?: number };
  const all = log.events.filter(
    (e) => (types?.includes(e.type) ?? true) && (re === undefined || e.re === re) && !e.type.startsWith('read'),
  );
  const seq = seqOf;
  const form = (messages: Envelope[]) => messages.map((e) => present(e, user));
  if (around !== undefined) {
    const older = all.filter((e) => seq(e) <= around);
    const newer = all.filter((e) => seq(e) > around);
    const half = Math.ceil(limit / 2);
    const messages = form([...older.slice(-half), ...newer.slice(0, limit - half)]);
    return { messages, more: older.length > half, newer: newer.length > limit - half };
  }
  if (after !== undefined) {
    const newer = all.filter((e) => seq(e) > after && seq(e) < before);
    const messages = form(newer.slice(0, limit));
    return { messages, more: all.some((e) => seq(e) <= after), newer: newer.length > limit };
  }
  const older = all.filter((e) => seq(e) < before);
  return { messages: form(older.slice(-limit)), more: older.length > limit };
}

/** Applies a change to a stored message. Returns the code of an error. */
function apply(m: Stored, type: string, data: Record<string, unknown>, user: User, ts: number): string | undefined {
  if (type === 'delete-message') {
    if (m.from?.id !== user.id) return 'forbidden';
    if (m.deleted !== undefined) return 'dup';
    m.deleted = ts;
    m.data = undefined;
    delete m.edited;
    delete m.reactions;
    return;
  }
  if (m.deleted !== undefined) return 'conflict';
  if (type === 'edit-message') {
    if (m.from?.id !== user.id) return 'forbidden';
    m.data = data.data;
    m.edited = ts;
    return;
  }
  const { key, on = true } = data as { key: string; on?: boolean };
  const users = m.reactions?.[key]?.users ?? [];
  if (users.includes(user.id) === on) return 'dup';
  const now = on ? [...users, user.id] : users.filter((u) => u !== user.id);
  const { [key]: _, ...others } = m.reactions ?? {};
  m.reactions = now.length > 0 ? { ...others, [key]: { count: now.length, users: now } } : others;
  return;
}

function content({ data, edited, deleted, reactions }: Envelope): object {
  if (deleted !== undefined) return { deleted };
  return { ...(edited !== undefined && { data, edited }), ...(reactions && { reactions }) };
}

const CHANGE: Record<string, string> = { 'edit-message': 'edited', 'delete-message': 'deleted', react: 'reacted' };

/** Handles `edit-message`, `delete-message` and `react`. */
export function change(hub: FakeHub, socket: FakeSocket, e: Sent): void {
  const data = (e.data ?? {}) as Record<string, unknown>;
  const { user } = socket;
  const ack = (receipt: object) => socket.say({ type: 'ack', id: e.id, data: receipt });
  if (e.room !== undefined && !socket.rooms.has(e.room)) return hub.refuse(socket, e, 'not_in_room');
  const { id, author = user.id } = data as unknown as PrivateRef;
  const logs = e.room !== undefined ? [hub.room(e.room)] : [...new Set([e.to ?? '', user.id])].map((u) => hub.inbox(u));
  const done = logs.at(-1)?.ids.get(`${user.id}\n${e.id}`);
  if (done) return ack({ ...done, dup: true });
  const found = logs.map((log) =>
    log.events.find((m) => (e.room !== undefined ? m.seq === data.seq : m.id === id && m.from?.id === author)),
  );
  if (found.some((m) => !m)) return hub.refuse(socket, e, 'bad_request');
  const ts = Date.now();
  let receipt = {};
  for (const [i, log] of logs.entries()) {
    const m = found[i] as Stored;
    const error = apply(m, e.type, data, user, ts);
    if (error === 'dup') return ack({ dup: true });
    if (error) return hub.refuse(socket, e, error);
    const event = {
      type: 'message-changed',
      from: user,
      ...(e.room !== undefined ? { room: e.room } : { to: e.to }),
      seq: hub.next(),
      ts,
      data: {
        ...(e.room !== undefined ? { seq: m.seq } : { id, author }),
        change: CHANGE[e.type],
        message: content(m),
      },
    };
    log.named.set(`m/${m.seq}`, event);
    receipt = { seq: event.seq, ts };
    hub.tell((s) => (e.room !== undefined ? s.rooms.has(e.room) : hub.inbox(s.user.id) === log), event);
  }
  logs.at(-1)?.ids.set(`${user.id}\n${e.id}`, receipt);
  ack(receipt);
}

export function head(log: Log): number {
  return Math.max(0, ...[...log.events, ...log.named.values()].map(seqOf));
}

/** The position of the newest event of a log. */
export function position(log: Log): Position {
  return { epoch: log.epoch, seq: head(log) };
}

/** Where a user's marker is, and what follows it. */
export function reading(hub: FakeHub, user: string, to: { room?: string; to?: string }): Reading {
  const log = to.room !== undefined ? hub.room(to.room) : hub.inbox(user);
  const seq = hub.markers.get(JSON.stringify([user, to.room, to.to])) ?? 0;
  const counts = (e: Envelope) =>
    (e.seq ?? 0) > seq &&
    e.deleted === undefined &&
    (to.room !== undefined
      ? e.type === 'room-message' && e.from?.id !== user
      : e.type === 'private-message' && e.from?.id === to.to);
  return { seq, unread: Math.min(log.events.filter(counts).length, MANY), head: head(log) };
}

/** Handles `mark-read`. */
export function markRead(hub: FakeHub, socket: FakeSocket, e: Sent): void {
  const { user } = socket;
  const to = { ...(e.room !== undefined && { room: e.room }), ...(e.to !== undefined && { to: e.to }) };
  const { seq } = e.data as Position;
  const before = reading(hub, user.id, to);
  if (!(seq >= 1 && seq <= before.head)) return hub.refuse(socket, e, 'bad_request');
  if (seq > before.seq) {
    hub.markers.set(JSON.stringify([user.id, to.room, to.to]), seq);
    const event = {
      type: 'read',
      ...to,
      from: user,
      ts: Date.now(),
      data: { ...reading(hub, user.id, to), position: hub.next() },
    };
    hub.inbox(user.id).named.set(`read/${JSON.stringify(to)}`, event);
    hub.tell((s) => s !== socket && s.user.id === user.id, event);
  }
  socket.say({ type: 'ack', id: e.id, data: reading(hub, user.id, to) });
}

/** Handles `overview`. */
export function overview(hub: FakeHub, socket: FakeSocket, e: Sent): void {
  const { rooms: names = [], inbox } = e.data as { rooms?: string[]; inbox?: boolean };
  const { id: me } = socket.user;
  const last = (events: readonly Envelope[]) => {
    const newest = events.at(-1);
    return newest && { last: present(newest, me) };
  };
  const known = names.filter((name) => hub.rooms.has(name));
  const rooms = known.map((room) => {
    const { seq: read, unread, head: seq } = reading(hub, me, { room });
    return [room, { epoch: hub.room(room).epoch, seq, read, unread, ...last(hub.room(room).events) }];
  });
  const peers = new Map<string, Envelope[]>();
  for (const m of hub.inbox(me).events.filter((m) => m.type === 'private-message')) {
    const peer = (m.from?.id === me ? m.to : m.from?.id) ?? '';
    const all = peers.get(peer) ?? [];
    peers.delete(peer);
    peers.set(peer, [...all, m]);
  }
  const conversations = [...peers].reverse().map(([peer, events]) => {
    const { seq: read, unread } = reading(hub, me, { to: peer });
    return { user: { id: peer, name: peer }, read, unread, ...last(events) };
  });
  socket.say({
    type: 'ack',
    id: e.id,
    data: { rooms: Object.fromEntries(rooms), ...(inbox && { conversations, inbox: position(hub.inbox(me)) }) },
  });
}
