// Everything of the page around the list of messages.

import { $, avatar, el, name, roomAvatar, setChildren } from './dom.js';
import { Log } from './log.js';
import { listOf, userKey } from './model.js';

const phone = matchMedia('(max-width: 760px)');
const roomy = matchMedia('(min-width: 1120px)');

/** The log-in view. submit(name) rejects with an error to show. */
export class Login {
  #input = $('login-name');
  #error = $('login-error');

  constructor(submit) {
    const form = $('login-form');
    form.onsubmit = async (event) => {
      event.preventDefault();
      const button = form.querySelector('button');
      button.disabled = true;
      this.#say('');
      try {
        await submit(this.#input.value);
      } catch (err) {
        this.#say(err.message);
        this.#input.focus();
      } finally {
        button.disabled = false;
      }
    };
    this.#input.oninput = () => this.#say('');
  }

  show(userName = '', message = '') {
    $('app').hidden = true;
    $('login').hidden = false;
    if (userName) this.#input.value = userName;
    this.#say(message);
    this.#input.focus();
    document.title = 'chathub';
  }

  #say(message) {
    this.#error.textContent = message;
    this.#input.toggleAttribute('aria-invalid', message !== '');
  }
}

/**
 * The chat view. on: join(room), leave(conversation), open(kind, target),
 * send(text), typing(), stopTyping(), earlier(), retry(message),
 * discard(message), seen(conversation), logout(), wake().
 */
export class View {
  #model;
  #on;
  #log;
  #items = new Map(); // list element -> Map(key -> {item, made})
  #shown = null; // the key of the conversation that the composer belongs to
  #banner = null; // the state that the banner shows
  #due = 0;

  constructor(model, on) {
    this.#model = model;
    this.#on = on;
    this.#log = new Log({ earlier: on.earlier, retry: on.retry, discard: on.discard, atEnd: () => this.#seen() });
    this.#bind();
    $('login').hidden = true;
    $('app').hidden = false;
    $('me-avatar').replaceChildren(avatar(model.me.id, model.me.name, 'on'));
    $('me-name').textContent = model.me.name;
    this.#drawer(false);
    this.#panel(false);
    model.addEventListener('change', () => this.#soon());
    this.#render();
  }

  /** Another conversation is open: ready to type. On a phone, that would bring the keyboard up. */
  opened() {
    this.#render(); // at once: the next key belongs to it
    if (!phone.matches) $('text').focus();
  }

  toast(...children) {
    const toast = el('p', { className: 'toast' }, ...children);
    $('toasts').append(toast);
    if ($('toasts').children.length > 4) $('toasts').firstChild.remove();
    setTimeout(() => toast.remove(), 7_000);
  }

  // Rendering: once for all changes of a moment. Not in an animation frame,
  // which a tab in the background does not get, and its title counts messages.

  #soon() {
    this.#due ||= setTimeout(() => {
      this.#due = 0;
      this.#render();
    }, 16);
  }

  #render() {
    this.#renderConversation(); // may mark messages as read
    this.#renderSidebar();
    const { unread } = this.#model;
    document.title = (unread ? `(${unread}) ` : '') + (this.#title() ?? 'chathub');
    $('menu-badge').hidden = !this.#model.all.some((c) => c.unread && c.key !== this.#model.active);
  }

  #seen() {
    const c = this.#model.current;
    if (c && !document.hidden) this.#on.seen(c);
  }

  #title() {
    const c = this.#model.current;
    return c && `${c.kind === 'room' ? c.target : this.#model.nameOf(c.target)} · chathub`;
  }

  #renderSidebar() {
    const model = this.#model;
    const rooms = model.all.filter((c) => c.kind === 'room');
    const direct = model.all.filter((c) => c.kind === 'user');
    rooms.sort((a, b) => a.target.localeCompare(b.target));
    const lastOf = (c) => c.messages.at(-1)?.ts ?? Number.MAX_SAFE_INTEGER;
    direct.sort((a, b) => lastOf(b) - lastOf(a));
    this.#list($('rooms'), rooms, (c) => this.#conversationItem(c));
    this.#list($('direct'), direct, (c) => this.#conversationItem(c));
    $('direct-section').hidden = direct.length === 0;

    const online = [...model.online.values()].sort(byName);
    const others = Math.max(0, model.onlineCount - 1);
    $('online-count').textContent = others || '';
    this.#list($('online'), online, (u) => this.#userItem(u));
    $('online-empty').textContent = others === 0 ? 'Nobody else is here right now.'
      : online.length === 0 ? 'Too many to list.' : '';
  }

  #conversationItem(c) {
    const model = this.#model;
    const room = c.kind === 'room';
    const title = room ? c.target : model.nameOf(c.target);
    const presence = room ? null : model.isOnline(c.target) ? 'on' : 'off';
    const { unread } = c;
    const current = c.key === model.active;
    const preview = previewOf(c, model);
    return {
      key: c.key,
      made: JSON.stringify([title, presence, unread, current, preview]),
      make: () => {
        const text = el('span', { className: 'item-text' }, name(title, 'item-title'), name(preview, 'item-sub'));
        const button = el('button', { type: 'button', className: 'item', onclick: () => this.#open(c.kind, c.target) },
          room ? roomAvatar() : avatar(c.target, title, presence), text);
        if (current) button.setAttribute('aria-current', 'true');
        if (unread) {
          button.classList.add('unread');
          button.append(el('span', { className: 'badge' }, unread > 99 ? '99+' : String(unread), el('span', { className: 'sr', textContent: ' unread' })));
        }
        if (presence) button.append(el('span', { className: 'sr', textContent: presence === 'on' ? ', online' : ', offline' }));
        return button;
      },
    };
  }

  #userItem(u) {
    const me = u.id === this.#model.me.id;
    const current = userKey(u.id) === this.#model.active;
    return {
      key: u.id,
      made: JSON.stringify([u.name, current]),
      make: () => {
        const props = { className: 'item compact' };
        if (!me) Object.assign(props, { type: 'button', title: `Message ${u.name}`, onclick: () => this.#open('user', u.id) });
        const item = el(me ? 'div' : 'button', props, avatar(u.id, u.name, 'on'), name(u.name, 'item-title'));
        if (me) item.append(el('span', { className: 'quiet', textContent: 'you' }));
        return item;
      },
    };
  }

  // A list of which only what has changed is made anew; focus stays where it was.
  #list(list, things, describe) {
    const before = this.#items.get(list) ?? new Map();
    const after = new Map();
    for (const thing of things) {
      const { key, made, make } = describe(thing);
      let known = before.get(key);
      if (known?.made !== made) {
        const focused = known?.item.contains(document.activeElement);
        const item = known?.item ?? el('li');
        item.replaceChildren(make());
        if (focused) item.firstChild.focus();
        known = { item, made };
      }
      after.set(key, known);
    }
    this.#items.set(list, after);
    setChildren(list, [...after.values()].map((k) => k.item));
  }

  #renderConversation() {
    const model = this.#model;
    const c = model.current;
    $('main').classList.toggle('none', !c);
    $('nothing').hidden = Boolean(c);
    $('people').hidden = c?.kind !== 'room';
    $('app').classList.toggle('with-people', c?.kind === 'room');
    $('people-toggle').hidden = c?.kind !== 'room';
    this.#swapComposer(c);
    if (!c) {
      $('bar-avatar').replaceChildren();
      $('bar-title').textContent = 'chathub';
      $('bar-sub').textContent = '';
      $('leave').hidden = true;
      return;
    }
    const room = c.kind === 'room';
    const title = room ? c.target : model.nameOf(c.target);
    const there = !room && model.isOnline(c.target);
    $('bar-avatar').replaceChildren(room ? roomAvatar() : avatar(c.target, title, there ? 'on' : 'off'));
    $('bar-title').textContent = title;
    $('bar-sub').textContent = room ? (c.joined ? people(c.count) : 'Joining…') : there ? 'Online' : 'Offline. Your messages will be waiting.';
    $('leave').hidden = false;
    $('leave').title = room ? 'Leave the room' : 'Close the conversation';
    $('leave').ariaLabel = $('leave').title;
    $('leave-icon').setAttribute('href', room ? '#i-leave' : '#i-close');
    $('log').ariaLabel = `Messages ${room ? 'in' : 'with'} ${title}`;
    this.#log.render(c, intro(c, title));
    this.#renderTyping(c);
    if (room) this.#renderPeople(c);
  }

  #renderTyping(c) {
    const typing = [...c.typing.values()];
    $('typing').classList.toggle('on', typing.length > 0);
    if (typing.length) $('typing-text').textContent = `${listOf(typing)} ${typing.length > 1 ? 'are' : 'is'} typing`;
  }

  #renderPeople(c) {
    const { me } = this.#model;
    const users = [...c.users.values()].sort((a, b) => (b.id === me.id) - (a.id === me.id) || byName(a, b));
    $('people-count').textContent = c.joined ? c.count : '';
    this.#list($('people-list'), users, (u) => this.#userItem(u));
    $('people-note').textContent = c.joined && users.length === 0 ? 'Too many to list.' : '';
  }

  // The composer keeps what was begun in each conversation.
  #swapComposer(c) {
    const key = c?.key ?? null;
    if (key === this.#shown) return;
    const before = this.#model.conversations.get(this.#shown);
    if (before) before.draft = $('text').value;
    this.#shown = key;
    if (!c) return;
    $('text').value = c.draft;
    $('text').placeholder = `Message ${c.kind === 'room' ? c.target : this.#model.nameOf(c.target)}`;
    this.#fit();
  }

  // Connection.

  /** Shows a state of the connection, as Chat tells it. */
  connection(state) {
    this.#banner = state;
    $('app').dataset.state = state.name;
    $('me-state').textContent = state.name === 'online' ? 'Online' : state.name === 'stopped' ? 'Disconnected' : 'Connecting…';
    const text = {
      connecting: 'Connecting…',
      waiting: state.restart ? 'The server is restarting.' : 'The connection is lost.',
      stopped: `${state.message || 'The server closed the connection'}.`.replace(/\.\.$/, '.'),
    }[state.name];
    $('banner').hidden = state.name === 'online';
    $('banner').dataset.state = state.name;
    if (text && $('banner-text').textContent !== text) $('banner-text').textContent = text;
    if (!text) $('banner-text').textContent = '';
    $('banner-action').hidden = state.name === 'connecting';
    $('banner-action').textContent = state.name === 'stopped' ? 'Connect again' : 'Try now';
    this.#countDown();
  }

  #countDown() {
    const state = this.#banner;
    const left = state.at ? Math.ceil((state.at - Date.now()) / 1_000) : 0;
    $('banner-time').textContent = left > 0 ? `Next try in ${left} s` : '';
    if (left > 0) setTimeout(() => state === this.#banner && this.#countDown(), 250);
  }

  // What a person does.

  #bind() {
    const on = this.#on;
    $('join-form').onsubmit = (event) => {
      event.preventDefault();
      const room = $('join-name').value.trim();
      if (!room) return;
      $('join-name').value = '';
      on.join(room);
      this.#drawer(false);
    };
    $('nothing-join').onclick = () => {
      this.#drawer(true);
      $('join-name').focus();
    };
    $('composer').onsubmit = (event) => {
      event.preventDefault();
      const text = $('text').value.trim();
      $('text').focus();
      if (!text) return;
      $('text').value = '';
      this.#fit();
      on.send(text);
    };
    $('text').oninput = () => {
      this.#fit();
      if ($('text').value.trim()) on.typing();
      else on.stopTyping();
    };
    $('text').onblur = on.stopTyping;
    $('text').onkeydown = (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      $('composer').requestSubmit();
    };
    $('leave').onclick = () => this.#model.current && on.leave(this.#model.current);
    $('logout').onclick = on.logout;
    $('banner-action').onclick = on.wake;

    $('menu').onclick = () => this.#drawer(true);
    $('sidebar-close').onclick = () => this.#drawer(false);
    $('people-toggle').onclick = () => this.#panel(!$('app').classList.contains('panel-open'));
    $('people-close').onclick = () => this.#panel(false);
    $('backdrop').onclick = () => this.#closeAll();
    document.addEventListener('keydown', (event) => event.key === 'Escape' && this.#closeAll());
    document.addEventListener('visibilitychange', () => this.#log.atEnd && this.#seen());
    phone.onchange = roomy.onchange = () => this.#closeAll();
  }

  #open(kind, target) {
    this.#closeAll();
    this.#on.open(kind, target);
  }

  #closeAll() {
    this.#drawer(false);
    this.#panel(false);
  }

  // On a phone the sidebar is a drawer; out of sight it is out of reach, too.
  #drawer(open) {
    const was = $('app').classList.contains('drawer-open');
    $('app').classList.toggle('drawer-open', open);
    $('sidebar').inert = phone.matches && !open;
    $('main').inert = phone.matches && open;
    $('menu').ariaExpanded = String(open);
    this.#shade();
    if (phone.matches && open !== was) $(open ? 'sidebar-close' : 'menu').focus();
  }

  // On a narrow screen, so are the people of the room.
  #panel(open) {
    const was = $('app').classList.contains('panel-open');
    $('app').classList.toggle('panel-open', open);
    $('people').inert = !roomy.matches && !open;
    $('people-toggle').ariaExpanded = String(open);
    this.#shade();
    if (!roomy.matches && open !== was) $(open ? 'people-close' : 'people-toggle').focus();
  }

  #shade() {
    const { classList } = $('app');
    const drawer = phone.matches && classList.contains('drawer-open');
    $('backdrop').hidden = !drawer && !(!roomy.matches && classList.contains('panel-open'));
  }

  #fit() {
    const text = $('text');
    text.style.height = 'auto';
    text.style.height = `${text.scrollHeight}px`;
    $('composer').classList.toggle('ready', text.value.trim() !== '');
  }
}

const byName = (a, b) => a.name.localeCompare(b.name);

const people = (n) => (n === 1 ? 'Only you are here' : `${n} people here`);

function previewOf(c, model) {
  const typing = [...c.typing.values()];
  if (typing.length) return `${listOf(typing)} ${typing.length > 1 ? 'are' : 'is'} typing…`;
  const m = c.messages.findLast((m) => m.from);
  if (!m) return c.kind === 'room' ? (c.joined ? people(c.count) : 'Joining…') : 'No messages yet';
  const text = m.text.replace(/\s+/g, ' ').slice(0, 80);
  if (m.mine) return `You: ${text}`;
  return c.kind === 'room' ? `${m.from.name}: ${text}` : text;
}

function intro(c, title) {
  const h2 = el('h2');
  if (!c.joined) {
    h2.textContent = 'Joining…';
    return [roomAvatar(), h2];
  }
  if (c.kind === 'room') {
    h2.append('Welcome to ', name(title));
    return [roomAvatar(), h2, el('p', { textContent: 'Nothing has been said here yet. Everybody in the room sees what you write.' })];
  }
  h2.append(name(title));
  return [avatar(c.target, title), h2, el('p', { textContent: 'Only the two of you see what is written here. It arrives even if one of you is away.' })];
}

