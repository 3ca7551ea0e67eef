// Markers, unread counts and the overview.
import { describe, expect, test, vi } from 'vitest';
import type { ChatClient } from '../src/index.js';
import { reading } from './fake-chat.js';
import { fixture, pass, quiet, random, standing } from './fixture.js';

const f = fixture();
const me = { id: 'u1', name: 'u1' };
const ana = { getToken: () => 'u1' };
const ben = { id: 'u2', name: 'Ben' };

async function joined(options: object = {}): Promise<ChatClient> {
  const client = await f.connect(ana);
  await client.room('a').join(options);
  await pass();
  return client;
}

describe('unread', () => {
  test('comes with the join, counts messages of others, and ends with the marker', async () => {
    for (const n of [1, 2, 3]) f.hub.message('a', n);
    f.hub.message('a', 'my own', me);
    const client = await joined();
    const room = client.room('a');
    expect([room.read, room.unread]).toEqual([0, 3]);
    const told = vi.fn();
    room.onRead(told);
    f.hub.message('a', 'another');
    f.hub.message('a', 'my own', me);
    await pass();
    expect(room.unread).toBe(4);
    expect(told).toHaveBeenCalledTimes(1);
    expect(await room.markRead(2)).toEqual({ seq: 2, unread: 2, head: expect.any(Number) });
    expect([room.read, room.unread]).toEqual([2, 2]);
    await room.markRead(6);
    expect([room.read, room.unread]).toEqual([6, 0]);
    expect(await room.markRead(1)).toMatchObject({ seq: 6, unread: 0 });
    expect([room.read, room.unread]).toEqual([6, 0]);
  });

  test.each([0, 2])('counts no message twice that a join delivers (history %i)', async (history) => {
    for (const n of [1, 2, 3]) f.hub.message('a', n);
    const client = await joined({ history });
    expect(client.room('a').unread).toBe(3);
  });

  test('is the same on another device, after it has marked', async () => {
    const [one, two] = [await joined(), await joined()];
    for (const n of [1, 2, 3]) f.hub.message('a', n);
    await pass();
    expect([one.room('a').unread, two.room('a').unread]).toEqual([3, 3]);
    await one.room('a').markRead(2);
    await pass();
    expect([two.room('a').read, two.room('a').unread]).toEqual([2, 1]);
    expect(two.inbox?.seq).toBe(4); // where the marker is
    expect(two.room('a').position?.seq).toBe(3);
  });

  test('an answer that is older than a message does not take it back', async () => {
    const client = await joined();
    const room = client.room('a');
    f.hub.message('a', 1);
    await pass();
    f.hub.script.set('mark-read', (s, e) => {
      f.hub.message('a', 2);
      s.say({ type: 'ack', id: e.id, data: { seq: 1, unread: 0, head: 1 } });
      return true;
    });
    await room.markRead(1);
    expect(room.unread).toBe(1);
    // Nor does an older marker.
    f.hub.socket.say({ type: 'read', room: 'a', from: me, data: { seq: 0, unread: 5, head: 9, position: 50 } });
    f.hub.socket.say({ type: 'read', room: 'a', from: me, data: { seq: 1, unread: 5, head: 0, position: 51 } });
    await pass();
    expect([room.read, room.unread]).toEqual([1, 1]);
  });

  test('leaves out what was deleted', async () => {
    for (const n of [1, 2, 3]) f.hub.message('a', n);
    const client = await joined({ history: 50 });
    const other = await f.connect({ getToken: () => 'u2' });
    await other.room('a').join();
    f.hub.message('a', 4);
    await pass();
    const room = client.room('a');
    expect(room.unread).toBe(4);
    await other.room('a').remove(2); // counted in the answer
    await other.room('a').remove(4); // counted since
    await pass();
    expect(room.unread).toBe(2);
    await room.markRead(1);
    expect(room.unread).toBe(reading(f.hub, 'u1', { room: 'a' }).unread);
  });

  test('asks the server if it does not know what was deleted', async () => {
    for (const n of [1, 2, 3]) f.hub.message('a', n);
    for (const n of [4, 5]) f.hub.message('a', n, me);
    const client = await joined();
    const other = await f.connect({ getToken: () => 'u2' });
    const tab = await f.connect(ana);
    await Promise.all([other.room('a').join(), tab.room('a').join()]);
    await Promise.all([other.room('a').remove(2), other.room('a').remove(3), tab.room('a').remove(4)]);
    await pass();
    expect(client.room('a').unread).toBe(1);
    expect(f.hub.sockets[0]?.of('overview').length).toBeLessThanOrEqual(2);
    await client.room('a').markRead(5);
    await tab.room('a').remove(5);
    await pass();
    expect(f.hub.sockets[0]?.of('overview').length).toBeLessThanOrEqual(2);
  });

  test('asks the server if it had not counted all', async () => {
    for (let n = 1; n <= 100; n++) f.hub.message('a', n);
    const client = await joined({ history: 50 });
    const other = await f.connect({ getToken: () => 'u2' });
    await other.room('a').join();
    await other.room('a').remove(99);
    await pass();
    expect(client.room('a').unread).toBe(99);
  });

  test('a deletion that the answer knows of is not counted again', async () => {
    for (const n of [1, 2, 3]) f.hub.message('a', n);
    const client = await joined({ history: 50 });
    f.hub.socket.say({ type: 'read', room: 'a', from: me, data: { seq: 1, unread: 1, head: 4, position: 50 } });
    const deleted = { seq: 2, change: 'deleted', message: { deleted: 1 } };
    f.hub.socket.say({ type: 'message-changed', room: 'a', seq: 4, data: deleted });
    await pass();
    expect(client.room('a').unread).toBe(1);
  });

  test('a marker of a room does not move the position in the room', async () => {
    const client = await joined();
    const room = client.room('a');
    const before = room.position;
    f.hub.socket.say({ type: 'read', room: 'a', from: me, data: { seq: 1, unread: 0, head: 1, position: 50 } });
    await pass();
    expect(room.position).toEqual(before);
    expect(client.inbox).toMatchObject({ seq: 50 });
    f.hub.message('a', 1);
    await pass();
    expect(room.position).toEqual({ epoch: before?.epoch, seq: 1 });
    expect(room.unread).toBe(0); // up to the head
  });

  test('asks the server if a marker is older than the join', async () => {
    for (const n of [1, 2, 3]) f.hub.message('a', n);
    const client = await joined();
    const read = (seq: number, head: number) =>
      f.hub.socket.say({ type: 'read', room: 'a', from: me, data: { seq: 1, unread: 0, head, position: seq } });
    f.hub.markers.set(JSON.stringify(['u1', 'a', undefined]), 1);
    read(50, 2);
    await pass();
    expect(f.hub.socket.of('overview')).toHaveLength(1);
    expect(client.room('a').unread).toBe(2);
    read(51, 4);
    await pass();
    expect(f.hub.socket.of('overview')).toHaveLength(1);
  });

  test('of a conversation is as of the position of the inbox in the overview', async () => {
    const client = await f.connect(ana);
    const talk = client.conversation('u2');
    for (const n of [1, 2, 3]) f.hub.whisper('u1', n, ben);
    await pass();
    const epoch = f.hub.inbox('u1').epoch;
    const conversations = [{ user: ben, read: 0, unread: 3, last: { type: 'private-message', seq: 1 } }];
    f.hub.script.set('overview', (s, e) => {
      s.say({ type: 'ack', id: e.id, data: { rooms: {}, conversations, inbox: { epoch, seq: 6 } } });
      return true;
    });
    expect(await client.overview({ inbox: true })).toMatchObject({ inbox: { epoch, seq: 6 } });
    expect(talk.unread).toBe(3);
    f.hub.whisper('u1', 4, ben);
    await pass();
    expect(talk.unread).toBe(4);
  });

  test('stops at 100', async () => {
    const client = await joined();
    for (let n = 0; n < 150; n++) f.hub.message('a', n);
    await pass();
    expect(client.room('a').unread).toBe(100);
    await client.room('a').markRead(100);
    expect(client.room('a').unread).toBe(50);
  });

  test('is unknown until the server has said it, and begins anew in another log', async () => {
    f.hub.old = true;
    const client = await joined();
    f.hub.message('a', 1);
    await pass();
    expect(client.room('a').unread).toBeUndefined();
    f.hub.old = false;
    f.hub.socket.end();
    await pass(500);
    expect(client.room('a').unread).toBe(1);
    f.hub.message('a', 2);
    await pass();
    await client.room('a').markRead(2);
    f.hub.forget();
    f.hub.socket.end();
    f.hub.message('a', 'new');
    await pass(5_000);
    expect([client.room('a').read, client.room('a').unread]).toEqual([0, 1]);
  });

  test('of one user is not shown to the next', async () => {
    let user = 'u1';
    const client = await f.connect({ getToken: () => user });
    await client.room('a').join();
    f.hub.message('a', 1);
    await pass();
    await client.room('a').markRead(1);
    client.close();
    user = 'u4';
    client.connect();
    await pass();
    expect([client.room('a').read, client.room('a').unread]).toEqual([0, 1]);
  });

  test.each([1, 2, 3, 4, 5, 6, 7, 8])('never drifts: random events, seed %i', async (seed) => {
    const pick = random(seed * 0x9e3779b1);
    const client = await joined({ history: 10 });
    const tab = await joined();
    const other = await f.connect({ getToken: () => 'u2' });
    await other.room('a').join();
    const seqs = () => f.hub.room('a').events.map((e) => e.seq ?? 0);
    const steps = [
      () => void f.hub.message('a', 1),
      () => void f.hub.message('a', 1),
      () => void f.hub.message('a', 1, me),
      () => quiet(client.room('a').markRead(seqs()[pick(seqs().length)] ?? 1)),
      () => quiet(tab.room('a').markRead(seqs()[pick(seqs().length)] ?? 1)),
      () => quiet(other.room('a').remove(seqs()[pick(seqs().length)] ?? 1)),
      () => f.hub.sockets.filter((s) => !s.closed && s.user.id === 'u1')[0]?.end(),
      () => f.hub.emit('a', 'poll:closed', 1),
    ];
    for (let step = 0; step < 60; step++) {
      steps[pick(steps.length)]?.();
      if (pick(3) === 0) await pass(pick(2) * 600);
    }
    await pass(60_000);
    const { seq, unread } = reading(f.hub, 'u1', { room: 'a' });
    for (const c of [client, tab]) expect([c.room('a').read, c.room('a').unread]).toEqual([seq, unread]);
  });
});

describe('a marker', () => {
  test('is sent again after a reconnect, the newest one', async () => {
    const client = await joined();
    const room = client.room('a');
    for (const n of [1, 2, 3]) f.hub.message('a', n);
    await pass();
    f.hub.script.set('mark-read', () => true); // no answer
    const calls = [room.markRead(1)];
    await pass();
    f.hub.socket.end();
    calls.push(room.markRead(3), room.markRead(2));
    f.hub.script.clear();
    await pass(60_000);
    for (const call of calls) expect(await call).toMatchObject({ seq: 3, unread: 0 });
    expect(f.hub.markers.get(JSON.stringify(['u1', 'a', null]))).toBe(3);
    expect(room.unread).toBe(0);
  });

  test('waits however long there is no connection', async () => {
    const client = await joined();
    f.hub.message('a', 1);
    await pass();
    f.hub.welcome = null;
    f.hub.socket.end();
    const call = client.room('a').markRead(1);
    await pass(600_000);
    expect(await standing(call)).toBe('waiting');
    f.hub.welcome = {};
    await pass(60_000);
    expect(await call).toMatchObject({ seq: 1 });
  });

  test('of calls in quick succession, the first and the last are sent', async () => {
    const client = await joined();
    for (let n = 1; n <= 20; n++) f.hub.message('a', n);
    await pass();
    const calls = Array.from({ length: 20 }, (_, i) => client.room('a').markRead(i + 1));
    await Promise.all(calls);
    expect(f.hub.socket.of('mark-read').map((e) => e.data)).toEqual([{ seq: 1 }, { seq: 20 }]);
  });

  test('that is refused does not stay', async () => {
    const client = await joined();
    f.hub.message('a', 1);
    await pass();
    await expect(client.room('a').markRead(99)).rejects.toMatchObject({ code: 'bad_request' });
    await client.room('a').markRead(1);
    expect(f.hub.socket.of('mark-read').map((e) => e.data)).toEqual([{ seq: 99 }, { seq: 1 }]);
  });

  test('does not go to another log or another user', async () => {
    let user = 'u1';
    const client = await f.connect({ getToken: () => user });
    const room = client.room('a');
    await room.join();
    for (const n of [1, 2]) f.hub.message('a', n);
    await pass();
    f.hub.socket.end();
    const lost = room.markRead(2);
    quiet(lost);
    f.hub.forget();
    for (const n of [1, 2, 3]) f.hub.message('a', n);
    await pass(500);
    await expect(lost).rejects.toMatchObject({ code: 'conflict' });
    expect(f.hub.markers.size).toBe(0);
    f.hub.script.set('resume', (s) => s.end(4003));
    f.hub.socket.end();
    const theirs = room.markRead(3);
    quiet(theirs);
    user = 'u4';
    await pass(5_000);
    f.hub.script.clear();
    await pass(60_000);
    await expect(theirs).rejects.toMatchObject({ code: 'forbidden' });
    expect(f.hub.markers.size).toBe(0);
    expect(room.unread).toBe(3);
  });

  test('of the others reaches listeners', async () => {
    const client = await joined();
    const readers: unknown[] = [];
    client.room('a').on('read', ({ users }) => readers.push(users));
    f.hub.socket.say({ type: 'read', room: 'a', data: { users: [{ id: 'u2', seq: 7 }] } });
    await pass();
    expect(readers).toEqual([[{ id: 'u2', seq: 7 }]]);
    expect(client.room('a').read).toBe(0);
  });
});

describe('a private conversation', () => {
  test('has a marker and a count', async () => {
    f.hub.whisper('u1', 'one');
    f.hub.whisper('u1', 'of somebody else', { id: 'u3', name: 'Cem' });
    const client = await f.connect(ana);
    const talk = client.conversation('u2');
    expect(talk.unread).toBeUndefined();
    await client.overview({ inbox: true });
    expect([talk.read, talk.unread]).toEqual([0, 1]);
    f.hub.whisper('u1', 'two');
    await pass();
    expect(talk.unread).toBe(2);
    const tab = await f.connect(ana);
    await tab.overview({ inbox: true });
    await tab.conversation('u2').markRead(client.inbox?.seq ?? 0);
    await pass();
    expect([talk.unread, client.conversation('u3').unread]).toEqual([0, 1]);
    expect(f.hub.socket.of('mark-read')).toMatchObject([{ to: 'u2' }]);
    f.hub.forget();
    f.hub.sockets[0]?.end();
    await pass(500);
    expect(talk.unread).toBeUndefined();
  });

  test('leaves out what was deleted', async () => {
    f.hub.whisper('u1', 'one', undefined, 'm');
    const client = await f.connect(ana);
    const other = await f.connect({ getToken: () => 'u2' });
    await client.overview({ inbox: true });
    f.hub.whisper('u1', 'two', undefined, 'n');
    await other.conversation('u1').remove({ id: 'n', author: 'u2' });
    await pass();
    expect(client.conversation('u2').unread).toBe(1);
  });
});

describe('overview', () => {
  test('says what is new in rooms and conversations', async () => {
    for (const n of [1, 2]) f.hub.message('a', n);
    f.hub.message('b', 3);
    f.hub.whisper('u1', 4);
    const client = await joined();
    const answer = await client.overview({ rooms: ['a', 'b', 'c'], inbox: true });
    expect(answer).toMatchObject({
      rooms: {
        a: { epoch: client.room('a').position?.epoch, seq: 2, read: 0, unread: 2, last: { data: 2 } },
        b: { unread: 1, last: { data: 3 } },
      },
      conversations: [{ user: { id: 'u2' }, unread: 1, last: { data: 4 } }],
    });
    expect(answer.rooms).not.toHaveProperty('c');
    expect(f.hub.socket.of('overview')).toMatchObject([{ data: { rooms: ['a', 'b', 'c'], inbox: true } }]);
    expect((await client.overview({ rooms: [] })).conversations).toBeUndefined();
  });

  test('is asked for again on the next connection', async () => {
    const client = await f.connect(ana);
    f.hub.message('a', 1);
    f.hub.script.set('overview', () => true);
    const answer = client.overview({ rooms: ['a'] });
    f.hub.socket.end();
    f.hub.script.clear();
    await pass(500);
    expect(await answer).toMatchObject({ rooms: { a: { unread: 1 } } });
  });
});
