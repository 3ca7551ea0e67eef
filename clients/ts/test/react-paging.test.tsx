// @vitest-environment happy-dom
import { act } from 'react';
import { expect, test } from 'vitest';
import { useRoom } from '../src/react/index.js';
import { client, hub, reactFixture, render, settle, show, texts, withhold } from './react-fixture.js';

reactFixture();
test('loads older messages', async () => {
  for (let n = 1; n <= 7; n++) hub.message('a', n);
  const room = await render(() => useRoom('a', { history: 3 }));
  expect(room.now.hasMore).toBe(true);
  await act(async () => {
    void room.now.loadMore();
    void room.now.loadMore(); // one at a time
  });
  await settle();
  expect(texts(room.now)).toEqual([2, 3, 4, 5, 6, 7]);
  expect(hub.socket.of('history')).toHaveLength(1);
  expect(room.now).toMatchObject({ hasMore: true, loading: false });
  await act(() => room.now.loadMore());
  expect(texts(room.now)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(room.now.hasMore).toBe(false);
  await act(() => room.now.loadMore());
  expect(hub.socket.of('history')).toHaveLength(2);
});

test("shows messages alone, and finds them behind the application's own durable events", async () => {
  hub.old = true; // a server that lists all types
  const polls = (count: number) => {
    for (let n = 0; n < count; n++) hub.emit('a', 'poll:closed', { yes: n });
  };
  hub.message('a', 1);
  polls(1);
  hub.message('a', 2);
  polls(7);
  hub.message('a', 3);
  polls(1);
  const room = await render(() => useRoom('a', { history: 2 }));
  expect(texts(room.now)).toEqual([3]);
  expect(room.now.hasMore).toBe(true);
  await act(() => room.now.loadMore(2)); // finds it after pages of polls
  expect(texts(room.now)).toEqual([2, 3]);
  expect(room.now.hasMore).toBe(true);
  expect(hub.socket.of('history')).toHaveLength(4);
  await act(() => room.now.loadMore(2));
  expect(texts(room.now)).toEqual([1, 2, 3]);
  expect(room.now.hasMore).toBe(false);
  hub.emit('a', 'poll:closed', 'live');
  await settle();
  expect(texts(room.now)).toEqual([1, 2, 3]);
});

test('finds the messages behind a replay of other events only', async () => {
  hub.message('a', 1);
  for (let n = 0; n < 5; n++) hub.emit('a', 'poll:closed', n);
  const room = await render(() => useRoom('a', { history: 3 }));
  expect(room.now).toMatchObject({ messages: [], hasMore: true });
  await act(() => room.now.loadMore());
  expect(texts(room.now)).toEqual([1]);
  expect(room.now.hasMore).toBe(false);
});

test('asks the server whether there is more, unless it cannot be', async () => {
  hub.message('a', 1);
  const whole = await render(() => useRoom('a', { history: 5 }));
  expect(whole.now.hasMore).toBe(false); // seq 1 is the first of all
  await show(null);
  hub.message('b', 2);
  const room = await render(() => useRoom('b', { history: 5 }));
  expect(room.now.hasMore).toBe(true); // there may be others before seq 2
  await act(() => room.now.loadMore());
  expect(room.now.hasMore).toBe(false);
  expect(texts(room.now)).toEqual([2]);
  await show(null);
  const empty = await render(() => useRoom('c'));
  expect(empty.now.hasMore).toBe(false);
});

test.each([
  ['no events', []],
  ['events without a place', [{ type: 'poll:closed', room: 'a', data: 1 }]],
  ['the same events again', [{ type: 'poll:closed', room: 'a', seq: 3, data: 1 }]],
])('a page of %s is the last one', async (_, messages) => {
  for (const n of [1, 2, 3]) hub.message('a', n);
  const room = await render(() => useRoom('a', { history: 1 }));
  hub.script.set('history', (socket, e) => {
    socket.say({ type: 'ack', id: e.id, data: { messages, more: true } });
    return true;
  });
  await act(() => room.now.loadMore());
  expect(hub.socket.of('history')).toHaveLength(1);
  expect(room.now).toMatchObject({ hasMore: false, loading: false });
});

test('a page that arrives after its place was dropped leaves no hole', async () => {
  for (let n = 1; n <= 3; n++) hub.message('a', n);
  const room = await render(() => useRoom('a', { history: 2 }));
  const release = withhold('history');
  await act(async () => void room.now.loadMore());
  await act(async () => {
    for (let n = 4; n <= 1_010; n++) hub.message('a', n);
  });
  await release();
  expect(texts(room.now).slice(0, 2)).toEqual([11, 12]);
  expect(room.now).toMatchObject({ hasMore: true, loading: false });
  await act(() => room.now.loadMore(3));
  expect(texts(room.now).slice(0, 4)).toEqual([8, 9, 10, 11]);
});

test('a room that is left and joined again has no hole', async () => {
  hub.message('a', 1);
  const room = await render(() => useRoom('a', { history: 2 }));
  await act(async () => client.room('a').leave());
  for (let n = 2; n <= 5; n++) hub.message('a', n);
  await act(async () => void client.room('a').join({ history: 2 }));
  await settle();
  expect(texts(room.now)).toEqual([4, 5]);
  expect(room.now).toMatchObject({ hasMore: true, recovered: true });
  await act(() => room.now.loadMore());
  await act(() => room.now.loadMore());
  expect(texts(room.now)).toEqual([1, 2, 3, 4, 5]);
});

test('a page that cannot be loaded is an error, and can be requested again', async () => {
  for (let n = 1; n <= 3; n++) hub.message('a', n);
  const room = await render(() => useRoom('a', { history: 2 }));
  hub.script.set('history', (socket, e) => {
    hub.refuse(socket, e, 'internal');
    return true;
  });
  await act(() => expect(room.now.loadMore()).rejects.toMatchObject({ code: 'internal' }));
  hub.script.clear();
  await act(() => room.now.loadMore());
  expect(texts(room.now)).toEqual([1, 2, 3]);
});

test('a page that the server delays is loaded after the wait', async () => {
  for (let n = 1; n <= 3; n++) hub.message('a', n);
  const room = await render(() => useRoom('a', { history: 2 }));
  hub.script.set('history', (socket, e) => {
    hub.refuse(socket, e, 'rate_limited', { retryAfterMs: 15_000 });
    return true;
  });
  let loaded = false;
  await act(async () => {
    void room.now.loadMore().then(() => {
      loaded = true;
    });
    void room.now.loadMore();
  });
  await settle(14_990);
  expect(room.now).toMatchObject({ loading: true, hasMore: true });
  expect(hub.socket.of('history')).toHaveLength(1);
  hub.script.clear();
  await settle(20);
  expect(loaded).toBe(true);
  expect(texts(room.now)).toEqual([1, 2, 3]);
  expect(room.now).toMatchObject({ loading: false, hasMore: false });
  expect(hub.socket.of('history')).toHaveLength(2);
});

test('drops the messages before a gap in the log, which can be loaded again', async () => {
  const room = await render(() => useRoom('a', { history: 2 }));
  hub.message('a', 1);
  await settle();
  await act(async () => hub.socket.end());
  for (let n = 2; n <= 5; n++) hub.message('a', n);
  hub.script.set('resume', (socket, e) => {
    const log = hub.room('a');
    const a = { epoch: log.epoch, seq: 5, recovered: false };
    const inbox = { ...hub.inbox('u1'), seq: 0, recovered: true };
    socket.say({ type: 'ack', id: e.id, data: { rooms: { a }, inbox } });
    for (const m of log.events.slice(-2)) socket.say(m);
    socket.rooms.add('a');
    return true;
  });
  await settle(500);
  expect(texts(room.now)).toEqual([4, 5]);
  expect(room.now).toMatchObject({ recovered: false, hasMore: true });
  await act(() => room.now.loadMore(50));
  expect(texts(room.now)).toEqual([1, 2, 3, 4, 5]);
});

test('keeps at most a thousand messages, and can load the others again', async () => {
  const room = await render(() => useRoom('a', { history: 1 }));
  hub.message('a', 0);
  await settle();
  await act(() => room.now.loadMore());
  expect(room.now.hasMore).toBe(false);
  await act(async () => {
    for (let n = 1; n <= 1_005; n++) hub.message('a', n);
  });
  await settle();
  expect(room.now.messages).toHaveLength(1_000);
  expect(room.now.messages[0]?.data).toBe(6);
  expect(room.now.hasMore).toBe(true);
  await act(() => room.now.loadMore(50));
  expect(room.now.messages).toHaveLength(1_006);
  expect(room.now.hasMore).toBe(false);
});

test('a page of an earlier log is not shown', async () => {
  for (const n of [1, 2, 3]) hub.message('a', n);
  const room = await render(() => useRoom('a', { history: 2 }));
  hub.script.set('history', () => true);
  await act(async () => void room.now.loadMore());
  await act(async () => hub.socket.end());
  hub.forget();
  hub.script.clear();
  for (let n = 11; n <= 25; n++) hub.message('a', n); // more than a resume replays
  await settle(500);
  // The new log has another message before position 2, which must not appear.
  expect(texts(room.now)).toEqual([2, 3, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25]);
  expect(room.now).toMatchObject({ hasMore: true, loading: false });
  await act(() => room.now.loadMore(50));
  expect(texts(room.now).slice(0, 4)).toEqual([2, 3, 11, 12]);
});
