// Shared by the tests of the stores: a server and clients in memory.
import { afterEach, beforeEach, vi } from 'vitest';
import type { ChatClient } from '../src/index.js';
import { type ConversationStore, type RoomStore, storesOf } from '../src/store/index.js';
import { type Fixture, fixture, pass } from './fixture.js';

export let f: Fixture;
export let ends: (() => void)[];

/** To be called at the top of a test file. No test may leave a timer behind. */
export function storeFixture(): void {
  f = fixture();
  beforeEach(() => {
    ends = [];
  });
  afterEach(async () => {
    for (const end of ends) end();
    await pass(2); // the stores pause
  });
}

/** Opens a store, and returns a function that counts its notifications. */
export function open(store: { subscribe(fn: () => void): () => void }): () => number {
  const fn = vi.fn();
  ends.push(store.subscribe(fn));
  return () => fn.mock.calls.length;
}

export async function openRoom(options: object = {}): Promise<{ client: ChatClient; store: RoomStore }> {
  const client = await f.connect({ getToken: () => 'u1' });
  const store = storesOf(client).room('a', options);
  open(store);
  await pass(1);
  return { client, store };
}

/** Another client, in the same room. */
export async function other(user = 'u2'): Promise<ChatClient> {
  const client = await f.connect({ getToken: () => user });
  await client.room('a').join();
  return client;
}

export const lines = ({ snapshot }: { snapshot: RoomStore['snapshot'] | ConversationStore['snapshot'] }) =>
  snapshot.messages.map((m) => {
    const reactions = Object.entries(m.reactions ?? {}).map(([key, { count }]) => `${key}${count}`);
    const marks = [m.edited && '(edited)', m.deleted && '(deleted)', ...reactions, m.status !== 'sent' && m.status];
    return [m.data, ...marks].filter((v) => v !== undefined && v !== false).join(' ');
  });

export const at = (store: RoomStore | ConversationStore, index: number) => {
  const m = store.snapshot.messages.at(index);
  if (!m) throw new Error('there is no such message');
  return m;
};

/** Makes the hub hold its answers. Returns a function that releases them. */
export function withhold(...types: string[]): () => Promise<void> {
  const held: (() => void)[] = [];
  for (const type of types) {
    f.hub.script.set(type, (socket, e) => held.push(() => f.hub.received(socket, e)));
  }
  return async () => {
    for (const type of types) f.hub.script.delete(type);
    for (const go of held) go();
    await pass(1);
  };
}
