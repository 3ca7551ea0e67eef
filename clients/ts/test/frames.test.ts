// Tests with the golden frames of protocol/, which test the Go server too.
import { readFileSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import type { ChatClient, Envelope } from '../src/index.js';
import { ChatError } from '../src/index.js';
import { fixture, pass, quiet } from './fixture.js';

interface Golden {
  name: string;
  direction: 'client' | 'server';
  frame: Envelope;
}

const { frames } = JSON.parse(readFileSync(new URL('../../../protocol/frames.json', import.meta.url), 'utf8')) as {
  frames: Golden[];
};
const f = fixture();
const lobby = 'lobby';
const since = { epoch: 'k3', seq: 7 };

/**
 * Functions that make the client send each frame. It does not send frames
 * without an entry.
 */
const SENDING: Record<string, (client: ChatClient) => unknown> = {
  'message, acknowledged': (c) => c.send('message', { text: 'Hello, all' }),
  'join-room': (c) => c.room(lobby).join(),
  'join-room with the newest messages': (c) => c.room(lobby).join({ history: 20 }),
  'join-room since a position': (c) => c.room(lobby).join({ since }),
  'room-message': (c) => c.room(lobby).send({ text: 'Hi' }),
  typing: (c) =>
    c
      .room(lobby)
      .join()
      .then(() => c.room(lobby).typing()),
  'stop-typing': (c) =>
    c
      .room(lobby)
      .join()
      .then(() => {
        c.room(lobby).typing();
        c.room(lobby).stopTyping();
      }),
  'private-message': (c) => c.privateMessage('u2', { text: 'Psst' }),
  'send-notification': (c) => c.notify('u2', { kind: 'mention', room: lobby }),
  'online-users': (c) => c.onlineUsers(),
  'history, newest': (c) => c.room(lobby).history({ limit: 50 }),
  'history, older': (c) => c.room(lobby).history({ before: 120, limit: 50 }),
  ping: (c) => c.wake(),
  'answer to a question': (c) => {
    c.answer('confirm', () => ({ accepted: true }));
    f.hub.socket.say({ type: 'confirm', id: 'q1', ack: true });
  },
  'refusal of a question': (c) => {
    c.answer('confirm', () => {
      throw new ChatError('forbidden', 'Not now');
    });
    f.hub.socket.say({ type: 'confirm', id: 'q2', ack: true });
  },
  'event of the application': (c) => c.send('order:confirm', { order: 17 }),
};

/**
 * Frames that this client sends in another form, without an id, or in a
 * situation of other tests.
 */
const OTHERWISE = new Set([
  'message',
  'message of any JSON value',
  'room-message without id',
  'leave-room',
  'resume',
  'refresh-token',
  // What it does not send yet.
  'room-message of a trace',
  'room-message in reply',
  'private-message in reply',
  'history, newer',
  'history, around a position',
  'history, between two positions',
  'history of some types',
  'history of the replies to a message',
  'history of a conversation',
  'edit-message',
  'edit-message, private',
  'delete-message',
  'delete-message, private',
  'react',
  'react, taken back',
  'react, private',
  'mark-read',
  'mark-read, private',
  'overview',
  'overview with conversations',
  'set-state',
  'set-state on a condition',
  'set-state, removed',
]);

describe('what the client sends', () => {
  test.each(frames.filter((g) => g.direction === 'client'))('$name', async ({ name, frame }) => {
    const send = SENDING[name];
    expect(send !== undefined, 'it is either sent or listed as not').toBe(!OTHERWISE.has(name));
    if (!send) return;
    const client = await f.connect();
    quiet(Promise.resolve(send(client)));
    await pass();
    // The client chooses its own id, if the frame has one.
    const { id, ...rest } = frame;
    const sent = f.hub.socket.of(frame.type).at(-1);
    expect(sent).toEqual({ ...rest, ...(id !== undefined && { id: expect.any(String) }) });
    if (frame.type === 'ack' || frame.type === 'error') expect(sent?.id).toBe(id);
  });

  test('every name in the lists exists', () => {
    const names = new Set(frames.filter((g) => g.direction === 'client').map((g) => g.name));
    for (const name of [...Object.keys(SENDING), ...OTHERWISE]) expect(names).toContain(name);
  });
});

describe('what the client receives', () => {
  const handled = ['welcome', 'connect-error', 'ack', 'error', 'pong', 'reconnect'];

  test.each(frames.filter((g) => g.direction === 'server'))('$name', async ({ frame }) => {
    const client = await f.connect({ inbox: 'new' });
    await client.room(lobby).join();
    const [listener, inRoom] = [vi.fn(), vi.fn()];
    client.on(frame.type, listener);
    client.room(lobby).on(frame.type, inRoom);
    client.answer('confirm', listener);
    f.hub.socket.say(frame);
    await pass();
    expect(client.state.status).toBe('connected');
    if (handled.includes(frame.type)) {
      expect(listener).not.toHaveBeenCalled();
      return;
    }
    const known = frame.seq !== undefined && [undefined, lobby].includes(frame.room);
    const event = known ? { ...frame, epoch: expect.any(String) } : { ...frame };
    // The client fills in a reason, so that it is always a text.
    if (frame.type === 'removed') event.data = { reason: '', ...(frame.data as object) };
    expect(listener).toHaveBeenCalledExactlyOnceWith(event.data, event);
    expect(inRoom).toHaveBeenCalledTimes(frame.room === lobby ? 1 : 0);
  });

  const answers = frames.filter((g) => g.direction === 'server' && ['ack', 'error'].includes(g.frame.type));

  test.each(answers.filter((g) => g.frame.id))('as an answer: $name', async ({ frame }) => {
    const client = await f.connect();
    f.hub.script.set('ask', () => true);
    const promise = client.send('ask', 1, { id: frame.id });
    f.hub.socket.say(frame);
    if (frame.type === 'ack') expect(await promise).toEqual(frame.data);
    else await expect(promise).rejects.toMatchObject(frame.data as object);
  });

  test.each(frames.filter((g) => g.frame.type === 'welcome'))('at first: $name', async ({ frame }) => {
    const { clientId, user } = frame.data as { clientId: string; user: object };
    f.hub.welcome = null;
    const client = f.make();
    client.connect();
    await pass();
    f.hub.socket.say(frame);
    await pass();
    expect(client.state).toEqual({ status: 'connected', clientId, user });
    expect(client.user).toEqual(user);
  });

  test.each(frames.filter((g) => g.frame.type === 'connect-error'))('instead: $name', async ({ frame }) => {
    f.hub.welcome = null;
    const client = f.make();
    client.connect();
    await pass();
    f.hub.socket.say(frame);
    await pass();
    f.hub.socket.end(4500);
    expect(client.state).toMatchObject({ status: 'disconnected', error: frame.data });
  });
});
