// @vitest-environment happy-dom
import { act, useEffect, useState } from 'react';
import { expect, test } from 'vitest';
import { useRoom } from '../src/react/index.js';
import {
  ben,
  client,
  hub,
  Probe,
  reactFixture,
  render,
  setClient,
  settle,
  show,
  texts,
  withhold,
} from './react-fixture.js';

reactFixture();
test('joins with history, shows new messages, and leaves', async () => {
  for (const n of [1, 2, 3]) hub.message('a', n);
  const room = await render(() => useRoom('a', { history: 2 }));
  expect(room.now.status).toBe('joined');
  expect(texts(room.now)).toEqual([2, 3]);
  hub.message('a', 4);
  await settle();
  expect(texts(room.now)).toEqual([2, 3, 4]);
  expect(hub.socket.of('join-room')).toMatchObject([{ data: { history: 2 } }]);
  await show(null);
  expect(hub.socket.of('leave-room')).toHaveLength(1);
});

test('shows a message at once, and the same one when it has arrived', async () => {
  const room = await render(() => useRoom('a'));
  const release = withhold('room-message');
  let receipt: unknown;
  await act(async () => void room.now.send('hello').then((r) => (receipt = r)));
  expect(texts(room.now)).toEqual(['hello sending']);
  const { key, id } = room.now.messages[0] ?? {};
  hub.message('a', 'of somebody else');
  await settle();
  expect(texts(room.now)).toEqual(['of somebody else', 'hello sending']);
  await release();
  expect(texts(room.now)).toEqual(['of somebody else', 'hello']);
  expect(room.now.messages[1]).toMatchObject({
    key,
    id,
    from: { id: 'u1' },
    epoch: hub.room('a').epoch,
    seq: 2,
    ts: expect.any(Number),
  });
  expect(receipt).toMatchObject({ id, seq: 2 });
});

test('works whether the answer or the event comes first', async () => {
  const room = await render(() => useRoom('a'));
  for (const first of ['answer', 'event']) {
    hub.script.set('room-message', (socket, e) => {
      const event = { ...e, from: { id: 'u1', name: 'u1' }, seq: first === 'answer' ? 1 : 2, ts: 5 };
      const answer = { type: 'ack', id: e.id, data: { seq: event.seq, ts: 5 } };
      for (const frame of first === 'answer' ? [answer, event] : [event, answer]) socket.say(frame);
      return true;
    });
    await act(async () => void room.now.send(first));
    await settle();
  }
  expect(texts(room.now)).toEqual(['answer', 'event']);
  expect(new Set(room.now.messages.map((m) => m.key)).size).toBe(2);
});

test("shows another tab's messages, and those of the application", async () => {
  const room = await render(() => useRoom('a'));
  hub.message('a', 'other tab', { id: 'u1', name: 'u1' }, 'x');
  hub.socket.say({ type: 'room-message', room: 'a', seq: 9, data: 'application' });
  await settle();
  expect(texts(room.now)).toEqual(['other tab', 'application']);
});

test('keeps a failed message, to be sent again with its id', async () => {
  const room = await render(() => useRoom('a'));
  hub.script.set('room-message', (socket, e) => {
    hub.refuse(socket, e, 'forbidden');
    return true;
  });
  await act(async () => void room.now.send('hello').catch(() => {}));
  await settle();
  expect(room.now.messages).toMatchObject([{ data: 'hello', status: 'failed', error: { code: 'forbidden' } }]);
  const { id = '', key } = room.now.messages[0] ?? {};
  hub.script.clear();
  await act(async () => void room.now.retry(id));
  await settle();
  expect(room.now.messages).toMatchObject([{ data: 'hello', status: 'sent', id, key }]);
  await expect(room.now.retry(id)).rejects.toMatchObject({ code: 'bad_request' });
});

test('a failure without a handler is not an uncaught error', async () => {
  const room = await render(() => useRoom('a'));
  hub.script.set('room-message', (socket, e) => {
    hub.refuse(socket, e, 'forbidden');
    return true;
  });
  await act(async () => void room.now.send('hello'));
  await settle();
  expect(texts(room.now)).toEqual(['hello failed']);
});

test('shows a message that did not fit into the outbox', async () => {
  setClient(hub.client({ getToken: () => 'u1', maxOutbox: 1 }));
  const room = await render(() => useRoom('a'));
  await act(async () => hub.socket.end());
  await act(async () => {
    void room.now.send('one');
    void room.now.send('two');
  });
  expect(texts(room.now)).toEqual(['one sending', 'two failed']);
  await settle(500);
  const failed = room.now.messages.find((m) => m.status === 'failed');
  await act(async () => void room.now.retry(failed?.id ?? ''));
  await settle();
  expect(texts(room.now)).toEqual(['one', 'two']);
});

test('gives up a message', async () => {
  const room = await render(() => useRoom('a'));
  withhold('room-message');
  await act(async () => void room.now.send('hello'));
  await act(async () => room.now.discard(room.now.messages[0]?.id ?? ''));
  expect(texts(room.now)).toEqual([]);
  expect(client.outbox).toEqual([]);
});

test('shows messages sent elsewhere on the page, and messages that an earlier page left', async () => {
  const items = new Map([
    [
      'chathub:outbox',
      JSON.stringify({ messages: [{ type: 'room-message', id: 'old', room: 'a', data: 'of before' }] }),
    ],
  ]);
  const storage = {
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => items.set(key, value),
    removeItem: (key: string) => items.delete(key),
  };
  setClient(hub.client({ getToken: () => 'u1', storage }));
  const release = withhold('room-message');
  const room = await render(() => useRoom('a'));
  await act(async () => void client.room('a').send('by the way'));
  expect(texts(room.now)).toEqual(['of before sending', 'by the way sending']);
  await release();
  expect(texts(room.now)).toEqual(['of before', 'by the way']);
});

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

test('messages with the same id have keys of their own', async () => {
  const room = await render(() => useRoom('a'));
  hub.message('a', 1, { id: 'u2', name: 'Ben' }, 'same');
  hub.message('a', 2, { id: 'u2', name: 'Ben' }, 'same');
  hub.message('a', 3, { id: 'u2/x', name: 'Cem' }, 'y');
  hub.message('a', 4, { id: 'u2', name: 'Ben' }, 'x/y');
  await settle();
  expect(new Set(room.now.messages.map((m) => m.key)).size).toBe(4);
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

test('continues after a reconnect, without loss or double', async () => {
  const room = await render(() => useRoom('a'));
  hub.message('a', 1);
  await settle();
  await act(async () => hub.socket.end());
  expect(room.now.status).toBe('joining');
  await act(async () => void room.now.send('mine'));
  hub.message('a', 2);
  await settle(500);
  expect(texts(room.now)).toEqual([1, 2, 'mine']);
  expect(room.now.recovered).toBe(true);
});

test('keeps the messages that a server has lost, and continues behind them', async () => {
  const room = await render(() => useRoom('a'));
  hub.message('a', 'old');
  await settle();
  await act(async () => hub.socket.end());
  hub.forget();
  hub.message('a', 'new');
  await settle(500);
  expect(texts(room.now)).toEqual(['old', 'new']);
  expect(room.now.recovered).toBe(false);
});

test('a message sent again after a server lost it is shown once', async () => {
  const room = await render(() => useRoom('a'));
  hub.script.set('room-message', (socket, e) => {
    hub.message('a', e.data, socket.user, e.id);
    queueMicrotask(() => queueMicrotask(() => socket.end())); // without an ack
    return true;
  });
  await act(async () => void room.now.send('mine'));
  await settle();
  expect(texts(room.now)).toEqual(['mine']);
  hub.forget();
  hub.script.clear();
  await settle(500);
  expect(client.outbox).toEqual([]);
  expect(texts(room.now)).toEqual(['mine']);
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

test('a burst takes few enough renders for React', async () => {
  const errors: unknown[] = [];
  setClient(hub.client({ getToken: () => 'u1', onError: (err) => errors.push(err) }));
  let renders = 0;
  const room = await render(() => {
    const view = useRoom('a');
    const [, setSeen] = useState(0);
    useEffect(() => setSeen(view.messages.length), [view.messages]);
    renders++;
    return view;
  });
  // As in a browser, React renders after each message, and updates made by
  // effects come later.
  const flags = globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean };
  flags.IS_REACT_ACT_ENVIRONMENT = false;
  for (let n = 1; n <= 200; n++) {
    hub.message('a', n);
    await null;
  }
  flags.IS_REACT_ACT_ENVIRONMENT = true;
  await settle();
  expect(errors).toEqual([]);
  expect(room.now.messages).toHaveLength(200);
  expect(renders).toBeLessThan(100);
});

test('is one room for all components that show it', async () => {
  const [a, b] = [await render(() => useRoom('a')), { now: undefined as unknown }];
  const other = <Probe key="other" use={() => Object.assign(b, { now: useRoom('a').messages })} />;
  const both = await render(() => useRoom('a'), other);
  hub.message('a', 1);
  await settle();
  expect(both.now.messages).toBe(b.now);
  expect(a.now.status).toBe('joined');
  expect(hub.socket.of('join-room')).toHaveLength(1);
  await render(() => useRoom('a'));
  expect(hub.socket.of('leave-room')).toHaveLength(0);
});

test('goes from room to room', async () => {
  hub.message('a', 'in a');
  hub.message('b', 'in b');
  const seen: string[] = [];
  const room = (name: string) => (
    <Probe
      key="room"
      use={() => {
        const { messages } = useRoom(name);
        seen.push(`${name}: ${messages.map((m) => m.data)}`);
      }}
    />
  );
  await show(room('a'));
  await show(room('b'));
  expect(seen).toContain('a: in a');
  expect(seen.at(-1)).toBe('b: in b');
  expect(seen).not.toContain('b: in a');
  expect(hub.socket.of('leave-room').map((e) => e.room)).toEqual(['a']);
  await show(room('a'));
  expect(seen.at(-1)).toBe('a: in a');
});

test('does not leave before its messages are sent', async () => {
  const room = await render(() => useRoom('a'));
  const release = withhold('room-message');
  await act(async () => void room.now.send('last words'));
  await show(null);
  expect(hub.socket.of('leave-room')).toHaveLength(0);
  await release();
  await settle();
  expect(hub.room('a').events.map((e) => e.data)).toEqual(['last words']);
  expect(hub.socket.of('leave-room')).toHaveLength(1);
});

test('shows who is present and who is typing', async () => {
  const room = await render(() => useRoom('a'));
  hub.socket.say({ type: 'user-joined', room: 'a', data: { users: [ben], count: 2 } });
  hub.socket.say({ type: 'typing', room: 'a', from: ben });
  await settle();
  expect(room.now).toMatchObject({ users: [{ id: 'u1' }, ben], count: 2, typing: [ben] });
  room.now.setTyping();
  room.now.setTyping();
  room.now.stopTyping();
  expect(hub.socket.sent.slice(-2).map((e) => e.type)).toEqual(['typing', 'stop-typing']);
});

test('forgets the messages shown to another user', async () => {
  let user = 'u1';
  setClient(hub.client({ getToken: () => user }));
  for (const n of [1, 2, 3]) hub.message('a', n);
  const room = await render(() => useRoom('a', { history: 1 }));
  await act(() => room.now.loadMore());
  expect(texts(room.now)).toEqual([2, 3]);
  user = 'u4';
  await act(async () => {
    client.close();
    client.connect();
  });
  await settle();
  expect(texts(room.now)).toEqual([3]);
});

test('says why it cannot be joined', async () => {
  hub.script.set('join-room', (socket, e) => {
    hub.refuse(socket, e, 'forbidden');
    return true;
  });
  const room = await render(() => useRoom('a'));
  expect(room.now).toMatchObject({ status: 'refused', error: { code: 'forbidden' }, messages: [] });
});

test('says that the application took the user out, and keeps the messages', async () => {
  for (const n of [1, 2, 3]) hub.message('a', n);
  const room = await render(() => useRoom('a', { history: 2 }));
  expect(room.now.removed).toBeUndefined();
  await act(async () => hub.remove('a', 'Spam'));
  await settle();
  expect(room.now).toMatchObject({ status: 'refused', removed: { reason: 'Spam' }, error: { code: 'not_in_room' } });
  expect(texts(room.now)).toEqual([2, 3]);
  await act(() => room.now.loadMore());
  expect(hub.socket.of('history')).toEqual([]);
  await act(async () => void room.now.send('after').catch(() => {}));
  await settle();
  expect(texts(room.now)).toEqual([2, 3, 'after failed']);
  await show(null);
  const again = await render(() => useRoom('a', { history: 2 }));
  expect(again.now.status).toBe('joined');
  expect(again.now.removed).toBeUndefined();
});

test('shows a room that the application has joined before', async () => {
  for (const n of [1, 2]) hub.message('a', n);
  client.connect();
  await settle();
  await client.room('a').join();
  const room = await render(() => useRoom('a'));
  await settle();
  expect(texts(room.now)).toEqual([1, 2]);
});

test('renders only when something has changed', async () => {
  const room = await render(() => useRoom('a'));
  const { renders, now } = room;
  hub.socket.say({ type: 'pong' });
  hub.message('other', 1);
  hub.socket.say({ type: 'stop-typing', room: 'a', from: ben });
  await settle();
  expect(room.renders).toBe(renders);
  expect(room.now).toBe(now);
});
