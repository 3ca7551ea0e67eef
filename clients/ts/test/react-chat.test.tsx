// @vitest-environment happy-dom
// What the hooks add to the stores.
import { act } from 'react';
import { expect, test } from 'vitest';
import { useOverview, usePrivateMessages, useRoom } from '../src/react/index.js';
import { client, hub, reactFixture, render, settle, texts, withhold } from './react-fixture.js';

reactFixture();

const me = { id: 'u1', name: 'u1' };

test('a room shows changes at once, keeps keys, and takes back what is refused', async () => {
  hub.message('a', 'old', me);
  const room = await render(() => useRoom('a'));
  const [before] = room.now.messages;
  if (!before) throw new Error('there is no message');
  const release = withhold('edit-message');
  await act(async () => void room.now.edit(before, 'new'));
  expect(texts(room.now)).toEqual(['new']);
  expect(room.now.messages[0]?.key).toBe(before.key);
  await release();
  expect(room.now.messages[0]).toMatchObject({ data: 'new', version: 2, key: before.key });
  hub.old = true;
  await act(() => expect(room.now.remove(before)).rejects.toMatchObject({ code: 'unknown_type' }));
  await settle();
  expect(texts(room.now)).toEqual(['new']);
});

test('a room has its unread count, and functions that stay the same', async () => {
  for (const n of [1, 2]) hub.message('a', n);
  const room = await render(() => useRoom('a'));
  const { markRead, loadAround } = room.now;
  expect(room.now).toMatchObject({ unread: 2, firstUnread: room.now.messages[0]?.key });
  await act(() => room.now.markRead());
  await act(() => room.now.markRead());
  expect(room.now.unread).toBe(0);
  expect(hub.socket.of('mark-read')).toHaveLength(1);
  expect([room.now.markRead, room.now.loadAround]).toEqual([markRead, loadAround]);
});

test('a private conversation is answered and loads older messages', async () => {
  const talk = await render(() => usePrivateMessages('u2'));
  await act(async () => void talk.now.send('one'));
  await settle();
  const [one] = talk.now.messages;
  if (!one) throw new Error('there is no message');
  await act(async () => void talk.now.reply(one, 'two'));
  await settle();
  expect(talk.now.messages[1]).toMatchObject({ data: 'two', re: { id: one.id, author: 'u1' } });
  await act(() => talk.now.loadMore());
  expect(talk.now).toMatchObject({ hasMore: false, userId: 'u2' });
});

test('an overview asks once for the same rooms, and follows the marker', async () => {
  hub.message('a', 1);
  hub.whisper('u1', 'psst');
  // Another array in each render, in any order.
  let names = ['b', 'a'];
  const overview = await render(() => {
    names = [...names].reverse();
    return useOverview(names, { inbox: true });
  });
  expect(overview.now).toMatchObject({
    loading: false,
    rooms: { a: { unread: 1, last: { data: 1 } } },
    conversations: [{ user: { id: 'u2' } }],
  });
  const asked = hub.socket.of('overview').length;
  await act(() => client.room('a').markRead(1));
  expect(overview.now.rooms.a).toMatchObject({ unread: 0 });
  expect(hub.socket.of('overview')).toHaveLength(asked);
  await act(() => overview.now.refresh());
  expect(hub.socket.of('overview')).toHaveLength(asked + 1);
});
