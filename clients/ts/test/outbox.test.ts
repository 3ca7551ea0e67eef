import { describe, expect, test, vi } from 'vitest';
import type { ChatClient, SendEvent } from '../src/index.js';
import { keptIn, type StorageLike } from '../src/storage.js';
import { fixture, pass, quiet, standing } from './fixture.js';

const f = fixture();

/**
 * Makes a client that is in rooms. The hub does not answer its durable
 * messages.
 */
async function silent(...rooms: string[]): Promise<ChatClient> {
  const client = await f.connect();
  for (const name of rooms) quiet(client.room(name).join());
  await pass();
  f.hub.script.set('room-message', () => true);
  f.hub.script.set('private-message', () => true);
  return client;
}

const sent = () => f.hub.socket.sent.filter((e) => /message$/.test(e.type)).map((e) => e.data);

function answer(data: unknown, code?: string, more: object = {}): void {
  const e = f.hub.socket.sent.filter((m) => m.data === data).at(-1);
  if (!e) throw new Error(`${data} was not sent`);
  if (code) f.hub.refuse(f.hub.socket, e, code, more);
  else f.hub.socket.say({ type: 'ack', id: e.id, seq: 9, ts: 99, data: { seq: 9, ts: 99 }, ...more });
}

class MemoryStorage implements StorageLike {
  readonly items = new Map<string, string>();
  getItem(key: string): string | null | Promise<string | null> {
    return this.items.get(key) ?? null;
  }
  setItem(key: string, value: string): void | Promise<void> {
    this.items.set(key, value);
  }
  removeItem(key: string): void | Promise<void> {
    this.items.delete(key);
  }
  get saved(): unknown[] | undefined {
    const text = this.items.get('chathub:outbox');
    return text === undefined ? undefined : JSON.parse(text).messages.map((m: { data: unknown }) => m.data);
  }
}

/** The same with delays, like React Native's AsyncStorage. */
class SlowStorage extends MemoryStorage {
  override async getItem(key: string): Promise<string | null> {
    await pause();
    return super.getItem(key);
  }
  override async setItem(key: string, value: string): Promise<void> {
    await pause();
    return super.setItem(key, value);
  }
  override async removeItem(key: string): Promise<void> {
    await pause();
    return super.removeItem(key);
  }
}
const pause = () => new Promise((resolve) => setTimeout(resolve, 10));

describe('order', () => {
  test('one message is in flight at a time in each room, and one private message', async () => {
    const client = await silent('a', 'b');
    for (const n of [1, 2]) {
      quiet(client.room('a').send(`a${n}`));
      quiet(client.room('b').send(`b${n}`));
      quiet(client.privateMessage(`u${n}`, `p${n}`));
    }
    expect(sent()).toEqual(['a1', 'b1', 'p1']);
    answer('b1');
    await pass();
    expect(sent()).toEqual(['a1', 'b1', 'p1', 'b2']);
    answer('p1');
    answer('a1');
    await pass();
    expect(sent()).toEqual(['a1', 'b1', 'p1', 'b2', 'p2', 'a2']);
  });

  test('a message that the server cannot take now is sent again later, before the next', async () => {
    const client = await silent('a');
    const first = client.room('a').send(1);
    quiet(client.room('a').send(2));
    answer(1, 'rate_limited', { retryAfterMs: 3_000 });
    await pass(2_999);
    expect(sent()).toEqual([1]);
    await pass(1);
    expect(sent()).toEqual([1, 1]);
    answer(1, 'unavailable');
    await pass(1_000);
    expect(sent()).toEqual([1, 1, 1]);
    answer(1);
    await pass();
    expect(sent()).toEqual([1, 1, 1, 2]);
    expect(await first).toMatchObject({ seq: 9, ts: 99 });
  });

  test('a refused message does not block the next', async () => {
    const client = await silent('a');
    const first = client.room('a').send(1);
    quiet(client.room('a').send(2));
    answer(1, 'forbidden');
    await expect(first).rejects.toMatchObject({ name: 'ChatError', code: 'forbidden' });
    expect(sent()).toEqual([1, 2]);
  });
});

describe('a message with the id of another one', () => {
  test('fails as a conflict, is not sent again, and does not block the next', async () => {
    const client = await f.connect();
    await client.room('a').join();
    const events: SendEvent[] = [];
    client.onSend((e) => events.push(e));
    await client.room('a').send(1, { id: 'same' });
    const conflict = expect(client.room('a').send(2, { id: 'same' })).rejects.toMatchObject({ code: 'conflict' });
    await client.room('a').send(3);
    await conflict;
    expect(client.outbox).toEqual([]);
    f.hub.socket.end();
    await pass(60_000);
    expect(f.hub.socket.of('room-message')).toEqual([]);
    expect(f.hub.room('a').events.map((e) => e.data)).toEqual([1, 3]);
    expect(events.filter((e) => e.status !== 'queued').map((e) => [e.status, e.message.data])).toEqual([
      ['sent', 1],
      ['failed', 2],
      ['sent', 3],
    ]);
  });

  test('does not outlive the page either', async () => {
    const storage = new MemoryStorage();
    const before = f.make({ storage: keptIn(storage) });
    quiet(before.privateMessage('u2', 'mine', { id: 'same' }));
    await pass();
    expect(storage.saved).toEqual(['mine']);
    f.hub.whisper('u2', 'theirs', { id: 'u1', name: 'Ana' }, 'same');
    const events: SendEvent[] = [];
    const after = f.make({ storage: keptIn(storage) });
    after.onSend((e) => events.push(e));
    after.connect();
    await pass(100);
    expect(events).toMatchObject([{ status: 'queued' }, { status: 'failed', error: { code: 'conflict' } }]);
    expect(storage.items.size).toBe(0);
    expect(f.hub.inbox('u2').events.map((e) => e.data)).toEqual(['theirs']);
  });

  test('is not made by changing the data after it was sent', async () => {
    const storage = new MemoryStorage();
    const before = await f.connect({ storage: keptIn(storage) });
    f.hub.script.set('private-message', (socket, e) => {
      f.hub.whisper('u2', e.data, socket.user, e.id, socket); // stored, but not answered
      return true;
    });
    const data = { text: 'before' };
    quiet(before.privateMessage('u2', data));
    data.text = 'after';
    await pass();
    expect(storage.saved).toEqual([{ text: 'before' }]);
    expect(before.outbox.map((m) => m.data)).toEqual([{ text: 'before' }]);
    f.hub.script.clear();
    before.close();
    const events: SendEvent[] = [];
    const after = f.make({ storage: keptIn(storage) });
    after.onSend((e) => events.push(e));
    after.connect();
    await pass(100);
    expect(events.at(-1)).toMatchObject({ status: 'sent', receipt: { dup: true } });
  });
});

describe('a lost connection', () => {
  test('sends again under the same id, in the same order, until there is an answer', async () => {
    const client = await silent('a');
    const promises = [1, 2].map((n) => client.room('a').send(n));
    const [first] = f.hub.socket.of('room-message');
    for (let i = 0; i < 3; i++) {
      f.hub.socket.end();
      await pass(2_000);
      expect(f.hub.socket.of('room-message')).toEqual([first]);
    }
    expect(await standing(Promise.race(promises))).toBe('waiting');
    f.hub.script.delete('room-message');
    f.hub.socket.end();
    await pass(5_000);
    expect((await Promise.all(promises)).map((r) => r.id)).toEqual(f.hub.socket.of('room-message').map((e) => e.id));
    expect(f.hub.room('a').events.map((e) => e.data)).toEqual([1, 2]);
  });

  test('a repeated message is acknowledged as a duplicate', async () => {
    const client = await f.connect();
    const room = client.room('a');
    await room.join();
    f.hub.script.set('room-message', (socket, e) => {
      f.hub.message('a', e.data, socket.user, e.id); // stored, but not answered
      return true;
    });
    const seen = vi.fn();
    room.on('room-message', seen);
    const promise = room.send('x');
    await pass();
    f.hub.script.delete('room-message');
    f.hub.socket.end();
    await pass(500);
    expect(await promise).toMatchObject({ dup: true, seq: 1 });
    expect(seen).toHaveBeenCalledTimes(1);
    expect(f.hub.room('a').events).toHaveLength(1);
  });

  test('nothing is sent to a room before it is joined again', async () => {
    const client = await silent('a');
    f.hub.socket.end();
    quiet(client.room('a').send(1));
    quiet(client.room('late').join());
    quiet(client.room('late').send(2));
    quiet(client.privateMessage('u2', 3));
    await pass(500);
    const types = f.hub.socket.sent.map((e) => e.type);
    expect(types).toEqual(['resume', 'join-room', 'room-message', 'private-message', 'room-message']);
  });

  test('before the first one, messages wait', async () => {
    const client = f.make();
    const promise = client.privateMessage('u2', 'early');
    await pass(60_000);
    expect(await standing(promise)).toBe('waiting');
    client.connect();
    await pass();
    expect(await promise).toMatchObject({ seq: expect.any(Number) });
  });

  test.each([1009, 1007])('a message that ends the connection with %i is not sent again', async (code) => {
    const client = await silent('a', 'b');
    const guilty = client.room('a').send('big');
    const next = client.room('a').send('small');
    const failed = expect(guilty).rejects.toMatchObject({ code: 'too_large' });
    f.hub.script.delete('room-message');
    f.hub.socket.end(code);
    await failed;
    await pass(500);
    expect(await next).toBeDefined();
    expect(f.hub.room('a').events.map((e) => e.data)).toEqual(['small']);
  });
});

describe('bounds', () => {
  test('a message over maxOutbox is an error, and waiting messages stay', async () => {
    const client = f.make({ maxOutbox: 2 });
    const events: SendEvent[] = [];
    client.onSend((e) => events.push(e));
    const waiting = [1, 2].map((n) => client.privateMessage('u2', n));
    await expect(client.privateMessage('u2', 3)).rejects.toMatchObject({ code: 'overflow' });
    expect(client.outbox.map((m) => m.data)).toEqual([1, 2]);
    expect(events.map((e) => [e.status, e.message.data])).toEqual([
      ['queued', 1],
      ['queued', 2],
      ['failed', 3],
    ]);
    client.connect();
    await pass();
    await Promise.all(waiting);
    await client.privateMessage('u2', 4);
  });

  test.each([
    ['x'.repeat(190), true],
    ['x'.repeat(191), false],
    ['ä'.repeat(95), true],
    ['ä'.repeat(96), false],
    ['€'.repeat(63), true],
    ['€'.repeat(64), false],
    ['🌍'.repeat(47), true],
    ['🌍'.repeat(48), false],
  ])('a message over the size limit is not sent: %s', async (text, fits) => {
    // {"type":"private-message","id":"m","to":"u2","data":""} has 55 bytes.
    f.hub.welcome = { maxMessage: 55 + 190 };
    const client = await f.connect();
    const promise = client.privateMessage('u2', text, { id: 'm' });
    if (fits) await promise;
    else await expect(promise).rejects.toMatchObject({ code: 'too_large' });
    expect(f.hub.socket.of('private-message')).toHaveLength(fits ? 1 : 0);
    await client.privateMessage('u2', 'the next');
  });

  test('a message that is too large does not block the next', async () => {
    f.hub.welcome = { maxMessage: 250 };
    const client = f.make();
    const [large, small] = [client.privateMessage('u2', 'x'.repeat(250)), client.privateMessage('u2', 'small')];
    const refused = expect(large).rejects.toMatchObject({ code: 'too_large' });
    client.connect();
    await pass();
    await refused;
    expect(await standing(small)).not.toBe('waiting');
  });

  test('data that is not JSON is an error for its caller', async () => {
    const client = await f.connect();
    await expect(client.privateMessage('u2', 1n)).rejects.toMatchObject({ name: 'ChatError', code: 'bad_request' });
    await expect(client.send('custom', 1n)).rejects.toMatchObject({ code: 'bad_request' });
    expect(client.outbox).toEqual([]);
  });

  test('a second message with the same id is an error', async () => {
    const client = f.make();
    const first = client.privateMessage('u2', 1, { id: 'same' });
    await expect(client.privateMessage('u2', 2, { id: 'same' })).rejects.toMatchObject({ code: 'conflict' });
    client.connect();
    await pass();
    expect(await first).toMatchObject({ id: 'same' });
  });

  test('later changes to the data have no effect', async () => {
    const client = f.make();
    const data = { text: 'before' };
    quiet(client.privateMessage('u2', data));
    data.text = 'after';
    client.connect();
    await pass();
    expect(f.hub.inbox('u2').events[0]?.data).toEqual({ text: 'before' });
  });
});

describe('giving up', () => {
  test('after a timeout', async () => {
    const client = f.make();
    const promise = client.privateMessage('u2', 1, { timeout: 500 });
    const rejected = expect(promise).rejects.toMatchObject({ code: 'timeout' });
    await pass(499);
    expect(client.outbox).toHaveLength(1);
    await pass(1);
    await rejected;
    expect(client.outbox).toHaveLength(0);
  });

  test('by a signal', async () => {
    const client = f.make();
    const controller = new AbortController();
    const promise = client.privateMessage('u2', 1, { signal: controller.signal });
    const reason = new Error('changed my mind');
    controller.abort(reason);
    await expect(promise).rejects.toMatchObject({ code: 'aborted', cause: reason });
    expect(client.outbox).toHaveLength(0);
    const late = client.privateMessage('u2', 1, { signal: controller.signal });
    await expect(late).rejects.toMatchObject({ code: 'aborted', cause: reason });
    expect(client.outbox).toHaveLength(0);
  });

  test('by discard()', async () => {
    const client = f.make();
    const promise = client.privateMessage('u2', 1, { id: 'm' });
    expect(client.discard('m')).toBe(true);
    expect(client.discard('m')).toBe(false);
    await expect(promise).rejects.toMatchObject({ code: 'aborted' });
    client.connect();
    await pass();
    expect(f.hub.socket.of('private-message')).toEqual([]);
  });

  test('of a message in flight does not block the next', async () => {
    const client = await silent('a');
    const first = client.room('a').send(1, { id: 'm' });
    quiet(client.room('a').send(2));
    client.discard('m');
    await expect(first).rejects.toMatchObject({ code: 'aborted' });
    expect(sent()).toEqual([1, 2]);
    answer(1); // too late
    await pass();
  });

  test('by leaving the room', async () => {
    const client = await silent('a');
    const promises = [1, 2].map((n) => client.room('a').send(n));
    client.room('a').leave();
    for (const p of promises) await expect(p).rejects.toMatchObject({ code: 'not_in_room' });
    expect(client.outbox).toEqual([]);
  });
});

describe('close()', () => {
  test('rejects waiting calls, and keeps the messages for the next connect()', async () => {
    const client = await silent('a');
    const promise = client.room('a').send(1);
    client.close();
    await expect(promise).rejects.toMatchObject({ code: 'closed' });
    const late = client.room('a').send(2);
    await expect(late).rejects.toMatchObject({ code: 'closed' });
    expect(client.outbox.map((m) => m.data)).toEqual([1, 2]);
    f.hub.script.delete('room-message');
    client.connect();
    await pass();
    expect(client.outbox).toEqual([]);
    expect(f.hub.room('a').events.map((e) => e.data)).toEqual([1, 2]);
  });

  test('a final refusal does the same', async () => {
    const client = await silent('a');
    const promise = client.room('a').send(1);
    f.hub.socket.end(4503);
    await expect(promise).rejects.toMatchObject({ code: 'closed' });
    expect(client.outbox).toHaveLength(1);
  });
});

describe('another user', () => {
  test('does not send the messages of the last one', async () => {
    let user = 'u1';
    const client = await f.connect({ getToken: () => user });
    client.close();
    const theirs = client.privateMessage('u9', 'of u1');
    await expect(theirs).rejects.toMatchObject({ code: 'closed' });
    const events: SendEvent[] = [];
    client.onSend((e) => events.push(e));
    user = 'u2';
    client.connect();
    await pass();
    expect(events).toMatchObject([{ status: 'failed', error: { code: 'forbidden' }, message: { data: 'of u1' } }]);
    expect(f.hub.inbox('u9').events).toEqual([]);
  });
});

describe.each([
  ['a storage', () => new MemoryStorage()],
  ['a slow storage', () => new SlowStorage()],
])('with %s', (_, make) => {
  test('messages outlive the page, in order and under their ids', async () => {
    const storage = make();
    const before = f.make({ storage: keptIn(storage) });
    for (const n of [1, 2, 3]) quiet(before.privateMessage('u2', n));
    const ids = before.outbox.map((m) => m.id);
    await pass(100);
    expect(storage.saved).toEqual([1, 2, 3]);

    const after = f.make({ storage: keptIn(storage) });
    const events: SendEvent[] = [];
    after.onSend((e) => events.push(e));
    after.connect();
    await pass(100);
    expect(f.hub.inbox('u2').events.map((e) => e.id)).toEqual(ids);
    expect(events.filter((e) => e.status === 'sent').map((e) => e.message.data)).toEqual([1, 2, 3]);
    expect(storage.items.size).toBe(0);
  });

  test('older messages go first', async () => {
    const storage = make();
    quiet(f.make({ storage: keptIn(storage) }).privateMessage('u2', 'old'));
    await pass(100);
    const client = f.make({ storage: keptIn(storage) });
    quiet(client.privateMessage('u2', 'new'));
    await pass(100);
    expect(client.outbox.map((m) => m.data)).toEqual(['old', 'new']);
    expect(storage.saved).toEqual(['old', 'new']);
  });

  test('messages of a room wait until it is joined', async () => {
    const storage = make();
    quiet(
      f
        .make({ storage: keptIn(storage) })
        .room('a')
        .send('old'),
    );
    await pass(100);
    const client = await f.connect({ storage: keptIn(storage) });
    await pass(1_000);
    expect(f.hub.socket.of('room-message')).toEqual([]);
    await client.room('a').join();
    await pass(100);
    expect(f.hub.room('a').events.map((e) => e.data)).toEqual(['old']);
    expect(storage.items.size).toBe(0);
  });

  test("another user's messages are not sent", async () => {
    const storage = make();
    const before = await f.connect({ storage: keptIn(storage), getToken: () => 'u1' });
    f.hub.script.set('private-message', () => true);
    quiet(before.privateMessage('u9', 'of u1'));
    await pass(100);
    f.hub.script.clear();
    await f.connect({ storage: keptIn(storage), getToken: () => 'u2' });
    await pass(100);
    expect(f.hub.inbox('u9').events).toEqual([]);
    expect(storage.items.size).toBe(0);
  });
});

test('a storage that fails does not stop messages', async () => {
  const errors: unknown[] = [];
  const storage = {
    getItem: () => '{"messages":',
    setItem: () => {
      throw new Error('quota');
    },
    removeItem: () => Promise.reject(new Error('gone')),
  };
  const client = f.make({ storage: keptIn(storage), onError: (err) => errors.push(err) });
  const promise = client.privateMessage('u2', 1);
  await pass();
  client.connect();
  await pass();
  expect(await promise).toBeDefined();
  expect([...new Set(errors.map(String))]).toEqual([expect.stringContaining('JSON'), 'Error: quota', 'Error: gone']);
});
