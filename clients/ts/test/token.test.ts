import { describe, expect, test, vi } from 'vitest';
import { ChatError } from '../src/index.js';
import { fixture, pass } from './fixture.js';

const f = fixture();

describe('the handshake', () => {
  const visible = String.fromCharCode(...Array.from({ length: 0x7e - 0x20 }, (_, i) => 0x21 + i));
  const plain = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

  test('offers a token that fits into a subprotocol as it is', async () => {
    for (const token of [...plain, plain, 'x'.repeat(8_192)]) {
      await f.connect({ getToken: () => token });
      expect(f.hub.socket.protocols).toEqual(['chathub.v1', `chathub.bearer.${token}`]);
    }
  });

  test.each([
    ['a+b/c==', 'YStiL2M9PQ'],
    ['???>>>', 'Pz8_Pj4-'],
    ['"', 'Ig'],
    [',,', 'LCw'],
    ['🌍', '8J-MjQ'],
  ])('offers the token %s as base64url without padding', async (token, encoded) => {
    await f.connect({ getToken: () => token });
    expect(f.hub.socket.protocols).toEqual(['chathub.v1', `chathub.bearer64.${encoded}`]);
  });

  test('offers any other token in a form that gives it back', async () => {
    const odd = [...visible].filter((c) => !plain.includes(c));
    const long = visible.repeat(88).slice(0, 8_192);
    for (const token of [...odd, visible, visible.slice(1), visible.slice(2), long, 'ä'.repeat(8_192)]) {
      await f.connect({ getToken: () => token });
      expect(f.hub.socket.protocols[1]).toMatch(/^chathub\.bearer64\.[\w-]+$/);
      expect(f.hub.socket.token).toBe(token);
    }
  });

  test('offers a token with half an emoji in well-formed text', async () => {
    await f.connect({ getToken: () => 'ab😀'.slice(0, 3) });
    expect(f.hub.socket.token).toBe('ab\ufffd');
  });
});

describe('tokens', () => {
  test('one is kept over reconnects', async () => {
    const getToken = vi.fn(() => 'u1');
    await f.connect({ getToken });
    f.hub.socket.end();
    await pass(500);
    expect(f.hub.sockets).toHaveLength(2);
    expect(getToken.mock.calls).toEqual([['connect']]);
  });

  test('an expired one is replaced', async () => {
    const getToken = vi.fn(async (reason: string) => reason);
    const client = await f.connect({ getToken });
    f.hub.socket.say({ type: 'connect-error', data: { code: 'token_expired', message: 'Token expired' } });
    await pass();
    f.hub.socket.end(4003);
    expect(client.state).toMatchObject({ reason: 'token', error: { code: 'token_expired' } });
    await pass(500);
    expect(client.state.status).toBe('connected');
    expect(f.hub.sockets.map((s) => s.token)).toEqual(['connect', 'expired']);
  });

  test('one that has expired is not used', async () => {
    f.hub.welcome = { expires: Date.now() + 10_000 };
    let n = 0;
    const client = await f.connect({ getToken: () => `u${++n}`, backoff: { min: 60_000, max: 60_000 } });
    vi.spyOn(Math, 'random').mockReturnValue(0.9);
    f.hub.socket.end();
    await pass(60_000);
    expect(client.state.status).toBe('connected');
    expect(f.hub.sockets.map((s) => s.token)).toEqual(['u1', 'u2']);
  });

  test('a new one is sent before the old one expires', async () => {
    const hour = 3_600_000;
    // The server's clock is ahead, so only the difference counts.
    f.hub.welcome = { time: Date.now() + hour, expires: Date.now() + 2 * hour };
    f.hub.script.set('refresh-token', (s, e) => {
      s.say({ type: 'ack', id: e.id, data: { expires: Date.now() + 2 * hour } });
      return true;
    });
    const getToken = vi.fn(async (reason: string) => `${reason}${getToken.mock.calls.length}`);
    await f.connect({ getToken });
    await pass(hour - 60_001);
    expect(getToken).toHaveBeenCalledTimes(1);
    await pass(1);
    expect(getToken).toHaveBeenLastCalledWith('refresh');
    expect(f.hub.socket.of('refresh-token')).toMatchObject([{ data: { token: 'refresh2' } }]);
    await pass(hour);
    expect(f.hub.socket.of('refresh-token')).toHaveLength(2);
    expect(f.hub.sockets).toHaveLength(1);
    f.hub.socket.end();
    await pass(500);
    expect(f.hub.socket.token).toBe('refresh3');
  });

  test('one that lives for months does not make a timer fire early', async () => {
    const getToken = vi.fn(() => 'u1');
    f.hub.welcome = { expires: Date.now() + 90 * 86_400_000 };
    await f.connect({ getToken, pingInterval: 86_400_000, pongTimeout: 1_000 });
    await pass(89 * 86_400_000);
    expect(getToken).toHaveBeenCalledTimes(1);
    await pass(86_400_000 - 60_000);
    expect(getToken).toHaveBeenCalledTimes(2);
  });

  test('a refused refresh does not end the connection', async () => {
    f.hub.welcome = { expires: Date.now() + 10_000 };
    f.hub.script.set('refresh-token', (s, e) => {
      f.hub.refuse(s, e, 'forbidden');
      return true;
    });
    const client = await f.connect({ getToken: () => 'u1' });
    await pass(9_500);
    expect(f.hub.socket.of('refresh-token')).toHaveLength(1);
    expect(client.state.status).toBe('connected');
  });

  test('a failing getToken is called again, with backoff', async () => {
    let down = true;
    const client = f.make({
      getToken: async () => {
        if (down) throw new Error('503');
        return 'u1';
      },
    });
    client.connect();
    await pass();
    expect(client.state).toMatchObject({ reason: 'token', error: { code: 'unavailable', cause: new Error('503') } });
    down = false;
    await pass(500);
    expect(client.state.status).toBe('connected');
  });

  test('a getToken that hangs is given up', async () => {
    const client = f.make({ getToken: () => new Promise(() => {}) });
    client.connect();
    await pass(10_000);
    expect(client.state).toMatchObject({ status: 'disconnected', error: { code: 'timeout' } });
  });

  test('an unauthenticated error from getToken ends all attempts', async () => {
    const client = f.make({
      getToken: () => {
        throw new ChatError('unauthenticated', 'Log in first');
      },
    });
    client.connect();
    await pass(60_000);
    expect(client.state).toMatchObject({ reason: 'refused', retryAt: null, error: { message: 'Log in first' } });
    expect(f.hub.sockets).toHaveLength(0);
  });

  test('after close() or a refusal a new one is requested', async () => {
    const getToken = vi.fn(() => 'u1');
    const client = await f.connect({ getToken });
    client.close();
    client.connect();
    await pass();
    f.hub.socket.end(4500);
    client.connect();
    await pass();
    expect(getToken.mock.calls).toEqual([['connect'], ['connect'], ['connect']]);
  });
});
