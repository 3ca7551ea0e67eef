// @vitest-environment happy-dom
import { act, type ReactNode, StrictMode } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type ChatClient, ChatError } from '../src/index.js';
import {
  ChatProvider,
  type Conversation,
  useChat,
  useConnection,
  useEvent,
  usePresence,
  usePrivateMessages,
  useRoom,
} from '../src/react/index.js';
import { FakeHub } from './fake.js';

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

let hub: FakeHub;
let client: ChatClient;
let root: Root;

beforeEach(() => {
  vi.useFakeTimers();
  hub = new FakeHub();
  client = hub.client({ getToken: () => 'u1' });
  root = createRoot(document.createElement('div'));
});

afterEach(async () => {
  await act(() => root.unmount());
  await vi.runAllTimersAsync();
  client.close();
  vi.useRealTimers();
});

/** Renders a hook, in StrictMode, and returns what it returned last. */
async function render<T>(hook: () => T, also?: ReactNode): Promise<{ now: T; renders: number }> {
  const result = { now: undefined as T, renders: 0 };
  function Probe() {
    result.now = hook();
    result.renders++;
    return null;
  }
  await act(() =>
    root.render(
      <StrictMode>
        <ChatProvider client={client}>
          <Probe />
          {also}
        </ChatProvider>
      </StrictMode>,
    ),
  );
  await settle();
  return result;
}

async function settle(ms = 10): Promise<void> {
  await act(() => vi.advanceTimersByTimeAsync(ms));
}

const texts = (room: { messages: readonly { data: unknown; status: string }[] }) =>
  room.messages.map((m) => `${m.data} ${m.status}`);

describe('ChatProvider', () => {
  test('opens one connection under StrictMode and closes it when it is gone', async () => {
    const state = await render(useConnection);
    expect(hub.sockets).toHaveLength(1);
    expect(state.now.status).toBe('connected');
    await act(() => root.render(<StrictMode />));
    await settle();
    expect(hub.socket.closed).toBe(true);
    expect(client.state).toMatchObject({ status: 'disconnected', reason: 'closed' });
    expect(vi.getTimerCount()).toBe(0);
  });

  test('shares one client between two providers', async () => {
    await render(
      useConnection,
      <ChatProvider client={client}>
        <b />
      </ChatProvider>,
    );
    expect(hub.sockets).toHaveLength(1);
  });

  test('is needed', () => {
    expect(() => renderToString(<Needs />)).toThrow(/ChatProvider/);
    function Needs() {
      useChat();
      return null;
    }
  });
});

describe('useRoom', () => {
  test('shows a message at once, and once', async () => {
    const room = await render(() => useRoom('lobby'));
    expect(room.now.status).toBe('joined');
    let release = () => {};
    hub.script.set('room-message', (socket, e) => {
      release = () => {
        hub.script.delete('room-message');
        hub.received(socket, e);
      };
      return true;
    });
    await act(async () => void room.now.send('hello'));
    expect(texts(room.now)).toEqual(['hello sending']);
    const { key } = room.now.messages[0] ?? {};
    await act(async () => release());
    await settle();
    expect(texts(room.now)).toEqual(['hello sent']);
    expect(room.now.messages[0]?.key).toBe(key);
  });
});
