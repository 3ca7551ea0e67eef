// The stores without a framework: changes, answers and reading.
import { describe, expect, test } from 'vitest';
import { keptIn } from '../src/storage.js';
import { storesOf } from '../src/store/index.js';
import { pass } from './fixture.js';
import { at, ends, f, lines, open, openRoom, other, storeFixture, withhold } from './store-fixture.js';

const me = { id: 'u1', name: 'u1' };
const ben = { id: 'u2', name: 'Ben' };

storeFixture();

describe('a store', () => {
  test('is one object per client and name, and does nothing without subscribers', async () => {
    const client = await f.connect();
    const stores = storesOf(client);
    expect(storesOf(client)).toBe(stores);
    expect(stores.room('a')).toBe(stores.room('a'));
    expect(stores.conversation('u2')).toBe(stores.conversation('u2'));
    expect(stores.room('a').snapshot).toMatchObject({ status: 'left', messages: [] });
    expect(f.hub.socket.of('join-room')).toEqual([]);
  });

  test('has the same snapshot until something changes', async () => {
    const { store } = await openRoom();
    const { snapshot } = store;
    f.hub.socket.say({ type: 'pong' });
    await pass(1);
    expect(store.snapshot).toBe(snapshot);
    f.hub.message('a', 1);
    await pass(1);
    expect(store.snapshot).not.toBe(snapshot);
    expect(snapshot.messages).toEqual([]);
  });

  test('shows the connection and who is online', async () => {
    const client = await f.connect({ getToken: () => 'u1' });
    const { connection, presence } = storesOf(client);
    const [a, b] = [open(connection), open(presence)];
    f.hub.socket.say({ type: 'user-online', data: { users: [ben], count: 1 } });
    await pass(1);
    expect(presence.snapshot.isOnline('u2')).toBe(true);
    f.hub.socket.end();
    expect(connection.snapshot.status).toBe('disconnected');
    expect([a(), b()]).toEqual([1, 1]);
  });
});

describe('a message', () => {
  test('changes in place and keeps its key', async () => {
    const { store } = await openRoom();
    const ben = await other();
    for (const n of [1, 2, 3]) await ben.room('a').send(n);
    await pass(1);
    const keys = store.snapshot.messages.map((m) => m.key);
    const [one, , three] = store.snapshot.messages;
    await ben.room('a').edit(2, 'two');
    await ben.room('a').react(2, '👍');
    await pass(1);
    expect(lines(store)).toEqual(['1', `two ${at(store, 1).edited && '(edited)'} 👍1`, '3'].map((l) => l.trim()));
    expect(store.snapshot.messages.map((m) => m.key)).toEqual(keys);
    expect(store.snapshot.messages[0]).toBe(one);
    expect(store.snapshot.messages[2]).toBe(three);
    await ben.room('a').remove(2);
    await pass(1);
    expect(at(store, 1)).toMatchObject({ data: undefined, deleted: expect.any(Number), reactions: undefined });
    expect(store.snapshot.messages.map((m) => m.key)).toEqual(keys);
  });

  test('ignores an older version of a change, and everything after its deletion', async () => {
    const { store } = await openRoom();
    f.hub.message('a', 'one');
    await pass(1);
    const say = async (seq: number, message: object, change = 'edited') => {
      f.hub.socket.say({ type: 'message-changed', room: 'b', seq, data: { seq: 1, change, message } });
      store._take({ type: 'message-changed', room: 'a', seq, data: { seq: 1, change, message } });
      await pass(1);
    };
    await say(5, { data: 'five', edited: 5 });
    await say(4, { data: 'four', edited: 4 });
    expect(at(store, 0)).toMatchObject({ data: 'five', edited: 5, version: 5 });
    await say(6, { deleted: 6 }, 'deleted');
    await say(7, { data: 'seven', edited: 7 });
    expect(at(store, 0)).toMatchObject({ data: undefined, deleted: 6 });
    await say(8, { data: 'other' });
    expect(store.snapshot.messages).toHaveLength(1);
  });

  test('that changes while a page is on its way is shown as it is now', async () => {
    const { store } = await openRoom({ history: 1 });
    const ben = await other();
    for (const n of [1, 2, 3]) await ben.room('a').send(n);
    await pass(1);
    ends.pop()?.();
    await pass(1);
    open(store); // joins anew, with the newest message
    await pass(1);
    expect(lines(store)).toEqual(['3']);
    // The answer is made before the edit, and arrives after it.
    let answer: object | undefined;
    f.hub.script.set('history', (_, e) => {
      const messages = f.hub.room('a').events.map((m) => ({ ...m }));
      answer = { type: 'ack', id: e.id, data: { messages, more: false } };
      return true;
    });
    const [socket] = f.hub.sockets;
    const page = store.actions.loadMore();
    await ben.room('a').edit(1, 'one');
    socket?.say(answer as object);
    await page;
    await pass(1);
    expect(lines(store)[0]).toMatch(/^one/);
  });

  test('of the page has its reactions, and those of the user', async () => {
    const ana = await other('u1');
    await ana.room('a').send('x');
    await ana.room('a').react(1, '👍');
    ana.close();
    const { store } = await openRoom();
    expect(at(store, 0)).toMatchObject({ mine: ['👍'], reactions: { '👍': { count: 1, users: ['u1'] } } });
  });

  test('may be of other types', async () => {
    const { store } = await openRoom({ types: ['room-message', 'poll:closed'] });
    f.hub.message('a', 1);
    f.hub.emit('a', 'poll:closed', 2);
    f.hub.emit('a', 'other', 3);
    await pass(1);
    expect(store.snapshot.messages.map((m) => [m.type, m.data])).toEqual([
      ['room-message', 1],
      ['poll:closed', 2],
    ]);
  });
});

describe('an own change', () => {
  test('is shown at once, and stays when the server has answered', async () => {
    const { store } = await openRoom();
    await store.actions.send('helo');
    await pass(1);
    const { key } = at(store, 0);
    const release = withhold('edit-message', 'react', 'delete-message');
    const edited = store.actions.edit(at(store, 0), 'hello');
    await pass(1);
    expect(lines(store)).toEqual(
      [`hello (edited)`.replace('(edited)', `${at(store, 0).edited}`)].map((l) => l.replace(/\d+/, '(edited)')),
    );
    await release();
    expect(await edited).toMatchObject({ seq: 2 });
    const again = withhold('react');
    const reacted = store.actions.react(at(store, 0), '👍');
    await pass(1);
    expect(at(store, 0)).toMatchObject({ mine: ['👍'], reactions: { '👍': { count: 1, users: ['u1'] } } });
    await again();
    await reacted;
    const last = withhold('react', 'delete-message');
    const off = store.actions.react(at(store, 0), '👍', false);
    await pass(1);
    expect(at(store, 0)).toMatchObject({ mine: [], reactions: {} });
    const removed = store.actions.remove(at(store, 0));
    await pass(1);
    expect(at(store, 0)).toMatchObject({ data: undefined, deleted: expect.any(Number), key });
    await last();
    await Promise.all([off, removed]);
    expect(at(store, 0)).toMatchObject({ data: undefined, deleted: expect.any(Number), key, version: 5 });
  });

  test.each(['ack first', 'event first'])('never flickers: %s', async (order) => {
    const { store } = await openRoom();
    await store.actions.send('old');
    await pass(1);
    const shown: unknown[] = [];
    ends.push(store.subscribe(() => shown.push(at(store, 0).data)));
    f.hub.script.set('edit-message', (socket, e) => {
      const ack = { type: 'ack', id: e.id, data: { seq: 2, ts: 5 } };
      const message = { data: 'new', edited: 5 };
      const event = {
        type: 'message-changed',
        room: 'a',
        from: me,
        seq: 2,
        data: { seq: 1, change: 'edited', message },
      };
      for (const frame of order === 'ack first' ? [ack, event] : [event, ack]) setTimeout(() => socket.say(frame), 5);
      return true;
    });
    const edited = store.actions.edit(at(store, 0), 'new');
    await pass(20);
    await edited;
    expect(new Set(shown)).toEqual(new Set(['new']));
    expect(at(store, 0)).toMatchObject({ data: 'new', edited: 5, version: 2 });
  });

  test('is taken back if it is refused, with the error to the caller', async () => {
    const { store } = await openRoom();
    await store.actions.send('old');
    await store.actions.react({ seq: 1 }, 'x');
    await pass(1);
    const before = at(store, 0);
    for (const type of ['edit-message', 'delete-message', 'react']) {
      f.hub.script.set(type, (socket, e) => {
        f.hub.refuse(socket, e, 'forbidden');
        return true;
      });
    }
    const { edit, remove, react } = store.actions;
    const calls = [edit(before, 'new'), react(before, '👍'), react(before, 'x', false), remove(before)];
    expect(at(store, 0)).toMatchObject({ data: undefined });
    await pass(1);
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: 'forbidden' });
    expect(at(store, 0)).toEqual(before);
  });

  test('that is refused leaves those behind it, and what others changed meanwhile', async () => {
    const { store } = await openRoom();
    await store.actions.send('old');
    await pass(1);
    const ben = await other();
    f.hub.script.set('edit-message', (socket, e) => {
      setTimeout(() => f.hub.refuse(socket, e, 'forbidden'), 100);
      return true;
    });
    const edited = store.actions.edit(at(store, 0), 'new');
    const reacted = store.actions.react(at(store, 0), 'mine');
    await ben.room('a').react(1, 'theirs');
    await pass(1);
    expect(at(store, 0)).toMatchObject({ data: 'new', reactions: { mine: { count: 1 }, theirs: { count: 1 } } });
    await pass(200);
    await expect(edited).rejects.toMatchObject({ code: 'forbidden' });
    await reacted;
    expect(at(store, 0)).toMatchObject({ data: 'old', edited: undefined, mine: ['mine'] });
    expect(Object.keys(at(store, 0).reactions ?? {}).sort()).toEqual(['mine', 'theirs']);
  });

  test('made offline is shown at once, and sent later', async () => {
    const { store } = await openRoom();
    await store.actions.send('old');
    await pass(1);
    f.hub.socket.end();
    const edited = store.actions.edit(at(store, 0), 'new');
    await pass(1);
    expect(at(store, 0).data).toBe('new');
    await pass(1_000);
    expect(await edited).toMatchObject({ seq: 2 });
    expect(at(store, 0)).toMatchObject({ data: 'new', version: 2 });
    expect(f.hub.room('a').events[0]?.data).toBe('new');
  });

  test('that an earlier page left is shown on the message when that is loaded', async () => {
    f.hub.message('a', 'old', me);
    const { epoch } = f.hub.room('a');
    const messages = [{ type: 'edit-message', id: 'e', room: 'a', epoch, data: { seq: 1, data: 'new' } }];
    const odd = [null, 1, {}, { seq: 'x' }, { id: 7 }].map((data, i) => ({
      type: 'react',
      id: `odd${i}`,
      room: 'a',
      data,
    }));
    const storage = {
      getItem: () => JSON.stringify({ messages: [...messages, ...odd] }),
      setItem: () => {},
      removeItem: () => {},
    };
    const client = await f.connect({ getToken: () => 'u1', storage: keptIn(storage) });
    const release = withhold('edit-message', 'react');
    const store = storesOf(client).room('a');
    open(store);
    await pass(1);
    expect(at(store, 0).data).toBe('new');
    await release();
    expect(at(store, 0)).toMatchObject({ data: 'new', version: 2 });
  });

  test('of a message in a log that the server has lost is an error', async () => {
    const { store } = await openRoom();
    await store.actions.send('old');
    await pass(1);
    f.hub.forget();
    f.hub.socket.end();
    await pass(1_000);
    await store.actions.send('new');
    await pass(1);
    const old = at(store, 0);
    expect([old.data, old.seq]).toEqual(['old', at(store, 1).seq]);
    await expect(store.actions.edit(old, 'x')).rejects.toMatchObject({ code: 'bad_request' });
    await expect(store.actions.remove(old)).rejects.toMatchObject({ code: 'bad_request' });
    expect(await store.actions.markRead(old)).toBe(undefined);
    expect(lines(store)).toEqual(['old', 'new']);
    expect(f.hub.socket.of('edit-message').concat(f.hub.socket.of('delete-message'))).toEqual([]);
  });

  test('of a message that is not stored yet is an error', async () => {
    const { store } = await openRoom();
    const release = withhold('room-message');
    void store.actions.send('x');
    await pass(1);
    await expect(store.actions.edit(at(store, 0), 'y')).rejects.toMatchObject({ code: 'bad_request' });
    expect(f.hub.socket.of('edit-message')).toEqual([]);
    await release();
  });

  test('needs nobody to catch its error', async () => {
    const { store } = await openRoom();
    await store.actions.send('x');
    await pass(1);
    f.hub.old = true;
    void store.actions.react(at(store, 0), 'x');
    await pass(1);
    expect(at(store, 0).mine).toBeUndefined();
  });

  test('knows the own reaction behind a list that is cut short', async () => {
    const { store } = await openRoom();
    await store.actions.send('x');
    await pass(1);
    const users = Array.from({ length: 20 }, (_, i) => `v${i}`);
    f.hub.script.set('react', (socket, e) => {
      const message = { reactions: { '👍': { count: 21, users } } };
      socket.say({ type: 'ack', id: e.id, data: { seq: 9, ts: 1 } });
      socket.say({
        type: 'message-changed',
        room: 'a',
        from: me,
        seq: 9,
        data: { seq: 1, change: 'reacted', message },
      });
      return true;
    });
    await store.actions.react(at(store, 0), '👍');
    await pass(1);
    expect(at(store, 0)).toMatchObject({ mine: ['👍'], reactions: { '👍': { count: 21, users } } });
  });
});

describe('answers', () => {
  test('name the message, also when they are sent again', async () => {
    const { store } = await openRoom();
    await store.actions.send('question');
    await pass(1);
    f.hub.script.set('room-message', (socket, e) => {
      f.hub.refuse(socket, e, 'forbidden');
      return true;
    });
    await expect(store.actions.reply(at(store, 0), 'answer')).rejects.toMatchObject({ code: 'forbidden' });
    expect(at(store, 1)).toMatchObject({ re: 1, status: 'failed' });
    f.hub.script.clear();
    await store.actions.retry(at(store, 1).id ?? '');
    await pass(1);
    expect(at(store, 1)).toMatchObject({ re: 1, data: 'answer', status: 'sent' });
    expect(f.hub.room('a').events[1]).toMatchObject({ re: 1 });
  });
});

describe('reading', () => {
  test('shows what is unread, and where it begins', async () => {
    for (const n of [1, 2, 3]) f.hub.message('a', n);
    f.hub.markers.set(JSON.stringify(['u1', 'a', null]), 1);
    f.hub.message('a', 'own', me);
    const { store } = await openRoom();
    expect(store.snapshot).toMatchObject({ read: 1, unread: 2, firstUnread: at(store, 1).key });
    await store.actions.markRead();
    await pass(1);
    // The line stays while the user reads.
    expect(store.snapshot).toMatchObject({ read: 4, unread: 0, firstUnread: at(store, 1).key });
    await store.actions.send('own');
    f.hub.message('a', 'new');
    await pass(1);
    expect(store.snapshot).toMatchObject({ unread: 1, firstUnread: at(store, -1).key });
    await store.actions.markRead(at(store, -1));
    await pass(1);
    expect(store.snapshot.unread).toBe(0);
  });

  test('does not guess where it begins', async () => {
    for (let n = 1; n <= 20; n++) f.hub.message('a', n);
    const { store } = await openRoom({ history: 5 });
    f.hub.markers.set(JSON.stringify(['u1', 'a', null]), 3);
    expect(store.snapshot).toMatchObject({ unread: 20, firstUnread: undefined, hasMore: true });
    await store.actions.loadMore(50);
    await pass(1);
    expect(store.snapshot).toMatchObject({ firstUnread: at(store, 0).key, hasMore: false });
  });

  test('is unknown on an old server', async () => {
    f.hub.old = true;
    const { store } = await openRoom();
    f.hub.message('a', 1);
    await pass(1);
    expect(store.snapshot).toMatchObject({ read: undefined, unread: undefined, firstUnread: undefined });
    await expect(store.actions.markRead()).rejects.toMatchObject({ code: 'unknown_type' });
  });

  test('of an empty room marks nothing', async () => {
    const { store } = await openRoom();
    expect(await store.actions.markRead()).toBeUndefined();
    expect(f.hub.socket.of('mark-read')).toEqual([]);
  });
});

describe('a private conversation', () => {
  async function talk() {
    const client = await f.connect({ getToken: () => 'u1' });
    const store = storesOf(client).conversation('u2');
    open(store);
    await pass(1);
    return { client, store };
  }

  test('changes, is answered and read as a room is', async () => {
    const ben = await f.connect({ getToken: () => 'u2' });
    const { client, store } = await talk();
    await store.actions.send('helo');
    await pass(1);
    const { key } = at(store, 0);
    const release = withhold('edit-message');
    const edited = store.actions.edit(at(store, 0), 'hello');
    expect(at(store, 0)).toMatchObject({ data: 'hello', key });
    await release();
    await edited;
    const ref = { id: at(store, 0).id ?? '', author: 'u1' };
    await ben.conversation('u1').react(ref, '👍');
    await ben.conversation('u1').send('yes', { re: ref });
    await pass(1);
    expect(at(store, 0)).toMatchObject({ data: 'hello', key, reactions: { '👍': { count: 1, users: ['u2'] } } });
    expect(at(store, 1)).toMatchObject({ data: 'yes', re: ref });
    await client.overview({ inbox: true });
    expect(store.snapshot).toMatchObject({ unread: 1 });
    await store.actions.reply(at(store, 1), 'fine');
    await store.actions.remove(at(store, 0));
    await store.actions.markRead();
    await pass(1);
    expect(store.snapshot).toMatchObject({ unread: 0 });
    expect(at(store, 0)).toMatchObject({ deleted: expect.any(Number), key });
    expect(f.hub.socket.of('private-message').at(-1)).toMatchObject({ re: { id: at(store, 1).id, author: 'u2' } });
  });

  test('loads older messages from the inbox', async () => {
    for (let n = 1; n <= 20; n++) f.hub.whisper('u1', n, ben, `m${n}`);
    f.hub.whisper('u1', 'of Cem', { id: 'u3', name: 'Cem' });
    const client = await f.connect({ getToken: () => 'u1', inbox: 'new' });
    const store = storesOf(client).conversation('u2');
    open(store);
    await pass(1);
    expect(store.snapshot).toMatchObject({ messages: [], hasMore: true, unread: 20 });
    await store.actions.loadMore(12);
    await store.actions.loadMore(12);
    expect(lines(store)).toEqual(Array.from({ length: 20 }, (_, i) => `${i + 1}`));
    expect(store.snapshot.hasMore).toBe(false);
    expect(f.hub.socket.of('history')).toMatchObject([{ to: 'u2' }, { to: 'u2' }]);
  });

  test('is taken back if it is refused', async () => {
    const { store } = await talk();
    await store.actions.send('old');
    await pass(1);
    f.hub.old = true;
    await expect(store.actions.edit(at(store, 0), 'new')).rejects.toMatchObject({ code: 'unknown_type' });
    expect(lines(store)).toEqual(['old']);
  });
});
