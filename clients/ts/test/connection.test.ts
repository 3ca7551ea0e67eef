import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { ConnectionState } from '../src/index.js';
import { ChatClient } from '../src/index.js';
import { fixture, pass } from './fixture.js';

const f = fixture();

/** Returns how long the client is going to wait, in ms. */
function wait(client: ChatClient): number {
  const { state } = client;
  if (state.status !== 'disconnected' || state.retryAt === null) throw new Error(`it is ${JSON.stringify(state)}`);
  return state.retryAt - Date.now();
}

describe('connecting', () => {
  test('offers the protocol and the token', async () => {
    await f.connect({ getToken: async () => 'TOKEN' });
    expect(f.hub.socket.url).toBe('ws://hub.test/ws');
    expect(f.hub.socket.protocols).toEqual(['chathub.v1', 'chathub.bearer.TOKEN']);
  });

  test('offers the protocol alone without a token', async () => {
    await f.connect({ getToken: () => null });
    await f.connect();
    expect(f.hub.sockets.map((s) => s.protocols)).toEqual([['chathub.v1'], ['chathub.v1']]);
  });

  test('goes through its states', async () => {
    const client = f.make({ getToken: async () => 'u1' });
    const states: ConnectionState[] = [];
    const end = client.onState((s) => states.push(s));
    expect(client.state).toMatchObject({ status: 'disconnected', reason: 'idle', retryAt: null });
    client.connect();
    client.connect();
    await pass();
    client.close();
    expect(states).toMatchObject([
      { status: 'connecting', attempt: 1 },
      { status: 'connected', clientId: 'c1', user: { id: 'u1' } },
      { status: 'disconnected', reason: 'closed', retryAt: null },
    ]);
    end();
    client.connect();
    await pass();
    expect(states).toHaveLength(3);
    expect(f.hub.sockets).toHaveLength(2);
  });

  test('resumes the inbox before it is connected', async () => {
    await f.connect();
    expect(f.hub.socket.sent).toMatchObject([{ type: 'resume', data: { rooms: {}, inbox: { seq: 0 } } }]);
  });

  test.each([
    ['http://hub.test/ws', 'ws://hub.test/ws'],
    ['https://hub.test/ws', 'wss://hub.test/ws'],
    ['wss://hub.test/http', 'wss://hub.test/http'],
    ['/ws', 'wss://page.test/ws'],
  ])('%s leads to %s', async (url, expected) => {
    vi.stubGlobal('location', { origin: 'https://page.test' });
    const client = new ChatClient(url, { WebSocket: f.hub.WebSocket });
    client.connect();
    expect(f.hub.socket.url).toBe(expected);
    client.close();
  });

  test('close() while connecting leaves nothing behind', async () => {
    const client = f.make({ getToken: () => new Promise(() => {}) });
    client.connect();
    client.close();
    await pass(60_000);
    expect(f.hub.sockets).toHaveLength(0);

    const other = f.make();
    other.connect();
    other.close();
    await pass(60_000);
    expect(f.hub.socket.closed).toBe(true);
    expect(other.state).toMatchObject({ reason: 'closed' });
  });

  test('a listener may close the client at any state', async () => {
    for (const status of ['connecting', 'connected', 'disconnected']) {
      const client = f.make();
      client.onState((s) => s.status === status && client.close());
      client.connect();
      await pass();
      if (status === 'disconnected') f.hub.socket.end();
      await pass(60_000);
      expect(client.state).toMatchObject({ status: 'disconnected', reason: 'closed' });
    }
  });

  test('a listener may close the client and connect it again', async () => {
    const client = f.make();
    const joined = client.room('a').join();
    const inbox = vi.fn();
    client.onInbox(inbox);
    const end = client.onState((s) => {
      if (s.status !== 'connected') return;
      end();
      client.close();
      client.connect();
    });
    client.connect();
    await pass();
    await joined;
    expect(inbox).toHaveBeenCalledTimes(1);
    expect(client.state.status).toBe('connected');
    expect(f.hub.sockets.map((s) => s.sent.map((e) => e.type))).toEqual([['resume'], ['resume', 'join-room']]);
  });

  test('a server that does not welcome is given up', async () => {
    f.hub.welcome = null;
    const client = f.make({ connectTimeout: 3_000 });
    client.connect();
    await pass(2_999);
    expect(client.state.status).toBe('connecting');
    await pass(1);
    expect(client.state).toMatchObject({ reason: 'lost', error: { code: 'timeout' } });
    expect(f.hub.socket.closed).toBe(true);
  });

  test('an invalid URL ends it, and the error does not quote the token', async () => {
    class Picky {
      constructor(_: string, protocols: string[]) {
        throw new SyntaxError(`bad protocol ${protocols[1]}`);
      }
    }
    const client = f.make({ getToken: () => 'SECRET', WebSocket: Picky as never });
    client.connect();
    await pass();
    expect(client.state).toMatchObject({ reason: 'refused', retryAt: null, error: { code: 'bad_request' } });
    const { error } = client.state as { error?: Error };
    expect(`${error?.message} ${error?.cause} ${error?.stack}`).not.toContain('SECRET');
  });

  test('an environment without WebSocket is an error', async () => {
    vi.stubGlobal('WebSocket', undefined);
    const client = f.make({ WebSocket: undefined });
    client.connect();
    await pass();
    expect(client.state).toMatchObject({ reason: 'refused', error: { code: 'bad_request' } });
  });

  test('uses the global WebSocket by default', async () => {
    vi.stubGlobal('WebSocket', f.hub.WebSocket);
    await f.connect({ WebSocket: undefined });
  });
});

describe('coming back', () => {
  test('waits exponentially longer, with full jitter, up to the cap', async () => {
    const client = await f.connect({ backoff: { min: 100, max: 1_000 } });
    const waits: number[] = [];
    const random = vi.spyOn(Math, 'random').mockReturnValue(0.999);
    f.hub.welcome = null;
    for (let i = 0; i < 6; i++) {
      f.hub.socket.end();
      waits.push(Math.round(wait(client) / 10) * 10);
      await pass(wait(client));
      expect(client.state.status).toBe('connecting');
    }
    expect(waits).toEqual([100, 200, 400, 800, 1_000, 1_000]);
    random.mockReturnValue(0.5);
    f.hub.socket.end();
    expect(wait(client)).toBe(500);
    await pass(500);
    random.mockReturnValue(0);
    f.hub.socket.end();
    expect(wait(client)).toBe(0);
  });

  test('by default waits up to half a second at first, and up to 20 s in the end', async () => {
    const client = await f.connect();
    vi.spyOn(Math, 'random').mockReturnValue(0.999999);
    f.hub.welcome = null;
    f.hub.socket.end();
    expect(Math.round(wait(client))).toBe(500);
    for (let i = 0; i < 40; i++) {
      await pass(wait(client) + 1);
      f.hub.socket.end();
    }
    expect(Math.round(wait(client))).toBe(20_000);
  });

  test('starts again with short waits only after a connection that lasted', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0.999);
    const client = await f.connect({ backoff: { min: 100, max: 1_000 } });
    for (const most of [100, 200, 400]) {
      f.hub.socket.end();
      expect(wait(client)).toBeGreaterThan(most / 2);
      expect(wait(client)).toBeLessThanOrEqual(most);
      await pass(wait(client) + 1); // to be welcomed and disconnected at once
      expect(client.state.status).toBe('connected');
    }
    await pass(1_001);
    f.hub.socket.end();
    expect(Math.round(wait(client))).toBe(100);
  });

  test.each([1006, 1001, 4000, 4001, 4002, 4005, 4123, 4499])('comes back after %i', async (code) => {
    const client = await f.connect();
    f.hub.socket.end(code);
    expect(client.state).toMatchObject({ status: 'disconnected', code, reason: code === 4000 ? 'restart' : 'lost' });
    await pass(500);
    expect(client.state.status).toBe('connected');
  });

  test.each([4500, 4501, 4503, 4504, 4505, 4999])('stops for good after %i', async (code) => {
    const client = await f.connect();
    f.hub.socket.say({ type: 'connect-error', data: { code: 'forbidden', message: 'Banned' } });
    await pass();
    f.hub.socket.end(code, 'reason');
    expect(client.state).toMatchObject({ reason: 'refused', retryAt: null, code, error: { message: 'Banned' } });
    client.wake();
    await pass(3_600_000);
    expect(f.hub.sockets).toHaveLength(1);
    client.connect();
    await pass();
    expect(client.state.status).toBe('connected');
  });

  test('reports the reason of a close without a connect-error', async () => {
    const client = await f.connect();
    f.hub.socket.end(4503, 'logged out');
    expect(client.state).toMatchObject({ error: { code: 'closed', message: 'logged out' } });
  });

  test('does not report the reason of an earlier connection', async () => {
    const client = await f.connect();
    f.hub.socket.say({ type: 'connect-error', data: { code: 'internal', message: 'Fault' } });
    await pass();
    f.hub.socket.end(4000);
    expect(client.state).toMatchObject({ error: { message: 'Fault' } });
    await pass(500);
    f.hub.socket.end(4503, 'logged out');
    expect(client.state).toMatchObject({ error: { message: 'logged out' } });
  });

  test('comes back at the time set by the server, not sooner', async () => {
    const client = await f.connect({ backoff: { max: 0 } });
    f.hub.socket.say({ type: 'reconnect', data: { afterMs: 3_000 } });
    await pass(1_000);
    f.hub.socket.end(4000);
    expect(client.state).toMatchObject({ reason: 'restart', retryAt: Date.now() + 2_000 });
    client.wake();
    await pass(1_999);
    expect(f.hub.sockets).toHaveLength(1);
    await pass(1);
    expect(f.hub.sockets).toHaveLength(2);
    f.hub.socket.end();
    expect(client.state).toMatchObject({ reason: 'lost' });
    expect(wait(client)).toBe(0); // it counts once
  });

  test('comes back at once when its time has passed before the close', async () => {
    const client = await f.connect();
    f.hub.socket.say({ type: 'reconnect', data: { afterMs: 100 } });
    await pass(5_000);
    f.hub.socket.end(4000);
    expect(wait(client)).toBe(0);
  });
});

describe('waking', () => {
  let page: EventTarget;
  let visibilityState: string;
  const fire = (type: string) => page.dispatchEvent(new Event(type));

  beforeEach(() => {
    page = new EventTarget();
    visibilityState = 'visible';
    vi.stubGlobal('addEventListener', vi.fn(page.addEventListener.bind(page)));
    vi.stubGlobal('removeEventListener', vi.fn(page.removeEventListener.bind(page)));
    vi.stubGlobal('document', {
      get visibilityState() {
        return visibilityState;
      },
    });
  });

  test.each(['online', 'visibilitychange'])('%s ends the wait', async (type) => {
    const client = await f.connect({ backoff: { min: 100_000, max: 100_000 } });
    f.hub.socket.end();
    fire('offline'); // must not connect
    expect(client.state.status).toBe('disconnected');
    fire(type);
    await pass();
    expect(client.state.status).toBe('connected');
    expect(f.hub.sockets).toHaveLength(2);
  });

  test('a page that is hidden does not end it', async () => {
    const client = await f.connect({ backoff: { min: 100_000, max: 100_000 } });
    vi.spyOn(Math, 'random').mockReturnValue(0.9);
    f.hub.socket.end();
    visibilityState = 'hidden';
    fire('visibilitychange');
    await pass();
    expect(client.state.status).toBe('disconnected');
  });

  test.each(['online', 'offline', 'visibilitychange'])(
    '%s makes it check whether the server is alive',
    async (type) => {
      const client = await f.connect({ pongTimeout: 5_000 });
      fire(type);
      expect(f.hub.socket.of('ping')).toHaveLength(1);
      await pass(5_000);
      expect(client.state.status).toBe('connected');

      f.hub.deaf = true;
      fire(type);
      await pass(3_000);
      fire(type); // must neither ping again nor move the deadline
      await pass(2_000);
      expect(client.state).toMatchObject({ status: 'disconnected', reason: 'lost', error: { code: 'timeout' } });
    },
  );

  test('no listener is left after the end', async () => {
    const calls = (name: 'addEventListener' | 'removeEventListener') => vi.mocked(globalThis[name]).mock.calls;
    for (const end of [(c: ChatClient) => c.close(), () => f.hub.socket.end(4500)]) {
      const client = await f.connect();
      expect(calls('addEventListener').map((c) => c[0])).toEqual(['online', 'offline', 'visibilitychange']);
      end(client);
      expect(calls('removeEventListener')).toEqual(calls('addEventListener'));
      vi.clearAllMocks();
    }
  });
});

describe('a dead server', () => {
  test('is pinged after a silence, and given up without an answer', async () => {
    const client = await f.connect();
    await pass(24_999);
    expect(f.hub.socket.of('ping')).toHaveLength(0);
    await pass(1);
    expect(f.hub.socket.of('ping')).toHaveLength(1);
    await pass(25_000);
    expect(f.hub.socket.of('ping')).toHaveLength(2);
    f.hub.deaf = true;
    await pass(25_000 + 9_999);
    expect(client.state.status).toBe('connected');
    await pass(1);
    expect(client.state).toMatchObject({ reason: 'lost', error: { code: 'timeout' } });
    expect(f.hub.socket.closed).toBe(true);
  });

  test('is not pinged while frames arrive', async () => {
    await f.connect();
    for (let i = 0; i < 10; i++) {
      await pass(20_000);
      f.hub.socket.say({ type: 'message', data: i });
      await pass();
    }
    expect(f.hub.socket.of('ping')).toHaveLength(0);
  });

  test('is pinged at the interval of the server or of the application', async () => {
    f.hub.welcome = { pingInterval: 7_000 };
    await f.connect();
    await pass(7_000);
    expect(f.hub.socket.of('ping')).toHaveLength(1);
    await f.connect({ pingInterval: 1_000 });
    await pass(3_000);
    expect(f.hub.socket.of('ping')).toHaveLength(3);
  });
});

describe('a frame that is not of this protocol', () => {
  test.each(['', 'no json', '[]', 'null', '1', '{}', '{"type":1}', '{"type":"something-new","data":{}}'])(
    'is ignored: %s',
    async (frame) => {
      const client = await f.connect();
      f.hub.socket.say(frame);
      f.hub.socket.onmessage?.({ data: new ArrayBuffer(2) } as never);
      await pass();
      expect(client.state.status).toBe('connected');
    },
  );
});
