// What the page knows: conversations, their messages, and who is there. No DOM.

import { HISTORY } from './chat.js';

const KEEP = 1_000; // messages of a conversation held at once

export const roomKey = (name) => `room:${name}`;
export const userKey = (id) => `user:${id}`;

/** A room, or the private messages with one user. */
class Conversation {
  #more;

  constructor(key, kind, target) {
    this.key = key;
    this.kind = kind; // 'room' or 'user'
    this.target = target; // the room's name or the user's id
    this.messages = []; // in the order they are shown
    this.users = new Map(); // id -> user, who is in the room
    this.count = 0; // of users; the list may be withheld where there are many
    this.typing = new Map(); // id -> user
    this.readTo = 0; // server time up to which the messages were seen
    this.newFrom = Infinity; // server time of the line that says "New"
    this.#more = null; // whether the log has older messages, once that is known
    this.loading = false;
    this.joined = kind === 'user';
    this.life = 0; // which log of the room: a seq counts within one
    this.draft = '';
  }

  get unread() {
    return this.messages.filter((m) => isUnread(m, this.readTo)).length;
  }

  /** Whether older messages can be asked for: as far as is known, or likely. */
  get more() {
    return this.kind === 'room' && (this.#more ?? this.messages.filter((m) => m.seq && m.life === this.life).length >= HISTORY);
  }

  set more(more) {
    this.#more = more;
  }

  /** The seq of the oldest message of the present log. */
  get oldestSeq() {
    return this.messages.find((m) => m.seq && m.life === this.life)?.seq ?? 0;
  }
}

const isUnread = (m, readTo) => m.from && !m.mine && m.ts > readTo;

/**
 * Model dispatches 'change' with detail {key}, the conversation concerned, or
 * null where it is presence or the list of conversations.
 */
export class Model extends EventTarget {
  me;
  active = null; // the key of the conversation that is shown
  conversations = new Map(); // key -> Conversation
  online = new Map(); // id -> user, without me
  onlineCount = 0;
  #names = new Map(); // id -> name, of everyone seen
  #offset = 0; // server time minus ours

  constructor(me) {
    super();
    this.me = me;
    this.#names.set(me.id, me.name);
  }

  get current() {
    return this.conversations.get(this.active) ?? null;
  }

  get unread() {
    return this.all.reduce((n, c) => n + c.unread, 0);
  }

  get all() {
    return [...this.conversations.values()];
  }

  /** The server's time, as far as it is known. */
  now() {
    return Date.now() + this.#offset;
  }

  /** Learns a user's name. */
  meet({ id, name }) {
    this.#names.set(id, name);
  }

  nameOf(id) {
    return this.#names.get(id) ?? 'Someone';
  }

  isOnline(id) {
    return id === this.me.id || this.online.has(id);
  }

  /** The conversation with that key; it is made where there is none. */
  open(kind, target) {
    const key = kind === 'room' ? roomKey(target) : userKey(target);
    let c = this.conversations.get(key);
    if (!c) {
      c = new Conversation(key, kind, target);
      this.conversations.set(key, c);
      this.#changed();
    }
    return c;
  }

  remove(key) {
    this.conversations.delete(key);
    if (this.active === key) this.active = null;
    this.#changed();
  }

  activate(key) {
    this.active = key;
    const c = this.current;
    if (c) this.#markNew(c);
    this.#changed(key);
  }

  /** Everything in the conversation has been seen. */
  markRead(c) {
    const ts = c.messages.findLast((m) => m.from)?.ts ?? 0;
    if (ts <= c.readTo) return;
    c.readTo = ts;
    this.#changed();
  }

  /** The line that says "New" goes before what has not been seen by now. */
  markUnseen(c) {
    this.#markNew(c);
    this.#changed(c.key);
  }

  #markNew(c) {
    c.newFrom = c.messages.find((m) => isUnread(m, c.readTo))?.ts ?? Infinity;
  }

  // What the hub says.

  welcome(data) {
    this.#offset = data.time - Date.now();
  }

  room({ room, users, count, recovered, resumed }) {
    const c = this.open('room', room);
    const first = !c.joined;
    c.joined = true;
    this.#setUsers(c, users, count);
    if (!resumed) {
      if (first && c.readTo === 0) c.readTo = this.now();
    } else if (!recovered) {
      // Another log, or too long away: what came before does not join on.
      c.life++;
      c.more = null;
      this.#note(c, 'The connection was lost for a while. Messages may be missing here.');
    }
    this.#changed(c.key);
  }

  sent({ id, seq, ts }) {
    for (const c of this.conversations.values()) {
      const m = c.messages.find((m) => m.id === id);
      if (!m) continue;
      if (m.status !== 'sent') this.#settle(c, m, seq, ts);
      return this.#changed(c.key);
    }
  }

  failed({ id, message }) {
    for (const c of this.conversations.values()) {
      const m = c.messages.find((m) => m.id === id);
      if (!m) continue;
      Object.assign(m, { status: 'failed', error: message });
      return this.#changed(c.key);
    }
  }

  /** A message that is on its way: envelope is what the hub gets. */
  pending(envelope) {
    const room = envelope.room !== undefined;
    const c = room ? this.open('room', envelope.room) : this.open('user', envelope.to);
    c.newFrom = Infinity;
    this.#insert(c, {
      id: envelope.id,
      from: this.me,
      mine: true,
      text: textOf(envelope.data),
      ts: this.now(),
      status: 'pending',
      envelope,
    });
    this.#changed(c.key);
  }

  forget(c, m) {
    c.messages = c.messages.filter((other) => other !== m);
    this.#changed(c.key);
  }

  /** An event of the hub. Returns what is worth a notice, or null. */
  event(e) {
    if (e.from) this.meet(e.from);
    switch (e.type) {
      case 'room-message':
        this.#message(this.open('room', e.room), e);
        break;
      case 'private-message':
        this.#privateMessage(e);
        break;
      case 'typing':
      case 'stop-typing':
        this.#typing(e);
        break;
      case 'user-joined':
      case 'user-left':
        this.#membership(e);
        break;
      case 'online-users':
        this.online.clear();
        this.#presence(e.data, true);
        break;
      case 'user-online':
      case 'user-offline':
        this.#presence(e.data, e.type === 'user-online');
        break;
      case 'message':
      case 'notification':
        return { from: e.from?.name ?? 'Server', text: textOf(e.data) };
    }
    return null;
  }

  /** Older messages are being asked for. */
  loading(c) {
    c.loading = true;
    this.#changed(c.key);
  }

  /** Older messages of a room, oldest first, and whether there are more; none: they did not come. */
  earlier(c, page) {
    for (const e of page?.messages ?? []) {
      if (e.type === 'room-message') this.#message(c, e);
    }
    if (page) c.more = page.more;
    c.loading = false;
    this.#changed(c.key);
  }

  /** Nobody is known to be typing any more. */
  disconnected() {
    for (const c of this.conversations.values()) {
      c.typing.clear();
      c.loading = false;
    }
    this.#changed(this.active);
  }

  #privateMessage(e) {
    const mine = e.from.id === this.me.id;
    const peer = mine ? e.to : e.from.id;
    // The envelope names the recipient by id alone; the sender put the name in.
    if (mine && !this.#names.has(peer) && e.data?.toName) this.#names.set(peer, String(e.data.toName));
    const c = this.open('user', peer);
    if (mine) c.readTo = Math.max(c.readTo, e.ts); // who answers has read
    this.#message(c, e);
  }

  #message(c, e) {
    c.typing.delete(e.from?.id);
    const own = e.id && e.from?.id === this.me.id && c.messages.find((m) => m.id === e.id);
    if (own) {
      if (own.status !== 'sent' || !own.seq) this.#settle(c, own, e.seq, e.ts);
    } else {
      this.#insert(c, {
        id: e.id,
        from: e.from ?? { id: '', name: 'Server' },
        mine: e.from?.id === this.me.id,
        text: textOf(e.data),
        ts: e.ts,
        seq: e.seq,
        status: 'sent',
      });
      if (c.messages.length > KEEP && !c.loading) {
        c.messages.splice(0, KEEP / 5);
        c.more = true;
      }
    }
    this.#changed(c.key);
  }

  // The hub has it: now its place is known.
  #settle(c, m, seq, ts) {
    c.messages = c.messages.filter((other) => other !== m);
    this.#insert(c, Object.assign(m, { seq, ts, status: 'sent', life: undefined }));
  }

  #insert(c, m) {
    m.life ??= c.life;
    let i = c.messages.length;
    while (i > 0 && isAfter(c, c.messages[i - 1], m)) i--;
    c.messages.splice(i, 0, m);
  }

  #typing({ type, room, from }) {
    const c = this.conversations.get(roomKey(room));
    if (!c || from.id === this.me.id) return;
    if (type === 'typing') c.typing.set(from.id, from);
    else c.typing.delete(from.id);
    this.#changed(c.key);
  }

  #membership({ type, room, data }) {
    const c = this.conversations.get(roomKey(room));
    if (!c) return;
    const users = data.users ?? [];
    const joined = type === 'user-joined';
    c.count = data.count;
    for (const u of users) {
      this.meet(u);
      if (joined) c.users.set(u.id, u);
      else c.users.delete(u.id), c.typing.delete(u.id);
    }
    const others = users.filter((u) => u.id !== this.me.id);
    if (others.length) this.#noteMembers(c, others, joined ? 'joined' : 'left');
    this.#changed(c.key);
  }

  #setUsers(c, users = [], count) {
    c.count = count;
    c.users = new Map(users.map((u) => [u.id, u]));
    for (const u of users) this.meet(u);
  }

  #presence({ users = [], count }, there) {
    this.onlineCount = count;
    for (const u of users) {
      this.meet(u);
      if (there && u.id !== this.me.id) this.online.set(u.id, u);
      else this.online.delete(u.id);
    }
    this.#changed();
  }

  // Comings after comings, or goings after goings, share a line.
  #noteMembers(c, members, verb) {
    const last = c.messages.at(-1);
    if (last?.verb === verb) {
      c.messages.pop();
      members = [...last.members.filter((m) => !members.some((u) => u.id === m.id)), ...members];
    }
    this.#insert(c, { note: `${listOf(members)} ${verb}`, members, verb, ts: this.now() });
  }

  #note(c, note) {
    this.#insert(c, { note, ts: this.now() });
  }

  #changed(key = null) {
    this.dispatchEvent(new CustomEvent('change', { detail: { key } }));
  }
}

// Whether a is shown below b: the log's order within one log, time elsewhere
// (a private message is in two logs), and what is on its way last.
function isAfter(c, a, b) {
  if (a.status === 'pending') return b.status !== 'pending';
  if (b.status === 'pending') return false;
  if (a.life !== b.life) return a.life > b.life;
  if (c.kind === 'room' && a.seq && b.seq) return a.seq > b.seq;
  return a.ts > b.ts;
}

/** The text of a message's data: {text}, or whatever another client sent. */
export function textOf(data) {
  if (typeof data === 'string') return data;
  if (typeof data?.text === 'string') return data.text;
  return JSON.stringify(data) ?? '';
}

/** "Ana", "Ana and Ben", "Ana, Ben and 3 others". */
export function listOf(users) {
  // Isolated, so that a name cannot change the direction of what is around it.
  const names = users.map((u) => `\u2068${u.name}\u2069`);
  if (names.length === 1) return names[0];
  if (names.length <= 3) return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
  return `${names[0]}, ${names[1]} and ${names.length - 2} others`;
}
