import { describe, expect, test, vi } from 'vitest';
import { ChatError, type InboxInfo } from '../src/index.js';
import { fixture, pass, standing } from './fixture.js';

const f = fixture();

describe('send()', () => {
  test('resolves with the answer of the handler', async () => {
    const client = await f.connect();
    f.hub.script.set('order:confirm', (s, e) => {
      s.say({ type: 'ack', id: e.id, data: { status: 'confirmed' } });
      return true;
    });
    expect(await client.send('order:confirm', { order: 17 }, { id: 'x1', room: 'a', to: 'u2' })).toEqual({
      status: 'confirmed',
    });
    expect(f.hub.socket.sent.at(-1)).toEqual({
      type: 'order:confirm',
      id: 'x1',
      room: 'a',
      to: 'u2',
      data: { order: 17 },
    });
  });

  test('rejects with the error of the server', async () => {
    const client = await f.connect();
    f.hub.script.set('buy', (s, e) => {
      f.hub.refuse(s, e, 'rate_limited', { message: 'Slowly', retryAfterMs: 400 });
      return true;
    });
    const error = await client.send('buy').catch((err) => err);
    expect(error).toBeInstanceOf(ChatError);
    expect(error).toMatchObject({ code: 'rate_limited', message: 'Slowly', retryAfterMs: 400, temporary: true });
    expect(f.hub.socket.of('buy')).toHaveLength(1);
  });

  test('sends a volatile event once, as soon as there is a connection', async () => {
    const client = f.make();
    const promise = client.send('message', 'hello');
    client.connect();
    expect(await promise).toBeUndefined();
    expect(f.hub.socket.of('message')).toHaveLength(1);

    f.hub.script.set('message', () => true);
    const lost = client.send('message', 'again');
    const rejected = expect(lost).rejects.toMatchObject({ code: 'disconnected' });
    f.hub.socket.end();
    await rejected;
    await pass(500);
    expect(f.hub.socket.of('message')).toEqual([]);
  });

  test.each([
    [undefined, 10_000],
    [500, 500],
  ])('waits %s ms at most', async (timeout, ms) => {
    const client = f.make();
    const promise = client.send('message', 1, { timeout });
    const rejected = expect(promise).rejects.toMatchObject({ code: 'timeout' });
    await pass(ms - 1);
    expect(await standing(promise)).toBe('waiting');
    await pass(1);
    await rejected;
    client.connect();
    await pass();
    expect(f.hub.socket.of('message')).toEqual([]);
  });

  test('waits without a limit if the timeout is Infinity', async () => {
    const client = f.make();
    const promise = client.send('message', 1, { timeout: Infinity });
    await pass(86_400_000);
    client.connect();
    await promise;
  });

  test('ends when the signal is aborted', async () => {
    const client = await f.connect();
    f.hub.script.set('slow', () => true);
    const controller = new AbortController();
    const promise = client.send('slow', 1, { signal: controller.signal });
    controller.abort();
    await expect(promise).rejects.toMatchObject({ code: 'aborted' });
    const never = client.send('slow', 1, { signal: controller.signal });
    await expect(never).rejects.toMatchObject({ code: 'aborted' });
    expect(f.hub.socket.of('slow')).toHaveLength(1);
  });

  test('fails once the client is closed, and so do waiting calls', async () => {
    const client = f.make();
    const waiting = client.send('message', 1);
    client.connect();
    client.close();
    await expect(waiting).rejects.toMatchObject({ code: 'closed' });
    await expect(client.send('message', 1)).rejects.toMatchObject({ code: 'closed' });
  });

  test('keeps at most maxOutbox calls for the next connection', async () => {
    const client = f.make({ maxOutbox: 1 });
    const first = client.send('message', 1);
    await expect(client.send('message', 2)).rejects.toMatchObject({ code: 'overflow' });
    client.connect();
    await first;
    await client.send('message', 3);
  });

  test('refuses the id of a waiting call', async () => {
    const client = f.make();
    const first = client.send('message', 1, { id: 'same' });
    await expect(client.send('message', 2, { id: 'same' })).rejects.toMatchObject({ code: 'conflict' });
    client.connect();
    await first;
  });

  test('does not send a message that is too large for the server', async () => {
    f.hub.welcome = { maxMessage: 250 };
    const client = await f.connect();
    await expect(client.send('custom', 'ä'.repeat(125))).rejects.toMatchObject({ code: 'too_large' });
    expect(f.hub.socket.of('custom')).toEqual([]);
  });

  test.each(['room-message', 'private-message', 'send-notification'] as const)('keeps a %s', async (type) => {
    const client = f.make();
    const promise = client.send(type, 1, { room: 'a', to: 'u2', id: 'm' });
    expect(client.outbox).toEqual([{ type, id: 'm', room: 'a', to: 'u2', data: 1 }]);
    client.discard('m');
    await expect(promise).rejects.toMatchObject({ code: 'aborted' });
  });

  test('an error without a known shape is internal', async () => {
    const client = await f.connect();
    f.hub.script.set('odd', (s, e) => {
      s.say({ type: 'error', id: e.id });
      return true;
    });
    await expect(client.send('odd')).rejects.toMatchObject({ code: 'internal' });
  });

  test('answers to nothing are ignored', async () => {
    await f.connect();
    for (const type of ['ack', 'error']) {
      f.hub.socket.say({ type });
      f.hub.socket.say({ type, id: 'nothing', data: { code: 'internal' } });
    }
    await pass();
  });
});

test('notify() sends a notification, whose receipt has no position', async () => {
  const client = await f.connect();
  expect(await client.notify('u2', { kind: 'mention' }, { id: 'n1' })).toEqual({ id: 'n1' });
  expect(f.hub.socket.of('send-notification')).toMatchObject([{ id: 'n1', to: 'u2', data: { kind: 'mention' } }]);
});

describe('the inbox', () => {
  test('starts with the messages sent before', async () => {
    f.hub.whisper('u1', 'early');
    const client = f.make();
    const seen: unknown[] = [];
    const infos: InboxInfo[] = [];
    client.on('private-message', (d) => seen.push(d));
    client.onInbox((info) => infos.push(info));
    client.connect();
    await pass();
    expect(seen).toEqual(['early']);
    expect(infos).toMatchObject([{ resumed: false, recovered: true, epoch: 'e1', seq: 1 }]);
    expect(client.inbox).toEqual({ epoch: 'e1', seq: 1 });
  });

  test('starts with new messages, or after a position, if the option says so', async () => {
    for (const n of [1, 2]) f.hub.whisper('u1', n);
    for (const [inbox, expected] of [
      ['new', [3]],
      [{ epoch: 'e1', seq: f.hub.inbox('u1').events[0]?.seq ?? 0 }, [2, 3]],
    ] as const) {
      const client = f.make({ inbox });
      const seen: unknown[] = [];
      client.on('private-message', (d) => seen.push(d));
      client.connect();
      await pass();
      f.hub.socket.say({ ...f.hub.inbox('u1').events.at(-1), seq: 100, data: 3 });
      await pass();
      expect(seen).toEqual(expected);
    }
  });

  test('says if messages are missing', async () => {
    const client = await f.connect();
    f.hub.whisper('u1', 'old');
    await pass();
    const order: unknown[] = [];
    client.onInbox(({ recovered, resumed }) => order.push({ recovered, resumed }));
    client.on('private-message', (d) => order.push(d));
    f.hub.socket.end();
    f.hub.forget();
    f.hub.whisper('u1', 'new');
    await pass(500);
    expect(order).toEqual([{ recovered: false, resumed: true }, 'new']);
  });

  test('does not repeat messages of this client, but delivers those of another tab', async () => {
    const client = await f.connect({ getToken: () => 'u1' });
    const seen: unknown[] = [];
    client.on('private-message', (d) => seen.push(d));
    await client.privateMessage('u2', 'mine');
    f.hub.whisper('u2', 'of the other tab', { id: 'u1', name: 'u1' }, 'other');
    f.hub.socket.end();
    await pass(500);
    expect(seen).toEqual(['of the other tab']);
  });
});

describe('questions', () => {
  const ask = async (type: string, data: unknown, id = 'q1') => {
    f.hub.socket.say({ type, id, ack: true, data });
    await pass();
    return f.hub.socket.sent.at(-1);
  };

  test('are answered with a value, a refusal, or a fault', async () => {
    const onError = vi.fn();
    const client = await f.connect({ onError });
    client.answer('double', (n) => Number(n) * 2);
    client.answer('refuse', async () => {
      throw new ChatError('forbidden', 'Not now');
    });
    client.answer('fail', () => {
      throw new Error('a secret of this page');
    });
    expect(await ask('double', 21)).toEqual({ type: 'ack', id: 'q1', data: 42 });
    expect(await ask('refuse', 1)).toEqual({
      type: 'error',
      id: 'q1',
      data: { code: 'forbidden', message: 'Not now' },
    });
    expect(await ask('fail', 1)).toEqual({
      type: 'error',
      id: 'q1',
      data: { code: 'internal', message: 'Internal error' },
    });
    expect(onError).toHaveBeenCalledExactlyOnceWith(new Error('a secret of this page'));
    expect(await ask('nobody', 1)).toMatchObject({ type: 'error', data: { code: 'unknown_type' } });
  });

  test('are answered with a fault if the value is not JSON', async () => {
    const onError = vi.fn();
    const client = await f.connect({ onError });
    client.answer('big', () => 1n);
    expect(await ask('big', 1)).toMatchObject({ type: 'error', id: 'q1', data: { code: 'internal' } });
    expect(onError).toHaveBeenCalledExactlyOnceWith(expect.any(TypeError));
  });

  test('are answered by the last registered function, until it is removed', async () => {
    const client = await f.connect();
    const first = client.answer('q', () => 1);
    const second = client.answer('q', () => 2);
    first();
    expect(await ask('q', 0)).toMatchObject({ data: 2 });
    second();
    expect(await ask('q', 0)).toMatchObject({ type: 'error' });
  });

  test('of a lost connection are not answered on the next one', async () => {
    const client = await f.connect();
    let answer: (value: never) => void = () => {};
    client.answer('q', () => new Promise((resolve) => (answer = resolve)));
    await ask('q', 1);
    f.hub.socket.end();
    await pass(500);
    answer(1 as never);
    await pass();
    expect(f.hub.socket.of('ack')).toEqual([]);
  });

  test('may come before the answer to resume', async () => {
    const client = f.make();
    client.answer('q', () => 1);
    f.hub.script.set('resume', (s) => s.say({ type: 'q', id: 'q1', ack: true }));
    client.connect();
    await pass();
    expect(f.hub.socket.of('ack')).toEqual([{ type: 'ack', id: 'q1', data: 1 }]);
  });
});

describe('listeners', () => {
  test('get data and envelope, until they unsubscribe', async () => {
    const client = await f.connect();
    const fn = vi.fn();
    const end = client.on('message', fn);
    const twice = client.on('message', fn);
    const e = { type: 'message', from: { id: 'u2', name: 'Ben' }, ts: 5, data: { text: 'hi' } };
    f.hub.socket.say(e);
    await pass();
    expect(fn.mock.calls).toEqual([
      [e.data, e],
      [e.data, e],
    ]);
    end();
    end();
    f.hub.socket.say(e);
    await pass();
    expect(fn).toHaveBeenCalledTimes(3);
    twice();
    f.hub.socket.say(e);
    await pass();
    expect(fn).toHaveBeenCalledTimes(3);
  });

  test('that throw do not affect others', async () => {
    const onError = vi.fn();
    const client = await f.connect({ onError });
    const fn = vi.fn();
    const error = new Error('mine');
    const fail = () => {
      throw error;
    };
    for (const on of [(g: () => void) => client.on('message', g), (g: () => void) => client.onState(g)]) {
      on(fail);
      on(fn);
    }
    client.room('a').onState(fail);
    client.room('a').onJoined(fail);
    f.hub.socket.say({ type: 'message', data: 1 });
    await pass();
    await client.room('a').join();
    f.hub.socket.end();
    await pass(500);
    expect(client.room('a').state.status).toBe('joined');
    expect(fn).toHaveBeenCalledTimes(4);
    expect(new Set(onError.mock.calls.map((c) => c[0]))).toEqual(new Set([error]));
  });

  test.each([
    ['without onError', undefined],
    [
      'if onError throws too',
      (err: unknown) => {
        throw err;
      },
    ],
  ])('that throw cause uncaught errors %s', async (_, onError) => {
    const caught: unknown[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.once('uncaughtException', (err) => caught.push(err));
    const client = await f.connect({ onError });
    client.on('message', () => {
      throw new Error('mine');
    });
    f.hub.socket.say({ type: 'message', data: 1 });
    await pass();
    expect(client.state.status).toBe('connected');
    vi.useRealTimers();
    await new Promise((resolve) => setTimeout(resolve));
    vi.useFakeTimers();
    for (const fn of listeners) process.on('uncaughtException', fn);
    expect(caught).toEqual([new Error('mine')]);
  });
});

describe('online users', () => {
  const [ben, cem] = [
    { id: 'u2', name: 'Ben' },
    { id: 'u3', name: 'Cem' },
  ];

  test('is followed', async () => {
    const client = await f.connect();
    const fn = vi.fn();
    client.onOnline(fn);
    const say = async (type: string, data: object) => {
      f.hub.socket.say({ type, data });
      await pass();
      expect(fn).toHaveBeenLastCalledWith(client.online);
      return client.online;
    };
    expect(await say('online-users', { users: [ben], count: 1 })).toEqual({ users: [ben], count: 1 });
    expect(await say('user-online', { users: [cem, ben], count: 2 })).toEqual({ users: [cem, ben], count: 2 });
    expect(await say('user-offline', { users: [ben], count: 1 })).toEqual({ users: [cem], count: 1 });
    f.hub.socket.end();
    expect(client.online.count).toBe(1);
  });

  test('is requested again if the list has gaps, at most every 5 s', async () => {
    await f.connect();
    f.hub.script.set('online-users', () => true);
    f.hub.socket.say({ type: 'online-users', data: { count: 300 } });
    f.hub.socket.say({ type: 'user-offline', data: { count: 299 } });
    await pass();
    expect(f.hub.socket.of('online-users')).toEqual([]); // its answer would have no list
    for (let i = 0; i < 5; i++) f.hub.socket.say({ type: 'user-online', data: { users: [ben], count: 200 } });
    await pass();
    expect(f.hub.socket.of('online-users')).toEqual([{ type: 'online-users' }]);
    await pass(5_000);
    f.hub.socket.say({ type: 'user-online', data: { users: [ben], count: 200 } });
    await pass();
    expect(f.hub.socket.of('online-users')).toHaveLength(2);
  });

  test('onlineUsers() requests the list', async () => {
    const client = await f.connect({ getToken: () => 'u1' });
    expect(await client.onlineUsers()).toEqual({ users: [{ id: 'u1', name: 'u1' }], count: 1 });
  });
});
