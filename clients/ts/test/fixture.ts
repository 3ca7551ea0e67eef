// Shared by the scripted tests: a server in memory, its clients, and fake time.
import { afterEach, beforeEach, expect, vi } from 'vitest';
import type { ChatClient, ChatOptions } from '../src/index.js';
import { FakeHub } from './fake.js';

export interface Fixture {
  hub: FakeHub;
  make(options?: ChatOptions): ChatClient;
  /** Makes a client and waits until it is connected. */
  connect(options?: ChatOptions): Promise<ChatClient>;
  /** Checks that a client connects, joins, sends and receives. */
  works(client: ChatClient): Promise<void>;
}

/** Values that are wrong in most places. */
export const ODD: unknown[] = [
  undefined,
  null,
  true,
  0,
  -1,
  0.5,
  1e300,
  '',
  'x',
  [],
  [null],
  {},
  { error: null },
  [[{}]],
];

/** Lets time pass. */
export const pass = (ms = 0) => vi.advanceTimersByTimeAsync(ms);

/** To be called at the top of a test file. No test may leave a timer behind. */
export function fixture(): Fixture {
  let clients: ChatClient[];
  const f: Fixture = {
    hub: new FakeHub(),
    make(options = {}) {
      const client = f.hub.client(options);
      clients.push(client);
      return client;
    },
    async connect(options) {
      const client = f.make(options);
      client.connect();
      await pass();
      expect(client.state.status).toBe('connected');
      return client;
    },
    async works(client) {
      f.hub.script.clear();
      f.hub.welcome = {};
      await pass(60_000);
      expect(client.state.status).toBe('connected');
      const room = client.room('still works');
      const seen: unknown[] = [];
      room.on('room-message', (data) => seen.push(data));
      quiet(room.join());
      const receipt = room.send('hello');
      await pass(1_000);
      expect(await receipt).toMatchObject({ seq: expect.any(Number) });
      expect(seen).toEqual(['hello']);
    },
  };
  beforeEach(() => {
    vi.useFakeTimers();
    f.hub = new FakeHub();
    clients = [];
  });
  afterEach(() => {
    for (const client of clients) client.close();
    expect(vi.getTimerCount()).toBe(0);
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });
  return f;
}

/** Ignores the outcome of a promise. */
export function quiet(promise: Promise<unknown>): void {
  promise.catch(() => {});
}

/** Returns `waiting`, or the value of a promise, or the code of its error. */
export async function standing(promise: Promise<unknown>): Promise<unknown> {
  return Promise.race([
    promise.catch((err) => err.code ?? err),
    Promise.resolve()
      .then(() => {})
      .then(() => 'waiting'),
  ]);
}

/** Returns a random number below another. */
export type Pick = (below: number) => number;

/**
 * Makes a source of random numbers, always the same for a seed (xorshift32).
 */
export function random(seed: number): Pick {
  let x = seed;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}
