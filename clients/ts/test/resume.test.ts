// Rooms and the inbox after a reconnect.
import { expect, test, vi } from 'vitest';
import type { ChatClient, JoinedRoom } from '../src/index.js';
import { fixture, pass, quiet } from './fixture.js';

const f = fixture();

function collect(client: ChatClient, room: string): unknown[] {
  const data: unknown[] = [];
  client.room(room).on('room-message', (d) => data.push(d));
  return data;
}

test('one resume names all rooms and the inbox with their positions', async () => {
  const client = await f.connect();
  await Promise.all(['a', 'b', '__proto__'].map((r) => client.room(r).join()));
  f.hub.message('a', 1);
  f.hub.message('a', 2);
  f.hub.whisper('u1', 'psst');
  await pass();
  f.hub.socket.end();
  await pass(500);
  const text = JSON.stringify(f.hub.socket.sent[0]?.data);
  expect(JSON.parse(text)).toEqual(
    JSON.parse(
      '{"rooms":{"a":{"epoch":"e2","seq":2},"b":{"epoch":"e3","seq":0},"__proto__":{"epoch":"e4","seq":0}},"inbox":{"epoch":"e1","seq":3}}',
    ),
  );
  expect(f.hub.socket.sent).toHaveLength(1);
});

test('the position is that of the last message, also within a replay', async () => {
  const client = await f.connect();
  const seen = collect(client, 'a');
  for (let n = 1; n <= 5; n++) f.hub.message('a', n);
  // The connection breaks after the second of five.
  f.hub.script.set('join-room', (s, e) => {
    s.say({ type: 'ack', id: e.id, data: { epoch: 'e2', seq: 5, recovered: false } });
    for (const m of f.hub.room('a').events.slice(0, 2)) s.say(m);
    queueMicrotask(() => s.end());
    return true;
  });
  await client.room('a').join({ history: 5 });
  f.hub.script.clear();
  await pass(500);
  expect(seen).toEqual([1, 2, 3, 4, 5]);
});

test('an answer alone moves no position: the messages that it announces may be lost', async () => {
  const client = await f.connect();
  const seen = collect(client, 'a');
  f.hub.message('a', 1);
  f.hub.script.set('join-room', (s, e) => {
    s.say({ type: 'ack', id: e.id, data: { epoch: 'e2', seq: 1, recovered: false } });
    return true;
  });
  await client.room('a').join({ history: 5 });
  f.hub.script.set('resume', (s, e) => {
    expect(e.data).toMatchObject({ rooms: { a: { seq: 0 } } });
    const a = { epoch: 'e2', seq: 1, recovered: true };
    s.say({ type: 'ack', id: e.id, data: { rooms: { a }, inbox: { epoch: 'e1', seq: 0, recovered: true } } });
    return true;
  });
  f.hub.socket.end();
  await pass(500);
  f.hub.script.clear();
  f.hub.socket.end();
  await pass(1_000);
  expect(seen).toEqual([1]);
});

test('messages that come before the answer come again in their place, and are delivered once', async () => {
  const client = await f.connect();
  const seen = collect(client, 'a');
  const whispers: unknown[] = [];
  client.on('private-message', (d) => whispers.push(d));
  await client.room('a').join();
  f.hub.socket.end();
  f.hub.message('a', 1);
  f.hub.whisper('u1', 'first');
  f.hub.script.set('resume', (s) => {
    s.rooms.add('a');
    f.hub.message('a', 2); // live, before the answer
    f.hub.whisper('u1', 'second');
  });
  await pass(500);
  f.hub.message('a', 3);
  await pass();
  expect(seen).toEqual([1, 2, 3]);
  expect(whispers).toEqual(['first', 'second']);
});

test('a repeated position is dropped', async () => {
  const client = await f.connect();
  const seen = collect(client, 'a');
  await client.room('a').join();
  const [one, two] = [f.hub.message('a', 1), f.hub.message('a', 2)];
  await pass();
  for (const e of [one, two, one]) f.hub.socket.say(e);
  await pass();
  expect(seen).toEqual([1, 2]);
});

test('recovered: false reaches the application, and the newest messages follow', async () => {
  const client = await f.connect();
  const seen = collect(client, 'a');
  const joins: JoinedRoom[] = [];
  client.room('a').onJoined((info) => {
    joins.push(info);
    seen.push(info.recovered);
  });
  await client.room('a').join();
  f.hub.message('a', 'old');
  await pass();
  f.hub.socket.end();
  f.hub.forget();
  f.hub.message('a', 'new');
  await pass(500);
  f.hub.message('a', 'newer');
  await pass();
  expect(seen).toEqual([false, 'old', false, 'new', 'newer']);
  expect(joins.map((j) => [j.resumed, j.epoch])).toEqual([
    [false, 'e2'],
    [true, 'e3'],
  ]);
});

test('a room that is refused now is left, and the others stay', async () => {
  const client = await f.connect();
  await Promise.all([client.room('a').join(), client.room('b').join()]);
  f.hub.script.set('resume', (s, e) => {
    const rooms = {
      a: { error: { code: 'forbidden', message: 'Members only' } },
      b: { epoch: 'e3', seq: 0, recovered: true },
    };
    s.say({ type: 'ack', id: e.id, data: { rooms, inbox: { epoch: 'e1', seq: 0, recovered: true } } });
    return true;
  });
  const waiting = client.room('a').send('x');
  f.hub.socket.end();
  const refused = expect(waiting).rejects.toMatchObject({ code: 'forbidden' });
  await pass(500);
  await refused;
  expect(client.room('a').state).toMatchObject({ status: 'refused', error: { message: 'Members only' } });
  expect(client.room('b').state.status).toBe('joined');
});

test('a room that cannot be resumed now is joined again, from its position', async () => {
  const client = await f.connect();
  const seen = collect(client, 'a');
  await client.room('a').join();
  f.hub.message('a', 1);
  await pass();
  f.hub.socket.end();
  f.hub.message('a', 2);
  f.hub.script.set('resume', (s, e) => {
    const rooms = { a: { error: { code: 'unavailable', message: 'Try again' } } };
    s.say({ type: 'ack', id: e.id, data: { rooms, inbox: { epoch: 'e1', seq: 0, recovered: true } } });
    return true;
  });
  await pass(500);
  expect(f.hub.socket.of('join-room')).toMatchObject([{ data: { since: { seq: 1 } } }]);
  expect(seen).toEqual([1, 2]);
});

test('rooms that do not fit into one message are joined one by one, from their positions', async () => {
  f.hub.welcome = { maxMessage: 300 };
  const client = await f.connect();
  const names = Array.from({ length: 10 }, (_, n) => `room ${n} of many`);
  const joins: JoinedRoom[] = [];
  for (const name of names) {
    await client.room(name).join();
    client.room(name).onJoined((info) => joins.push(info));
    f.hub.message(name, 1);
  }
  await pass();
  f.hub.socket.end();
  const seen = names.map((name) => collect(client, name));
  for (const name of names) f.hub.message(name, 2);
  await pass(500);
  expect(f.hub.socket.of('resume')).toMatchObject([{ data: { rooms: {} } }]);
  expect(seen).toEqual(names.map(() => [2]));
  expect(joins.map((j) => [j.resumed, j.recovered])).toEqual(names.map(() => [true, true]));
});

test('a room that is joined as the connection comes is joined once', async () => {
  const client = f.make();
  client.onState((s) => s.status === 'connected' && quiet(client.room('a').join()));
  client.connect();
  await pass();
  expect(client.room('a').state.status).toBe('joined');
  expect(f.hub.socket.of('join-room')).toHaveLength(1);
});

test('a listener that closes the client in the middle of it leaves no room behind as joined', async () => {
  const client = await f.connect();
  await Promise.all(['a', 'b'].map((r) => client.room(r).join()));
  client.room('a').onJoined(() => client.close());
  f.hub.socket.end();
  await pass(500);
  expect(['a', 'b'].map((r) => client.room(r).state.status)).toEqual(['joining', 'joining']);
  client.room('b').typing();
  expect(vi.getTimerCount()).toBe(0);
});

test('a room that was left meanwhile is left', async () => {
  const client = await f.connect();
  await client.room('a').join();
  f.hub.socket.end();
  f.hub.script.set('resume', () => {
    queueMicrotask(() => client.room('a').leave());
  });
  await pass(500);
  expect(f.hub.socket.rooms.has('a')).toBe(false);
  expect(client.room('a').state.status).toBe('left');
});

test('a resume that fails is tried on another connection', async () => {
  const client = f.make();
  f.hub.script.set('resume', (s, e) => {
    f.hub.refuse(s, e, 'internal');
    return true;
  });
  client.connect();
  await pass();
  expect(client.state).toMatchObject({ status: 'disconnected', reason: 'lost', error: { code: 'internal' } });
  f.hub.script.clear();
  await pass(500);
  expect(client.state.status).toBe('connected');
});

test('another user does not continue from the positions of the last one', async () => {
  let user = 'u1';
  const client = await f.connect({ getToken: () => user });
  await client.room('a').join({ history: 3 });
  f.hub.message('a', 1);
  f.hub.whisper('u1', 'for u1');
  await pass();
  client.close();
  user = 'u2';
  client.connect();
  await pass();
  expect(f.hub.socket.of('resume')).toMatchObject([{ data: { rooms: {}, inbox: { seq: 0 } } }]);
  expect(f.hub.socket.of('join-room')).toMatchObject([{ data: { history: 3 } }]);
});
