// A live message costs about the same however many messages are shown.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import type { Envelope } from '../src/index.js';
import { type RoomStore, storesOf } from '../src/store/index.js';
import { FakeHub, type FakeSocket } from './fake.js';

const LIVE = 500; // messages per round
const ROUNDS = 8;
const FEW = 50; // messages without a collection of garbage

setFlagsFromString('--expose-gc');
const gc: () => void = runInNewContext('gc');

interface Shown {
  store: RoomStore;
  socket: FakeSocket;
  seq: number;
  close(): void;
}

/** Opens a room that shows so many messages. */
async function show(count: number): Promise<Shown> {
  const hub = new FakeHub();
  const events: Envelope[] = Array.from({ length: count }, (_, i) => event(i + 1));
  hub.room('a').events.push(...events);
  const client = hub.client({ getToken: () => 'u1' });
  const store = storesOf(client).room('a', { history: 0 });
  const stop = store.subscribe(() => {});
  client.connect();
  while (store.snapshot.status !== 'joined') await new Promise((r) => setTimeout(r));
  await store.actions.loadMore(count);
  expect(store.snapshot.messages).toHaveLength(count);
  const close = () => {
    stop();
    client.close();
  };
  return { store, socket: hub.socket, seq: count, close };
}

function event(seq: number): Envelope {
  const from = { id: `u${2 + (seq % 9)}`, name: 'Ben' };
  return { type: 'room-message', id: `m${seq}`, room: 'a', from, seq, ts: seq, data: { text: `message ${seq}` } };
}

/**
 * Takes live messages and changes, and returns the time for one, in µs. The
 * list is read after each one, or only at the end.
 */
function round(shown: Shown, readEach: boolean): number {
  const frames = Array.from({ length: LIVE }, () => JSON.stringify(event(++shown.seq)));
  const changes = frames.map((_, i) => {
    const data = { seq: shown.seq - i, change: 'edited', message: { data: { text: 'edited' }, edited: 1 } };
    return JSON.stringify({ type: 'message-changed', room: 'a', seq: shown.seq + i + 1, data });
  });
  shown.seq += LIVE;
  const start = performance.now();
  for (const data of [...frames, ...changes]) {
    shown.socket.onmessage?.({ data } as never);
    if (readEach) void shown.store.snapshot;
  }
  const time = performance.now() - start;
  expect(shown.store.snapshot.messages.at(-1)).toMatchObject({ seq: shown.seq - LIVE, data: { text: 'edited' } });
  return (time * 1_000) / (2 * LIVE);
}

/**
 * Returns the garbage of a live message, in bytes: the most of some rounds,
 * since a collection during a round hides some.
 */
function garbage(shown: Shown, readEach: boolean): number {
  let most = 0;
  for (let n = 0; n < ROUNDS; n++) {
    const frames = Array.from({ length: FEW }, () => JSON.stringify(event(++shown.seq)));
    gc();
    const before = process.memoryUsage().heapUsed;
    for (const data of frames) {
      shown.socket.onmessage?.({ data } as never);
      if (readEach) void shown.store.snapshot;
    }
    most = Math.max(most, process.memoryUsage().heapUsed - before);
  }
  return most / FEW;
}

test('with 1,000 and with 10,000 shown', async () => {
  const rooms = [await show(1_000), await show(10_000)];
  for (const readEach of [false, true]) {
    const best = rooms.map(() => Infinity);
    for (let n = 0; n < ROUNDS; n++) {
      for (const [i, room] of rooms.entries()) best[i] = Math.min(best[i] ?? 0, round(room, readEach));
    }
    const [few = 1, many = 0] = best;
    const figures = `${few.toFixed(1)} µs with 1,000 shown, ${many.toFixed(1)} µs with 10,000`;
    console.log(
      `a live message${readEach ? ', and a copy of the list' : ''}: ${figures}, ${(many / few).toFixed(2)} times`,
    );
    // Ten times if it walked over them. The time of a copy depends on the
    // machine.
    if (!readEach) expect(many / few).toBeLessThan(5);
    const [little = 1, much = 0] = rooms.map((room) => garbage(room, readEach));
    console.log(`its garbage: ${Math.round(little)} and ${Math.round(much)} bytes`);
    if (!readEach) expect(much / little).toBeLessThan(5);
  }
  for (const room of rooms) room.close();
});
