// Checked by the compiler alone. Lines that must not compile are marked.
import { ChatClient, type ChatEvents, type Envelope, type Receipt, type WebSocketConstructor } from 'chathub-client';
import { type Message, useChat, useEvent, type useOverview, usePrivateMessages, useRoom } from 'chathub-client/react';
import { keptIn, type StorageLike } from 'chathub-client/storage';
import NodeWebSocket from 'ws';

declare module 'chathub-client' {
  interface ChatEvents {
    'room-message': { text: string };
    'poll:closed': { yes: number; no: number };
  }
  interface ChatCalls {
    'order:confirm': (order: { id: number }) => { status: string };
  }
  interface ChatQuestions {
    'still-there': (why: { reason: string }) => boolean;
  }
}

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Equal<A, B>) => {};

// With declared types.
const client = new ChatClient('/ws');
client.on('poll:closed', (data, event) => {
  same<typeof data, { yes: number; no: number }>(true);
  same<typeof event, Envelope<{ yes: number; no: number }>>(true);
});
// @ts-expect-error: polls have no such field
client.on('poll:closed', (data: { maybe: number }) => data);
client.on('online-users', ({ count, users }) => same<[typeof count, typeof users], [number, Users | undefined]>(true));
type Users = ChatClient['online']['users'];
client.on('private-message', (data) => same<typeof data, unknown>(true));
client.on('removed', ({ reason }) => same<typeof reason, string>(true));
client.room('lobby').on('removed', ({ reason }) => same<typeof reason, string>(true));
client.on('somebody-elses', (data) => same<typeof data, unknown>(true));
// @ts-expect-error: its data is not declared
client.on('somebody-elses', (data: { text: string }) => data);

const room = client.room('lobby');
room.on('room-message', ({ text }) => same<typeof text, string>(true));
const receipt = room.send({ text: 'Hi' });
same<typeof receipt, Promise<Receipt>>(true);
// @ts-expect-error: a room message has a text
void room.send({ txt: 'Hi' });
void room.history().then(({ messages: [first] }) => same<typeof first, Envelope<{ text: string }> | undefined>(true));

const edited = room.edit(8, { text: 'Hi!' });
same<typeof edited, Promise<Receipt>>(true);
// @ts-expect-error: a room message has a text
void room.edit(8, 'Hi!');
// @ts-expect-error: a room message is named by its position
void room.remove({ id: 'x', author: 'u1' });
void room.send({ text: 'Hi' }, { re: 8 });
void client.conversation('u2').react({ id: 'x', author: 'u1' }, 'x', false);
// @ts-expect-error: a private message is named by its id and author
void client.conversation('u2').send('Hi', { re: 8 });
client.on('message-changed', ({ change }) => same<typeof change, 'edited' | 'deleted' | 'reacted'>(true));
void client.overview({ rooms: ['lobby'] }).then(({ rooms }) => {
  same<(typeof rooms)[string]['last'], Envelope<{ text: string }> | undefined>(true);
});

const confirmed = client.send('order:confirm', { id: 17 });
same<typeof confirmed, Promise<{ status: string }>>(true);
// @ts-expect-error: an order has a number
void client.send('order:confirm', { id: '17' });
const other = client.send('somebody-elses', 1);
same<typeof other, Promise<unknown>>(true);
// @ts-expect-error: a room message has a text
void client.send('room-message', 'Hi', { room: 'lobby' });
void client.send(String(Math.random()), 'Hi');
const kept = client.send(
  'room-message',
  { text: 'Hi' },
  { room: 'lobby', timeout: 1_000, signal: AbortSignal.any([]) },
);
same<typeof kept, Promise<Receipt>>(true);

client.answer('still-there', ({ reason }) => reason.length > 0);
client.answer('still-there', async ({ reason }) => reason.length > 0);
// @ts-expect-error: the answer is yes or no
client.answer('still-there', () => 'perhaps');
client.answer('somebody-elses', () => 'perhaps');

const state = client.state;
if (state.status === 'connected') same<typeof state.clientId, string>(true);
// @ts-expect-error: without a connection there is no id
else state.clientId;
// @ts-expect-error: states are immutable
state.status = 'connected';

// With type parameters.
const typed = new ChatClient<{ tick: number }, { sum: (numbers: number[]) => number }, { ask: (q: string) => string }>(
  '/ws',
);
typed.on('tick', (n) => same<typeof n, number>(true));
typed.on('poll:closed', (data) => same<typeof data, unknown>(true));
same<Awaited<ReturnType<typeof typed.room>['name']>, string>(true);
void typed.send('sum', [1, 2]).then((n) => same<typeof n, number>(true));
typed.answer('ask', (q) => q);

// Options.
new ChatClient('/ws', { WebSocket });
new ChatClient('/ws', { WebSocket: NodeWebSocket });
new ChatClient('/ws', { storage: keptIn(localStorage), getToken: async () => 'token' });
const asyncStorage: StorageLike = { getItem: async () => null, setItem: async () => {}, removeItem: async () => {} };
new ChatClient('/ws', { storage: keptIn(asyncStorage), getToken: (why) => (why === 'expired' ? null : why) });
// @ts-expect-error: a token is a text
new ChatClient('/ws', { getToken: () => 1 });
const _: WebSocketConstructor = WebSocket;

// The hooks.
export function Hooks() {
  const { messages, send, removed } = useRoom('lobby');
  same<typeof removed, { readonly reason: string } | undefined>(true);
  same<typeof messages, readonly Message<{ text: string }>[]>(true);
  void send({ text: 'Hi' });
  // @ts-expect-error: a room message has a text
  void send('Hi');
  const { edit, reply, react, unread, firstUnread } = useRoom('lobby', { history: 20, types: ['room-message'] });
  same<[typeof unread, typeof firstUnread], [number | undefined, string | undefined]>(true);
  for (const m of messages) void edit(m, { text: m.data.text });
  // @ts-expect-error: a room message has a text
  void reply({ seq: 8 }, 'Hi');
  // @ts-expect-error: a reaction has a key
  void react({ seq: 8 });
  same<ReturnType<typeof useOverview>['rooms'][string]['unread'], number>(true);
  useEvent('poll:closed', ({ yes }) => same<typeof yes, number>(true));
  const conversation = usePrivateMessages<ChatEvents & { 'private-message': string }>('u2');
  same<typeof conversation.messages, readonly Message<string>[]>(true);
  const chat = useChat();
  same<typeof chat, ChatClient>(true);
  return null;
}
