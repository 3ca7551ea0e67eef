// A server whose frames have random faults.
import { expect, test, vi } from 'vitest';
import type { Envelope } from '../src/index.js';
import { storesOf } from '../src/store/index.js';
import { fixture, ODD, type Pick, pass, quiet, random } from './fixture.js';

const f = fixture();

const user = { id: 'u2', name: 'Ben' };
const TYPES = [
  'room-message',
  'user-joined',
  'online-users',
  'typing',
  'reconnect',
  'error',
  'confirm',
  'welcome',
  'removed',
  'message-changed',
  'read',
];
const DATA = [
  { users: [user], count: 1 },
  { afterMs: 5 },
  { code: 'internal', message: 'x' },
  { reason: 'x' },
  1,
].concat([
  { seq: 3, change: 'edited', message: { data: 1, edited: 1, reactions: { x: { count: 1, users: ['u2'] } } } },
  { id: 'm', author: 'u2', change: 'deleted', message: { deleted: 1 } },
  { seq: 2, unread: 1, head: 9 },
] as never[]);
const NAMES = ['seq', 'data', 'users', 'error', 'rooms', '__proto__', 'x'];
const JUNK = [...ODD, 1, 2 ** 31, 2 ** 53, 'e1', 'e2', 'a', 'call', 'room-message', user, [user], '__proto__'];

/** Changes, removes and adds some fields, at any depth. */
function mutate(value: unknown, pick: Pick): unknown {
  if (pick(12) === 0) return JUNK[pick(JUNK.length)];
  if (Array.isArray(value)) return value.map((v) => mutate(v, pick));
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).filter(() => pick(20) > 0);
  if (pick(20) === 0) fields.push([NAMES[pick(NAMES.length)] ?? '', JUNK[pick(JUNK.length)]]);
  return Object.fromEntries(fields.map(([name, v]) => [name, mutate(v, pick)]));
}

test.each([1, 2, 3, 4, 5])('nothing throws, and the client works afterwards: seed %i', async (seed) => {
  const pick = random(seed * 0x9e3779b1);
  const errors: unknown[] = [];
  const client = f.make({ getToken: () => 'u1', onError: (err) => errors.push(err), backoff: { min: 10, max: 100 } });
  const seen: Envelope[] = [];
  for (const type of ['room-message', 'private-message', 'user-joined', 'online-users', 'typing']) {
    client.on(type, (_, e) => seen.push(e as Envelope));
  }
  client.answer('confirm', () => 1);
  f.hub.change = (e) => (pick(3) === 0 ? mutate(e, pick) : e);
  const stores = storesOf(client);
  const ends = [stores.room('a'), stores.conversations, stores.overview(['a', 'b'], { inbox: true })].map((store) =>
    store.subscribe(() => void store.snapshot),
  );
  client.connect();
  await pass();

  for (let step = 0; step < 400; step++) {
    const { socket } = f.hub;
    const name = ['a', 'b', '__proto__'][pick(3)] ?? '';
    const room = client.room(name);
    const steps = [
      () => quiet(room.join({ history: 3 })),
      () => room.leave(),
      () => quiet(room.send(step)),
      () => quiet(room.history()),
      () => quiet(client.privateMessage('u2', step)),
      () => quiet(client.onlineUsers()),
      () => quiet(room.edit(1 + pick(step + 1), 'edited')),
      () => quiet(room.react(1 + pick(step + 1), 'x', pick(2) === 0)),
      () => quiet(room.remove(1 + pick(step + 1))),
      () => quiet(room.markRead(pick(step + 1))),
      () => quiet(client.overview({ rooms: [name], inbox: true })),
      () =>
        quiet(
          storesOf(client)
            .room(name)
            .actions.loadAround(pick(step + 1), 3),
        ),
      () => void storesOf(client).room(name).snapshot,
      () => void storesOf(client).conversations.snapshot,
      () => quiet(client.send('message', 1, { id: 'call' })),
      () => f.hub.message(name, step),
      () => f.hub.whisper('u1', step),
      () => pick(5) === 0 && socket.end([1006, 4000, 4003, 4001][pick(4)]),
      () => {
        const [type, data] = [TYPES[pick(TYPES.length)], DATA[pick(DATA.length)]];
        socket.say({ type, id: 'call', room: name, from: user, seq: step, ts: 1, data, ack: type === 'confirm' });
      },
    ];
    steps[pick(steps.length)]?.();
    await pass(pick(50));
  }

  expect(errors).toEqual([]);
  expect(seen.length).toBeGreaterThan(20);
  for (const { type, from, seq = 1, data } of seen) {
    if (from) expect([typeof from.id, typeof from.name]).toEqual(['string', 'string']);
    expect(Number.isSafeInteger(seq)).toBe(true);
    if (type === 'user-joined' || type === 'online-users') expect(data).toMatchObject({ count: expect.any(Number) });
  }
  expect(f.hub.sockets.reduce((sum, s) => sum + s.sent.length, 0)).toBeLessThan(5_000);

  f.hub.change = (e) => e;
  f.hub.forget();
  client.close();
  for (const end of ends) end();
  await pass(1);
  client.close();
  expect(vi.getTimerCount()).toBe(0);
  client.connect();
  await f.works(client);
});
