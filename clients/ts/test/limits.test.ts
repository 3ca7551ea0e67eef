// What a client does when the server asks it to wait.
import { describe, expect, test, vi } from 'vitest';
import type { ChatClient } from '../src/index.js';
import type { FakeSocket, Sent } from './fake.js';
import { fixture, pass, quiet, standing } from './fixture.js';

const f = fixture();

/** Makes the hub refuse events of a type, all or those that are chosen. */
function limit(type: string, retryAfterMs?: number, chosen = (_: Sent, __: FakeSocket) => true): void {
  f.hub.script.set(type, (socket, e) => {
    if (!chosen(e, socket)) return undefined;
    f.hub.refuse(socket, e, 'rate_limited', { retryAfterMs });
    return true;
  });
}

const names = (count: number) => Array.from({ length: count }, (_, n) => `room ${n}`);
const statuses = (client: ChatClient, rooms: string[]) => rooms.map((r) => client.room(r).state.status);

/** Limits the events of all types together, as the server does by default. */
function bucket({ rate = 50, burst = 100 } = {}) {
  let tokens = burst;
  let at = Date.now();
  const counts = { refused: 0 };
  const take = (socket: FakeSocket, e: Sent) => {
    const now = Date.now();
    tokens = Math.min(burst, tokens + ((now - at) / 1_000) * rate);
    at = now;
    if (tokens >= 1) return void tokens--;
    counts.refused++;
    f.hub.refuse(socket, e, 'rate_limited', { retryAfterMs: Math.ceil(((1 - tokens) / rate) * 1_000) });
    return true;
  };
  for (const type of ['join-room', 'room-message', 'private-message', 'resume', 'history'])
    f.hub.script.set(type, take);
  return counts;
}

describe('a resume', () => {
  test('is repeated on the same connection, however long the server asks to wait', async () => {
    const client = await f.connect();
    await client.room('a').join();
    f.hub.socket.end();
    f.hub.message('a', 'missed');
    const seen: unknown[] = [];
    client.room('a').on('room-message', (data) => seen.push(data));
    limit('resume', 25_000); // longer than connecting may take otherwise
    await pass(500);
    f.hub.script.clear();
    await pass(24_499);
    expect(client.state.status).toBe('connecting');
    expect(f.hub.socket.sent.map((e) => e.type)).toEqual(['resume']);
    await pass(501);
    expect(client.state.status).toBe('connected');
    expect(f.hub.sockets).toHaveLength(2);
    expect(f.hub.socket.of('resume')).toHaveLength(2);
    expect(seen).toEqual(['missed']);
  });

  test('that has no answer after the wait is given up', async () => {
    const client = f.make();
    limit('resume', 25_000);
    client.connect();
    await pass();
    f.hub.script.set('resume', () => true);
    await pass(34_999);
    expect(client.state.status).toBe('connecting');
    await pass(1);
    expect(client.state).toMatchObject({ status: 'disconnected', reason: 'lost', error: { code: 'timeout' } });
  });

  test('does not wait on the next connection', async () => {
    const client = f.make();
    limit('resume', 60_000);
    client.connect();
    await pass();
    f.hub.script.clear();
    f.hub.socket.end();
    await pass(500);
    expect(client.state.status).toBe('connected');
    await client.room('a').join();
  });

  test('that is refused without a time is no flood', async () => {
    const client = f.make();
    limit('resume', 0);
    client.connect();
    await pass(5_500);
    expect(f.hub.sockets).toHaveLength(1);
    expect(f.hub.socket.of('resume')).toHaveLength(6);
  });
});

describe('joins', () => {
  test('wait together, and then come one at a time', async () => {
    const client = await f.connect();
    const rooms = names(20);
    limit('join-room', 5_000);
    for (const name of rooms) quiet(client.room(name).join({ history: 50 }));
    await pass();
    expect(f.hub.socket.of('join-room')).toHaveLength(20);
    quiet(client.room('late').join());
    await pass(4_999);
    expect(f.hub.socket.of('join-room')).toHaveLength(20);
    const answers: (() => void)[] = [];
    f.hub.script.set('join-room', (socket, e) => {
      answers.push(() => {
        f.hub.script.clear();
        f.hub.received(socket, e);
      });
      return true;
    });
    await pass(1);
    expect(f.hub.socket.of('join-room')).toHaveLength(21);
    answers[0]?.();
    await pass();
    expect(f.hub.socket.of('join-room')).toHaveLength(41);
    expect(statuses(client, [...rooms, 'late'])).toEqual(Array(21).fill('joined'));
  });

  test('of a room that was left meanwhile are not sent', async () => {
    const client = await f.connect();
    limit('join-room', 5_000);
    const left = expect(client.room('a').join()).rejects.toMatchObject({ code: 'not_in_room' });
    const joined = client.room('b').join();
    await pass();
    f.hub.script.clear();
    client.room('a').leave();
    await left;
    await pass(10_000);
    await joined;
    expect(f.hub.socket.rooms).toEqual(new Set(['b']));
    expect(f.hub.socket.of('join-room').map((e) => e.room)).toEqual(['a', 'b', 'b']);
  });

  test('for a list of users do not bring the client back into a room', async () => {
    const client = await f.connect();
    await client.room('a').join();
    limit('join-room', 5_000);
    f.hub.socket.say({ type: 'user-left', room: 'a', data: { users: [{ id: 'u2', name: 'Ben' }], count: 200 } });
    await pass();
    expect(f.hub.socket.of('join-room')).toHaveLength(2);
    f.hub.script.clear();
    f.hub.remove('a', 'Spam');
    await pass(10_000);
    expect(f.hub.socket.rooms).toEqual(new Set());
    expect(client.room('a').state).toMatchObject({ status: 'refused', removed: { reason: 'Spam' } });
  });

  test('of a room that is always refused do not hold up the others', async () => {
    const client = await f.connect();
    const rooms = names(5);
    limit('join-room', 1_000);
    for (const name of rooms) quiet(client.room(name).join());
    await pass();
    limit('join-room', 1_000, (e) => e.room === 'room 0');
    await pass(3_000);
    expect(statuses(client, rooms)).toEqual(['joining', 'joined', 'joined', 'joined', 'joined']);
    expect(f.hub.socket.of('join-room').length).toBeLessThan(5 + 4 + 4);
  });

  test('of many rooms stay within what the server allows', async () => {
    const client = await f.connect();
    const counts = bucket();
    const rooms = names(128);
    for (const name of rooms) quiet(client.room(name).join({ history: 50 }));
    await pass(5_000);
    expect(statuses(client, rooms)).toEqual(Array(128).fill('joined'));
    expect(counts.refused).toBeLessThan(40); // a server bears 200 a minute
  });

  test('wait for the next connect() if the client is closed', async () => {
    const client = await f.connect();
    limit('join-room', 60_000);
    const join = client.room('a').join();
    await pass();
    client.close();
    expect(await standing(join)).toBe('waiting');
    expect(vi.getTimerCount()).toBe(0);
    f.hub.script.clear();
    client.connect();
    await pass();
    await join;
  });
});

describe('history', () => {
  test('waits as long as the server asks, beyond its own timeout', async () => {
    const client = await f.connect();
    await client.room('a').join();
    f.hub.message('a', 1);
    limit('history', 15_000);
    const page = client.room('a').history();
    await pass(14_999);
    expect(await standing(page)).toBe('waiting');
    limit('history', 20_000);
    await pass(1);
    f.hub.script.clear();
    await pass(20_000);
    expect(await page).toMatchObject({ messages: [{ data: 1 }], more: false });
    expect(f.hub.socket.of('history')).toHaveLength(3);
  });

  test('has the whole timeout for the answer after the wait', async () => {
    const client = await f.connect({ timeout: 2_000 });
    limit('history', 15_000);
    const page = expect(client.room('a').history()).rejects.toMatchObject({ code: 'timeout' });
    await pass();
    f.hub.script.set('history', () => true);
    await pass(16_999);
    expect(vi.getTimerCount()).toBeGreaterThan(0);
    await pass(1);
    await page;
  });

  test('is not requested by others meanwhile', async () => {
    const client = await f.connect({ maxOutbox: 3 });
    limit('history', 5_000);
    const pages = [client.room('a').history()];
    await pass();
    for (const name of ['b', 'c']) pages.push(client.room(name).history());
    await expect(client.room('d').history()).rejects.toMatchObject({ code: 'overflow' });
    await pass(4_999);
    expect(f.hub.socket.of('history')).toHaveLength(1);
    f.hub.script.clear();
    await pass(1);
    await Promise.all(pages);
    expect(f.hub.socket.of('history').map((e) => e.room)).toEqual(['a', 'a', 'b', 'c']);
  });

  test('waits for the longest of several times', async () => {
    const client = await f.connect();
    limit('history', 5_000);
    limit('join-room', 100);
    quiet(client.room('a').history());
    quiet(client.room('a').join());
    await pass(4_999);
    expect(f.hub.socket.of('join-room')).toHaveLength(1);
    f.hub.script.clear();
    await pass(1);
    expect(client.room('a').state.status).toBe('joined');
  });

  test('ends with the client', async () => {
    const client = await f.connect();
    limit('history', 60_000);
    const page = client.room('a').history();
    await pass();
    client.close();
    await expect(page).rejects.toMatchObject({ code: 'closed' });
    expect(vi.getTimerCount()).toBe(0);
  });

  test('times out without a connection, even if the server had asked to wait', async () => {
    const client = await f.connect({ backoff: { min: 3_600_000, max: 3_600_000 } });
    vi.spyOn(Math, 'random').mockReturnValue(0.9);
    limit('history', 60_000);
    const page = expect(client.room('a').history()).rejects.toMatchObject({ code: 'timeout' });
    await pass();
    f.hub.socket.end();
    await pass(10_000);
    await page;
  });
});

test('a call with a timeout of its own is given up between two attempts, and leaves no timer behind', async () => {
  const client = await f.connect();
  limit('online-users', 60_000);
  const list = expect(client.onlineUsers({ timeout: 10_000 })).rejects.toMatchObject({ code: 'timeout' });
  await pass(9_999);
  expect(vi.getTimerCount()).toBeGreaterThan(0);
  await pass(1);
  await list;
  client.close();
  expect(vi.getTimerCount()).toBe(0);
});

test('calls go on meanwhile', async () => {
  const client = await f.connect();
  limit('join-room', 5_000);
  quiet(client.room('a').join());
  await pass();
  f.hub.script.set('buy', (socket, e) => socket.say({ type: 'ack', id: e.id, data: 'sold' }));
  expect(await client.send('buy')).toBe('sold');
  expect(await client.privateMessage('u2', 'hi')).toMatchObject({ seq: expect.any(Number) });
});

describe('the outbox', () => {
  test('waits for the longest of several times', async () => {
    const client = await f.connect();
    for (const name of ['a', 'b']) await client.room(name).join();
    f.hub.script.set('room-message', (socket, e) => {
      f.hub.refuse(socket, e, 'rate_limited', { retryAfterMs: e.room === 'a' ? 3_000 : 100 });
      return true;
    });
    const sent = ['a', 'b'].map((name) => client.room(name).send(name));
    await pass();
    f.hub.script.clear();
    await pass(2_999);
    expect(f.hub.socket.of('room-message')).toHaveLength(2);
    await pass(1);
    await sent[0];
    await pass(300);
    await sent[1];
  });

  test('that is full stays within what the server allows, and loses nothing', async () => {
    const client = await f.connect();
    const counts = bucket();
    const rooms = names(60);
    for (const name of rooms) quiet(client.room(name).join());
    await pass(10_000);
    counts.refused = 0;
    const sent: Promise<unknown>[] = [];
    for (let n = 0; n < 256; n++) sent.push(client.room(rooms[n % 60] ?? '').send(n));
    await pass(10_000);
    await Promise.all(sent);
    expect(counts.refused).toBeLessThan(50); // a server bears 200 a minute
    for (const name of rooms) {
      const log = f.hub.room(name).events.map((e) => Number(e.data));
      expect(log).toEqual([...log].sort((a, b) => a - b));
    }
    expect(rooms.flatMap((name) => f.hub.room(name).events)).toHaveLength(256);
  });

  test('is fast again once it was empty', async () => {
    const client = await f.connect();
    limit('private-message', 1_000);
    const first = client.privateMessage('u2', 1);
    await pass();
    f.hub.script.clear();
    await pass(1_000);
    await first;
    await Promise.all([2, 3, 4].map((n) => client.privateMessage('u2', n)));
    expect(f.hub.inbox('u2').events.map((e) => e.data)).toEqual([1, 2, 3, 4]);
  });

  test.each(['rate_limited', 'unavailable'])('is not held up by a room that is always %s', async (code) => {
    const client = await f.connect();
    const rooms = names(5);
    for (const name of rooms) await client.room(name).join();
    f.hub.script.set('room-message', (socket, e) => {
      if (e.room !== 'room 0') return undefined;
      f.hub.refuse(socket, e, code);
      return true;
    });
    const sent = rooms.map((name) => client.room(name).send('x'));
    await pass(5_000);
    expect(await Promise.all(sent.map(standing))).toMatchObject([
      'waiting',
      ...Array(4).fill({ ts: expect.anything() }),
    ]);
    expect(f.hub.socket.of('room-message').length).toBeLessThan(5 + 4 + 6);
    f.hub.script.clear();
    await pass(1_000);
    await sent[0];
  });

  test('sends at once on the next connection', async () => {
    const client = await f.connect();
    limit('private-message', 60_000);
    const sent = client.privateMessage('u2', 1);
    await pass();
    f.hub.script.clear();
    f.hub.socket.end();
    await pass(500);
    await sent;
  });
});
