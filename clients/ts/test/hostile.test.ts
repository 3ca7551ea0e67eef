// Invalid input from a server or a storage. Nothing may throw, and the client
// must work afterwards. An uncaught error fails the run.
import { describe, expect, test, vi } from 'vitest';
import type { ChatClient } from '../src/index.js';
import { keptIn } from '../src/storage.js';
import { fixture, ODD, pass, quiet } from './fixture.js';

const f = fixture();

/** Connects a client, and collects the errors that it reports. */
async function connect(options = {}): Promise<{ client: ChatClient; errors: unknown[] }> {
  const errors: unknown[] = [];
  const client = await f.connect({ getToken: () => 'u1', onError: (err) => errors.push(err), ...options });
  return { client, errors };
}

/**
 * Hands a frame to the client, here and now, so that an error reaches the test.
 */
const receive = (frame: unknown) =>
  f.hub.socket.onmessage?.({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) } as never);

/** Has the hub answer a type of event with this. */
function answer(type: string, frame: object): void {
  f.hub.script.set(type, (socket, e) => {
    socket.say({ type: 'ack', id: e.id, ...frame });
    return true;
  });
}

const user = { id: 'u2', name: 'Ben' };
const message = { type: 'room-message', room: 'a', from: user, seq: 100, ts: 1, data: 'odd' };
const presence = ODD.concat({ users: [] }, { users: [user], count: 'x' }, { users: [{ id: 1, name: 'x' }], count: 1 });

describe('a frame with a wrong field is dropped', () => {
  const fields = ['type', 'id', 'room', 'to', 'from', 'seq', 'ts', 'ack'];
  const frames: unknown[] = [
    '',
    'no json',
    '[]',
    'null',
    '1',
    '{"type":"room-message\\nlobby","data":1}',
    ...fields.flatMap((name) => [null, [], {}].map((value) => ({ ...message, [name]: value }))),
    ...['seq', 'ts', 'edited', 'deleted', 're'].flatMap((name) =>
      ['1', -1, 0.5, 1e300, null, [], {}].map((value) => ({ ...message, [name]: value })),
    ),
    ...[{ id: 'x' }, { id: 1, author: 'x' }, { author: 'x' }].map((re) => ({ ...message, re })),
    ...[null, 1, 'x', { x: 1 }, { x: null }, { x: { count: 1 } }, { x: { count: '1', users: [] } }]
      .concat([{ x: { count: 1, users: {} } }, { x: { count: 1, users: [1] } }] as never[])
      .map((reactions) => ({ ...message, reactions })),
    ...[null, 1, 'x', {}, [1], [null]].map((mine) => ({ ...message, mine })),
    ...[{ id: 'u2' }, { name: 'Ben' }, { id: 1, name: 'Ben' }, { id: 'u2', name: null }].map((from) => ({
      ...message,
      from,
    })),
  ];

  test.each(frames.map((frame) => [JSON.stringify(frame), frame]))('%s', async (_, frame) => {
    const { client, errors } = await connect();
    await client.room('a').join();
    const seen = vi.fn();
    client.on('room-message', seen);
    client.answer('room-message', seen);
    const before = client.room('a').position;
    receive(frame);
    await pass();
    expect(seen).not.toHaveBeenCalled();
    expect(client.room('a').position).toEqual(before);
    expect(errors).toEqual([]);
    await f.works(client);
  });
});

describe('presence with wrong data is dropped', () => {
  const types = ['online-users', 'user-online', 'user-offline', 'user-joined', 'user-left'];

  test.each(types)('%s', async (type) => {
    const { client, errors } = await connect();
    await client.room('a').join();
    const seen = vi.fn();
    client.on(type, seen);
    const [online, state] = [client.online, client.room('a').state];
    for (const data of presence) receive({ type, room: 'a', data });
    await pass();
    expect(seen).not.toHaveBeenCalled();
    expect(client.online).toBe(online);
    expect(client.room('a').state).toBe(state);
    expect(errors).toEqual([]);
    await f.works(client);
  });
});

describe('changes and markers with wrong data are dropped', () => {
  const change = { seq: 1, change: 'edited', message: {} };
  const read = { seq: 1, unread: 0, head: 1 };
  const frames = [
    ...ODD.concat(
      ...['seq', 'id', 'author', 'change', 'message'].map((name) => ({ ...change, [name]: null })),
      ...ODD.filter((v) => typeof v !== 'object' || v === null).map((message) => ({ ...change, message })),
      { ...change, message: { edited: 'x' } },
      { ...change, message: { deleted: -1 } },
      { ...change, message: { reactions: { x: {} } } },
    ).map((data) => ({ type: 'message-changed', data })),
    ...ODD.concat(
      ...['seq', 'unread', 'head'].flatMap((name) => ODD.slice(1, 3).map((v) => ({ ...read, [name]: v }))),
      ...['x', -1, null, {}].map((position) => ({ ...read, position })),
      { users: {} },
      { users: [null] },
      { users: [{ id: 'u2' }] },
      { users: [{ id: 1, seq: 1 }] },
    ).map((data) => ({ type: 'read', data })),
  ];

  test.each(frames.map((frame) => [JSON.stringify(frame), frame]))('%s', async (_, frame) => {
    const { client, errors } = await connect();
    await client.room('a').join();
    const seen = vi.fn();
    client.on(frame.type, seen);
    const before = [client.room('a').position, client.inbox, client.room('a').unread];
    receive({ ...frame, room: 'a', seq: 100 });
    receive({ ...frame, to: 'u2', seq: 100 });
    await pass();
    expect(seen).not.toHaveBeenCalled();
    expect([client.room('a').position, client.inbox, client.room('a').unread]).toEqual(before);
    expect(errors).toEqual([]);
    await f.works(client);
  });
});

test.each(ODD.map((data) => [JSON.stringify(data), data]))(
  'removed without a reason is a removal: %s',
  async (_, data) => {
    const { client, errors } = await connect();
    await client.room('a').join();
    const reasons: string[] = [];
    client.on('removed', ({ reason }) => reasons.push(reason));
    receive({ type: 'removed', room: 'a', data });
    await pass();
    expect(client.room('a').state).toMatchObject({ status: 'refused', removed: { reason: '' } });
    expect(reasons).toEqual(['']);
    expect(errors).toEqual([]);
    await f.works(client);
  },
);

describe('other frames with wrong data', () => {
  test.each(['reconnect', 'connect-error', 'error', 'ack', 'pong', 'typing', 'stop-typing', 'welcome'])(
    '%s',
    async (type) => {
      const { client, errors } = await connect();
      await client.room('a').join();
      f.hub.script.set('ask', () => true);
      for (const data of ODD) {
        const call = client.send('ask', 1, { id: 'call' });
        receive({ type, room: 'a', id: 'call', data });
        receive({ type, room: 'a', data });
        receive({ type, room: 'a', from: { ...user, id: '__proto__' }, data });
        if (type === 'error') await expect(call).rejects.toMatchObject({ code: 'internal', message: 'internal' });
        else quiet(call);
        receive({ type: 'ack', id: 'call' });
      }
      expect(client.state.status).toBe('connected');
      f.hub.socket.end();
      await f.works(client);
      expect(errors).toEqual([]);
    },
  );

  test.each([
    [
      { code: 1, message: 2, retryAfterMs: '3' },
      { code: 'internal', message: 'internal' },
    ],
    [
      { code: 'forbidden', message: null },
      { code: 'forbidden', message: 'forbidden' },
    ],
    [
      { code: 'forbidden', message: 'No', retryAfterMs: -1 },
      { code: 'forbidden', message: 'No' },
    ],
    [
      { code: 'forbidden', message: 'No', retryAfterMs: 1e300 },
      { code: 'forbidden', message: 'No' },
    ],
    [
      { code: '__proto__', message: 'toString' },
      { code: '__proto__', message: 'toString' },
    ],
  ])('the error %j', async (data, expected) => {
    const { client } = await connect();
    f.hub.script.set('ask', () => true);
    const call = client.send('ask', 1, { id: 'call' });
    receive({ type: 'error', id: 'call', data });
    const error: unknown = await call.catch((err) => err);
    expect(error).toMatchObject({ name: 'ChatError', retryAfterMs: undefined, ...expected });
  });

  test('waits that are too long for a timer do not end at once', async () => {
    const { client } = await connect();
    const long = 2 ** 40;
    for (const code of ['rate_limited', 'unavailable']) {
      f.hub.script.set('history', (socket, e) => {
        f.hub.refuse(socket, e, code, { retryAfterMs: long });
        return true;
      });
      f.hub.script.set('private-message', (socket, e) => {
        f.hub.refuse(socket, e, code, { retryAfterMs: long });
        return true;
      });
      quiet(client.room('a').history());
      quiet(client.privateMessage('u2', 1));
    }
    await pass(5_000);
    expect(f.hub.socket.of('history')).toHaveLength(2);
    expect(f.hub.socket.of('private-message')).toHaveLength(1);
    receive({ type: 'reconnect', data: { afterMs: long } });
    f.hub.socket.end(4000);
    await pass(60_000);
    expect(f.hub.sockets).toHaveLength(1);
  });
});

describe('a welcome with a wrong field ends the attempt', () => {
  const wrong = [null, [], {}, true, -1, 1e300];
  const welcomes: object[] = [
    ...['clientId', 'user', 'time', 'inbox', 'pingInterval', 'maxMessage', 'expires'].flatMap((name) =>
      wrong.map((value) => ({ [name]: value })),
    ),
    { user: { id: 'u1' } },
    { user: { id: 1, name: 'Ana' } },
    { inbox: { epoch: 'e1' } },
    { inbox: { epoch: 1, seq: 1 } },
    { inbox: { epoch: 'e1', seq: '1' } },
  ];

  test.each(welcomes.map((w) => [JSON.stringify(w), w]))('%s', async (_, welcome) => {
    f.hub.welcome = welcome as object;
    const errors: unknown[] = [];
    const client = f.make({ onError: (err) => errors.push(err) });
    client.connect();
    await pass();
    expect(client.state).toMatchObject({ status: 'disconnected', reason: 'lost', error: { code: 'internal' } });
    await f.works(client);
    expect(errors).toEqual([]);
  });

  test.each(ODD.map((data) => [JSON.stringify(data), data]))('data %s', async (_, data) => {
    f.hub.welcome = null;
    const client = f.make();
    client.connect();
    await pass();
    receive({ type: 'welcome', data });
    await pass();
    expect(client.state).toMatchObject({ status: 'disconnected', error: { code: 'internal' } });
    await f.works(client);
  });

  test('intervals and expiries that are out of range cause no storm of pings or tokens', async () => {
    const getToken = vi.fn(() => 'u1');
    for (const welcome of [
      { pingInterval: 1 },
      { pingInterval: 2 ** 40 },
      { expires: 1 },
      { time: 2 ** 50, expires: 1 },
      { expires: 2 ** 53 - 1 },
    ]) {
      f.hub.welcome = welcome;
      getToken.mockClear();
      const client = await f.connect({ getToken });
      f.hub.script.set('refresh-token', (s, e) => {
        s.say({ type: 'ack', id: e.id, data: { expires: 1 } });
        return true;
      });
      await pass(10_000);
      expect(client.state.status).toBe('connected');
      expect(f.hub.socket.of('ping').length).toBeLessThanOrEqual(10);
      expect(getToken.mock.calls.length).toBeLessThanOrEqual(11);
      client.close();
    }
  });
});

describe('a wrong answer', () => {
  const position = { epoch: 'e1', seq: 0, recovered: true };
  const joins: unknown[] = [
    ...ODD,
    { seq: 0, recovered: true },
    { epoch: 1, seq: 0, recovered: true },
    { epoch: 'e1', seq: '0', recovered: true },
    { epoch: 'e1', seq: 0 },
    { ...position, recovered: 'yes' },
    { ...position, users: null },
    { ...position, users: {} },
    { ...position, users: [null] },
    { ...position, users: [{ id: 'u1' }] },
    { ...position, count: '1' },
    { ...position, read: '1' },
    { ...position, unread: null },
  ];

  test.each(joins.map((data) => [JSON.stringify(data), data]))('to join-room refuses the room: %s', async (_, data) => {
    const { client, errors } = await connect();
    answer('join-room', { data });
    await expect(client.room('a').join()).rejects.toMatchObject({ name: 'ChatError', code: 'internal' });
    expect(client.room('a').state).toMatchObject({ status: 'refused', error: { code: 'internal' } });
    expect(errors).toEqual([]);
    await f.works(client);
  });

  const resumes: unknown[] = [
    ...joins,
    ...joins.map((inbox) => ({ inbox, rooms: {} })),
    ...[undefined, null, true, 1, 'x'].map((rooms) => ({ inbox: position, rooms })),
  ];

  test.each(resumes.map((data) => [JSON.stringify(data), data]))(
    'to resume loses the connection: %s',
    async (_, data) => {
      answer('resume', { data });
      const errors: unknown[] = [];
      const client = f.make({ onError: (err) => errors.push(err) });
      client.connect();
      await pass();
      expect(client.state).toMatchObject({ status: 'disconnected', reason: 'lost', error: { code: 'internal' } });
      expect(errors).toEqual([]);
      await f.works(client);
    },
  );

  test.each(joins.map((data) => [JSON.stringify(data), data]))(
    'for a room in resume joins it again: %s',
    async (_, data) => {
      const { client, errors } = await connect();
      await client.room('a').join();
      answer('resume', { data: { inbox: position, rooms: { a: data } } });
      f.hub.socket.end();
      await pass(500);
      expect(f.hub.socket.of('join-room')).toMatchObject([{ room: 'a', data: { since: { epoch: 'e2', seq: 0 } } }]);
      expect(client.room('a').state.status).toBe('joined');
      expect(errors).toEqual([]);
      await f.works(client);
    },
  );

  test.each(joins.map((data) => [JSON.stringify(data), data]))(
    'for the list of a room changes nothing: %s',
    async (_, data) => {
      const { client, errors } = await connect();
      await client.room('a').join();
      answer('join-room', { data });
      receive({ type: 'user-joined', room: 'a', data: { users: [user], count: 9 } });
      const { state } = client.room('a');
      await pass();
      expect(f.hub.socket.of('join-room')).toHaveLength(2);
      expect(client.room('a').state).toBe(state);
      expect(errors).toEqual([]);
    },
  );

  test.each([...ODD, { messages: {} }, { messages: 'x', more: true }].map((data) => [JSON.stringify(data), data]))(
    'to history is an error: %s',
    async (_, data) => {
      const { client } = await connect();
      await client.room('a').join();
      answer('history', { data });
      await expect(client.room('a').history()).rejects.toMatchObject({ name: 'ChatError', code: 'internal' });
    },
  );

  const room = { ...position, read: 0, unread: 0 };
  const overviews: unknown[] = [
    ...ODD,
    { rooms: 1 },
    { rooms: { a: null } },
    { rooms: { a: {} } },
    ...['epoch', 'seq', 'read', 'unread', 'last'].map((name) => ({ rooms: { a: { ...room, [name]: null } } })),
    { rooms: { a: { ...room, last: { type: 1 } } } },
    { rooms: {}, conversations: {} },
    { rooms: {}, conversations: [null] },
    { rooms: {}, conversations: [{ read: 0, unread: 0 }] },
    { rooms: {}, conversations: [{ user: { id: 'u2' }, read: 0, unread: 0 }] },
    { rooms: {}, conversations: [{ user, read: -1, unread: 0 }] },
  ];

  test.each(overviews.map((data) => [JSON.stringify(data), data]))('to overview is an error: %s', async (_, data) => {
    const { client, errors } = await connect();
    answer('overview', { data });
    await expect(client.overview({ rooms: ['a'] })).rejects.toMatchObject({ name: 'ChatError', code: 'internal' });
    expect(errors).toEqual([]);
  });

  test.each([...ODD, { seq: 1 }, { seq: 1, unread: 0 }].map((data) => [JSON.stringify(data), data]))(
    'to mark-read is an error: %s',
    async (_, data) => {
      const { client } = await connect();
      await client.room('a').join();
      answer('mark-read', { data });
      await expect(client.room('a').markRead(1)).rejects.toMatchObject({ name: 'ChatError', code: 'internal' });
      expect([client.room('a').read, client.room('a').unread]).toEqual([0, 0]);
    },
  );

  test('to history loses its wrong messages only', async () => {
    const { client } = await connect();
    await client.room('a').join();
    answer('history', { data: { messages: [...ODD, { type: 1 }, { ...message, seq: '1' }, message], more: 'yes' } });
    expect(await client.room('a').history()).toMatchObject({ messages: [{ data: 'odd', seq: 100 }], more: false });
  });

  test.each(
    [...ODD, 'text', { id: 5 }, { seq: '1', ts: 1 }, { seq: 1, ts: 'now' }, { seq: 1, dup: 1 }].map((data) => [
      JSON.stringify(data),
      data,
    ]),
  )('to a message is a receipt without a position: %s', async (_, data) => {
    const { client, errors } = await connect();
    answer('private-message', { data });
    expect(await client.privateMessage('u2', 1, { id: 'm' })).toMatchObject({ id: 'm' });
    expect(client.outbox).toEqual([]);
    expect(errors).toEqual([]);
  });

  test.each(
    [...ODD, { expires: 'soon' }, { expires: -1 }, { expires: null }].map((data) => [JSON.stringify(data), data]),
  )('to refresh-token keeps the connection: %s', async (_, data) => {
    f.hub.welcome = { expires: Date.now() + 10_000 };
    const { client, errors } = await connect();
    answer('refresh-token', { data });
    await pass(9_500);
    expect(f.hub.socket.of('refresh-token')).toHaveLength(1);
    expect(client.state.status).toBe('connected');
    expect(errors).toEqual([]);
  });
});

describe('a stored outbox', () => {
  const good = { type: 'private-message', id: 'good', to: 'u2', data: 1 };
  const outboxes: [string, string[]][] = [
    ['', []],
    ['null', []],
    ['1', []],
    ['"x"', []],
    ['[]', []],
    ['[null]', []],
    ['{}', []],
    ['{"messages":null}', []],
    ['{"messages":{}}', []],
    ['{"messages":"x"}', []],
    ['{"messages":[null]}', []],
    ...[
      null,
      1,
      'x',
      [],
      {},
      { ...good, type: 'join-room' },
      { ...good, type: 1 },
      { ...good, id: undefined },
      { ...good, id: 7 },
    ]
      .concat([
        { ...good, to: 7 },
        { ...good, room: {} },
        { ...good, to: null },
      ] as never[])
      .map((odd): [string, string[]] => [JSON.stringify({ user: 7, messages: [odd, good, odd] }), ['good']]),
    [JSON.stringify({ messages: [good, { ...good, data: 2 }] }), ['good']],
  ];

  test.each(outboxes)('%s', async (saved, ids) => {
    const items = new Map([['chathub:outbox', saved]]);
    const storage = {
      getItem: (key: string) => items.get(key) ?? null,
      setItem: (key: string, value: string) => items.set(key, value),
      removeItem: (key: string) => items.delete(key),
    };
    const { client, errors } = await connect({ storage: keptIn(storage) });
    await pass();
    expect(f.hub.inbox('u2').events.map((e) => e.id)).toEqual(ids);
    expect(client.outbox).toEqual([]);
    await f.works(client);
    expect(items.size).toBe(0);
    expect(errors).toEqual([]);
  });

  test.each(ODD.map((value) => [JSON.stringify(value), value]))('%s in place of a text', async (_, value) => {
    const storage = { getItem: () => value as string, setItem: () => {}, removeItem: () => {} };
    await f.works((await connect({ storage: keptIn(storage) })).client);
  });

  test('does not double a message that waits already', async () => {
    const storage = {
      getItem: async () => JSON.stringify({ messages: [good] }),
      setItem: () => {},
      removeItem: () => {},
    };
    const client = f.make({ storage: keptIn(storage) });
    const sent = client.privateMessage('u2', 'the new one', { id: 'good' });
    await pass();
    expect(client.outbox.map((m) => m.data)).toEqual(['the new one']);
    client.connect();
    await pass();
    expect(await sent).toMatchObject({ id: 'good' });
  });
});

test.each(ODD.map((inbox) => [JSON.stringify(inbox), inbox]))('an option inbox of %s is as none', async (_, inbox) => {
  await connect({ inbox });
  expect(f.hub.socket.of('resume')).toMatchObject([{ data: { inbox: { epoch: 'e1', seq: 0 } } }]);
});
