// A live message costs about the same however many messages are shown.
import { expect, test } from 'vitest';
import type { Envelope } from '../src/index.js';
import { type RoomStore, storesOf } from '../src/store/index.js';
import { FakeHub, type FakeSocket } from './fake.js';

const LIVE = 500; // messages per round
const ROUNDS = 8;

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

/** Takes live messages, and returns the time for one, in µs. */
function round(shown: Shown): number {
  const frames = Array.from({ length: LIVE }, () => JSON.stringify(event(++shown.seq)));
  const changes = frames.map((_, i) => {
    const data = { seq: shown.seq - i, change: 'edited', message: { data: { text: 'edited' }, edited: 1 } };
    return JSON.stringify({ type: 'message-changed', room: 'a', seq: shown.seq + i + 1, data });
  });
  shown.seq += LIVE;
  const start = performance.now();
  for (const data of [...frames, ...changes]) {
    shown.socket.onmessage?.({ data } as never);
    if (shown.store.snapshot.messages.length === 0) throw new Error('nothing is shown');
  }
  return ((performance.now() - start) * 1_000) / (2 * LIVE);
}

test('with 1,000 and with 10,000 shown', async () => {
  const [few, many] = [await show(1_000), await show(10_000)];
  const times = { few: Infinity, many: Infinity };
  for (let n = 0; n < ROUNDS; n++) {
    times.few = Math.min(times.few, round(few));
    times.many = Math.min(times.many, round(many));
  }
  few.close();
  many.close();
  const ratio = times.many / times.few;
  console.log(
    `a live message: ${times.few.toFixed(1)} µs with 1,000 shown, ${times.many.toFixed(1)} µs with 10,000 (${ratio.toFixed(2)} times)`,
  );
  // Ten times if it walked over them.
  expect(ratio).toBeLessThan(4);
});
