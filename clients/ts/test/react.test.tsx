// @vitest-environment happy-dom
import { act, StrictMode } from 'react';
import { hydrateRoot } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { describe, expect, test, vi } from 'vitest';
import {
  ChatProvider,
  useChat,
  useConnection,
  useEvent,
  usePresence,
  usePrivateMessages,
  useRoom,
} from '../src/react/index.js';
import {
  ben,
  client,
  hub,
  Probe,
  reactFixture,
  render,
  root,
  setClient,
  setRoot,
  settle,
  show,
  texts,
  withhold,
} from './react-fixture.js';

reactFixture();

describe('ChatProvider', () => {
  test('opens one connection under StrictMode, and closes it when it is gone', async () => {
    const state = await render(useConnection);
    expect(hub.sockets).toHaveLength(1);
    expect(hub.socket.closed).toBe(false);
    expect(state.now.status).toBe('connected');
    await act(() => root.render(<StrictMode />));
    await settle();
    expect(hub.socket.closed).toBe(true);
    expect(client.state).toMatchObject({ status: 'disconnected', reason: 'closed' });
  });

  test('keeps the connection if another provider takes its place', async () => {
    await show(<i />);
    await act(() =>
      root.render(
        <ChatProvider client={client}>
          <b />
        </ChatProvider>,
      ),
    );
    await settle();
    expect(hub.sockets).toHaveLength(1);
    expect(client.state.status).toBe('connected');
  });

  test('shares one client with a second one', async () => {
    await show(
      <ChatProvider client={client}>
        <b />
      </ChatProvider>,
    );
    expect(hub.sockets).toHaveLength(1);
    await show(<i />);
    expect(client.state.status).toBe('connected');
  });

  test('switches to another client', async () => {
    const state = await render(useConnection);
    const first = client;
    setClient(hub.client({ getToken: () => 'u2' }));
    await render(() => {
      state.now = useConnection();
    });
    expect(first.state).toMatchObject({ reason: 'closed' });
    expect(state.now).toMatchObject({ status: 'connected', user: { id: 'u2' } });
  });

  test('is required', () => {
    for (const hook of [useChat, useConnection, usePresence, usePrivateMessages, () => useRoom('a')]) {
      expect(() => renderToString(<Probe use={hook} />)).toThrow(/ChatProvider/);
    }
  });

  test('provides its client', async () => {
    expect((await render(useChat)).now).toBe(client);
  });
});

function Page() {
  const room = useRoom('a');
  const presence = usePresence();
  const inbox = usePrivateMessages();
  const conversation = usePrivateMessages('u2');
  useEvent('message', () => {});
  return (
    <p>
      {useConnection().status} {room.status} {room.messages.length} {presence.count} {inbox.length}{' '}
      {conversation.userId}
      {conversation.messages.length}
    </p>
  );
}

describe('on a server', () => {
  const page = () => (
    <ChatProvider client={client}>
      <Page />
    </ChatProvider>
  );

  test('nothing is connected, and hydration finds the same page', async () => {
    const html = renderToString(page());
    expect(html.replaceAll('<!-- -->', '')).toBe('<p>disconnected left 0 0 0 u20</p>');
    expect(hub.sockets).toHaveLength(0);

    const element = document.createElement('div');
    element.innerHTML = html;
    const errors = vi.spyOn(console, 'error');
    await act(() => root.unmount());
    await act(() => {
      setRoot(hydrateRoot(element, page()));
    });
    await settle();
    expect(errors).not.toHaveBeenCalled();
    expect(element.textContent).toBe('connected joined 0 1 0 u20'.replace('1', String(client.online.count)));
  });
});

describe('useConnection', () => {
  test('follows the state', async () => {
    const state = await render(useConnection);
    await act(async () => hub.socket.end());
    expect(state.now).toMatchObject({ status: 'disconnected', reason: 'lost' });
    await settle(500);
    expect(state.now.status).toBe('connected');
  });
});

describe('useEvent', () => {
  test('calls the function of the last render, once', async () => {
    const calls: string[] = [];
    const on = (name: string) => <Probe key="on" use={() => useEvent('message', (d) => calls.push(`${name} ${d}`))} />;
    await show(on('first'));
    await show(on('second'));
    hub.socket.say({ type: 'message', data: 1 });
    await settle();
    expect(calls).toEqual(['second 1']);
    await show(null);
    hub.socket.say({ type: 'message', data: 2 });
    await settle();
    expect(calls).toHaveLength(1);
  });
});

describe('usePresence', () => {
  test('follows who is online', async () => {
    const presence = await render(usePresence);
    hub.socket.say({ type: 'user-online', data: { users: [ben], count: 1 } });
    await settle();
    expect(presence.now).toMatchObject({ users: [ben], count: 1 });
    expect([presence.now.isOnline('u2'), presence.now.isOnline('u3')]).toEqual([true, false]);
  });
});

describe('usePrivateMessages', () => {
  test('shows messages that came without a subscriber, by user', async () => {
    hub.whisper('u1', 'before all');
    await show(null);
    hub.whisper('u1', 'meanwhile', { id: 'u3', name: 'Cem' });
    await settle();
    const all = await render(() => usePrivateMessages());
    expect(all.now.map((c) => [c.user?.name, texts(c)])).toEqual([
      ['Cem', ['meanwhile']],
      ['Ben', ['before all']],
    ]);
    hub.whisper('u1', 'again');
    await settle();
    expect(all.now.map((c) => [c.userId, texts(c)])).toEqual([
      ['u2', ['before all', 'again']],
      ['u3', ['meanwhile']],
    ]);
  });

  test('sends to a user, and shows it at once and once', async () => {
    const conversation = await render(() => usePrivateMessages('u2'));
    expect(conversation.now).toMatchObject({ userId: 'u2', messages: [] });
    const release = withhold('private-message');
    await act(async () => void conversation.now.send('psst'));
    expect(texts(conversation.now)).toEqual(['psst sending']);
    await release();
    hub.whisper('u1', 'yes?');
    await settle();
    expect(texts(conversation.now)).toEqual(['psst', 'yes?']);
    await act(async () => hub.socket.end());
    await settle(500);
    expect(texts(conversation.now)).toEqual(['psst', 'yes?']);
    expect(conversation.now.user).toEqual(ben);
  });

  test("does not show the application's own durable events", async () => {
    const all = await render(() => usePrivateMessages());
    hub.whisper('u1', 'hello');
    await settle();
    const log = hub.inbox('u1');
    hub.socket.say({ type: 'invoice', to: 'u1', from: ben, seq: 50, ts: 1, data: 'durable' });
    hub.socket.say({ type: 'notification', to: 'u1', from: ben, seq: 51, ts: 1, data: 'durable' });
    await settle();
    expect(client.inbox).toEqual({ epoch: log.epoch, seq: 51 });
    expect(all.now.map((c) => [c.userId, texts(c)])).toEqual([['u2', ['hello']]]);
  });

  test('shows messages of another tab', async () => {
    const conversation = await render(() => usePrivateMessages('u2'));
    hub.whisper('u2', 'from the other tab', { id: 'u1', name: 'u1' });
    await settle();
    expect(texts(conversation.now)).toEqual(['from the other tab']);
  });

  test('keeps failed messages, sends them again, discards them', async () => {
    const conversation = await render(() => usePrivateMessages('u2'));
    hub.script.set('private-message', (socket, e) => {
      hub.refuse(socket, e, 'forbidden');
      return true;
    });
    await act(async () => void conversation.now.send('one'));
    await act(async () => void conversation.now.send('two'));
    await settle();
    expect(texts(conversation.now)).toEqual(['one failed', 'two failed']);
    hub.script.clear();
    const [one, two] = conversation.now.messages;
    await act(async () => void conversation.now.retry(one?.id ?? ''));
    await act(async () => conversation.now.discard(two?.id ?? ''));
    await settle();
    expect(texts(conversation.now)).toEqual(['one']);
    await expect(conversation.now.retry('nothing')).rejects.toMatchObject({ code: 'bad_request' });
  });

  test('sends a message that was a conflict again under another id', async () => {
    const talk = await render(() => usePrivateMessages('u2'));
    await act(async () => void client.privateMessage('u2', 'one', { id: 'same' }));
    await settle();
    await act(async () => void client.privateMessage('u2', 'two', { id: 'same' }).catch(() => {}));
    await settle();
    expect(texts(talk.now)).toEqual(['one', 'two failed']);
    await act(async () => void talk.now.retry('same'));
    await settle();
    expect(texts(talk.now)).toEqual(['one', 'two']);
    expect(hub.inbox('u2').events.map((e) => e.data)).toEqual(['one', 'two']);
  });

  test('keeps the messages that a server has lost in a restart', async () => {
    const conversation = await render(() => usePrivateMessages('u2'));
    hub.whisper('u1', 'old');
    await settle();
    await act(async () => hub.socket.end());
    hub.forget();
    hub.whisper('u1', 'new');
    await settle(500);
    expect(texts(conversation.now)).toEqual(['old', 'new']);
  });

  test('forgets it for another user', async () => {
    let user = 'u1';
    setClient(hub.client({ getToken: () => user }));
    const all = await render(() => usePrivateMessages());
    hub.whisper('u1', 'for u1');
    await settle();
    expect(all.now).toHaveLength(1);
    user = 'u4';
    await act(async () => {
      client.close();
      client.connect();
    });
    await settle();
    expect(all.now).toEqual([]);
  });
});
