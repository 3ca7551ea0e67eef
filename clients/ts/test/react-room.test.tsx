// @vitest-environment happy-dom
import { act, useEffect, useState } from 'react';
import { expect, test } from 'vitest';
import { useRoom } from '../src/react/index.js';
import { keptIn } from '../src/storage.js';
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

test('sends a message that was a conflict again under another id, next to the other message', async () => {
  hub.message('a', 'theirs', { id: 'u1', name: 'u1' }, 'same');
  for (let n = 0; n < 3; n++) hub.message('a', n);
  const room = await render(() => useRoom('a', { history: 3 }));
  const send = (data: string) =>
    act(
      async () =>
        void client
          .room('a')
          .send(data as never, { id: 'same' })
          .catch(() => {}),
    );
  await send('mine');
  await settle();
  expect(texts(room.now)).toEqual([0, 1, 2, 'mine failed']);
  expect(room.now.messages.at(-1)).toMatchObject({ id: 'same', error: { code: 'conflict' } });
  await act(() => room.now.loadMore()); // brings the other message with this id
  expect(texts(room.now)).toEqual(['theirs', 0, 1, 2, 'mine failed']);
  await act(async () => void room.now.retry('same'));
  await settle();
  expect(texts(room.now)).toEqual(['theirs', 0, 1, 2, 'mine']);
  expect(room.now.messages.at(-1)?.id).not.toBe('same');
  expect(hub.room('a').events.map((e) => e.data)).toEqual(['theirs', 0, 1, 2, 'mine']);
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
  setClient(hub.client({ getToken: () => 'u1', storage: keptIn(storage) }));
  const release = withhold('room-message');
  const room = await render(() => useRoom('a'));
  await act(async () => void client.room('a').send('by the way'));
  expect(texts(room.now)).toEqual(['of before sending', 'by the way sending']);
  await release();
  expect(texts(room.now)).toEqual(['of before', 'by the way']);
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
