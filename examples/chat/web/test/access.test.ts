import type { BrowserContextOptions, Locator } from 'playwright-core';
import { expect, test } from 'vitest';
import { accessible } from './access.js';
import { logIn, network, POLL, type User, withBrowser } from './browser.js';

withBrowser();

const phone: BrowserContextOptions = { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true };

for (const [name, options] of Object.entries<BrowserContextOptions>({
  'a light screen': { colorScheme: 'light' },
  'a dark screen': { colorScheme: 'dark' },
  'a phone': { ...phone, colorScheme: 'light' },
  'a phone in the dark': { ...phone, colorScheme: 'dark' },
})) {
  test(`axe-core finds nothing on ${name}`, async () => {
    const net = await network();
    const ben = await logIn('Ben');
    await ben.write('Hello', 'A link: https://example.com');
    const ana = await logIn('Ana', {
      ...options,
      url: net.url,
      prepare: async (page) => {
        await page.routeWebSocket(/\/ws$/, (socket) => {
          const server = socket.connectToServer();
          socket.onMessage((text) => {
            const { id, data } = JSON.parse(String(text));
            if (data?.text !== 'Refuse this') return server.send(text);
            const refusal = { code: 'internal', message: 'The disk is full' };
            socket.send(JSON.stringify({ type: 'error', id, data: refusal }));
          });
        });
        await page.reload();
        await page.getByLabel('Your name').waitFor();
        await accessible(page);
      },
    });
    const list = () =>
      options.isMobile ? ana.page.getByRole('button', { name: 'Back to the conversations' }).click() : undefined;
    await ana.write('Refuse this', 'Good morning');
    await ana.status('Good morning', 'sent');
    await ana.page.getByText('Not sent: The disk is full').waitFor();
    await ben.page.keyboard.type('H');
    await ana.page.getByText(/is typing$/).waitFor();
    await accessible(ana.page); // a conversation with a failed message

    // A bar, its palette, a reply, reactions, an edited and a deleted one.
    const own = ana.row('Good morning');
    await own.focus();
    const act = async (name: string) => {
      if (options.isMobile) await own.press('Enter');
      await (options.isMobile ? ana.page.locator('dialog') : own).getByRole('button', { name, exact: true }).click();
    };
    if (!options.isMobile) {
      await ana.log.focus();
      await ana.page.keyboard.press('End');
      await ana.page.keyboard.press('ArrowUp');
      await own.locator('.actions').waitFor();
      await ana.page.getByRole('article', { name: /^You: Good morning/ }).waitFor();
      await accessible(ana.page);
      await act('React');
      await accessible(ana.page);
      await act('React with heart');
    } else {
      await own.press('Enter');
      await ana.page.getByRole('dialog', { name: 'Message' }).waitFor();
      await accessible(ana.page);
      await ana.page.getByRole('button', { name: 'React with heart' }).click();
    }
    await own.locator('.reaction').waitFor();
    await own.focus();
    await act('Edit');
    await accessible(ana.page);
    await ana.page.getByLabel('Edit the message').fill('Good evening');
    await ana.page.keyboard.press('Enter');
    const edited = ana.row('Good evening');
    await edited.getByText('edited').waitFor();
    await ben.row('Good evening').locator('.bubble').hover();
    await ben.row('Good evening').getByRole('button', { name: 'Reply' }).click();
    await accessible(ben.page); // a reply is being written
    await ben.write('And to you');
    await ana.row('And to you').locator('.quote').waitFor();
    await ben.row('Hello').locator('.bubble').hover();
    await ben.row('Hello').getByRole('button', { name: 'Delete' }).click();
    await ben.page.getByRole('dialog').waitFor();
    await accessible(ben.page);
    await ben.page.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }).click();
    await ana.row('This message was deleted').waitFor();
    await ana.composer('lobby').fill('word '.repeat(3_000));
    await ana.page.getByText('It will be sent as 2 messages').waitFor();
    await accessible(ana.page);
    await ana.composer('lobby').fill('');

    await list();
    await ana.page.getByRole('button', { name: 'Join a room' }).first().click();
    await ana.page.getByRole('dialog', { name: 'Join a room' }).waitFor();
    await accessible(ana.page); // a dialog
    await ana.page.getByLabel('Name of the room').fill('club');
    await ana.page.keyboard.press('Enter');
    await ana.composer('club').waitFor();
    await ben.write('Something unread');
    await list();
    await ana.item('lobby').getByText('1 unread').waitFor();
    await accessible(ana.page); // the list with an unread message
    await ana.item('lobby').click();
    await ana.log.getByText('New messages', { exact: true }).waitFor();
    await accessible(ana.page); // the line above it
    await list();
    if (options.isMobile) {
      await ana.item('club').click();
      await ana.page.getByRole('button', { name: 'Who is here' }).click();
      await ana.page.getByRole('dialog', { name: 'Who is here' }).waitFor();
      await accessible(ana.page);
      await ana.page.keyboard.press('Escape');
    }
    net.cut();
    await ana.offline();
    await accessible(ana.page); // the banner
    await noScrollingSideways(ana);
  });
}

test('buttons that do different things look different', async () => {
  const ana = await logIn('Ana', { viewport: phone.viewport ?? null });
  await ana.page.getByRole('button', { name: 'Who is here' }).click();
  await ana.page.getByRole('dialog', { name: 'Who is here' }).waitFor();
  const buttons = await ana.page
    .locator('button:has(path)')
    .evaluateAll((all) => all.map((b) => ({ icon: b.querySelector('path')?.getAttribute('d'), label: b.ariaLabel })));
  expect(buttons.length).toBeGreaterThanOrEqual(6); // visible or not
  const labels = new Map<unknown, Set<unknown>>();
  for (const { icon, label } of buttons) labels.set(icon, (labels.get(icon) ?? new Set()).add(label));
  for (const same of labels.values()) expect([...same]).toHaveLength(1);
});

async function noScrollingSideways({ page }: User): Promise<void> {
  expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
}

test('everything can be done with the keyboard', async () => {
  const ben = await logIn('Ben');
  const ana = await logIn('Ana', { prepare: async (page) => page.getByLabel('Your name').waitFor() });
  const { page } = ana;
  const { keyboard } = page;
  const focused = (locator: Locator) =>
    expect.poll(() => locator.evaluate((e) => e === document.activeElement), POLL).toBe(true);
  /** Presses Tab or Shift+Tab until the element has focus. */
  const tabTo = async (locator: Locator, key = 'Tab') => {
    for (let i = 0; i < 30; i++) {
      await keyboard.press(key);
      if (await locator.evaluate((e) => e === document.activeElement)) return;
    }
    throw new Error(`${key} does not lead to ${locator}`);
  };

  // The field for a message has focus at first.
  await focused(ana.composer('lobby'));
  await keyboard.type('Two lines:');
  await keyboard.press('Shift+Enter');
  await keyboard.type('this is the second.');
  await keyboard.press('Enter');
  await ben.sees('Two lines:\nthis is the second.');

  // A dialog keeps focus, Escape closes it, and focus returns.
  const plus = page.getByRole('button', { name: 'Join a room' });
  await tabTo(plus, 'Shift+Tab');
  expect(await plus.evaluate((e) => getComputedStyle(e).outlineStyle)).toBe('solid');
  await keyboard.press('Enter');
  await focused(page.getByLabel('Name of the room'));
  for (let i = 0; i < 6; i++) {
    await keyboard.press('Tab');
    expect(
      await page.evaluate(
        () => document.activeElement === document.body || document.activeElement?.closest('dialog') !== null,
      ),
    ).toBe(true);
  }
  await keyboard.press('Escape');
  await focused(plus);
  // It is gone a moment after focus has returned.
  await page.locator('dialog').waitFor({ state: 'detached' });
  await keyboard.press('Enter');
  await focused(page.getByLabel('Name of the room'));
  await keyboard.type('club');
  await keyboard.press('Enter');
  await focused(ana.composer('club'));

  // Alt and arrows change the conversation, and each keeps its draft.
  await keyboard.type('A draft');
  await keyboard.press('Alt+ArrowDown');
  await focused(ana.composer('lobby'));
  await keyboard.press('Alt+ArrowUp');
  await focused(ana.composer('club'));
  expect(await ana.composer('club').inputValue()).toBe('A draft');

  // Tab leads to the people who are online.
  const person = page.getByRole('region', { name: /^People/ }).getByRole('button', { name: 'Ben' });
  await tabTo(person, 'Shift+Tab');
  await keyboard.press('Enter');
  await focused(ana.composer('Ben'));
  await keyboard.type('Hello');
  await keyboard.press('Enter');
  await ben.item('Ana').getByText('1 unread').waitFor();

  // The log can have focus, so the keyboard can scroll it.
  await tabTo(ana.log, 'Shift+Tab');
  await focused(ana.log);
  const leave = page.getByRole('button', { name: 'Leave the room' });
  await keyboard.press('Alt+ArrowUp');
  await focused(ana.composer('lobby'));
  await tabTo(leave, 'Shift+Tab');
  await keyboard.press('Enter');
  await focused(ana.composer('club'));
  await tabTo(page.getByRole('button', { name: 'Log out' }), 'Shift+Tab');
  await keyboard.press('Enter');
  await focused(page.getByLabel('Your name'));
});

test('a screen reader reads new messages, not older ones', async () => {
  const ben = await logIn('Ben');
  await ben.write('Before Ana came', 'And this');
  const ana = await logIn('Ana');
  // The second one is about moderation.
  const news = ana.page.locator('.conversation > [role=status]').first();
  await ana.sees('Before Ana came', 'And this');
  expect(await news.textContent()).toBe('');
  await ben.write('Hello, Ana');
  await news.getByText(/^.Ben.: Hello, Ana$/).waitFor();
  await ana.write('Hello, Ben'); // her own message is not read out
  await ana.status('Hello, Ben', 'sent');
  expect(await news.textContent()).toMatch(/Hello, Ana$/);
  await ana.log.and(ana.page.getByLabel('Messages in lobby')).waitFor();
});

test('a phone shows either the list or a conversation', async () => {
  const ben = await logIn('Ben');
  const ana = await logIn('Ana', phone);
  await ana.write('From my phone');
  await ben.sees('From my phone');
  const heading = ana.page.getByRole('heading', { level: 2, name: 'lobby' });
  await heading.waitFor();
  await ana.page.getByRole('button', { name: 'Back to the conversations' }).click();
  await expect.poll(() => ana.item('lobby').evaluate((e) => e === document.activeElement), POLL).toBe(true);
  expect(await heading.count()).toBe(0);
  await ben.write('Are you there?'); // not visible, so unread
  await ana.item('lobby').getByText('1 unread').waitFor();
  await ana.item('lobby').click();
  await ana.sees('From my phone', 'Are you there?');
  await expect.poll(() => heading.evaluate((e) => e === document.activeElement), POLL).toBe(true);
  await noScrollingSideways(ana);
});
