// Messages that change: edits, deletions, reactions and replies.
import { describe, expect, test, vi } from 'vitest';
import type { Changed, ChatClient, Envelope } from '../src/index.js';
import { keptIn } from '../src/storage.js';
import { fixture, pass, quiet } from './fixture.js';

const f = fixture();
const me = { id: 'u1', name: 'u1' };
const ana = { getToken: () => 'u1' };

function changes(client: ChatClient): unknown[] {
  const seen: unknown[] = [];
  client.on('message-changed', ({ seq, id, change, message }, e) =>
    seen.push({ of: seq ?? id, at: e.seq, change, ...message }),
  );
  return seen;
}

describe('in a room', () => {
  test('an edit, a reaction and a deletion are sent and heard', async () => {
    const client = await f.connect(ana);
    const room = client.room('a');
    const seen = changes(client);
    await room.join();
    const { seq = 0 } = await room.send('helo');
    expect(await room.edit(seq, 'hello')).toMatchObject({ seq: 2, epoch: 'e2' });
    await room.react(seq, '👍');
    await room.react(seq, '👍', false);
    await room.remove(seq);
    expect(f.hub.socket.sent.slice(-4).map((e) => [e.type, e.room, e.data])).toEqual([
      ['edit-message', 'a', { seq, data: 'hello' }],
      ['react', 'a', { seq, key: '👍', on: true }],
      ['react', 'a', { seq, key: '👍', on: false }],
      ['delete-message', 'a', { seq }],
    ]);
    expect(seen).toMatchObject([
      { of: 1, at: 2, change: 'edited', data: 'hello' },
      { of: 1, at: 3, change: 'reacted', data: 'hello', reactions: { '👍': { count: 1, users: ['u1'] } } },
      { of: 1, at: 4, change: 'reacted', data: 'hello', reactions: {} },
      { of: 1, at: 5, change: 'deleted', deleted: expect.any(Number) },
    ]);
    expect(room.position).toMatchObject({ seq: 5 });
  });

  test('a change made offline goes out later, in its place and once', async () => {
    const client = await f.connect(ana);
    const room = client.room('a');
    await room.join();
    const { seq = 0 } = await room.send('one');
    f.hub.socket.end();
    const sent = [room.edit(seq, 'two'), room.send('three'), room.react(seq, 'x', true, { id: 'mine' })];
    await pass(500);
    await Promise.all(sent);
    expect(f.hub.socket.sent.map((e) => e.type)).toEqual(['resume', 'edit-message', 'room-message', 'react']);
    expect(f.hub.socket.of('react')[0]?.id).toBe('mine');
    expect(f.hub.room('a').events.map((e) => e.data)).toEqual(['two', 'three']);
  });

  test('a change without an answer is repeated with its id', async () => {
    const client = await f.connect(ana);
    const room = client.room('a');
    await room.join();
    const { seq = 0 } = await room.send('one');
    const ids: unknown[] = [];
    f.hub.script.set('edit-message', (s, e) => {
      ids.push(e.id);
      if (ids.length > 1) return;
      f.hub.script.set('ack', () => true);
      f.hub.change = () => undefined; // the answer is lost
      f.hub.script.delete('edit-message');
      f.hub.received(s, e);
      f.hub.script.set('edit-message', (_, e) => void ids.push(e.id));
      return true;
    });
    const edited = room.edit(seq, 'two');
    await pass();
    f.hub.change = (e) => e;
    f.hub.socket.end();
    await pass(500);
    expect(await edited).toMatchObject({ seq: 2, dup: true });
    expect(ids).toHaveLength(2);
    expect(ids[0]).toBe(ids[1]);
  });

  test('someone who was away for ten edits hears of one', async () => {
    const client = await f.connect(ana);
    const room = client.room('a');
    const seen = changes(client);
    await room.join();
    f.hub.message('a', 0, me, 'm');
    await pass();
    const other = await f.connect(ana);
    await other.room('a').join();
    f.hub.sockets[0]?.end();
    for (let n = 1; n <= 10; n++) await other.room('a').edit(1, n);
    await pass(500);
    expect(seen).toMatchObject([{ of: 1, at: 11, data: 10 }]);
    expect(room.position).toMatchObject({ seq: 11 });
  });

  test.each(['forbidden', 'conflict', 'bad_request', 'limit_exceeded'])('a refusal with %s ends it', async (code) => {
    const client = await f.connect(ana);
    await client.room('a').join();
    const events: unknown[] = [];
    client.onSend(({ status, message }) => events.push([status, message.type]));
    f.hub.script.set('edit-message', (s, e) => {
      f.hub.refuse(s, e, code);
      return true;
    });
    await expect(client.room('a').edit(1, 'x')).rejects.toMatchObject({ code });
    expect(client.outbox).toEqual([]);
    expect(events).toEqual([
      ['queued', 'edit-message'],
      ['failed', 'edit-message'],
    ]);
  });

  test('an older server does not know it', async () => {
    f.hub.old = true;
    const client = await f.connect(ana);
    const room = client.room('a');
    await room.join();
    const calls = [
      room.edit(1, 'x'),
      room.remove(1),
      room.react(1, 'x'),
      room.markRead(1),
      client.conversation('u2').edit({ id: 'x', author: 'u1' }, 1),
      client.conversation('u2').markRead(1),
      client.overview({ rooms: ['a'] }),
    ];
    for (const call of calls) quiet(call);
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: 'unknown_type' });
    expect(room.unread).toBeUndefined();
    await f.works(client);
  });

  test('changes that wait do not touch another log', async () => {
    const client = await f.connect(ana);
    const room = client.room('a');
    await room.join();
    await room.send('first');
    f.hub.socket.end();
    const edit = room.edit(1, 'edited');
    const sent = room.send('second');
    quiet(edit);
    f.hub.forget();
    f.hub.message('a', 'of the new log', me);
    await pass(500);
    await expect(edit).rejects.toMatchObject({ code: 'conflict' });
    await sent;
    expect(f.hub.room('a').events.map((e) => e.data)).toEqual(['of the new log', 'second']);
    expect(f.hub.socket.of('edit-message')).toEqual([]);
  });

  test('changes that an earlier page left are sent if the log is the same', async () => {
    const epoch = f.hub.room('a').epoch;
    f.hub.message('a', 'one', me);
    const change = { type: 'edit-message', room: 'a', data: { seq: 1, data: 'two' } };
    const messages = [
      { ...change, id: 'good', epoch },
      { ...change, id: 'bad', epoch: 'other', data: { seq: 1, data: 'wrong' } },
    ];
    const storage = { getItem: () => JSON.stringify({ messages }), setItem: () => {}, removeItem: () => {} };
    const client = await f.connect({ ...ana, storage: keptIn(storage) });
    const failed: unknown[] = [];
    client.onSend((e) => e.status === 'failed' && failed.push([e.message.id, e.error.code]));
    await client.room('a').join();
    await pass();
    expect(f.hub.room('a').events.map((e) => e.data)).toEqual(['two']);
    expect(failed).toEqual([['bad', 'conflict']]);
    expect(client.outbox).toEqual([]);
  });

  test('leaving the room fails what waits', async () => {
    const client = await f.connect(ana);
    await client.room('a').join();
    f.hub.script.set('react', () => true);
    const reacted = client.room('a').react(1, 'x');
    client.room('a').leave();
    await expect(reacted).rejects.toMatchObject({ code: 'not_in_room' });
  });
});

describe('answers to messages', () => {
  test('name the message, in the room and in the history', async () => {
    const client = await f.connect(ana);
    const room = client.room('a');
    await room.join();
    const events: Envelope[] = [];
    room.on('room-message', (_, e) => events.push(e as Envelope));
    const { seq = 0 } = await room.send('question');
    await room.send('something else');
    await room.send('answer', { re: seq });
    expect(events.map((e) => e.re)).toEqual([undefined, undefined, 1]);
    expect((await room.history({ re: seq })).messages).toMatchObject([{ data: 'answer', re: 1 }]);
    await client.conversation('u2').send('yes', { re: { id: 'q', author: 'u2' } });
    expect(f.hub.socket.of('private-message')).toMatchObject([
      { to: 'u2', data: 'yes', re: { id: 'q', author: 'u2' } },
    ]);
  });

  test('are kept in the storage', async () => {
    let saved = '';
    const storage = { getItem: () => null, setItem: (_: string, v: string) => (saved = v), removeItem: () => {} };
    const client = await f.connect({ ...ana, storage: keptIn(storage) });
    quiet(client.room('a').send('answer', { re: 3 }));
    await pass();
    const again = f.make({ ...ana, storage: keptIn({ ...storage, getItem: () => saved }) });
    await pass();
    expect(again.outbox).toMatchObject([{ data: 'answer', re: 3 }]);
  });
});

describe('in private', () => {
  test('messages change for both', async () => {
    const client = await f.connect(ana);
    const other = await f.connect({ getToken: () => 'u2' });
    const [seen, theirs] = [changes(client), changes(other)];
    const talk = client.conversation('u2');
    expect(client.conversation('u2')).toBe(talk);
    const { id } = await talk.send('helo', { id: 'm' });
    const ref = { id, author: 'u1' };
    await talk.edit(ref, 'hello');
    await other.conversation('u1').react(ref, '👍');
    await talk.remove(ref);
    await pass();
    for (const list of [seen, theirs]) {
      expect(list).toMatchObject([
        { of: 'm', change: 'edited', data: 'hello' },
        { of: 'm', change: 'reacted', reactions: { '👍': { count: 1, users: ['u2'] } } },
        { of: 'm', change: 'deleted' },
      ]);
    }
    expect(client.inbox?.seq).toBe(f.hub.inbox('u1').named.get('m/2')?.seq);
    expect((await talk.history({ limit: 5 })).messages).toMatchObject([{ id: 'm', deleted: expect.any(Number) }]);
    expect(f.hub.sockets[0]?.of('history')).toMatchObject([{ to: 'u2', data: { limit: 5 } }]);
    expect(f.hub.sockets[0]?.of('history')[0]).not.toHaveProperty('room');
  });

  test('a change moves the position and is not repeated', async () => {
    const client = await f.connect(ana);
    const seen = changes(client);
    f.hub.whisper('u1', 'hi', undefined, 'm');
    await pass();
    const other = await f.connect(ana);
    await other.conversation('u2').react({ id: 'm', author: 'u2' }, 'x');
    await pass();
    expect(seen).toHaveLength(1);
    const inbox = client.inbox;
    f.hub.sockets[0]?.end();
    await pass(500);
    expect(client.inbox).toEqual(inbox);
    expect(seen).toHaveLength(1);
  });
});

describe('history', () => {
  test('passes its options on, and says what there is on both sides', async () => {
    for (let n = 1; n <= 9; n++) f.hub.message('a', n);
    f.hub.emit('a', 'poll:closed', 1);
    const client = await f.connect(ana);
    const room = client.room('a');
    await room.join();
    const data = async (options: object) => {
      const { messages, more, newer } = await room.history(options);
      return [messages.map((e) => e.data), more, newer];
    };
    expect(await data({ around: 5, limit: 4 })).toEqual([[4, 5, 6, 7], true, true]);
    expect(await data({ after: 7, limit: 5, types: ['room-message'] })).toEqual([[8, 9], true, false]);
    expect(await data({ before: 3 })).toEqual([[1, 2], false, false]);
    expect(f.hub.socket.of('history').map((e) => e.data)).toEqual([
      { around: 5, limit: 4 },
      { after: 7, limit: 5, types: ['room-message'] },
      { before: 3 },
    ]);
    f.hub.script.set('history', (s, e) => {
      s.say({ type: 'ack', id: e.id, data: { messages: [], more: true, next: 4 } });
      return true;
    });
    expect(await room.history()).toEqual({ messages: [], more: true, newer: false, next: 4 });
  });

  test('has messages as they are now', async () => {
    const client = await f.connect(ana);
    const room = client.room('a');
    await room.join();
    await room.send('one');
    await room.react(1, '👍');
    await room.edit(1, 'two');
    expect((await room.history()).messages).toMatchObject([
      { data: 'two', edited: expect.any(Number), reactions: { '👍': { count: 1, users: ['u1'] } }, mine: ['👍'] },
    ]);
  });
});

test('what other people send cannot name an author', async () => {
  const client = await f.connect(ana);
  const fn = vi.fn<(data: Changed) => void>();
  client.on('message-changed', fn);
  f.hub.socket.say({ type: 'message-changed', seq: 9, data: { id: 'm', author: 'u2', change: 'edited', message: {} } });
  await pass();
  expect(fn).toHaveBeenCalledTimes(1);
  expect(client.inbox).toMatchObject({ seq: 9 });
});
