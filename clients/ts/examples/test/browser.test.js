// Opens each page in Chromium, with a scripted server.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { chromium } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { FakeHub, FakeSocket } from '../../test/fake.ts';
import { render } from '../dist/server/react-server.js';

const dist = join(import.meta.dirname, '..', 'dist');
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

let hub; // of the running test
let server;
let browser;

function answer(request, response) {
  const { pathname } = new URL(request.url, 'http://localhost');
  let body = readFileSync(join(dist, pathname), 'utf8');
  if (pathname === '/react.html') body = body.replace('<!--page-->', render());
  response.setHeader('Content-Type', TYPES[extname(pathname)]);
  response.end(body);
}

/** Connects a browser's socket with the server in memory. */
function accept(ws, request) {
  const socket = new FakeSocket(hub, request.url, request.headers['sec-websocket-protocol'].split(/, */));
  socket.onmessage = ({ data }) => ws.send(data);
  ws.on('message', (data) => socket.send(String(data)));
  ws.on('close', () => socket.end());
}

beforeAll(async () => {
  server = createServer(answer);
  new WebSocketServer({ server }).on('connection', accept);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const executablePath = process.env.CHROMIUM ?? execFileSync('which', ['chromium'], { encoding: 'utf8' }).trim();
  browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] }); // for root
});
afterAll(async () => {
  await browser?.close();
  server?.closeAllConnections();
  server?.close();
});
beforeEach(() => {
  hub = new FakeHub();
});

test.each(['dom', 'vue', 'svelte', 'react'])('%s', async (name) => {
  const ben = hub.client({ getToken: () => 'ben' });
  ben.connect();
  const lobby = ben.room('lobby');
  await lobby.join();
  const { seq } = await lobby.send('one');

  const context = await browser.newContext();
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (m) => ['warning', 'error'].includes(m.type()) && complaints.push(m.text()));
  page.on('pageerror', (err) => complaints.push(String(err)));
  await page.goto(`http://127.0.0.1:${server.address().port}/${name}.html?user=ana`);
  const lines = (...expected) => expect.poll(() => page.locator('li').allTextContents()).toEqual(expected);

  await lines('ben: one');
  await expect.poll(() => page.title()).toBe('(1) Chat');
  const first = await page.locator('li').first().elementHandle();
  await lobby.edit(seq, 'two');
  await lobby.react(seq, '+');
  await lines('ben: two (edited) +1');
  expect(await first.evaluate((element) => element.isConnected)).toBe(true); // the same line

  await page.getByRole('button', { name: 'Say hello' }).click();
  await lines('ben: two (edited) +1', 'ana: Hello');
  expect(hub.room('lobby').events.map((e) => e.data)).toEqual(['two', 'Hello']);
  await lobby.remove(seq);
  await lines('(deleted)', 'ana: Hello');
  expect(complaints).toEqual([]);
  ben.close();
  await context.close();
});

test('React takes over what the server has made', async () => {
  expect(render()).toContain('<button type="button">Say hello</button>');
  expect(hub.sockets).toEqual([]);
});
