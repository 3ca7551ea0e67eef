// Tests that need a real server and a real network.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ChatClient, ChatOptions, ConnectionState } from '../src/index.js';
import { opaqueToken, RealBackend, token } from './backend.js';
import { behaviour, collect, fresh, until } from './behaviour.js';

behaviour('the real server', () => RealBackend.start());

describe('the real server alone', () => {
  let server: RealBackend;
  const clients: ChatClient[] = [];

  beforeAll(async () => {
    server = await RealBackend.start();
  }, 300_000);
  afterAll(() => server.stop());
  afterEach(() => {
    for (const client of clients.splice(0)) client.close();
  });

  function make(user: string, options?: ChatOptions): { client: ChatClient; states: ConnectionState[] } {
    const client = server.client(user, options);
    const states: ConnectionState[] = [];
    client.onState((s) => states.push(s));
    clients.push(client);
    client.connect();
    return { client, states };
  }

  const connected = (states: ConnectionState[], times = 1) =>
    until(() => states.filter((s) => s.status === 'connected').length >= times, 'the connection');

  test('a bad token ends it, with the reason', async () => {
    const { client } = make('ana', { getToken: () => 'no.such.token' });
    await until(() => client.state.status === 'disconnected');
    expect(client.state).toMatchObject({
      reason: 'refused',
      retryAt: null,
      code: 4500,
      error: { code: 'unauthenticated', message: 'Invalid token' },
    });
  });

  test('the state of a room is set, replayed and compared', async () => {
    const { client, states } = make(fresh('ana'));
    const { client: other } = make(fresh('ben'));
    const name = fresh('room');
    const [room, theirs] = [client.room(name), other.room(name)];
    await Promise.all([room.join(), theirs.join()]);
    const first = await room.setState('topic', 'Hi', { expect: 0 });
    await expect(theirs.setState('topic', 'No', { expect: 0 })).rejects.toMatchObject({ code: 'conflict' });
    await theirs.setState('pinned', 8);
    await until(() => theirs.state.state.topic === 'Hi' && room.state.state.pinned === 8);
    expect(theirs.state.versions.topic).toBe(first.seq);
    await server.cut();
    await connected(states, 2);
    await room.setState('topic', null, { expect: first.seq });
    await until(() => [room, theirs].every((r) => Object.keys(r.state.state).join() === 'pinned'));
    expect(room.state.versions).toEqual(theirs.state.versions);
    const { client: late } = make(fresh('cem'));
    await late.room(name).join();
    expect(late.room(name).state).toMatchObject({ state: { pinned: 8 }, versions: theirs.state.versions });
    expect(late.off).toEqual([]);
  });

  const visible = String.fromCharCode(...Array.from({ length: 0x7e - 0x20 }, (_, i) => 0x21 + i));

  test.each([
    ['base64', () => 'a+b/c=='],
    ['all visible ASCII characters', () => visible],
    ['8 KiB of them', (user: string) => visible.repeat(90).slice(0, 8_192 - opaqueToken(user, '').length)],
  ])('a token of %s connects, and connects again', async (_, rest) => {
    const user = fresh('ana');
    const secret = opaqueToken(user, rest(user));
    expect(secret.length).toBeLessThanOrEqual(8_192);
    const { client, states } = make(user, { getToken: () => secret });
    await connected(states);
    expect(client.user).toEqual({ id: user, name: user });
    await server.cut();
    await connected(states, 2);
  });

  test('no token at all', async () => {
    const { client } = make('ana', { getToken: () => null });
    await until(() => client.state.status === 'disconnected');
    expect(client.state).toMatchObject({ reason: 'refused', error: { message: 'Authentication required' } });
  });

  test('an expired token is replaced', async () => {
    const user = fresh('ana');
    const reasons: string[] = [];
    const { states } = make(user, {
      getToken: (reason) => {
        reasons.push(reason);
        return token(user, reason === 'connect' ? -10 : 3_600);
      },
    });
    await connected(states);
    expect(reasons).toEqual(['connect', 'expired']);
    expect(states).toContainEqual(expect.objectContaining({ reason: 'token', code: 4003 }));
  });

  test('a token is renewed in time, on the same connection', async () => {
    const user = fresh('ana');
    const reasons: string[] = [];
    const { client, states } = make(user, {
      getToken: (reason) => {
        reasons.push(reason);
        return token(user, 3);
      },
    });
    await until(() => reasons.length >= 3, 'two renewals');
    expect(reasons).toEqual(['connect', 'refresh', 'refresh']);
    await client.onlineUsers();
    expect(states.map((s) => s.status)).toEqual(['connecting', 'connected']);
  });

  test('a renewed token may bring another name, which messages and new lists have', async () => {
    const [user, name] = [fresh('ana'), fresh('room')];
    const renamed = { id: user, name: 'Ana 🌍 <b>' };
    const reasons: string[] = [];
    const { client, states } = make(user, {
      getToken: (reason) => {
        reasons.push(reason);
        return reason === 'connect' ? token(user, 3, 'Ana') : token(user, 3_600, renamed.name);
      },
    });
    const { client: ben } = make(fresh('ben'));
    const authors: unknown[] = [];
    ben.room(name).on('room-message', (_, { from }) => authors.push(from));
    await Promise.all([client.room(name).join(), ben.room(name).join()]);
    await client.room(name).send('before');
    await until(() => reasons.length === 2, 'the renewal');
    await client.room(name).send('after');
    await until(() => authors.length === 2);
    expect(authors).toEqual([{ id: user, name: 'Ana' }, renamed]);
    expect(reasons).toEqual(['connect', 'refresh']);
    for (const c of [client, ben]) expect((await c.onlineUsers()).users).toContainEqual(renamed);
    const { client: late } = make(fresh('cem'));
    expect((await late.room(name).join()).users).toContainEqual(renamed);
    expect(client.user?.name).toBe('Ana'); // as it was welcomed
    await server.cut();
    await connected(states, 2);
    expect(client.user).toEqual(renamed);
  });

  test('a disconnected user stays out', async () => {
    const user = fresh('ana');
    const { client, states } = make(user);
    await connected(states);
    await server.do(`disconnect?user=${user}`);
    await until(() => client.state.status === 'disconnected');
    expect(client.state).toMatchObject({ reason: 'refused', code: 4503, error: { message: 'logged out' } });
  });

  test('a room is for its members', async () => {
    const { client } = make(fresh('ana'));
    await expect(client.room('members').join()).rejects.toMatchObject({ code: 'forbidden', message: 'Members only' });
    expect(client.room('members').state.status).toBe('refused');
  });

  test.each([
    ['a reason', { reason: 'Spam, "quoted" \u2028 🌍' }, 'Spam, "quoted" \u2028 🌍'],
    ['no reason', {}, 'Removed from the room'],
  ])('a user who is taken out of a room for %s is told so, in every tab', async (_, given, message) => {
    const user = fresh('ana');
    const name = fresh('room');
    const { reason = '' } = given as { reason?: string };
    const tabs = [make(user).client, make(user).client].map((client) => client.room(name));
    const other = make(fresh('ben')).client.room(name);
    const removals = tabs.map((room) => collect(room, 'removed'));
    const others = collect(other, 'removed');
    await Promise.all([...tabs, other].map((room) => room.join()));
    await tabs[0]?.send('in');
    await server.do(`remove?${new URLSearchParams({ user, room: name, ...given })}`);
    await until(() => tabs.every((room) => room.state.status === 'refused'), 'the removal');
    expect(removals).toEqual([[{ reason }], [{ reason }]]);
    for (const { state } of tabs) {
      expect(state).toMatchObject({ removed: { reason }, error: { code: 'not_in_room', message }, users: [] });
    }
    await expect(tabs[0]?.send('out')).rejects.toMatchObject({ code: 'not_in_room' });
    expect(others).toEqual([]);
    expect(other.state.status).toBe('joined');
    await tabs[0]?.join(); // nothing forbids it
    await tabs[0]?.send('back');
  });

  test('a user who is taken out of a room does not come back into it by a reconnect', async () => {
    const user = fresh('ana');
    const { client, states } = make(user);
    const room = client.room(fresh('room'));
    await room.join();
    await server.do(`remove?${new URLSearchParams({ user, room: room.name })}`);
    await until(() => room.state.removed);
    await server.cut();
    await connected(states, 2);
    await client.onlineUsers(); // its answer comes after those to all joins
    expect(room.state).toMatchObject({ status: 'refused', removed: { reason: '' } });
    await expect(client.send('room-message', 'out', { room: room.name })).rejects.toMatchObject({
      code: 'not_in_room',
    });
  });

  test("the application's handler answers", async () => {
    const { client } = make(fresh('ana'));
    expect(await client.send('sum', [1, 2, 39])).toBe(42);
    await expect(client.send('sum', 'no numbers')).rejects.toMatchObject({ code: 'bad_request' });
  });

  test("the application's events come to the room, and wait for an absent user", async () => {
    const { client } = make(fresh('ana'));
    client.onState((s) => {
      // Or it might be back before the second event.
      if (s.status === 'disconnected') client.close();
    });
    const room = client.room(fresh('room'));
    const polls = collect(room, 'poll:closed');
    await room.join();
    const emit = (data: unknown) =>
      server.do(`emit?${new URLSearchParams({ room: room.name, event: 'poll:closed' })}`, data);
    await emit(1);
    await until(() => polls.length === 1);
    await server.cut();
    await until(() => client.state.status === 'disconnected');
    await emit(2);
    client.connect();
    await until(() => polls.length === 2);
    expect(polls).toEqual([1, 2]);
  });

  test('a message over the limit is refused here, and the connection stays', async () => {
    const { client, states } = make(fresh('ana'));
    const room = client.room(fresh('room'));
    await room.join();
    await expect(room.send('x'.repeat(9_000))).rejects.toMatchObject({ code: 'too_large' });
    // Just below the limit: client and server count alike.
    const rest = 8_192 - JSON.stringify({ type: 'room-message', id: 'm', room: room.name, data: '' }).length;
    await room.send('🌍'.repeat(rest / 4), { id: 'm' });
    expect(states.filter((s) => s.status === 'connected')).toHaveLength(1);
  });

  test('presence is followed, in the room and everywhere', async () => {
    const [anaId, benId] = [fresh('ana'), fresh('ben')];
    const { client: ana, states } = make(anaId);
    await connected(states);
    const room = ana.room(fresh('room'));
    await room.join();
    const { client: ben } = make(benId);
    await ben.room(room.name).join();
    const there = (users: readonly { id: string }[]) => users.some((u) => u.id === benId);
    await until(() => there(room.users) && there(ana.online.users), 'ben to be there');
    ben.room(room.name).typing();
    await until(() => room.state.typing.some((u) => u.id === benId), 'ben to type');
    ben.close();
    await until(() => !there(room.users) && !there(ana.online.users), 'ben to be gone');
    expect(room.state.typing).toEqual([]);
  });

  test('a server that is stopped is noticed, and found again when it goes on', async () => {
    const { client, states } = make(fresh('ana'), { pingInterval: 200, pongTimeout: 300, connectTimeout: 500 });
    const room = client.room(fresh('room'));
    const seen = collect(room);
    await room.join();
    server.signal('SIGSTOP');
    try {
      await until(() => states.some((s) => s.status === 'disconnected'), 'the silence to be noticed');
      expect(states).toContainEqual(expect.objectContaining({ reason: 'lost' }));
    } finally {
      server.signal('SIGCONT');
    }
    await room.send('there again');
    await until(() => seen.length > 0);
    expect(seen).toEqual(['there again']);
  });

  test('a closed client does not keep Node alive', async () => {
    const script = `
      import WebSocket from 'ws';
      import { ChatClient } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
      const client = new ChatClient('http://${server.address}/ws', { WebSocket, getToken: () => ${JSON.stringify(token('node'))} });
      client.connect();
      const room = client.room('a');
      await room.join();
      room.typing();
      await room.send('x');
      room.typing();
      client.send('no-answer-yet', 1, { timeout: 3_600_000 }).catch(() => {});
      client.close();
      console.log('closed');
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { cwd: import.meta.dirname });
    let output = '';
    child.stdout.on('data', (d) => (output += d));
    child.stderr.on('data', (d) => (output += d));
    const [code] = await once(child, 'exit');
    expect(output).toBe('closed\n');
    expect(code).toBe(0);
  });
});

test('many rooms and messages stay within the default limits of the server', async () => {
  const server = await RealBackend.start('-limited');
  try {
    const client = server.client(fresh('ana'));
    const states: ConnectionState[] = [];
    client.onState((s) => states.push(s));
    client.connect();
    const rooms = Array.from({ length: 128 }, () => client.room(fresh('room')));
    const joined = rooms.map((room) => room.join({ history: 50 }));
    const sent = rooms.map((room) => room.send(1));
    await Promise.all(joined);
    const pages = rooms.slice(0, 20).map((room) => room.history());
    await Promise.all([...sent, ...pages]);
    expect(states.map((s) => s.status)).toEqual(['connecting', 'connected']);
    const [room] = rooms;
    expect((await room?.history())?.messages.map((m) => m.data)).toEqual([1]);
    client.close();
  } finally {
    await server.stop();
  }
});
