import { expect, test } from 'vitest';
import { logIn, network, POLL, stopClock, withBrowser } from './browser.js';

withBrowser();

test('two users chat', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  await ana.page.getByText('2 people here').first().waitFor();
  await ana.write('Hello, is anybody here?');
  await ben.sees('Hello, is anybody here?');
  await ben.write('I am.', 'What is new?');
  for (const user of [ana, ben]) await user.sees('Hello, is anybody here?', 'I am.', 'What is new?');
  for (const text of ['I am.', 'What is new?']) await ben.status(text, 'sent');
  await ben
    .row('I am.')
    .getByText(/^Read by .Ana.$/)
    .waitFor();
  await ana.row('I am.').getByText('Ben').waitFor();
  expect(await ana.row('I am.').locator('.state').count()).toBe(0);
});

test('typing shows, and ends with the message or without', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben', { prepare: (page) => page.clock.install() });
  for (const user of [ana, ben]) await user.page.getByText('2 people here').first().waitFor();
  await stopClock(ben.page); // otherwise typing ends by itself after a while
  const typing = ana.page.locator('.typing');
  await ben.page.keyboard.type('H');
  await typing.getByText(/Ben.* is typing/).waitFor();
  expect(await ben.page.locator('.typing').textContent()).toBe('');
  await ben.page.keyboard.type('i');
  await ben.page.keyboard.press('Enter');
  await ana.sees('Hi');
  await expect.poll(() => typing.textContent(), POLL).toBe('');
});

test('typing ends when the text is taken back', async () => {
  const ana = await logIn('Ana');
  const sent: string[] = [];
  const ben = await logIn('Ben', {
    prepare: async (page) => {
      await page.clock.install();
      page.on('websocket', (ws) => ws.on('framesent', ({ payload }) => sent.push(JSON.parse(String(payload)).type)));
    },
  });
  for (const user of [ana, ben]) await user.page.getByText('2 people here').first().waitFor();
  await stopClock(ben.page); // otherwise typing ends by itself after a while
  await ben.page.keyboard.type('H');
  await ana.page
    .locator('.typing')
    .getByText(/Ben.* is typing/)
    .waitFor();
  await ben.page.keyboard.press('Backspace');
  await expect.poll(() => ana.page.locator('.typing').textContent(), POLL).toBe('');
  expect(sent.slice(-2)).toEqual(['typing', 'stop-typing']);
});

test('rooms are created, joined and left, and count what is unread', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  for (const user of [ana, ben]) await user.join('Reading club');
  await ana.page.getByText('2 people here').first().waitFor();
  await ben.item('lobby').click();
  await ana.write('Chapter one', 'Chapter two');
  await ben.item('Reading club').getByText('2 unread').waitFor();
  await expect.poll(() => ben.page.title(), POLL).toBe('(2) lobby · chathub');
  await ben.item('Reading club').click();
  await ben.sees('Chapter one', 'Chapter two');
  await ben.log.getByText('New messages', { exact: true }).waitFor();
  await expect.poll(() => ben.item('Reading club').getByText('unread').count(), POLL).toBe(0);
  await expect.poll(() => ben.page.title(), POLL).toBe('Reading club · chathub');
  // What arrives while it is open and read is not new.
  await ben.item('lobby').click();
  await ben.composer('lobby').waitFor();
  await ben.item('Reading club').click();
  await ana.write('Chapter three');
  await ben.sees('Chapter one', 'Chapter two', 'Chapter three');
  expect(await ben.log.getByText('New messages', { exact: true }).count()).toBe(0);

  await ben.page.getByRole('button', { name: 'Leave the room' }).click();
  await ben.composer('lobby').waitFor();
  expect(await ben.item('Reading club').count()).toBe(0);
  await ana.page.getByText('Only you are here').first().waitFor();
  await ana.write('Chapter four');
  await ben.join('Reading club'); // brings what was said meanwhile
  await ben.sees('Chapter one', 'Chapter two', 'Chapter three', 'Chapter four');
});

test('what arrives while the page is hidden is new', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  const setHidden = (value: boolean) =>
    ben.page.evaluate((value) => {
      Object.defineProperty(document, 'hidden', { value, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, value);
  const lines = () => ben.log.locator('.text, .divider').allTextContents();
  await ana.write('Seen');
  await ben.sees('Seen');
  await setHidden(true);
  await setHidden(false);
  await ana.write('Seen too');
  await ben.sees('Seen', 'Seen too');
  expect(await lines()).toEqual(['Seen', 'Seen too']);
  await setHidden(true);
  await ana.write('Not seen');
  await ben.item('lobby').getByText('1 unread').waitFor();
  await setHidden(false);
  await expect.poll(lines, POLL).toEqual(['Seen', 'Seen too', 'New messages', 'Not seen']);
  await expect.poll(() => ben.item('lobby').getByText('unread').count(), POLL).toBe(0);
});

test('the list of people follows who comes and goes', async () => {
  const ana = await logIn('Ana');
  const people = ana.page.getByRole('region', { name: /^People/ });
  await people.getByText('Nobody else is online').waitFor();
  const ben = await logIn('Ben');
  await people.getByRole('button', { name: 'Ben' }).waitFor();
  await people.locator('.presence.on').waitFor();
  await people.getByRole('heading', { name: 'People 1 online' }).waitFor();
  await ben.page.close();
  await people.getByText('Nobody else is online').waitFor();
});

test('the list has each person once', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  const chris = await logIn('Chris');
  await ana.openPrivately('Ben');
  await ana.write('Hello, Ben');
  await ben.item('Ana').getByText('1 unread').waitFor();
  await ben.page.keyboard.type('H'); // in the lobby
  await ana
    .item('lobby')
    .getByText(/is typing…$/)
    .waitFor();
  for (const [user, others] of [
    [ana, ['Ben', 'Chris']],
    [ben, ['Ana', 'Chris']],
    [chris, ['Ana', 'Ben']],
  ] as const)
    for (const name of others)
      expect(await user.page.getByRole('navigation').getByText(name, { exact: true }).count()).toBe(1);
  await ben.page.context().close(); // the conversation stays
  await ana.item('Ben').getByText('(offline)').waitFor();
});

test('a private message reaches its recipient alone', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  const chris = await logIn('Chris');
  await ana.openPrivately('Ben');
  await ana.write('For you alone');
  await ana.status('For you alone', 'sent');
  await ben.item('Ana').getByText('1 unread').waitFor();
  await ben.item('Ana').click();
  await ben.sees('For you alone');
  await ben.write('I tell nobody');
  await ana.sees('For you alone', 'I tell nobody');
  // Anything sent to Chris before would arrive before this.
  await ana.item('lobby').click();
  await ana.write('For all');
  await chris.sees('For all');
  expect(await chris.item('Ana').count()).toBe(0);
});

test('a private message waits for somebody who comes later', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  await ana.openPrivately('Ben');
  await ben.page.context().close();
  await ana.page.getByText('Offline. Your messages will be waiting.').waitFor();
  await ana.write('Call me when you are back', 'It is not urgent');
  await ana.status('It is not urgent', 'sent');

  // Another tab knows Ben's name, although it never saw him online.
  const tab = await logIn('Ana', { beside: ana });
  await tab.item('Ben').click();
  await tab.sees('Call me when you are back', 'It is not urgent');

  const again = await logIn('Ben');
  await again.item('Ana').getByText('2 unread').waitFor();
  await again.item('Ana').click();
  await again.sees('Call me when you are back', 'It is not urgent');
  await again.write('Here I am');
  await ana.sees('Call me when you are back', 'It is not urgent', 'Here I am');
});

test('a conversation begun by another program shows a name', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  await ana.page
    .getByRole('region', { name: /^People/ })
    .getByRole('button', { name: 'Ben' })
    .waitFor();
  // Unlike this page, that program puts no name into the message.
  await ana.page.evaluate(async () => {
    const logIn = async (name: string) => {
      const response = await fetch('login', { method: 'POST', body: JSON.stringify({ name }) });
      return response.json();
    };
    const { token } = await logIn('Ana');
    const { user } = await logIn('Ben');
    const ws = new WebSocket(new URL('ws', document.baseURI), ['chathub.v1', `chathub.bearer.${token}`]);
    ws.onopen = () => ws.send(JSON.stringify({ type: 'private-message', to: user.id, data: { text: 'By hand' } }));
  });
  await ben.item('Ana').click();
  await ben.sees('By hand');
  await ana.item('Ben').click();
  await ana.composer('Ben').waitFor();
  await ana.sees('By hand');
  await ben.page.context().close();
  await ana.page.getByText('Offline. Your messages will be waiting.').waitFor();
  await ana.item('lobby').click();
  await ana.item('Ben').click();
});

test('two tabs of one user show what either sends', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  const tab = await logIn('Ana', { beside: ana });
  await ana.write('From the first');
  await tab.sees('From the first');
  await tab.write('From the second');
  for (const user of [ana, tab, ben]) await user.sees('From the first', 'From the second');
  await ana.row('From the second').and(ana.page.locator('.mine')).waitFor();
  await ben.page.getByText('2 people here').first().waitFor(); // users, not tabs

  // So do private messages. What one tab has read is read in the other.
  await ben.openPrivately('Ana');
  await ben.write('Hello, Ana');
  await tab.item('Ben').getByText('1 unread').waitFor();
  await ana.item('Ben').click();
  await ana.sees('Hello, Ana');
  await expect.poll(() => tab.item('Ben').getByText('unread').count(), POLL).toBe(0);
  await ana.write('Hello, Ben');
  await tab.item('Ben').click();
  for (const user of [ana, tab, ben]) await user.sees('Hello, Ana', 'Hello, Ben');
});

test('older messages come at the top, and what is read stays where it is', async () => {
  const ana = await logIn('Ana');
  const texts = Array.from({ length: 120 }, (_, i) => `Message ${i + 1}`);
  await ana.write(...texts);
  await ana.status('Message 120', 'sent');

  const ben = await logIn('Ben');
  await ben.sees(...texts.slice(70)); // the newest 50
  await ben.row('Message 120').waitFor();
  expect(await inSight(ben.row('Message 120'))).toBe(true);
  await ben.log.evaluate((log) => {
    log.scrollTop = 210; // not near enough to load older messages
  });
  await expect.poll(() => ben.page.getByRole('button', { name: 'Latest' }).count(), POLL).toBe(1);
  const top = async () => (await ben.row('Message 75').boundingBox())?.y ?? Number.NaN;
  const before = await ben.row('Message 75').evaluate((row) => {
    (row.closest('.log') as HTMLElement).scrollTop = 150;
    return row.getBoundingClientRect().y; // before the page can react
  });
  await ben.sees(...texts.slice(20));
  expect(Math.abs((await top()) - before)).toBeLessThan(2);

  // A message that arrives now moves nothing, and is counted.
  const place = await top();
  await ana.write('One more');
  await ben.page.getByRole('button', { name: '1 new' }).waitFor();
  expect(Math.abs((await top()) - place)).toBeLessThan(2);

  await ben.log.evaluate((log) => {
    log.scrollTop = 0;
  });
  await ben.sees(...texts, 'One more');
  expect(await ben.page.getByRole('button', { name: 'Show earlier messages' }).count()).toBe(0);
  // What was there before he came is not new.
  const lines = await ben.log.locator('.text, .divider').allTextContents();
  expect(lines).toEqual([...texts, 'New messages', 'One more']);
  await ben.page.getByRole('button', { name: '1 new' }).click();
  await expect.poll(() => inSight(ben.row('One more')), POLL).toBe(true);
});

test('a reload of the page changes nothing', async () => {
  const ana = await logIn('Ana');
  await ana.join('games');
  await ana.write('First', 'Second');
  await ana.status('Second', 'sent');
  await ana.page.reload();
  await ana.composer('games').waitFor();
  await ana.sees('First', 'Second');
  await ana.item('lobby').waitFor();
  expect(await ana.page.locator('.badge').count()).toBe(0);
});

test('logging out forgets the session', async () => {
  const ana = await logIn('Ana');
  await ana.page.getByRole('button', { name: 'Log out' }).click();
  await ana.page.getByLabel('Your name').waitFor();
  expect(await ana.page.evaluate(() => sessionStorage.length)).toBe(0);
  await ana.page.reload();
  await ana.page.getByLabel('Your name').waitFor();
});

test('logging out asks first if messages are not sent yet', async () => {
  const net = await network();
  const ana = await logIn('Ana', { url: net.url });
  net.cut();
  await ana.offline();
  await ana.write('Not yet sent');
  const dialog = ana.page.getByRole('dialog', { name: 'Log out now?' });
  await ana.page.getByRole('button', { name: 'Log out' }).click();
  await dialog.getByRole('button', { name: 'Stay' }).click();
  await ana.status('Not yet sent', 'sending');
  await ana.page.getByRole('button', { name: 'Log out' }).click();
  await dialog.getByRole('button', { name: 'Log out' }).click();
  net.mend();
  await ana.page.getByLabel('Your name').waitFor();
  expect(await ana.page.evaluate(() => sessionStorage.length)).toBe(0);
});

async function inSight(row: import('playwright-core').Locator): Promise<boolean> {
  return row.evaluate((element) => {
    const { top, bottom } = element.getBoundingClientRect();
    const log = element.closest('.log')?.getBoundingClientRect();
    return log !== undefined && top >= log.top - 1 && bottom <= log.bottom + 1;
  });
}
