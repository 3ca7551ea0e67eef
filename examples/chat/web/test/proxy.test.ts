import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { atEnd, logIn, testServer, type User, withBrowser } from './browser.js';
import { Nginx } from './nginx.js';

withBrowser();

const LENGTH = 8_192;

const visible = String.fromCharCode(...Array.from({ length: 0x7e - 0x20 }, (_, i) => 0x21 + i));

/**
 * Makes a token for the test server, which is no JWT. A subprotocol cannot hold
 * its characters, so the client offers it in base64url, a third longer.
 */
function opaque(user: string): string {
  const head = `opaque:${user}:`;
  const rest = visible.repeat(LENGTH).slice(0, LENGTH - head.length - 65);
  return `${head}${createHash('sha256').update(rest).digest('hex')}:${rest}`;
}

test('a token of 8 KiB of visible ASCII gets through nginx, from a browser', async () => {
  const hub = await testServer();
  const nginx = await Nginx.before(hub.address);
  atEnd(() => nginx.stop());
  const sockets: string[] = [];
  const user = (name: string): Promise<User> =>
    logIn(name, {
      url: nginx.url,
      ignoreHTTPSErrors: true,
      prepare: async (page) => {
        page.on('websocket', (ws) => sockets.push(ws.url()));
        const token = opaque(name);
        expect(token).toHaveLength(LENGTH);
        await page.route('**/login', (route) => route.fulfill({ json: { token, user: { id: name, name } } }));
      },
    });
  const [ana, ben] = [await user('Ana'), await user('Ben')];
  await ana.write('Hello through nginx');
  await ben.sees('Hello through nginx');
  await ben.row('Hello through nginx').getByText('Ana', { exact: true }).waitFor();
  const again = ana.page.waitForEvent('websocket');
  await hub.do('cut', {});
  await again; // with the same token
  await ben.write('And back');
  await ana.sees('Hello through nginx', 'And back');
  expect(new Set(sockets)).toEqual(new Set([`${nginx.url.replace('https', 'wss')}ws`]));
});
