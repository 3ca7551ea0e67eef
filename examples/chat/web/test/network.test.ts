import { expect, test } from 'vitest';
import { current, dataDirectory, logIn, network, POLL, stopClock, type User, withBrowser } from './browser.js';

withBrowser();

const RESTARTED = 'The server has restarted. It no longer has the messages above.';
const MISSING =
  'The connection was lost, and the server no longer has all messages from that time. Some may be missing here.';

/** What a conversation says about restarts. */
const notes = (user: User) => user.log.locator('.break').allTextContents();

for (const kept of [false, true]) {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    test(`a restart in the middle of a conversation: ${signal}, log ${kept ? 'on disk' : 'in memory'}`, async () => {
      const data = kept ? await dataDirectory() : undefined;
      await current.startAnother({ data });
      const net = await network();
      const ana = await logIn('Ana', { url: net.url });
      const ben = await logIn('Ben', { url: net.url });
      await ana.write('Before');
      await ben.sees('Before');
      await ben.write('Me too');
      await ana.sees('Before', 'Me too');

      await current.server.stop(signal);
      for (const user of [ana, ben]) await user.offline();
      await ana.write('While it is down', 'And a second one');
      await ana.status('While it is down', 'sending');
      await ana.status('And a second one', 'sending');
      await ben.write('And a third');
      expect(await ben.messages.allTextContents()).toEqual(['Before', 'Me too', 'And a third']);

      net.leadTo(await current.startAnother({ data }));
      const meanwhile = ['And a second one', 'And a third', 'While it is down'];
      for (const user of [ana, ben]) {
        await user.online();
        // Either user may be back first.
        await expect.poll(async () => (await user.messages.allTextContents()).slice(2).sort(), POLL).toEqual(meanwhile);
        expect(await user.banner.isVisible()).toBe(false);
      }
      const all = await ana.messages.allTextContents();
      expect(all.slice(0, 2)).toEqual(['Before', 'Me too']);
      expect(all.indexOf('While it is down')).toBeLessThan(all.indexOf('And a second one'));
      await ben.sees(...all);
      await ben.write('Back again');
      for (const user of [ana, ben]) {
        await user.sees(...all, 'Back again');
        await user.status('Back again', 'sent');
        await user.status('Before', 'sent');
        // A log in memory ends with its process. Its messages stay on the
        // screen, above a note. None is missing after a graceful shutdown.
        expect(await notes(user)).toEqual(kept ? [] : [signal === 'SIGTERM' ? RESTARTED : MISSING]);
      }
      const chris = await logIn('Chris', { url: net.url });
      await chris.sees(...(kept ? all : all.slice(2)), 'Back again');
    });
  }
}

test('notes about restarts are in every conversation, and stay', async () => {
  const net = await network();
  const ana = await logIn('Ana', { url: net.url });
  const ben = await logIn('Ben', { url: net.url });
  const restart = async (signal: 'SIGTERM' | 'SIGKILL') => {
    await current.server.stop(signal);
    for (const user of [ana, ben]) await user.offline();
    net.leadTo(await current.startAnother());
    for (const user of [ana, ben]) await user.online();
  };
  const sayEverywhere = async (text: string) => {
    for (const title of ['club', 'Ben']) {
      await ana.item(title).click();
      await ana.write(text);
      await ana.status(text, 'sent');
    }
  };
  await ana.openPrivately('Ben');
  await ana.write('First');
  await ana.join('club');
  await ana.write('First');
  await ana.status('First', 'sent');
  await restart('SIGTERM');
  await sayEverywhere('Second');
  await restart('SIGKILL');
  await sayEverywhere('Third');
  await ana.item('lobby').click(); // without a message, nothing can have been lost
  await ana.composer('lobby').waitFor();
  expect(await notes(ana)).toEqual([]);
  for (const title of ['club', 'Ben']) {
    await ana.item(title).click();
    await ana.composer(title).waitFor();
    await expect
      .poll(() => ana.log.locator('.text, .break').allTextContents(), POLL)
      .toEqual(['First', RESTARTED, 'Second', MISSING, 'Third']);
  }
});

test('a tab goes offline and comes back: nothing is missing, nothing comes twice', async () => {
  const net = await network();
  const ana = await logIn('Ana', { url: net.url });
  const ben = await logIn('Ben');
  await ben.openPrivately('Ana');
  await ben.write('For you alone');
  await ana.item('Ben').getByText('1 unread').waitFor();
  await ana.item('Ben').getByText('(online)').waitFor();
  await ben.item('lobby').click();
  await ben.write('One');
  await ana.sees('One');

  await ana.page.context().setOffline(true); // prevents new connections only
  net.cut();
  await ana.banner.getByText(/You are offline/).waitFor();
  expect(
    await ana
      .item('Ben')
      .getByText(/online|offline/)
      .count(),
  ).toBe(0); // unknown
  await ana.write('Two, written offline');
  await ana.status('Two, written offline', 'sending');
  await ben.write('Three', 'Four');
  await ben.status('Four', 'sent');
  await ben.item('Ana').click();
  await ben.write('And one more');
  await ben.status('And one more', 'sent');

  net.mend();
  await ana.page.context().setOffline(false);
  await ana.sees('One', 'Three', 'Four', 'Two, written offline');
  await ana.status('Two, written offline', 'sent');
  expect(await notes(ana)).toEqual([]);
  await ana.item('Ben').getByText('2 unread').waitFor();
  await ana.item('Ben').click();
  await ana.sees('For you alone', 'And one more');
  await ben.item('lobby').click();
  await ben.sees('One', 'Three', 'Four', 'Two, written offline');
});

test('a message that arrived without an ack is not sent twice', async () => {
  const net = await network();
  const ana = await logIn('Ana', { url: net.url });
  const ben = await logIn('Ben');
  net.deafen();
  await ana.write('Do you hear me?');
  await ben.sees('Do you hear me?');
  await ana.status('Do you hear me?', 'sending');
  net.cut();
  await ana.offline();
  await ben.write('Loud and clear');
  net.mend();
  await ana.online();
  await ana.sees('Do you hear me?', 'Loud and clear');
  await ana.status('Do you hear me?', 'sent');
  await ana.write('Good');
  for (const user of [ana, ben]) await user.sees('Do you hear me?', 'Loud and clear', 'Good');
});

test('a message written offline survives a reload', async () => {
  const net = await network();
  const ana = await logIn('Ana', { url: net.url });
  const ben = await logIn('Ben');
  net.deafen(); // so that only new connections load the page
  net.cut();
  await ana.offline();
  await ana.write('Do not forget me');
  await ana.status('Do not forget me', 'sending');
  net.mend();
  await ana.page.reload();
  await ana.status('Do not forget me', 'sent');
  await ben.sees('Do not forget me');
});

test('a server that shuts down says when to come back', async () => {
  const net = await network();
  const ana = await logIn('Ana', { url: net.url, prepare: (page) => page.clock.install() });
  await stopClock(ana.page);
  await current.server.stop('SIGTERM');
  await ana.banner.getByText(/^The server is restarting/).waitFor();
  expect(await ana.banner.getByRole('button').count()).toBe(0); // no earlier try
  net.leadTo(await current.startAnother());
  await ana.page.clock.resume();
  await ana.online();
  expect(await ana.banner.isVisible()).toBe(false);
});

test('the banner counts down, and can be told to try now', async () => {
  const net = await network();
  const ana = await logIn('Ana', { url: net.url, prepare: (page) => page.clock.install() });
  await stopClock(ana.page);
  net.cut();
  await ana.offline();
  // Each attempt fails, and the pauses grow up to 20 s.
  const countdown = ana.page.locator('.countdown').getByText(/^Next try in \d+ s$/);
  await expect
    .poll(async () => {
      await ana.page.clock.runFor(1_000);
      return countdown.count();
    }, POLL)
    .toBe(1);
  net.mend();
  await ana.banner.getByRole('button', { name: 'Try now' }).click();
  await ana.online();
  expect(await ana.banner.isVisible()).toBe(false);
});

test('a token of another secret is renewed, and no message is lost', async () => {
  const net = await network();
  const ana = await logIn('Ana', { url: net.url });
  await ana.write('Before');
  await ana.status('Before', 'sent');
  await current.server.stop('SIGKILL');
  await ana.offline();
  await ana.write('Meanwhile');
  net.leadTo(await current.startAnother({ secret: 'another secret, with at least 32 bytes' }));
  await ana.online();
  await ana.status('Meanwhile', 'sent');
  await ana.sees('Before', 'Meanwhile');
});

test('a failed message says why, and can be sent again or discarded', async () => {
  let refuse = true;
  const ana = await logIn('Ana', {
    prepare: async (page) => {
      await page.routeWebSocket(/\/ws$/, (socket) => {
        const server = socket.connectToServer();
        socket.onMessage((text) => {
          const { id, type } = JSON.parse(String(text));
          if (type !== 'room-message' || !refuse) return server.send(text);
          const data = { code: 'internal', message: 'The disk is full' };
          socket.send(JSON.stringify({ type: 'error', id, data }));
        });
      });
      await page.reload();
    },
  });
  const ben = await logIn('Ben');
  await ana.write('First', 'Second');
  await ana.status('First', 'failed');
  await ana.row('First').getByText('Not sent: The disk is full.').waitFor();
  await ana.page.getByRole('status').getByText('Not sent: ').waitFor(); // for screen readers
  refuse = false;
  await ana.row('First').getByRole('button', { name: 'Try again' }).click();
  await ana.status('First', 'sent');
  await ben.sees('First');
  expect(await ana.page.locator('.composer textarea').evaluate((area) => area === document.activeElement)).toBe(true);
  await ana.row('Second').getByRole('button', { name: 'Discard' }).click();
  await ana.sees('First');
  await ana.write('Third');
  for (const user of [ana, ben]) await user.sees('First', 'Third');
});

test('a long text that is pasted goes out in parts, and is folded', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  const words = `${'word '.repeat(4_999)}😀`;
  await ana.composer('lobby').fill(words); // as if it was pasted
  await ana.page.getByText('This is long. It will be sent as 3 messages.').waitFor();
  await ana.composer('lobby').press('Enter');
  await ana.write('Short');
  await ana.status('Short', 'sent');
  for (const user of [ana, ben]) {
    await expect.poll(() => user.messages.count(), POLL).toBe(4);
    for (const text of await user.messages.all()) {
      const whole = text.getByRole('button', { name: 'Show all' });
      if (await whole.count()) await whole.click();
    }
    expect((await user.messages.allTextContents()).join(' ')).toBe(`${words} Short`);
  }
  await ana.composer('lobby').fill('x'.repeat(200_001));
  await ana.page.getByText('This is too long. 200,000 characters can be sent at once.').waitFor();
  await ana.composer('lobby').press('Enter');
  expect(await ana.composer('lobby').inputValue()).toHaveLength(200_001);
});
