import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { accessible } from './access.js';
import { current, dataDirectory, logIn, network, POLL, type User, withBrowser } from './browser.js';

withBrowser();

const noBadge = (user: User, title: string) =>
  expect.poll(() => user.item(title).locator('.badge').count(), POLL).toBe(0);

/** Has the page believe that somebody attends to it, or that nobody does. */
const setFocus = (page: Page, is: boolean) =>
  page.evaluate((is) => {
    document.hasFocus = () => is;
    dispatchEvent(new Event(is ? 'focus' : 'blur'));
  }, is);

test('badges agree in two tabs, after a reload and after a restart', async () => {
  const data = await dataDirectory();
  await current.startAnother({ data });
  const net = await network();
  const ana = await logIn('Ana', { url: net.url });
  await ana.join('club');
  const tab = await logIn('Ana', { url: net.url, beside: ana });
  await tab.join('club');
  await tab.join('attic'); // away from both
  await ana.join('attic');
  const ben = await logIn('Ben', { url: net.url });
  await ben.join('club');
  await ben.write('One', 'Two', 'Three');
  await ben.openPrivately('Ana');
  await ben.write('Are you there?');
  await ben.status('Are you there?', 'sent');
  const both = [ana, tab];
  for (const user of both) {
    await user.item('club').getByText('3 unread').waitFor();
    await user.item('club').getByText('Three').waitFor();
    await user.item('Ben').getByText('1 unread').waitFor();
    await expect.poll(() => user.page.title(), POLL).toBe('(4) attic · chathub');
    await user.page.locator('link[rel=icon][href="./icon-unread.svg"]').waitFor({ state: 'attached' });
  }
  // A deleted message is not unread.
  await ben.item('club').click();
  await ben.row('Two').locator('.bubble').hover();
  await ben.row('Two').getByRole('button', { name: 'Delete' }).click();
  await ben.page.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }).click();
  for (const user of both) await user.item('club').getByText('2 unread').waitFor();

  await current.server.stop();
  for (const user of [...both, ben]) await user.offline();
  net.leadTo(await current.startAnother({ data }));
  for (const user of [...both, ben]) await user.online();
  await tab.page.reload();
  for (const user of both) {
    await user.item('club').getByText('2 unread').waitFor();
    await user.item('Ben').getByText('1 unread').waitFor();
  }

  await ana.item('club').click();
  await ana.sees('One', 'This message was deleted', 'Three');
  const lines = () => ana.log.locator('.text, .divider').allTextContents();
  await expect.poll(lines, POLL).toEqual(['New messages', 'One', 'This message was deleted', 'Three']);
  for (const user of both) await noBadge(user, 'club');
  await tab.item('Ben').click();
  await tab.sees('Are you there?');
  for (const user of both) await noBadge(user, 'Ben');
  await expect.poll(() => ana.page.title(), POLL).toBe('club · chathub');
  await ana.page.locator('link[rel=icon][href="./icon.svg"]').waitFor({ state: 'attached' });

  // What was read stays read, and what comes later does not.
  await ana.page.reload();
  await ana.sees('One', 'This message was deleted', 'Three');
  for (const title of ['club', 'Ben']) await noBadge(ana, title);
  await ana.item('attic').click();
  await ana.isIn('attic');
  await ben.write('Four');
  for (const user of both) await user.item('club').getByText('1 unread').waitFor();
});

test('only what is in sight, on a page with focus, is read', async () => {
  const ben = await logIn('Ben');
  const ana = await logIn('Ana');
  const state = (text: string) => ben.row(text).locator('.state').textContent();
  await ben.write('Hello');
  await expect.poll(() => state('Hello'), POLL).toBe('Read by \u2068Ana\u2069');
  await setFocus(ana.page, false);
  await ben.write('Do you see this?');
  await ana.item('lobby').getByText('1 unread').waitFor();
  await ana.log.getByText('New messages', { exact: true }).waitFor();
  expect(await state('Do you see this?')).toBe('Sent');
  await setFocus(ana.page, true);
  await expect.poll(() => state('Do you see this?'), POLL).toBe('Read by \u2068Ana\u2069');
  await noBadge(ana, 'lobby');

  await ben.write(...Array.from({ length: 40 }, (_, i) => `Line ${i}`));
  await expect.poll(() => state('Line 39'), POLL).toBe('Read by \u2068Ana\u2069');
  await ana.log.evaluate((log) => {
    log.scrollTop = log.scrollHeight / 2;
  });
  await ana.page.getByRole('button', { name: 'Latest' }).waitFor();
  await ben.write('Far below');
  await ana.item('lobby').getByText('1 unread').waitFor();
  await ana.page.getByRole('button', { name: '1 new' }).click();
  await expect.poll(() => state('Far below'), POLL).toBe('Read by \u2068Ana\u2069');
  await noBadge(ana, 'lobby');
  // Somebody who answers has read, for those who come later too.
  await ana.write('I do');
  await ben.page.reload();
  await expect.poll(() => state('Far below'), POLL).toBe('Read by \u2068Ana\u2069');
});

test('the line above many new messages is found', async () => {
  const ben = await logIn('Ben');
  const ana = await logIn('Ana');
  await ben.write('Before');
  await ana.sees('Before');
  await ben
    .row('Before')
    .getByText(/^Read by/)
    .waitFor();
  await ana.join('club');
  const texts = Array.from({ length: 70 }, (_, i) => `New ${i}`);
  await ben.write(...texts);
  await ana.item('lobby').getByText('70 unread').waitFor();
  await ana.page.reload(); // loads only 50 of them
  await ana.item('lobby').getByText('70 unread').waitFor();
  await ana.item('lobby').click();
  await ana.sees('Before', ...texts);
  const line = ana.log.getByText('New messages', { exact: true });
  const top = () =>
    line.evaluate((e) => e.getBoundingClientRect().top > (e.closest('.log')?.getBoundingClientRect().top ?? 0));
  await ana.page.getByRole('button', { name: 'New messages' }).click();
  await expect.poll(top, POLL).toBe(true);
  const lines = await ana.log.locator('.text, .divider').allTextContents();
  expect(lines.slice(0, 3)).toEqual(['Before', 'New messages', 'New 0']);
  await expect.poll(() => ana.page.getByRole('button', { name: 'New messages' }).count(), POLL).toBe(0);
});

test('the browser shows notifications after consent, and only unattended', async () => {
  const ben = await logIn('Ben');
  const ana = await logIn('Ana', {
    prepare: async (page) => {
      await page.addInitScript(() => {
        const shown: object[] = [];
        const asked = { count: 0 };
        class Fake {
          static permission = localStorage.getItem('consent') ?? 'default';
          static async requestPermission() {
            asked.count++;
            localStorage.setItem('consent', 'granted');
            Fake.permission = 'granted';
            return 'granted';
          }
          onclick = () => {};
          closed = false;
          constructor(title: string, { body, tag }: NotificationOptions) {
            shown.push(Object.assign(this, { title, body, tag }));
          }
          close() {
            this.closed = true;
          }
        }
        Object.assign(window, { Notification: Fake, shown, asked });
      });
      await page.reload();
    },
  });
  type Fakes = { shown: { title: string; body: string; closed: boolean; onclick(): void }[]; asked: { count: number } };
  const shown = () =>
    ana.page.evaluate(() => (window as unknown as Fakes).shown.map(({ title, body }) => `${title}: ${body}`));
  await setFocus(ana.page, false);
  await ben.write('Before consent');
  await ana.sees('Before consent');
  expect(await shown()).toEqual([]);
  expect(await ana.page.evaluate(() => (window as unknown as Fakes).asked.count)).toBe(0);
  await ana.page.getByRole('button', { name: 'Turn notifications on' }).click();
  const off = ana.page.getByRole('button', { name: 'Turn notifications off' });
  await off.waitFor();
  await ben.write('<b>After</b> it');
  await expect.poll(shown, POLL).toEqual(['\u2068Ben\u2069 in \u2068lobby\u2069: <b>After</b> it']);
  await ben.openPrivately('Ana');
  await ben.write('In private');
  await expect.poll(async () => (await shown()).at(-1), POLL).toBe('Ben: In private');
  // A click opens the conversation. What is read there is closed.
  await ana.page.evaluate(() => (window as unknown as Fakes).shown.at(-1)?.onclick());
  await ana.composer('Ben').waitFor();
  await setFocus(ana.page, true);
  await noBadge(ana, 'Ben');
  const closed = () => ana.page.evaluate(() => (window as unknown as Fakes).shown.map((n) => n.closed));
  await expect.poll(closed, POLL).toEqual([false, true]); // the lobby is still unread
  await ana.item('lobby').click();
  await expect.poll(closed, POLL).toEqual([true, true]);
  await ben.write('While she looks elsewhere in the page');
  await ana.item('Ben').getByText('1 unread').waitFor();
  expect(await shown()).toHaveLength(2);
  // A reload keeps the choice, and does not repeat what is old.
  await ana.page.reload();
  await off.waitFor();
  await setFocus(ana.page, false);
  await ben.write('News');
  await expect.poll(shown, POLL).toEqual(['Ben: News']);
  await off.click();
  await ana.page.getByRole('button', { name: 'Turn notifications on' }).waitFor();
});

test('a search finds rooms and people, and drafts are kept', async () => {
  const ben = await logIn('Bénédicte');
  const ana = await logIn('Ana');
  for (const room of ['Garden', 'Kitchen']) await ana.join(room);
  await ana.page.keyboard.type('Half a thought');
  await ana.page.keyboard.press('Control+k');
  const search = ana.page.getByRole('searchbox', { name: 'Search rooms and people' });
  await expect.poll(() => search.evaluate((e) => e === document.activeElement), POLL).toBe(true);
  await search.fill('gard');
  await ana.item('Garden').waitFor();
  await expect.poll(() => ana.item('Kitchen').isVisible(), POLL).toBe(false);
  await ana.page.getByRole('status').getByText('1 found').waitFor();
  await accessible(ana.page);
  await search.press('Enter');
  await ana.isIn('Garden');
  expect(await search.inputValue()).toBe('');
  await ana.item('Kitchen').getByText('Draft: Half a thought').waitFor();
  await search.fill('benedic');
  await search.press('Enter');
  await ana.composer('Bénédicte').waitFor();
  await search.fill('nobody');
  await ana.page.getByRole('status').getByText('Nothing found').waitFor();
  await search.press('Escape');
  await ana.page.reload();
  await ana.item('Kitchen').getByText('Draft: Half a thought').waitFor();
  await ana.item('Kitchen').click();
  expect(await ana.composer('Kitchen').inputValue()).toBe('Half a thought');
  await ana.page.getByRole('button', { name: 'Log out' }).click();
  await ana.page.getByLabel('Your name').waitFor();
  expect(await ana.page.evaluate(() => sessionStorage.length)).toBe(0);
  await ben.page.close();
});
