// The state of a room, and what a server has turned off.
import { describe, expect, test } from 'vitest';
import type { Room } from '../src/index.js';
import { storesOf } from '../src/store/index.js';
import { fixture, ODD, pass, quiet } from './fixture.js';

const f = fixture();

/** Has the hub answer joins, and parts of resumes, with a state. */
function answers(more: object): void {
  f.hub.change = (e) => {
    const { type, data } = e as { type: string; data?: { recovered?: boolean; rooms?: object } };
    if (type !== 'ack') return e;
    if (data?.recovered !== undefined) return { ...e, data: { ...data, ...more } };
    if (!data?.rooms) return e;
    const rooms = Object.entries(data.rooms).map(([name, part]) => [name, { ...part, ...more }]);
    return { ...e, data: { ...data, rooms: Object.fromEntries(rooms) } };
  };
}

async function joined(): Promise<Room> {
  const room = (await f.connect({ getToken: () => 'u1' })).room('a');
  await room.join();
  return room;
}

const set = (key: string, value: unknown) => f.hub.emit('a', 'state-changed', { key, value });

describe('the state of a room', () => {
  test('comes with the join, and changes with state-changed', async () => {
    answers({ state: { topic: 'Hi', pinned: 8 }, versions: { topic: 1, pinned: 2 } });
    for (const n of [1, 2, 3]) f.hub.message('a', n);
    const room = await joined();
    expect(room.state).toMatchObject({ state: { topic: 'Hi', pinned: 8 }, versions: { topic: 1, pinned: 2 } });
    const before = room.state.state;
    set('topic', { text: 'Ho' });
    set('__proto__', 1);
    set('pinned', null);
    await pass();
    expect(Object.entries(room.state.state).sort()).toEqual([
      ['__proto__', 1],
      ['topic', { text: 'Ho' }],
    ]);
    expect(Object.entries(room.state.versions).sort()).toEqual([
      ['__proto__', 5],
      ['topic', 4],
    ]);
    expect(before).toEqual({ topic: 'Hi', pinned: 8 });
    room.leave();
    expect(room.state).toMatchObject({ state: {}, versions: {} });
  });

  test('keeps the newest version of each key', async () => {
    const room = await joined();
    set('topic', 1);
    await pass();
    answers({ state: { topic: 3 }, versions: { topic: 9 } });
    f.hub.socket.end();
    set('topic', 2); // replayed after an answer that is newer
    await pass(1_000);
    expect(room.state).toMatchObject({ status: 'joined', state: { topic: 3 }, versions: { topic: 9 } });
  });

  test('stays if it is too large for an answer, and goes if the server has none', async () => {
    const room = await joined();
    set('topic', 1);
    await pass();
    answers({ state: null });
    f.hub.socket.end();
    await pass(1_000);
    expect(room.state).toMatchObject({ status: 'joined', state: { topic: 1 } });
    answers({});
    f.hub.socket.end();
    await pass(1_000);
    expect(room.state).toMatchObject({ status: 'joined', state: {} });
  });

  test('is asked for again if it was too large for a resume', async () => {
    const room = await joined();
    set('topic', 1);
    await pass();
    const big = { state: { topic: 2, pinned: [8] }, versions: { topic: 7, pinned: 8 } };
    let asked = 0;
    f.hub.change = (e) => {
      const { type, data } = e as { type: string; data?: { recovered?: boolean; rooms?: { a?: object } } };
      if (type !== 'ack') return e;
      if (data?.rooms) return { ...e, data: { ...data, rooms: { a: { ...data.rooms.a, state: null } } } };
      if (data?.recovered === undefined) return e;
      asked++;
      // A key is set before the first answer arrives, which does not have it.
      if (asked === 1) f.hub.socket.say({ type: 'state-changed', room: 'a', seq: 9, data: { key: 'new', value: 1 } });
      if (asked === 1) return { ...e, data: { ...data, ...big } };
      return {
        ...e,
        data: { ...data, state: { ...big.state, new: 1 }, versions: { ...big.versions, new: 9 } },
      };
    };
    f.hub.socket.end();
    await pass(1_000);
    expect(room.state).toMatchObject({ status: 'joined', state: { topic: 2, pinned: [8], new: 1 } });
    expect(room.state.versions).toEqual({ topic: 7, pinned: 8, new: 9 });
    expect(asked).toBe(2);
    await pass(60_000);
    expect(asked).toBe(2);
  });

  test('stays if the server could not find it out', async () => {
    const room = await joined();
    set('topic', 1);
    await pass();
    answers({ read: undefined, unread: undefined });
    f.hub.socket.end();
    await pass(1_000);
    expect(room.state).toMatchObject({ status: 'joined', state: { topic: 1 } });
  });

  test('is set with the version that is expected, and repeated until it is stored', async () => {
    const room = await joined();
    f.hub.script.set('set-state', () => true);
    const receipt = room.setState('topic', 'Hi', { expect: 0 });
    await pass();
    const [first] = f.hub.socket.of('set-state');
    expect(first).toMatchObject({ room: 'a', data: { key: 'topic', value: 'Hi', expect: 0 } });
    f.hub.script.set('set-state', (s, e) => {
      s.say({ type: 'ack', id: e.id, data: { seq: 7, ts: 1 } });
      return true;
    });
    f.hub.socket.end();
    await pass(1_000);
    expect(f.hub.socket.of('set-state')).toEqual([first]);
    expect(await receipt).toMatchObject({ id: first?.id, seq: 7 });
  });

  test('is in the store', async () => {
    const client = await f.connect({ getToken: () => 'u1' });
    const store = storesOf(client).room('a');
    const end = store.subscribe(() => {});
    await pass();
    set('topic', 'Hi');
    await pass();
    expect(store.snapshot.state).toEqual({ topic: 'Hi' });
    end();
    await pass(1);
  });

  test('ignores what is not one', async () => {
    const room = await joined();
    const seen: unknown[] = [];
    room.on('state-changed', (data) => seen.push(data));
    for (const data of ODD) f.hub.socket.say({ type: 'state-changed', room: 'a', seq: 100, data });
    await pass();
    expect(seen).toEqual([]);
    for (const state of [1, 'x', true]) {
      answers({ state });
      quiet(room.join());
      f.hub.socket.end();
      await pass(20_000);
    }
    expect(room.state.state).toEqual({});
  });
});

test('what the server has turned off is known', async () => {
  expect((await f.connect()).off).toEqual([]);
  f.hub.welcome = { off: ['room-users', 'message'] };
  expect((await f.connect()).off).toEqual(['room-users', 'message']);
});
