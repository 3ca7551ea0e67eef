import type { Locator } from 'playwright-core';
import { expect, test } from 'vitest';
import { accessible } from './access.js';
import { act, edit, focusedRow, inSight, longPress, react, remove } from './actions.js';
import { current, dataDirectory, logIn, network, POLL, type User, withBrowser } from './browser.js';

withBrowser();

const reactions = (user: User, text: string) => user.row(text).locator('.reaction');

/** What others see of a message that was deleted. */
const GONE = 'This message was deleted';

test('two people and three tabs edit, delete, react and reply', async () => {
  const ana = await logIn('Ana');
  const tab = await logIn('Ana', { beside: ana });
  const ben = await logIn('Ben');
  const all = [ana, tab, ben];
  await ana.write('Helo', 'Who comes along?', 'Forget it');
  for (const user of all) await user.sees('Helo', 'Who comes along?', 'Forget it');

  await edit(ana, 'Helo', 'Hello');
  for (const user of all) {
    await user.sees('Hello', 'Who comes along?', 'Forget it');
    await user.row('Hello').getByText('edited', { exact: true }).waitFor();
  }
  await remove(tab, 'Forget it');
  for (const user of all) await user.sees('Hello', 'Who comes along?', GONE);
  await ben.item('lobby').getByText(GONE).waitFor(); // in the list too

  await react(ben, 'Who comes along?', 'thumbs up');
  await react(ana, 'Who comes along?', 'thumbs up');
  for (const user of all)
    await expect.poll(() => reactions(user, 'Who comes along?').allTextContents(), POLL).toEqual(['👍 2']);
  expect(await reactions(ana, 'Who comes along?').getAttribute('title')).toBe('You and \u2068Ben\u2069');
  expect(await reactions(ben, 'Who comes along?').getAttribute('aria-label')).toBe(
    '\u2068👍\u2069 2: You and \u2068Ana\u2069',
  );
  expect(await reactions(tab, 'Who comes along?').getAttribute('aria-pressed')).toBe('true');
  await reactions(ben, 'Who comes along?').click(); // takes it back
  for (const user of all)
    await expect.poll(() => reactions(user, 'Who comes along?').allTextContents(), POLL).toEqual(['👍 1']);
  expect(await reactions(ben, 'Who comes along?').getAttribute('aria-pressed')).toBe('false');

  await act(ben, 'Who comes along?', 'Reply');
  await ben.page.locator('.replying').getByText('Who comes along?').waitFor();
  await ben.write('I do', 'And my sister');
  for (const user of all) {
    await user.sees('Hello', 'Who comes along?', GONE, 'I do', 'And my sister');
    await user
      .row('I do')
      .getByRole('button', { name: /In reply to .*Ana.*Who comes along\?/ })
      .waitFor();
    expect(await user.row('And my sister').locator('.quote').count()).toBe(0); // it answers nothing
  }
  // A click on what it answers leads there.
  await ana.row('I do').locator('.quote').click();
  await expect.poll(() => ana.row('Who comes along?').evaluate((e) => e === document.activeElement), POLL).toBe(true);

  // Nobody can edit or delete what others wrote.
  await ben.row('Hello').locator('.bubble').hover();
  expect(
    await ben
      .row('Hello')
      .locator('.actions button')
      .evaluateAll((all) => all.map((b) => b.ariaLabel)),
  ).toEqual(['React', 'Reply', 'Pin', 'Copy link', 'Report']);
  await ben.row(GONE).locator('.bubble').hover();
  expect(await ben.row(GONE).locator('.actions').count()).toBe(0);
});

test('private messages are edited, deleted, reacted to and answered', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  await ana.openPrivately('Ben');
  await ana.write('Helo', 'Forget it', 'Tea?');
  await ben.item('Ana').click();
  await ben.sees('Helo', 'Forget it', 'Tea?');
  await edit(ana, 'Helo', 'Hello');
  await remove(ana, 'Forget it');
  await react(ben, 'Tea?', 'heart');
  await act(ben, 'Tea?', 'Reply');
  await ben.write('Gladly');
  for (const user of [ana, ben]) {
    await user.sees('Hello', GONE, 'Tea?', 'Gladly');
    await expect.poll(() => reactions(user, 'Tea?').allTextContents(), POLL).toEqual(['❤️ 1']);
    await user.row('Gladly').locator('.quote').getByText('Tea?').waitFor();
  }
  expect(await reactions(ana, 'Tea?').getAttribute('title')).toBe('\u2068Ben\u2069');
  await ana.row('Gladly').locator('.quote').click();
  await expect.poll(() => ana.row('Tea?').evaluate((e) => e === document.activeElement), POLL).toBe(true);
  await ana.page.reload();
  await ana.sees('Hello', GONE, 'Tea?', 'Gladly');
  await expect.poll(() => reactions(ana, 'Tea?').allTextContents(), POLL).toEqual(['❤️ 1']);
});

test('changes made offline go out later, over a restart of the server', async () => {
  const data = await dataDirectory();
  await current.startAnother({ data });
  const net = await network();
  const ana = await logIn('Ana', { url: net.url });
  const tab = await logIn('Ana', { url: net.url, beside: ana });
  const ben = await logIn('Ben', { url: net.url });
  const all = [ana, tab, ben];
  await ana.write('One', 'Two', 'Three');
  for (const user of all) await user.sees('One', 'Two', 'Three');

  await current.server.stop();
  for (const user of all) await user.offline();
  await edit(ana, 'One', 'One, edited');
  await remove(ana, 'Two');
  await react(ben, 'Three', 'party');
  await act(ben, 'Three', 'Reply');
  await ben.write('Four');
  // They show at once.
  await ana.sees('One, edited', GONE, 'Three');
  await ben.sees('One', 'Two', 'Three', 'Four');
  await expect.poll(() => reactions(ben, 'Three').allTextContents(), POLL).toEqual(['🎉 1']);

  net.leadTo(await current.startAnother({ data }));
  for (const user of all) {
    await user.online();
    await user.sees('One, edited', GONE, 'Three', 'Four');
    await expect.poll(() => reactions(user, 'Three').allTextContents(), POLL).toEqual(['🎉 1']);
    await user.row('Four').locator('.quote').getByText('Three').waitFor();
  }
  await expect.poll(() => reactions(ana, 'Three').getAttribute('title'), POLL).toBe('\u2068Ben\u2069');
});

test('a tab that was offline for ten changes shows the messages as they are', async () => {
  const net = await network();
  const ana = await logIn('Ana');
  const tab = await logIn('Ben', { url: net.url });
  const ben = await logIn('Ben');
  await ana.write('One', 'Two', 'Three');
  for (const user of [tab, ben]) await user.sees('One', 'Two', 'Three');
  net.cut();
  await tab.offline();
  await edit(ana, 'One', 'One, a');
  await edit(ana, 'One, a', 'One, b');
  await edit(ana, 'One, b', 'One, c');
  await edit(ana, 'Three', 'Three, edited');
  await react(ben, 'One, c', 'thumbs up');
  await react(ben, 'One, c', 'heart');
  await reactions(ben, 'One, c').first().click(); // takes the thumb back
  await react(ana, 'One, c', 'heart');
  await remove(ana, 'Two');
  await react(ben, 'Three, edited', 'party');
  const expected = async (user: User) => {
    await user.sees('One, c', GONE, 'Three, edited');
    await expect.poll(() => reactions(user, 'One, c').allTextContents(), POLL).toEqual(['❤️ 2']);
    await expect.poll(() => reactions(user, 'Three, edited').allTextContents(), POLL).toEqual(['🎉 1']);
  };
  for (const user of [ana, ben]) await expected(user);
  expect(await tab.messages.allTextContents()).toEqual(['One', 'Two', 'Three']);
  net.mend();
  await tab.online();
  await expected(tab);
});

test('a change that the server refuses is taken back, and the reason is shown', async () => {
  const ana = await logIn('Ana', {
    prepare: async (page) => {
      await page.routeWebSocket(/\/ws$/, (socket) => {
        const server = socket.connectToServer();
        socket.onMessage((text) => {
          const { id, type } = JSON.parse(String(text));
          if (!/^(edit-message|delete-message|react)$/.test(type)) return server.send(text);
          const data = { code: 'forbidden', message: `No ${type} after 22:00` };
          socket.send(JSON.stringify({ type: 'error', id, data }));
        });
      });
      await page.reload();
    },
  });
  await ana.write('As it is');
  await ana.status('As it is', 'sent');
  const toast = ana.page.locator('.toasts');
  await edit(ana, 'As it is', 'As it was');
  await toast.getByText('No edit-message after 22:00.').waitFor();
  // The text is not lost: it is in the field again, with the reason.
  const field = ana.page.getByLabel('Edit the message');
  await expect.poll(() => field.inputValue(), POLL).toBe('As it was');
  await ana.log.getByText('Not edited: No edit-message after 22:00.').waitFor();
  await expect.poll(() => field.evaluate((e) => e === document.activeElement), POLL).toBe(true);
  await accessible(ana.page);
  await field.press('Escape');
  await ana.sees('As it is');
  expect(await ana.row('As it is').getByText('edited').count()).toBe(0);
  // It does not interrupt somebody who is writing something else.
  await act(ana, 'As it is', 'Edit');
  await field.fill('As it will be');
  await ana.composer('lobby').fill('Meanwhile');
  await field.press('Enter');
  await expect.poll(() => field.inputValue(), POLL).toBe('As it will be');
  expect(await ana.composer('lobby').evaluate((e) => e === document.activeElement)).toBe(true);
  expect(await ana.composer('lobby').inputValue()).toBe('Meanwhile');
  await field.press('Escape');
  await ana.composer('lobby').fill('');
  await remove(ana, 'As it is');
  await toast.getByText('No delete-message after 22:00.').waitFor();
  await ana.sees('As it is');
  await react(ana, 'As it is', 'thanks');
  await toast.getByText('No react after 22:00.').waitFor();
  await expect.poll(() => reactions(ana, 'As it is').count(), POLL).toBe(0);
});

test('the keyboard edits, reacts, replies and deletes', async () => {
  const ben = await logIn('Ben');
  const ana = await logIn('Ana');
  const { keyboard } = ana.page;
  const focused = (locator: Locator) =>
    expect.poll(() => locator.evaluate((e) => e === document.activeElement), POLL).toBe(true);
  await ben.write('What is new?');
  await ana.sees('What is new?');
  await ana.write('Nothign');
  await ana.status('Nothign', 'sent');

  // Arrow up edits the last message of one's own.
  const field = ana.page.getByLabel('Edit the message');
  await keyboard.press('ArrowUp');
  await focused(field);
  await keyboard.type(' much');
  await keyboard.press('Escape');
  await focused(ana.composer('lobby'));
  await ana.sees('What is new?', 'Nothign');
  await keyboard.press('ArrowUp');
  await focused(field);
  await keyboard.press('Control+a');
  await keyboard.type('Nothing');
  await keyboard.press('Enter');
  await focused(ana.composer('lobby'));
  await ben.sees('What is new?', 'Nothing');

  // Arrows go through the messages, and Tab leads into the bar.
  await ana.log.focus();
  await keyboard.press('ArrowUp');
  await focused(ana.row('Nothing'));
  await keyboard.press('ArrowUp');
  await focused(ana.row('What is new?'));
  await keyboard.press('Tab');
  await focused(ana.row('What is new?').getByRole('button', { name: 'React' }));
  await keyboard.press('Enter');
  await focused(ana.row('What is new?').getByRole('button', { name: 'React with thumbs up' }));
  await keyboard.press('Escape');
  await focused(ana.row('What is new?').getByRole('button', { name: 'React' }));
  await keyboard.press('Enter');
  await keyboard.press('Tab');
  await keyboard.press('Enter');
  await expect.poll(() => reactions(ben, 'What is new?').allTextContents(), POLL).toEqual(['❤️ 1']);

  // Enter on a message opens the same as a dialog.
  await ana.row('What is new?').focus();
  await keyboard.press('Enter');
  const sheet = ana.page.getByRole('dialog', { name: 'Message' });
  await sheet.getByRole('button', { name: 'Reply' }).focus();
  await keyboard.press('Enter');
  await focused(ana.composer('lobby'));
  await keyboard.press('Escape'); // no reply after all
  expect(await ana.page.locator('.replying').count()).toBe(0);

  await ana.row('Nothing').focus();
  await ana.row('Nothing').getByRole('button', { name: 'Delete' }).focus();
  await keyboard.press('Enter');
  const dialog = ana.page.getByRole('dialog', { name: 'Delete this message?' });
  await dialog.getByRole('button', { name: 'Delete', exact: true }).focus();
  await keyboard.press('Enter');
  await ben.sees('What is new?', GONE);
  await focused(ana.composer('lobby'));
});

test('a long press on a phone opens what can be done', async () => {
  const ben = await logIn('Ben');
  const ana = await logIn('Ana', { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true });
  await ben.write('From Ben');
  await ana.write('From Ana');
  await ana.sees('From Ben', 'From Ana');
  const touch = await ana.page.context().newCDPSession(ana.page);
  const sheet = ana.page.getByRole('dialog', { name: 'Message' });
  const press = (text: string) => longPress(touch, ana.row(text).locator('.bubble'), sheet);

  await press('From Ben');
  await accessible(ana.page);
  expect(await sheet.locator('li').allTextContents()).toEqual(['Reply', 'Pin', 'Copy link', 'Report']);
  await sheet.getByRole('button', { name: 'React with party' }).tap();
  await expect.poll(() => reactions(ben, 'From Ben').allTextContents(), POLL).toEqual(['🎉 1']);
  await press('From Ana');
  await sheet.getByRole('button', { name: 'Edit' }).tap();
  await ana.page.getByLabel('Edit the message').fill('From Ana, by phone');
  await accessible(ana.page);
  await ana.page.getByRole('button', { name: 'Save' }).tap();
  await ben.sees('From Ben', 'From Ana, by phone');
  await press('From Ben');
  await sheet.getByRole('button', { name: 'Reply' }).tap();
  await ana.write('An answer');
  await ben.row('An answer').locator('.quote').getByText('From Ben').waitFor();
  await press('An answer');
  await sheet.getByRole('button', { name: 'Delete' }).tap();
  await ana.page.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }).tap();
  await ben.sees('From Ben', 'From Ana, by phone', GONE);
  // A short touch does nothing.
  await ana.row('From Ben').tap();
  expect(await sheet.count()).toBe(0);
  expect(await ana.page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
});

test('a message of 2,000 ago is found by a link and by a reply', async () => {
  const data = await dataDirectory();
  await current.startAnother({ data });
  const ana = await logIn('Ana');
  await ana.write('The beginning');
  await ana.status('The beginning', 'sent');
  await ana.page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await act(ana, 'The beginning', 'Copy link');
  await ana.page.locator('.toasts').getByText('The link to the message is in the clipboard.').waitFor();
  const url = await ana.page.evaluate(() => navigator.clipboard.readText());
  await flood(ana, 2_000, Number(/#lobby\/(\d+)$/.exec(url)?.[1]));

  const ben = await logIn('Ben');
  await ben.row('Number 2000').waitFor();
  expect(await ben.row('The beginning').count()).toBe(0);
  // The answer shows what it answers, although that is not loaded.
  const quote = ben.row('Number 2000').locator('.quote');
  await quote.getByText('The beginning').waitFor();
  await quote.click();
  await focusedRow(ben, 'The beginning');
  expect(await ben.row('Number 2000').count()).toBe(0);
  await ben.row('Number 1').waitFor();

  // A new message does not move the page.
  await ana.write('Meanwhile');
  await ana.status('Meanwhile', 'sent');
  expect(await inSight(ben.row('The beginning'))).toBe(true);
  await ben.page.getByRole('button', { name: 'Latest' }).click();
  await ben.row('Meanwhile').waitFor();
  await expect.poll(() => inSight(ben.row('Meanwhile')), POLL).toBe(true);

  // The link opens in a page that has never seen it, and scrolls on.
  const chris = await logIn('Chris', { url });
  await focusedRow(chris, 'The beginning');
  expect(chris.page.url()).not.toContain('#');
  for (let shown = 0; shown < 130; shown = await chris.log.locator('.row').count()) {
    await chris.log.evaluate((log) => {
      log.scrollTop = log.scrollHeight;
    });
  }
  await chris.row('Number 100').waitFor();
  // It is followed once: elsewhere and back, the newest messages show.
  await chris.join('attic');
  await chris.item('lobby').click();
  await chris.row('Meanwhile').waitFor();
  expect(await chris.row('The beginning').count()).toBe(0);
  // A link to a room joins it. Here the message is missing.
  await chris.page.evaluate(() => {
    location.hash = '#club/7';
  });
  await chris.isIn('club');
  await chris.page.locator('.toasts').getByText('This message is no longer there.').waitFor();
});

/** Sends many messages, the last of which answers another one. */
async function flood(user: User, count: number, re: number): Promise<void> {
  await user.page.evaluate(
    async ([count, re]) => {
      const { token } = JSON.parse(sessionStorage.getItem('chathub:session') ?? '');
      const ws = new WebSocket(new URL('ws', document.baseURI), ['chathub.v1', `chathub.bearer.${token}`]);
      const send = (event: object) => ws.send(JSON.stringify({ room: 'lobby', ...event }));
      const answered = (id: string) =>
        new Promise<void>((resolve) => {
          ws.addEventListener('message', ({ data }) => JSON.parse(data).id === id && resolve());
        });
      await new Promise((resolve) => ws.addEventListener('open', resolve));
      send({ type: 'join-room', id: 'join' });
      await answered('join');
      for (let n = 1; n <= count; n++) {
        const done = n % 100 === 0 ? answered(`flood-${n}`) : undefined;
        const data = { text: `Number ${n}` };
        send({ type: 'room-message', id: `flood-${n}`, data, ...(n === count ? { re } : {}) });
        await done;
      }
      ws.close();
    },
    [count, re] as const,
  );
}
