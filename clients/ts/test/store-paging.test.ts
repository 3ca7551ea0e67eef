// Pages of a store on both sides of a message.
import { describe, expect, test } from 'vitest';
import type { RoomStore } from '../src/store/index.js';
import { pass } from './fixture.js';
import { f, openRoom, other, storeFixture } from './store-fixture.js';

storeFixture();

describe('paging around a message', () => {
  const numbers = (store: RoomStore) => store.snapshot.messages.map((m) => m.data);
  const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

  test('goes both ways, until it meets the newest messages', async () => {
    for (let n = 1; n <= 40; n++) f.hub.message('a', n);
    const { store } = await openRoom({ history: 5 });
    const { loadAround, loadMore, loadNewer } = store.actions;
    await loadAround(12, 4);
    expect(numbers(store)).toEqual(range(11, 14));
    expect(store.snapshot).toMatchObject({ hasMore: true, hasNewer: true });
    f.hub.message('a', 41);
    await pass(1);
    expect(numbers(store)).toEqual(range(11, 14));
    await loadMore(6);
    await loadNewer(6);
    expect(numbers(store)).toEqual(range(5, 20));
    await loadMore(50);
    expect(store.snapshot.hasMore).toBe(false);
    while (store.snapshot.hasNewer) await loadNewer(10);
    expect(numbers(store)).toEqual(range(1, 41));
    f.hub.message('a', 42);
    await pass(1);
    expect(numbers(store)).toEqual(range(1, 42));
    await loadNewer();
    expect(f.hub.socket.of('history')).toHaveLength(6);
  });

  test('goes back to the newest messages at once, and to send', async () => {
    for (let n = 1; n <= 40; n++) f.hub.message('a', n);
    const { store } = await openRoom({ history: 5 });
    for (const back of [store.actions.showNewest, () => void store.actions.send('x')]) {
      await store.actions.loadAround(12, 4);
      expect(store.snapshot.hasNewer).toBe(true);
      back();
      await pass(1);
      expect(numbers(store).slice(0, 5)).toEqual(range(36, 40));
      expect(store.snapshot).toMatchObject({ hasNewer: false, hasMore: true });
    }
    await store.actions.loadMore(10);
    expect(numbers(store)).toEqual([...range(26, 40), 'x']);
  });

  test('asks for nothing if the message is here', async () => {
    for (let n = 1; n <= 4; n++) f.hub.message('a', n);
    const { store } = await openRoom();
    await store.actions.loadAround(2);
    expect(f.hub.socket.of('history')).toEqual([]);
  });

  test('near the end joins at once, and changes reach both parts', async () => {
    const ben = await other();
    for (let n = 1; n <= 20; n++) await ben.room('a').send(n);
    const { store } = await openRoom({ history: 5 });
    await store.actions.loadAround(15, 6);
    expect(numbers(store)).toEqual(range(13, 20));
    expect(store.snapshot.hasNewer).toBe(false);
    await store.actions.loadAround(3, 2);
    await ben.room('a').edit(3, 'three');
    await ben.room('a').edit(20, 'twenty');
    await pass(1);
    expect(numbers(store)).toEqual(['three', 4]);
    store.actions.showNewest();
    expect(numbers(store).at(-1)).toBe('twenty');
  });

  test('works where the room shows nothing yet', async () => {
    for (let n = 1; n <= 9; n++) f.hub.message('a', n);
    const { store } = await openRoom({ history: 0 });
    await store.actions.loadAround(5, 2);
    expect(numbers(store)).toEqual([5, 6]);
    f.hub.message('a', 10);
    await pass(1);
    await store.actions.loadNewer(2);
    expect(numbers(store)).toEqual([5, 6, 7, 8]);
    await store.actions.loadNewer(2);
    expect(numbers(store)).toEqual([5, 6, 7, 8, 9, 10]);
    expect(store.snapshot.hasNewer).toBe(false);
  });

  test('goes on after pages that are cut short', async () => {
    for (let n = 1; n <= 9; n++) f.hub.message('a', n);
    const { store } = await openRoom({ history: 1 });
    const asked: unknown[] = [];
    const cut = (before: number) => (socket: { say(e: object): void }, e: { id: string; data: unknown }) => {
      asked.push((e.data as { before: number }).before);
      if (asked.length > 2) return;
      socket.say({ type: 'ack', id: e.id, data: { messages: [], more: true, next: before - asked.length } });
      return true;
    };
    f.hub.script.set('history', cut(9));
    await store.actions.loadMore(3);
    expect(asked).toEqual([9, 8, 7]);
    expect(numbers(store)).toEqual([4, 5, 6, 9]);
    await store.actions.loadAround(2, 2);
    asked.length = 0;
    f.hub.script.set('history', (socket, e) => {
      asked.push((e.data as { after: number }).after);
      if (asked.length > 2) return;
      const next = 3 + asked.length;
      socket.say({ type: 'ack', id: e.id, data: { messages: [], more: true, newer: true, next } });
      return true;
    });
    await store.actions.loadNewer(2);
    expect(asked).toEqual([3, 4, 5]);
  });

  test('is not disturbed by a server that says nothing new', async () => {
    for (let n = 1; n <= 9; n++) f.hub.message('a', n);
    const { store } = await openRoom({ history: 1 });
    await store.actions.loadAround(3, 2);
    f.hub.script.set('history', (socket, e) => {
      socket.say({ type: 'ack', id: e.id, data: { messages: [], more: true, newer: true } });
      return true;
    });
    await store.actions.loadNewer();
    await store.actions.loadMore();
    expect(store.snapshot).toMatchObject({ hasMore: false, hasNewer: false, loading: false });
  });

  test('a reconnect with a gap goes back to the newest messages', async () => {
    for (let n = 1; n <= 30; n++) f.hub.message('a', n);
    const { store } = await openRoom({ history: 2 });
    await store.actions.loadAround(10, 4);
    f.hub.forget();
    f.hub.message('a', 'new');
    f.hub.socket.end();
    await pass(1_000);
    expect(numbers(store)).toEqual([29, 30, 'new']);
    expect(store.snapshot.hasNewer).toBe(false);
  });

  test('ten thousand messages that were scrolled through stay when another comes', async () => {
    for (let n = 1; n <= 3_000; n++) f.hub.message('a', n);
    const { store } = await openRoom({ history: 50 });
    while (store.snapshot.hasMore) await store.actions.loadMore(500);
    f.hub.message('a', 3_001);
    await pass(1);
    expect(store.snapshot.messages).toHaveLength(3_001);
  });
});
