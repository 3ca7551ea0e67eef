// Shared by the tests of the hooks: a server and a client in memory, and fake
// time.
import { act, type ReactNode, StrictMode } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, vi } from 'vitest';
import type { ChatClient } from '../src/index.js';
import { ChatProvider } from '../src/react/index.js';
import { FakeHub, type FakeSocket, type Sent } from './fake.js';

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

// Of the running test.
export let hub: FakeHub;
export let client: ChatClient;
export let root: Root;

export function setClient(other: ChatClient): void {
  client = other;
}

export function setRoot(other: Root): void {
  root = other;
}

/** To be called at the top of a test file. No test may leave a timer behind. */
export function reactFixture(): void {
  beforeEach(() => {
    vi.useFakeTimers();
    hub = new FakeHub();
    client = hub.client({ getToken: () => 'u1' });
    root = createRoot(document.createElement('div'));
  });

  afterEach(async () => {
    await act(() => root.unmount());
    await vi.advanceTimersByTimeAsync(0);
    client.close();
    await vi.advanceTimersByTimeAsync(2); // the stores pause
    expect(vi.getTimerCount()).toBe(0);
    vi.useRealTimers();
  });
}

export const ben = { id: 'u2', name: 'Ben' };

export async function show(children: ReactNode): Promise<void> {
  await act(async () =>
    root.render(
      <StrictMode>
        <ChatProvider client={client}>{children}</ChatProvider>
      </StrictMode>,
    ),
  );
  await settle();
}

export function Probe({ use }: { use: () => void }) {
  use();
  return null;
}

/** Renders a hook in StrictMode. `now` is its last result. */
export async function render<T>(hook: () => T, also?: ReactNode): Promise<{ now: T; renders: number }> {
  const result = { now: undefined as T, renders: 0 };
  const use = () => {
    result.now = hook();
    result.renders++;
  };
  await show([<Probe key="probe" use={use} />, also]);
  return result;
}

export async function settle(ms = 1): Promise<void> {
  await act(() => vi.advanceTimersByTimeAsync(ms));
}

/**
 * Makes the hub hold its answers to a type of event. Returns a function that
 * releases them.
 */
export function withhold(type: string): () => Promise<void> {
  const held: [FakeSocket, Sent][] = [];
  hub.script.set(type, (socket, e) => held.push([socket, e]));
  return async () => {
    hub.script.delete(type);
    for (const [socket, e] of held) hub.received(socket, e);
    await settle();
  };
}

export const texts = ({ messages }: { messages: readonly { data: unknown; status: string }[] }) =>
  messages.map((m) => (m.status === 'sent' ? m.data : `${m.data} ${m.status}`));
