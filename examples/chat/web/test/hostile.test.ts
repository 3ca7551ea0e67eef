import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { sendAs } from './actions.js';
import { atEnd, context, current, logIn, openPage, POLL, takeComplaints, type User, withBrowser } from './browser.js';

withBrowser(); // fails a test if a dialog opens or another server is asked

const HOSTILE = [
  '<img src="https://evil.example.com/x" onerror="alert(1)">',
  '<script>alert(1)</script>',
  '</div></div><style>*{display:none}</style>',
  'javascript:alert(1)',
  'javascript://example.com/%0aalert(1)',
  '[x](javascript:alert(1)) data:text/html,<script>alert(1)</script>',
  'https://example.com/"onmouseover="alert(1)',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: hostile to other engines
  '${alert(1)} {{constructor.constructor("alert(1)")()}}',
  '\u202eesrever\u2066 and \u0000 nothing',
];

test('hostile text is shown as text', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('<b onclick=alert(1)>Ben');
  await ben.write(...HOSTILE);
  await ana.sees(...HOSTILE);
  await ana.row('javascript:alert(1)').getByText('<b onclick=alert(1)>Ben').waitFor();
  await ana.page.locator('.item-sub').getByText('esrever').waitFor(); // the list too

  await ben.openPrivately('Ana');
  await ben.write(...HOSTILE);
  await ana.item('<b onclick=alert(1)>Ben').click();
  await ana.sees(...HOSTILE);
  for (const user of [ana, ben]) await harmless(user);
});

test('hostile text is shown as text in edits, reactions, replies and links', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('<b onclick=alert(1)>Ben');
  await ben.write('Harmless');
  await ana.sees('Harmless');
  const to = { room: 'lobby' };
  const { seq } = await sendAs(ben, { type: 'room-message', ...to, data: { text: 'Not yet' } });
  const edit = (data: unknown) => ({ type: 'edit-message', ...to, data: { seq, data } });
  const keys = HOSTILE.map((text) => text.replace('\u0000', '').slice(0, 24)).concat(
    '__proto__',
    'constructor',
    '\u202e👍',
    '<img src=x>',
  );
  const odd = { text: { toString: '<b>', length: 1 } };
  for (const [i, text] of HOSTILE.entries()) {
    await sendAs(ben, edit({ text }), { type: 'room-message', ...to, re: seq, data: { text: `Answer ${i}` } });
    await ana.sees('Harmless', text, ...HOSTILE.slice(0, i + 1).map((_, i) => `Answer ${i}`));
    await harmless(ana);
  }
  await sendAs(ben, ...keys.map((key) => ({ type: 'react', ...to, data: { seq, key } })));
  const row = ana.log.locator('.row').nth(1);
  await expect.poll(() => row.locator('.reaction bdi').allTextContents(), POLL).toEqual(keys);
  for (const chip of await row.locator('.reaction').all()) {
    await chip.click();
    await expect.poll(() => chip.getAttribute('aria-pressed'), POLL).toBe('true');
  }
  await expect.poll(() => ben.log.locator('.reaction[aria-pressed=true]').count(), POLL).toBe(keys.length);
  expect(await ana.row('Answer 0').locator('.quote').textContent()).toContain('<b onclick=alert(1)>Ben');
  // A reply to it, and what asks before it is deleted.
  await row.locator('.bubble').hover();
  await row.getByRole('button', { name: 'Reply' }).click();
  await ana.page.locator('.replying').getByText('esrever').waitFor();
  await harmless(ana);
  await ana.write('<b>An answer</b>');
  await ben.row('<b>An answer</b>').waitFor();
  await ana.row('<b>An answer</b>').locator('.bubble').hover();
  await ana.row('<b>An answer</b>').getByRole('button', { name: 'Delete' }).click();
  await ana.page.getByRole('dialog').getByText('<b>An answer</b>').waitFor();
  await harmless(ana);
  await ana.page.keyboard.press('Escape');
  // Data of any shape, and a link to anything.
  await sendAs(ben, edit(odd), edit(null), edit(odd));
  await ana.row(JSON.stringify(odd)).waitFor();
  for (const hash of ['#%zz/1', '#lobby/1e9', '#/5', '#lobby/99999999999999999', '#<img src=x onerror=alert(1)>/1']) {
    await ana.page.evaluate((hash) => {
      location.hash = hash;
    }, hash);
  }
  await ana.isIn('<img src=x onerror=alert(1)>');
  for (const user of [ana, ben]) await harmless(user);
});

test('the state of a room may be anything', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  await ben.write('Harmless');
  const to = { room: 'lobby' };
  const set = (key: string, value: unknown) => ({ type: 'set-state', ...to, data: { key, value } });
  const { seq } = await sendAs(ben, { type: 'room-message', ...to, data: { text: HOSTILE[0] } });
  const topic = ana.page.locator('.topic');
  for (const text of HOSTILE) {
    await sendAs(ben, set('topic', text));
    await expect.poll(() => topic.textContent(), POLL).toBe(text);
    await harmless(ana);
  }
  await sendAs(ben, set('topic', 'x'.repeat(30_000)));
  await expect.poll(() => topic.textContent(), POLL).toBe('x'.repeat(120));
  for (const odd of [1, true, [HOSTILE[0]], { text: HOSTILE[0] }, { toString: 1 }]) {
    await sendAs(ben, set('topic', 'Another'));
    await expect.poll(() => topic.textContent(), POLL).toBe('Another');
    await sendAs(ben, set('topic', odd));
    await expect.poll(() => topic.textContent(), POLL).toBe('Add a topic');
  }
  const pins = ana.page.getByRole('button', { name: /pinned message/ });
  for (const odd of [1, 'x', HOSTILE[1], { length: 3 }, [null, -1, 0, 0.5, '1', [], {}, 1e300]]) {
    await sendAs(ben, set('pinned', [seq]));
    await pins.waitFor();
    await sendAs(ben, set('pinned', odd));
    await pins.waitFor({ state: 'detached' });
  }
  await sendAs(ben, set('pinned', [null, seq, HOSTILE[1], seq, 2 ** 53, 999_999, ...Array(1_000).fill(1)]));
  await ana.page.getByRole('button', { name: '3 pinned messages' }).click();
  await ana.page
    .getByRole('dialog', { name: 'Pinned messages' })
    .getByText(HOSTILE[0] as string)
    .waitFor();
  await harmless(ana);
});

test('only web addresses become links', async () => {
  const ana = await logIn('Ana');
  await ana.write(
    'See https://example.com/a?b=c&d=e#f, or http://example.com. javascript://x/%0aalert(1) ftp://example.com file:///etc',
  );
  await ana.status(
    'See https://example.com/a?b=c&d=e#f, or http://example.com. javascript://x/%0aalert(1) ftp://example.com file:///etc',
    'sent',
  );
  const links = await ana.log
    .locator('a')
    .evaluateAll((all) => all.map((a) => [a.getAttribute('href'), a.getAttribute('rel')]));
  const rel = 'noopener noreferrer nofollow';
  expect(links).toEqual([
    ['https://example.com/a?b=c&d=e#f', rel],
    ['http://example.com', rel],
  ]);
});

test('what is stored in the browser is checked', async () => {
  for (const session of ['[]', '17', '{}', '{"token":"t","user":null}', '{"token":"t","user":{"id":1}}']) {
    const url = `http://127.0.0.1:${current.server.port}/`;
    const page = await openPage(await context(), url);
    await page.evaluate((text) => sessionStorage.setItem('chathub:session', text), session);
    await page.reload();
    await page.getByLabel('Your name').waitFor();
  }
  const ana = await logIn('Ana');
  await ana.page.evaluate(() => {
    const session = JSON.parse(sessionStorage.getItem('chathub:session') ?? '');
    const broken = { ...session, rooms: [null, 17, 'lobby'], active: { kind: 'room' } };
    sessionStorage.setItem('chathub:session', JSON.stringify(broken));
    sessionStorage.setItem('chathub:drafts', '[null,17,["room:lobby"],["room:x",{}]]');
    localStorage.setItem('chathub:notify', '{"yes":1}');
    localStorage.setItem(`chathub:notified:${session.user.id}`, '["never"]');
  });
  await ana.page.reload();
  await ana.item('lobby').click();
  await ana.write('still here');
  await ana.sees('still here');
});

test('a room may have any name', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  for (const room of ['__proto__', 'constructor', '<img src=x onerror=alert(1)>', '"] *, [x="', '../../login?#%00']) {
    for (const user of [ana, ben]) await user.join(room);
    await ana.write(`Welcome to ${room}`);
    await ben.sees(`Welcome to ${room}`);
  }
  // After a reload all rooms are there, each with its own messages.
  await ben.page.reload();
  await ben.item('__proto__').click();
  await ben.sees('Welcome to __proto__');
  await ben.item('constructor').click();
  await ben.sees('Welcome to constructor');
  await ana.item('__proto__').click();
  await ana.write('Here too');
  await ben.item('__proto__').getByText('1 unread').waitFor();
  for (const user of [ana, ben]) await harmless(user);
});

test('a page of another origin gets no connection, no token, and no frame', async () => {
  const url = `http://127.0.0.1:${current.server.port}/`;
  const other = createServer((_, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><title>Another site</title>');
  });
  other.listen(0, '127.0.0.1');
  await once(other, 'listening');
  atEnd(async () => other.close().closeAllConnections());
  const origin = `http://localhost:${(other.address() as AddressInfo).port}/`;

  // The token is valid, so only the origin can be refused.
  const response = await fetch(`${url}login`, { method: 'POST', body: '{"name":"Ana"}' });
  const { token } = (await response.json()) as { token: string };
  const connect = ([url, token]: string[]) =>
    new Promise<string>((resolve) => {
      const socket = new WebSocket(`${url}ws`, ['chathub.v1', `chathub.bearer.${token}`]);
      socket.onmessage = ({ data }) => resolve(JSON.parse(data).type);
      socket.onclose = ({ code }) => resolve(`closed with ${code}`);
    });
  const own = await (await context()).newPage();
  await own.goto(url);
  expect(await own.evaluate(connect, [url, token])).toBe('welcome');
  const page = await (await context()).newPage();
  await page.goto(origin);
  expect(await page.evaluate(connect, [url, token])).toBe('closed with 1006');

  const logIn = (url: string) =>
    fetch(`${url}login`, { method: 'POST', body: '{"name":"Ana"}' }).then(
      (r) => r.text(),
      (err) => err.name,
    );
  expect(await page.evaluate(logIn, url)).toBe('TypeError');

  const asked: string[] = [];
  page.on('request', (r) => asked.push(r.url()));
  const refused = page.waitForEvent('console', (m) => m.text().includes('frame-ancestors'));
  await page.evaluate((url) => {
    const frame = document.createElement('iframe');
    frame.src = url;
    document.body.append(frame);
    return new Promise((resolve) => frame.addEventListener('load', resolve));
  }, url);
  await refused;
  expect(asked).toEqual([url]); // and none of its files
});

test('the page loads only its own files, under its policy', async () => {
  const ctx = await context();
  const asked: string[] = [];
  ctx.on('request', (r) => asked.push(new URL(r.url()).pathname));
  const page = await openPage(ctx, `http://127.0.0.1:${current.server.port}/`);
  await page.getByLabel('Your name').waitFor();
  await expect.poll(() => [...new Set(asked)].sort(), POLL).toEqual(['/', '/app.css', '/app.js', '/icon.svg']);
  // The policy is in force. Otherwise this test would prove nothing.
  const ran = await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'window.ran = true';
    document.body.append(script);
    return 'ran' in window;
  });
  expect(ran).toBe(false);
  await expect.poll(takeComplaints, POLL).toEqual([expect.stringContaining('inline script')]);
});

/** Fails if a message has become anything but text and links. */
async function harmless({ page }: User): Promise<void> {
  expect(await page.locator('img:not([src="./icon.svg"]), script:not([src]), iframe, style, b').count()).toBe(0);
  const links = await page.locator('a').evaluateAll((all) => all.map((a) => (a as HTMLAnchorElement).protocol));
  expect(links.filter((p) => p !== 'https:')).toEqual([]);
  const handlers = await page.evaluate(
    () => document.evaluate('count(//@*[starts-with(name(), "on")])', document).numberValue,
  );
  expect(handlers).toBe(0);
  expect(await page.evaluate(() => Object.keys(Object.prototype))).toEqual([]);
}
