// The topic of a room and its pinned messages.
import type { Locator } from 'playwright-core';
import { expect, test } from 'vitest';
import { accessible } from './access.js';
import { act, edit, focusedRow, longPress, remove, sendAs } from './actions.js';
import { current, dataDirectory, logIn, network, POLL, type User, withBrowser } from './browser.js';

withBrowser();

const pinsButton = ({ page }: User, count: number) =>
  page.getByRole('button', { name: count === 1 ? '1 pinned message' : `${count} pinned messages`, exact: true });
const pinsDialog = ({ page }: User) => page.getByRole('dialog', { name: 'Pinned messages' });
const topicButton = ({ page }: User) => page.locator('.topic');
const topic = (user: User) => expect.poll(() => topicButton(user).textContent(), POLL);
const pinned = (user: User, ...texts: string[]) =>
  expect.poll(() => pinsDialog(user).locator('.pin-text').allTextContents(), POLL).toEqual(texts);
const focused = (locator: Locator) =>
  expect.poll(() => locator.evaluate((e) => e === document.activeElement), POLL).toBe(true);

async function setTopic(user: User, text: string): Promise<void> {
  await topicButton(user).click();
  const field = user.page.getByLabel('What is it about?');
  await field.fill(text);
  await field.press('Enter');
}

test('two people pin and unpin, over a reload and a restart of the server', async () => {
  const data = await dataDirectory();
  await current.startAnother({ data });
  const net = await network();
  const ana = await logIn('Ana', { url: net.url });
  const tab = await logIn('Ana', { url: net.url, beside: ana });
  const ben = await logIn('Ben', { url: net.url });
  const all = [ana, tab, ben];
  await ana.write('One', 'Two', 'Three');
  for (const user of all) await user.sees('One', 'Two', 'Three');
  expect(await ana.page.getByRole('button', { name: /pinned message/ }).count()).toBe(0);

  await act(ben, 'One', 'Pin');
  for (const user of all) {
    await pinsButton(user, 1).waitFor();
    await user.row('One').locator('.meta').getByText('Pinned').waitFor();
  }
  await act(ana, 'Three', 'Pin');
  for (const user of all) await pinsButton(user, 2).waitFor();

  await pinsButton(ana, 2).click();
  await pinned(ana, 'Three', 'One'); // the last pinned one first
  await accessible(ana.page);
  await pinsDialog(ana).getByRole('button', { name: 'Unpin: \u2068Three\u2069' }).click();
  await pinned(ana, 'One');
  for (const user of [tab, ben]) await pinsButton(user, 1).waitFor();
  await ana.page.keyboard.press('Escape');

  await ben.page.reload();
  await pinsButton(ben, 1).waitFor();
  await current.server.stop();
  for (const user of all) await user.offline();
  await act(ben, 'Two', 'Pin'); // it waits
  net.leadTo(await current.startAnother({ data }));
  for (const user of all) {
    await user.online();
    await pinsButton(user, 2).waitFor();
  }
  await act(tab, 'One', 'Unpin');
  for (const user of all) await pinsButton(user, 1).waitFor();
  await remove(ana, 'Three');
  await act(ana, 'Two', 'Unpin');
  for (const user of all) await expect.poll(() => pinsButton(user, 1).count(), POLL).toBe(0);
});

test('two who pin at the same time both succeed', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  const texts = ['One', 'Two', 'Three', 'Four'];
  await ana.write(...texts);
  for (const user of [ana, ben]) await user.sees(...texts);
  const pinTwo = async (user: User, ...texts: string[]) => {
    for (const text of texts) await act(user, text, 'Pin');
  };
  await Promise.all([pinTwo(ana, 'One', 'Two'), pinTwo(ben, 'Three', 'Four')]);
  for (const user of [ana, ben]) await pinsButton(user, 4).waitFor();
});

test('a pinned message is gone to, and shows as it is now', async () => {
  const ana = await logIn('Ana');
  await ana.write('The beginning', 'Deleted later');
  await ana.status('Deleted later', 'sent');
  await act(ana, 'The beginning', 'Pin');
  await act(ana, 'Deleted later', 'Pin');
  await pinsButton(ana, 2).waitFor();
  await ana.write(...Array.from({ length: 60 }, (_, n) => `Number ${n}`));
  await ana.status('Number 59', 'sent');

  const ben = await logIn('Ben'); // has the newest 50 only
  await ben.row('Number 59').waitFor();
  expect(await ben.row('The beginning').count()).toBe(0);
  const button = pinsButton(ben, 2);
  await button.focus();
  await ben.page.keyboard.press('Enter');
  await pinned(ben, 'Deleted later', 'The beginning');
  await edit(ana, 'The beginning', 'The very beginning');
  await remove(ana, 'Deleted later');
  await pinned(ben, 'This message was deleted', 'The very beginning');
  await pinsDialog(ben)
    .getByRole('button', { name: /The very beginning$/ })
    .focus();
  await ben.page.keyboard.press('Enter');
  await focusedRow(ben, 'The very beginning');
  await pinsDialog(ben).waitFor({ state: 'detached' });
  // What was deleted can be unpinned in the list.
  await button.click();
  await pinsDialog(ben).getByRole('button', { name: 'Unpin: \u2068This message was deleted\u2069' }).click();
  await pinned(ben, 'The very beginning');
  await ben.page.keyboard.press('Escape');
  await focused(pinsButton(ben, 1));
  await pinsButton(ana, 1).waitFor();
});

test('the topic is set by anybody in the room', async () => {
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  await topic(ana).toBe('Add a topic');
  await topicButton(ana).focus();
  await ana.page.keyboard.press('Enter');
  const field = ana.page.getByLabel('What is it about?');
  await focused(field);
  await accessible(ana.page);
  await ana.page.keyboard.type('  Where we\u00a0meet  ');
  await ana.page.keyboard.press('Enter');
  for (const user of [ana, ben]) await topic(user).toBe('Where we meet');
  await focused(topicButton(ana));
  expect(await topicButton(ben).getAttribute('aria-label')).toBe('Topic: \u2068Where we meet\u2069. Change it');
  await accessible(ben.page);
  await ben.page.reload();
  await topic(ben).toBe('Where we meet');

  // Two at the same time: the second one is told, and keeps the text.
  await topicButton(ana).click();
  await field.fill('Tea at four');
  await setTopic(ben, 'Tea at five');
  await topic(ana).toBe('Tea at five');
  await ana.page.getByRole('button', { name: 'Save' }).click();
  await ana.page.getByText('Somebody else has changed it meanwhile, to: \u2068Tea at five\u2069.').waitFor();
  expect(await field.inputValue()).toBe('Tea at four');
  await accessible(ana.page);
  await ana.page.getByRole('button', { name: 'Save' }).click();
  for (const user of [ana, ben]) await topic(user).toBe('Tea at four');
  await setTopic(ben, '');
  for (const user of [ana, ben]) await topic(user).toBe('Add a topic');
});

test('a phone has pins and the topic', async () => {
  const phone = { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true };
  const ana = await logIn('Ana', { ...phone, colorScheme: 'dark' });
  await ana.write('To be pinned');
  await ana.status('To be pinned', 'sent');
  const touch = await ana.page.context().newCDPSession(ana.page);
  const sheet = ana.page.getByRole('dialog', { name: 'Message' });
  await longPress(touch, ana.row('To be pinned').locator('.bubble'), sheet);
  await sheet.getByRole('button', { name: 'Pin', exact: true }).tap();
  await topicButton(ana).tap();
  await ana.page.getByLabel('What is it about?').fill('A topic that is much too long for the head of a phone');
  await ana.page.getByRole('button', { name: 'Save' }).tap();
  await topic(ana).toContain('A topic that is much too long');
  await pinsButton(ana, 1).tap();
  await pinned(ana, 'To be pinned');
  await accessible(ana.page);
  await pinsDialog(ana).getByRole('button', { name: 'Close' }).tap();
  await accessible(ana.page);
  expect(await ana.page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
  await longPress(touch, ana.row('To be pinned').locator('.bubble'), sheet);
  await sheet.getByRole('button', { name: 'Unpin' }).tap();
  await expect.poll(() => pinsButton(ana, 1).count(), POLL).toBe(0);
});

test('no other state is set, and what is refused is said', async () => {
  const ana = await logIn('Ana');
  const set = (key: string, value: unknown) => sendAs(ana, { type: 'set-state', room: 'lobby', data: { key, value } });
  await expect(set('slow', 1)).rejects.toThrow('forbidden');
  await expect(set('topic/', 1)).rejects.toThrow('forbidden');
  await ana.write('One');
  await ana.status('One', 'sent');
  const { seq } = await sendAs(ana, { type: 'room-message', room: 'lobby', data: { text: 'Two' } });
  await set(
    'pinned',
    Array.from({ length: 20 }, (_, n) => seq + 100 + n),
  );
  await pinsButton(ana, 20).waitFor();
  await act(ana, 'One', 'Pin');
  await ana.page.locator('.toasts').getByText('No more than 20 messages can be pinned.').waitFor();
  await pinsButton(ana, 20).click();
  await expect
    .poll(() => pinsDialog(ana).getByText('This message is no longer there', { exact: true }).count(), POLL)
    .toBe(20);
  await accessible(ana.page);
});
