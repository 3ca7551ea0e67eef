// Puts the connection, what is known and what is seen together, and keeps the
// session over a reload of the page.

import { Chat } from './chat.js';
import { Model, roomKey } from './model.js';
import { Login, View } from './ui.js';

// In sessionStorage, so that each tab may be somebody else.
const SESSION = 'chathub.session';
const GOODBYE = 'chathub.goodbye'; // {name, message}: what to show after a session has ended

const FIRST_ROOM = 'lobby';

const saved = take(SESSION);
if (saved) {
  run(saved);
} else {
  const { name, message } = take(GOODBYE) ?? {};
  new Login(async (name) => run(await logIn(name))).show(name, message);
}

/** Asks for a session. The demonstration log-in gives one to everybody. */
async function logIn(name) {
  let response;
  try {
    response = await fetch('login', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ name }),
    });
  } catch {
    throw new Error('The server cannot be reached. Try again in a moment.');
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return { ...body, rooms: [FIRST_ROOM], active: roomKey(FIRST_ROOM) };
  throw Object.assign(new Error(body.message ?? 'The log-in failed.'), { stop: response.status < 500 });
}

/**
 * One session. It ends with the page: {token, user, rooms, direct, active,
 * read, noticed, queue} is what the next page begins with.
 */
function run(session) {
  let { token, noticed = 0 } = session;
  let ended = false;
  const model = new Model(session.user);
  restore();

  const url = new URL('ws', document.baseURI);
  url.protocol = url.protocol.replace('http', 'ws');
  const chat = new Chat({ url, getToken, queue: session.queue });
  const view = new View(model, {
    open,
    join(room) {
      chat.join(room);
      open('room', room);
    },
    leave(c) {
      if (c.kind === 'room') chat.leave(c.target);
      model.remove(c.key);
      const next = model.all.find((other) => other.kind === 'room') ?? model.all[0];
      if (next) open(next.kind, next.target);
      save();
    },
    send(text) {
      const c = model.current;
      if (c.kind === 'user') {
        return send({ type: 'private-message', to: c.target, data: { text, toName: model.nameOf(c.target) } });
      }
      chat.stopTyping(c.target);
      send({ type: 'room-message', room: c.target, data: { text } });
    },
    typing: () => model.current?.kind === 'room' && chat.typing(model.current.target),
    stopTyping: () => model.current?.kind === 'room' && chat.stopTyping(model.current.target),
    earlier() {
      const c = model.current;
      model.loading(c);
      chat.history(c.target, c.oldestSeq, (err, data) => {
        if (err) view.toast(`Earlier messages did not arrive: ${err.message}`);
        model.earlier(c, data);
      });
    },
    retry(m) {
      model.forget(model.current, m);
      send(m.envelope);
    },
    discard: (m) => model.forget(model.current, m),
    seen: (c) => model.markRead(c),
    logout: () => end(''),
    wake: () => (chat.state === 'stopped' ? chat.connect() : chat.wake()),
  });

  on('state', (state) => {
    // 4500: the token is worth nothing. No code: there is no new one to be had.
    if (state.name === 'stopped' && (state.code === 4500 || !state.code)) {
      return end(`Your session has ended (${state.message}). Please log in again.`);
    }
    if (state.name !== 'online') model.disconnected();
    view.connection(state);
  });
  on('welcome', (data) => model.welcome(data));
  on('room', (info) => model.room(info));
  on('sent', (info) => model.sent(info));
  on('failed', (info) => model.failed(info));
  on('refused', ({ room, message }) => {
    view.toast('You cannot join ', strong(room), `: ${message}`);
    model.remove(roomKey(room));
  });
  on('event', (e) => {
    const notice = model.event(e);
    if (notice && !(e.ts <= noticed)) { // a notification is in the inbox, and comes again with every page
      noticed = e.ts;
      view.toast(strong(notice.from), ` ${notice.text}`);
    }
    if (document.hidden && model.current) model.markUnseen(model.current);
  });

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) save();
    else chat.wake();
  });
  addEventListener('online', () => chat.wake());
  addEventListener('pagehide', save);

  for (const room of session.rooms) chat.join(room);
  chat.connect();
  save();

  function on(name, listener) {
    chat.addEventListener(name, ({ detail }) => ended || listener(detail));
  }

  async function getToken(renew) {
    if (renew) {
      ({ token } = await logIn(session.user.name));
      save();
    }
    return token;
  }

  function send(envelope) {
    model.pending({ ...envelope, id: chat.send(envelope) });
  }

  function open(kind, target) {
    const before = model.current;
    if (before?.kind === 'room') chat.stopTyping(before.target);
    model.activate(model.open(kind, target).key);
    view.opened();
    save();
  }

  function restore() {
    const { rooms, direct = [], active, read = [], queue = [] } = session;
    for (const room of rooms) model.open('room', room);
    for (const user of direct) {
      model.meet(user);
      model.open('user', user.id);
    }
    for (const [key, readTo] of read) {
      if (model.conversations.has(key)) model.conversations.get(key).readTo = readTo;
    }
    for (const envelope of queue) model.pending(envelope);
    model.activate(active);
  }

  function save() {
    if (ended) return;
    const of = (kind) => model.all.filter((c) => c.kind === kind).map((c) => c.target);
    put(SESSION, {
      token,
      noticed,
      user: session.user,
      rooms: of('room'),
      direct: of('user').map((id) => ({ id, name: model.nameOf(id) })),
      active: model.active,
      read: model.all.map((c) => [c.key, c.readTo]),
      queue: chat.queue,
    });
  }

  // A new page is the surest way to keep nothing of a user who has left.
  function end(message) {
    ended = true;
    chat.close();
    sessionStorage.removeItem(SESSION);
    put(GOODBYE, { name: session.user.name, message });
    location.reload();
  }
}

function strong(text) {
  const node = document.createElement('strong');
  node.textContent = text;
  return node;
}

function put(key, value) {
  sessionStorage.setItem(key, JSON.stringify(value));
}

function take(key) {
  const value = sessionStorage.getItem(key);
  sessionStorage.removeItem(key);
  return value && JSON.parse(value);
}
