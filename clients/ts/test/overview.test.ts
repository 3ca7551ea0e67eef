// The store for a sidebar.
import { describe, expect, test } from 'vitest';
import type { ChatClient } from '../src/index.js';
import { type OverviewStore, storesOf } from '../src/store/index.js';
import { pass } from './fixture.js';
import { ends, f, open, other, storeFixture } from './store-fixture.js';

const ben = { id: 'u2', name: 'Ben' };

storeFixture();

describe('the overview', () => {
  async function overview(names: string[], options = {}): Promise<{ client: ChatClient; store: OverviewStore }> {
    const client = await f.connect({ getToken: () => 'u1' });
    const store = storesOf(client).overview(names, options);
    open(store);
    await pass(1);
    return { client, store };
  }

  test('lists rooms and conversations, and follows the marker in every tab', async () => {
    for (const n of [1, 2]) f.hub.message('a', n);
    f.hub.message('b', 3);
    f.hub.whisper('u1', 'psst');
    const { client, store } = await overview(['a', 'b', 'c'], { inbox: true });
    expect(store.snapshot).toMatchObject({
      loading: false,
      rooms: { a: { unread: 2, last: { data: 2 } }, b: { unread: 1 } },
      conversations: [{ user: { id: 'u2' }, unread: 1, last: { data: 'psst' } }],
    });
    expect(Object.keys(store.snapshot.rooms)).toEqual(['a', 'b']);
    const tab = await f.connect({ getToken: () => 'u1' });
    await tab.room('a').markRead(1);
    await tab.conversation('u2').markRead(f.hub.inbox('u1').events[0]?.seq ?? 0);
    await client.room('b').markRead(3);
    await pass(1);
    expect(store.snapshot).toMatchObject({
      rooms: { a: { unread: 1 }, b: { unread: 0 } },
      conversations: [{ user: { id: 'u2' }, unread: 0 }],
    });
  });

  test('keeps a message that is newer than a change', async () => {
    const last = { type: 'room-message', seq: 1, version: 20, data: 'new' };
    f.hub.script.set('overview', (s, e) => {
      s.say({ type: 'ack', id: e.id, data: { rooms: { a: { epoch: 'e', seq: 20, read: 0, unread: 1, last } } } });
      return true;
    });
    const { store } = await overview(['a']);
    const edit = (seq: number, data: string) => {
      const changed = { seq: 1, change: 'edited', message: { data, edited: seq } };
      f.hub.socket.say({ type: 'message-changed', room: 'a', seq, data: changed });
    };
    edit(19, 'old');
    await pass(1);
    expect(store.snapshot.rooms.a?.last).toMatchObject({ data: 'new', version: 20 });
    edit(21, 'newer');
    await pass(1);
    expect(store.snapshot.rooms.a?.last).toMatchObject({ data: 'newer', version: 21 });
  });

  test('is live for joined rooms and for conversations', async () => {
    f.hub.message('a', 1);
    f.hub.whisper('u1', 'one', ben, 'm1');
    f.hub.whisper('u1', 'two', { id: 'u3', name: 'Cem' });
    const { client, store } = await overview(['a'], { inbox: true });
    await client.room('a').join();
    const ana = await other();
    await ana.room('a').send('two');
    await ana.room('a').edit(f.hub.room('a').events[1]?.seq ?? 0, 'zwei');
    f.hub.whisper('u1', 'three', ben, 'm3');
    await pass(1);
    expect(store.snapshot.rooms.a).toMatchObject({ unread: 2, last: { data: 'zwei', edited: expect.any(Number) } });
    expect(store.snapshot.conversations).toMatchObject([
      { user: ben, unread: 2, last: { data: 'three' } },
      { user: { id: 'u3' }, unread: 1 },
    ]);
    await ana.conversation('u1').remove({ id: 'm3', author: 'u2' });
    await pass(1);
    expect(store.snapshot.conversations[0]).toMatchObject({
      user: { id: 'u2' },
      unread: 1,
      last: { deleted: expect.any(Number), data: undefined },
    });
    await client.conversation('u3').send('hello');
    await pass(1);
    expect(store.snapshot.conversations).toMatchObject([
      { user: { id: 'u3', name: 'u3' }, unread: 1, last: { data: 'hello', from: { id: 'u1' } } },
      { user: { id: 'u2' } },
    ]);
  });

  test('asks again after a reconnect, on refresh and in time', async () => {
    f.hub.message('a', 1);
    const { store } = await overview(['a'], { every: 30_000 });
    f.hub.message('a', 2);
    await pass(30_000);
    expect(store.snapshot.rooms.a?.unread).toBe(2);
    f.hub.message('a', 3);
    await store.refresh();
    expect(store.snapshot.rooms.a?.unread).toBe(3);
    f.hub.message('a', 4);
    f.hub.socket.end();
    await pass(1_000);
    expect(store.snapshot.rooms.a?.unread).toBe(4);
    for (const end of ends.splice(0)) end();
    await pass(1);
    const asked = f.hub.socket.of('overview').length;
    await pass(60_000);
    expect(f.hub.socket.of('overview')).toHaveLength(asked);
  });

  test('asks for 500 rooms at a time', async () => {
    const names = Array.from({ length: 1_100 }, (_, i) => `r${i}`);
    f.hub.message('r1099', 1);
    const { store } = await overview(names);
    const asked = f.hub.socket.of('overview').map((e) => (e.data as { rooms: string[] }).rooms.length);
    expect(asked).toEqual([500, 500, 100]);
    expect(store.snapshot.rooms).toMatchObject({ r1099: { unread: 1 } });
  });

  test('shows the error of an old server', async () => {
    f.hub.old = true;
    const { store } = await overview(['a']);
    expect(store.snapshot).toMatchObject({ loading: false, error: { code: 'unknown_type' }, rooms: {} });
  });
});
