import { describe, expect, test, vi } from 'vitest';
import type { ChatClient, RoomState } from '../src/index.js';
import { fixture, pass, quiet, standing } from './fixture.js';

const f = fixture();
const ben = { id: 'u2', name: 'Ben' };

function collect(client: ChatClient, room: string): unknown[] {
  const data: unknown[] = [];
  client.room(room).on('room-message', (d) => data.push(d));
  return data;
}

describe('joining', () => {
  test('passes the options on', async () => {
    const client = await f.connect();
    quiet(client.room('a').join());
    quiet(client.room('b').join({ history: 20 }));
    quiet(client.room('c').join({ since: { epoch: 'k3', seq: 7 } }));
    expect(f.hub.socket.of('join-room').map((e) => [e.room, e.data])).toEqual([
      ['a', undefined],
      ['b', { history: 20 }],
      ['c', { since: { epoch: 'k3', seq: 7 } }],
    ]);
  });

  test('waits for a connection, and survives the loss of one', async () => {
    const client = f.make();
    const promise = client.room('a').join();
    expect(client.room('a').state.status).toBe('joining');
    f.hub.script.set('join-room', () => true);
    client.connect();
    await pass();
    f.hub.socket.end();
    f.hub.script.clear();
    expect(await standing(promise)).toBe('waiting');
    await pass(500);
    expect(await promise).toMatchObject({ epoch: 'e2', seq: 0, resumed: false });
    expect(client.room('a').state).toMatchObject({ status: 'joined', users: [{ id: 'u1' }], count: 1 });
  });

  test('happens once for several callers', async () => {
    const client = await f.connect();
    const promises = [client.room('a').join(), client.room('a').join({ history: 5 })];
    await pass();
    promises.push(client.room('a').join());
    const [first, ...others] = await Promise.all(promises);
    for (const other of others) expect(other).toBe(first);
    expect(f.hub.socket.of('join-room')).toHaveLength(1);
  });

  test('a refusal ends it', async () => {
    const client = await f.connect();
    f.hub.script.set('join-room', (s, e) => {
      f.hub.refuse(s, e, 'forbidden');
      return true;
    });
    await expect(client.room('a').join()).rejects.toMatchObject({ code: 'forbidden' });
    expect(client.room('a').state).toMatchObject({ status: 'refused', error: { code: 'forbidden' } });
    f.hub.script.clear();
    f.hub.socket.end();
    await pass(500);
    expect(f.hub.socket.sent.map((e) => e.type)).toEqual(['resume']);
    await client.room('a').join();
    expect(client.room('a').state.status).toBe('joined');
  });

  test('a join that the server cannot serve now is repeated', async () => {
    const client = await f.connect();
    f.hub.script.set('join-room', (s, e) => {
      f.hub.refuse(s, e, 'rate_limited', { retryAfterMs: 700 });
      return true;
    });
    const promise = client.room('a').join();
    await pass(699);
    expect(f.hub.socket.of('join-room')).toHaveLength(1);
    f.hub.script.clear();
    await pass(1);
    expect(f.hub.socket.of('join-room')).toHaveLength(2);
    await promise;
  });

  test('leave() ends a join', async () => {
    const client = f.make();
    const promise = client.room('a').join();
    client.room('a').leave();
    await expect(promise).rejects.toMatchObject({ code: 'not_in_room' });
    client.connect();
    await pass();
    expect(f.hub.socket.of('join-room')).toEqual([]);
  });

  test('leaving and joining at once ends up in the room', async () => {
    const client = await f.connect();
    const told = vi.fn();
    client.room('a').onJoined(told);
    quiet(client.room('a').join());
    client.room('a').leave();
    const joined = client.room('a').join();
    await pass();
    expect(told).toHaveBeenCalledTimes(1);
    expect(await joined).toMatchObject({ epoch: 'e2' });
    expect(f.hub.socket.rooms.has('a')).toBe(true);
    expect(client.room('a').state.status).toBe('joined');
  });
});

describe('users of a room', () => {
  test('is followed', async () => {
    const client = await f.connect();
    const room = client.room('a');
    const states: RoomState[] = [];
    room.onState((s) => states.push(s));
    await room.join();
    const cem = { id: 'u3', name: 'Cem' };
    f.hub.socket.say({ type: 'user-joined', room: 'a', data: { users: [ben, cem], count: 3 } });
    await pass();
    expect(room.users.map((u) => u.id)).toEqual(['u1', 'u2', 'u3']);
    f.hub.socket.say({ type: 'user-left', room: 'a', data: { users: [ben], count: 2 } });
    f.hub.socket.say({ type: 'user-joined', room: 'other', data: { users: [ben], count: 1 } });
    await pass();
    expect(room.state).toMatchObject({ users: [{ id: 'u1' }, cem], count: 2 });
    f.hub.socket.say({ type: 'user-joined', room: 'a', data: { count: 5_000 } });
    await pass();
    expect(room.state).toMatchObject({ count: 5_000 });
    expect(new Set(states).size).toBe(states.length); // all are different objects
  });

  test('is requested again if the list has gaps, at most every 5 s', async () => {
    const client = await f.connect();
    const room = client.room('a');
    await room.join();
    f.hub.message('a', 1);
    await pass();
    f.hub.socket.say({ type: 'user-joined', room: 'a', data: { count: 300 } });
    await pass();
    expect(f.hub.socket.of('join-room')).toHaveLength(1); // another answer would have no list
    for (let i = 0; i < 3; i++) f.hub.socket.say({ type: 'user-left', room: 'a', data: { users: [ben], count: 200 } });
    await pass();
    expect(f.hub.socket.of('join-room')).toHaveLength(2);
    expect(room.state).toMatchObject({ users: [{ id: 'u1' }], count: 1 }); // from the answer
    expect(room.position).toMatchObject({ seq: 1 });
    await pass(5_000);
    f.hub.socket.say({ type: 'user-joined', room: 'a', data: { users: [ben], count: 200 } });
    room.leave();
    await pass();
    expect(room.state).toMatchObject({ status: 'left', users: [] });
  });

  test('is unknown without presence', async () => {
    const client = await f.connect();
    f.hub.script.set('join-room', (s, e) => {
      s.say({ type: 'ack', id: e.id, data: { epoch: 'k', seq: 0, recovered: false } });
      return true;
    });
    await client.room('a').join();
    expect(client.room('a').state).toMatchObject({ users: [], count: 0 });
  });
});

describe('typing', () => {
  const said = () => f.hub.socket.sent.map((e) => e.type).filter((t) => t.includes('typing'));

  test('is sent at most every two seconds, and ends by itself', async () => {
    const client = await f.connect();
    const room = client.room('a');
    room.typing(); // not joined yet
    await room.join();
    for (let i = 0; i < 30; i++) {
      room.typing();
      await pass(100);
    }
    expect(said()).toEqual(['typing', 'typing']);
    await pass(3_899);
    expect(said()).toHaveLength(2);
    await pass(1);
    expect(said()).toEqual(['typing', 'typing', 'stop-typing']);
    room.typing();
    expect(said()).toHaveLength(4);
  });

  test('ends with the message, or at once', async () => {
    const client = await f.connect();
    const room = client.room('a');
    await room.join();
    room.stopTyping(); // nothing to end
    room.typing();
    quiet(room.send('x'));
    room.typing();
    room.stopTyping();
    room.stopTyping();
    expect(said()).toEqual(['typing', 'stop-typing', 'typing', 'stop-typing']);
  });

  test('does not outlive the room or the connection', async () => {
    const client = await f.connect();
    for (const end of [() => client.room('a').leave(), () => f.hub.socket.end()]) {
      await client.room('a').join();
      client.room('a').typing();
      end();
      await pass(5_000);
      expect(f.hub.socket.of('stop-typing')).toEqual([]);
    }
  });

  test('of the others is followed', async () => {
    const client = await f.connect({ getToken: () => 'u1' });
    const room = client.room('a');
    await room.join();
    const typing = () => room.state.typing.map((u) => u.id);
    const say = async (type: string, from = ben, more: object = {}) => {
      f.hub.socket.say({ type, room: 'a', from, ...more });
      await pass();
    };
    await say('typing');
    await say('typing');
    await say('typing', { id: 'u1', name: 'me, in another tab' });
    expect(typing()).toEqual(['u2']);
    await say('stop-typing');
    expect(typing()).toEqual([]);
    await say('typing');
    f.hub.message('a', 'done', ben);
    await pass();
    expect(typing()).toEqual([]);
    await say('typing');
    await say('user-left', ben, { data: { users: [ben], count: 1 } });
    expect(typing()).toEqual([]);
    await say('typing');
    f.hub.socket.end();
    expect(room.state).toMatchObject({ status: 'joining', typing: [] });
  });
});

describe('events', () => {
  test('of a room reach the listeners of the room and those of the client', async () => {
    const client = await f.connect();
    const [a, b, all] = [vi.fn(), vi.fn(), vi.fn()];
    client.room('a').on('poll:closed', a);
    const end = client.room('b').on('poll:closed', b);
    client.on('poll:closed', all);
    f.hub.socket.say({ type: 'poll:closed', room: 'a', data: 1 });
    f.hub.socket.say({ type: 'poll:closed', room: 'b', data: 2 });
    f.hub.socket.say({ type: 'poll:closed', data: 3 });
    await pass();
    end();
    f.hub.socket.say({ type: 'poll:closed', room: 'b', data: 4 });
    await pass();
    expect(a.mock.calls.map((c) => c[0])).toEqual([1]);
    expect(b.mock.calls.map((c) => c[0])).toEqual([2]);
    expect(all.mock.calls.map((c) => c[0])).toEqual([1, 2, 3, 4]);
  });

  test('of a room that the server put the client into are delivered', async () => {
    const client = await f.connect();
    const seen = collect(client, 'a');
    const epochs: unknown[] = [];
    client.on('room-message', (_, { epoch }) => epochs.push(epoch));
    for (const seq of [5, 6]) f.hub.socket.say({ type: 'room-message', room: 'a', seq, data: seq });
    await pass();
    expect(seen).toEqual([5, 6]);
    expect(epochs).toEqual([undefined, undefined]); // no answer has named it
  });

  test('a message refused with not_in_room ends the membership', async () => {
    const client = await f.connect();
    await client.room('a').join();
    f.hub.socket.rooms.delete('a');
    await expect(client.room('a').send('x')).rejects.toMatchObject({ code: 'not_in_room' });
    expect(client.room('a').state).toMatchObject({ status: 'refused', error: { code: 'not_in_room' } });
    await client.room('a').join();
    await client.room('a').send('y');
  });

  test('a room is one object', async () => {
    const client = f.make();
    expect(client.room('a')).toBe(client.room('a'));
    expect(client.room('a').name).toBe('a');
  });
});

describe('removed', () => {
  test('ends the membership, and is told to the room and the client', async () => {
    const client = await f.connect();
    const room = client.room('a');
    const [ofRoom, ofClient, other] = [vi.fn(), vi.fn(), vi.fn()];
    room.on('removed', ({ reason }, e) => ofRoom(reason, e.room, room.state.status));
    client.on('removed', ({ reason }, e) => ofClient(reason, e.room));
    client.room('b').on('removed', other);
    await Promise.all([room.join(), client.room('b').join()]);
    room.typing();
    f.hub.remove('a', 'Spam');
    await pass();
    expect(ofRoom.mock.calls).toEqual([['Spam', 'a', 'refused']]);
    expect(ofClient.mock.calls).toEqual([['Spam', 'a']]);
    expect(other).not.toHaveBeenCalled();
    expect(room.state).toMatchObject({
      status: 'refused',
      removed: { reason: 'Spam' },
      error: { code: 'not_in_room', message: 'Spam' },
      users: [],
      typing: [],
    });
    expect(room.position).toBeNull();
    expect(client.room('b').state.status).toBe('joined');
    await pass(5_000);
    expect(f.hub.socket.of('stop-typing')).toEqual([]);
  });

  test('is not followed by a join of its own, but by one of the application', async () => {
    const client = await f.connect();
    await client.room('a').join();
    f.hub.remove('a', '');
    await pass();
    expect(client.room('a').state).toMatchObject({
      removed: { reason: '' },
      error: { message: 'Removed from the room' },
    });
    f.hub.socket.end();
    await pass(500);
    expect(f.hub.socket.sent.map((e) => [e.type, e.data])).toEqual([
      ['resume', expect.objectContaining({ rooms: {} })],
    ]);
    await client.room('a').join();
    expect(client.room('a').state.status).toBe('joined');
    expect(client.room('a').state.removed).toBeUndefined();
  });

  test('fails the messages that wait for the room', async () => {
    const client = await f.connect();
    await client.room('a').join();
    f.hub.script.set('room-message', () => true);
    const sent = [1, 2].map((n) => client.room('a').send(n));
    f.hub.remove('a', 'Spam');
    for (const p of sent) await expect(p).rejects.toMatchObject({ code: 'not_in_room', message: 'Spam' });
    expect(client.outbox).toEqual([]);
  });

  test('of an earlier membership does not end a join under way', async () => {
    const client = await f.connect();
    await client.room('a').join();
    f.hub.script.set('leave-room', (s, e) => {
      s.say({ type: 'removed', room: 'a', data: { reason: 'late' } });
      f.hub.script.clear();
      f.hub.received(s, e);
      return true;
    });
    client.room('a').leave();
    await client.room('a').join();
    expect(client.room('a').state).toMatchObject({ status: 'joined' });
  });

  test('from a room that the client has not joined is an event only', async () => {
    const client = await f.connect();
    const removed = vi.fn();
    client.on('removed', removed);
    f.hub.socket.say({ type: 'removed', room: 'b', data: { reason: 'x' } });
    await pass();
    expect(removed).toHaveBeenCalledTimes(1);
    expect(client.room('b').state.status).toBe('left');
  });
});

describe('history', () => {
  test('is requested again on the next connection', async () => {
    const client = await f.connect();
    await client.room('a').join();
    f.hub.message('a', 1);
    f.hub.script.set('history', () => true);
    const page = client.room('a').history({ limit: 5, before: 100 });
    f.hub.socket.end();
    f.hub.script.clear();
    await pass(500);
    expect(await page).toMatchObject({ messages: [{ data: 1 }], more: false });
    expect(f.hub.socket.of('history')).toMatchObject([{ room: 'a', data: { limit: 5, before: 100 } }]);
  });

  test('is requested again after the wait set by the server', async () => {
    const client = await f.connect();
    await client.room('a').join();
    f.hub.script.set('history', (s, e) => {
      f.hub.refuse(s, e, 'rate_limited', { retryAfterMs: 300 });
      return true;
    });
    const page = client.room('a').history();
    await pass(200);
    f.hub.script.clear();
    await pass(100);
    expect(await page).toMatchObject({ messages: [], more: false });
  });

  test('is not forgotten when the connection is lost before that', async () => {
    const client = await f.connect({ backoff: { min: 1_000 } });
    vi.spyOn(Math, 'random').mockReturnValue(0.9);
    await client.room('a').join();
    f.hub.script.set('history', (s, e) => {
      f.hub.refuse(s, e, 'rate_limited', { retryAfterMs: 300 });
      return true;
    });
    const page = client.room('a').history();
    await pass(100);
    f.hub.script.clear();
    f.hub.socket.end();
    await pass(900);
    expect(await page).toMatchObject({ messages: [] });
  });

  test('ends with a timeout', async () => {
    const client = await f.connect({ timeout: 2_000 });
    f.hub.script.set('history', () => true);
    const page = expect(client.room('a').history()).rejects.toMatchObject({ code: 'timeout' });
    await pass(2_000);
    await page;
  });
});
