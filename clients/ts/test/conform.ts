// Lets the client do what `chathub conform` says, as cmd/chathub/README.md
// describes. It is an example of such a driver.
import WebSocket from 'ws';
import type { ChatOptions, Room, WebSocketConstructor } from '../src/index.js';
import { ChatClient, ChatError } from '../src/index.js';

interface Order {
  n: number;
  do: string;
  url: string;
  tokens: string[];
  inbox?: boolean;
  room: string;
  data: unknown;
}

/** Carries out the orders of `base` until the last one. */
export async function drive(base: string, options: ChatOptions): Promise<void> {
  let reporting = Promise.resolve(); // reports go one after another
  const report = (body: object) => {
    reporting = reporting.then(async () => {
      await fetch(`${base}/report`, { method: 'POST', body: JSON.stringify(body) });
    });
  };
  const show = (room: string) => (data: unknown, event: { type: string }) =>
    report({ report: 'event', room, type: event.type, data });
  let client: ChatClient | undefined;

  function connect({ url, tokens, inbox }: Order): Promise<void> {
    client?.close();
    const made = new ChatClient(url, {
      WebSocket: WebSocket as unknown as WebSocketConstructor,
      getToken: () => (tokens.length > 1 ? tokens.shift() : tokens[0]) ?? null,
      ...options,
    });
    client = made;
    if (inbox) {
      made.on('private-message', show(''));
      made.onInbox(({ recovered, resumed }) => {
        if (resumed && !recovered) report({ report: 'gap', room: '' });
      });
    }
    return new Promise((resolve, reject) => {
      made.onState((s) => {
        if (s.status === 'connected') resolve();
        if (s.status === 'disconnected' && s.retryAt === null) reject(s.error ?? new Error(s.reason));
      });
      made.connect();
    });
  }

  async function join(room: Room, name: string): Promise<void> {
    room.on('room-message', show(name));
    room.onJoined(({ recovered, resumed }) => {
      if (resumed && !recovered) report({ report: 'gap', room: name });
    });
    await room.join();
  }

  async function carryOut(order: Order): Promise<void> {
    if (order.do === 'connect') return connect(order);
    if (order.do === 'close') return client?.close();
    const room = client?.room(order.room);
    if (!room) throw new Error('no client');
    if (order.do === 'join') return join(room, order.room);
    if (order.do === 'leave') return room.leave();
    if (order.do === 'send') await room.send(order.data);
  }

  for (;;) {
    const order = (await (await fetch(`${base}/next`)).json()) as Order;
    if (order.do === 'end') break;
    if (order.do === 'wait') continue;
    // Further orders may come before this one is carried out.
    carryOut(order).then(
      () => report({ report: 'done', n: order.n }),
      (err: unknown) =>
        report({ report: 'done', n: order.n, error: err instanceof ChatError ? err.code : String(err) }),
    );
  }
  client?.close();
  await reporting;
}
