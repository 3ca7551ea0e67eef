// What moderators decide, what everyone sees of it, and reports.
import { expect, test } from 'vitest';
import { accessible } from './access.js';
import { act, edit, longPress, react, sendAs } from './actions.js';
import { current, dataDirectory, logIn, network, POLL, stopClock, type User, withBrowser } from './browser.js';

withBrowser();

const userDialog = ({ page }: User, name: string) => page.getByRole('dialog', { name: `Moderate ${name}` });
const roomDialog = ({ page }: User) => page.getByRole('dialog', { name: 'Moderation' });
const roomButton = ({ page }: User) => page.locator('.bar').getByRole('button', { name: /^Moderation/ });
const hold = ({ page }: User) => page.locator('.hold');
const refusal = ({ page }: User) => page.locator('.refusal');
const openField = (user: User, title = 'lobby') => expect.poll(() => user.composer(title).isEnabled(), POLL);
const choose = (user: User, label: string) =>
  user.page.getByRole('dialog').getByRole('button', { name: label, exact: true }).click();

/** Fills in the dialog about a user and sends it. */
async function decide(user: User, what: 'Mute' | 'Ban', reason: string, ...choices: string[]): Promise<void> {
  const form = user.page.getByRole('dialog').locator('.choice');
  await form.getByRole('button', { name: what, exact: true }).click();
  for (const choice of choices) await choose(user, choice);
  await user.page.getByLabel('Reason', { exact: true }).fill(reason);
  await user.page.getByRole('dialog').locator('.primary').click();
  await user.page.getByRole('dialog').waitFor({ state: 'detached' });
}

test('a moderator mutes a user, who sees why and cannot write, and lifts it', async () => {
  await current.startAnother({ moderators: 'Mia' });
  const mia = await logIn('Mia');
  const ben = await logIn('Ben');
  await ben.write('Nonsense');
  await mia.sees('Nonsense');
  await ben.page.keyboard.type('More of that');

  await act(mia, 'Nonsense', 'Moderate');
  await accessible(mia.page);
  const reason = 'No <b>nonsense</b>, \u202eplease';
  await decide(mia, 'Mute', reason, '1 hour');
  await mia.page.locator('.toasts').getByText('is muted').waitFor();

  await hold(ben)
    .getByText(/^You are muted in this room\. Until .*\d.*\.$/)
    .waitFor();
  expect(await hold(ben).locator('p bdi').textContent()).toBe(reason);
  // For screen readers.
  await ben.page.getByRole('status').getByText(reason, { exact: true }).waitFor();
  await openField(ben).toBe(false);
  await accessible(ben.page);
  // What is left to do: delete what is there.
  await ben.row('Nonsense').locator('.bubble').hover();
  const labels = ben.row('Nonsense').locator('.actions button');
  await expect
    .poll(() => labels.evaluateAll((all) => all.map((b) => b.getAttribute('aria-label'))), POLL)
    .toEqual(['Delete', 'Copy link']);
  const message = { type: 'room-message', room: 'lobby', data: { text: 'Past the page' } };
  await expect(sendAs(ben, message)).rejects.toThrow('forbidden');

  // It is still so after a reload, and ends when it is lifted.
  await ben.page.reload();
  await hold(ben).getByText('You are muted').waitFor();
  await roomButton(mia).click();
  await roomDialog(mia).getByRole('list', { name: 'Decisions' }).getByText('is muted').waitFor();
  expect(await roomDialog(mia).locator('.decision .item-sub').textContent()).toBe(reason);
  await accessible(mia.page);
  await roomDialog(mia).getByRole('button', { name: 'Lift: \u2068Ben\u2069 is muted' }).click();
  await roomDialog(mia).getByText('Nothing has been decided.').waitFor();
  await hold(ben).waitFor({ state: 'detached' });
  await openField(ben).toBe(true);
  expect(await ben.composer('lobby').inputValue()).toBe('More of that');
  await ben.page.keyboard.press('Enter');
  await mia.sees('Nonsense', 'More of that');
});

test('a mute ends by itself, and one that is for the whole service is for private messages too', async () => {
  await current.startAnother({ moderators: 'Mia' });
  const mia = await logIn('Mia');
  const ben = await logIn('Ben', { prepare: (page) => page.clock.install() });
  await mia.page.locator('.people').getByRole('button', { name: 'Moderate \u2068Ben\u2069' }).click();
  await decide(mia, 'Mute', '', '10 minutes', 'Everywhere');
  await hold(ben).getByText('You are muted everywhere.').waitFor();
  await ben.openPrivately('Mia');
  await hold(ben).getByText('You are muted everywhere.').waitFor();
  await openField(ben, 'Mia').toBe(false);
  await ben.page.clock.fastForward('10:05');
  await hold(ben).waitFor({ state: 'detached' });
  await openField(ben, 'Mia').toBe(true);
});

test('a user who is banned from a room is told so, and does not come back', async () => {
  await current.startAnother({ moderators: 'Mia' });
  const mia = await logIn('Mia');
  const ben = await logIn('Ben');
  await ben.join('club');
  await ben.item('lobby').click();
  await ben.write('Buy this');
  await mia.sees('Buy this');
  await act(mia, 'Buy this', 'Moderate');
  await decide(mia, 'Ban', 'Advertising', '1 day');

  const told = refusal(ben).getByText(/^You are banned from this room ?Until .*\d.*\./);
  await told.waitFor();
  expect(await refusal(ben).locator('bdi').textContent()).toBe('Advertising');
  await openField(ben).toBe(false);
  await accessible(ben.page);
  await mia.page.getByText('Only you are here').waitFor();
  await refusal(ben).getByRole('button', { name: 'Try again' }).click();
  await told.waitFor();
  await ben.page.reload();
  await told.waitFor();
  expect(await ben.messages.count()).toBe(0);
  await ben.item('club').click();
  await ben.isIn('club');

  await roomButton(mia).click();
  await roomDialog(mia)
    .getByRole('button', { name: /is banned$/ })
    .click();
  await roomDialog(mia).getByText('Nothing has been decided.').waitFor();
  await ben.item('lobby').click();
  await refusal(ben).getByRole('button', { name: 'Try again' }).click();
  await ben.isIn('lobby');
  await ben.sees('Buy this');
});

test('a user who is banned from the service is told so, also at the next log-in', async () => {
  await current.startAnother({ moderators: 'Mia' });
  const mia = await logIn('Mia');
  const ben = await logIn('Ben');
  await ben.write('Buy this');
  await mia.sees('Buy this');
  await act(mia, 'Buy this', 'Moderate');
  await decide(mia, 'Ban', 'Bad \u202eword', 'Everywhere', '1 hour');
  await ben.banner.getByText('You are banned.').waitFor();
  expect(await ben.banner.locator('bdi').textContent()).toBe('Bad \u202eword');
  await openField(ben).toBe(false);
  await accessible(ben.page);
  await ben.banner.getByRole('button', { name: 'Connect again' }).click();
  await ben.banner.getByText(/Until .*\d.*\./).waitFor();
  expect(await ben.banner.locator('bdi').textContent()).toBe('Bad \u202eword');
  await ben.page.reload();
  await ben.banner.getByText(/Until .*\d.*\./).waitFor();
});

test('slow mode counts down until the next message', async () => {
  await current.startAnother({ moderators: 'Mia' });
  const mia = await logIn('Mia');
  const ben = await logIn('Ben', { prepare: (page) => page.clock.install() });
  await roomButton(mia).click();
  await choose(mia, '30 s');
  await expect
    .poll(() => roomDialog(mia).getByRole('button', { name: '30 s' }).getAttribute('aria-pressed'), POLL)
    .toBe('true');
  await accessible(mia.page);
  await mia.page.keyboard.press('Escape');
  await hold(ben).getByText('Slow mode. You can send one message every 30 s.').waitFor();
  await hold(mia).getByText('Slow mode. Others can send one message every 30 s.').waitFor();

  await stopClock(ben.page);
  await ben.write('One');
  await mia.sees('One');
  await ben.status('One', 'sent');
  const left = hold(ben).locator('.countdown');
  await expect.poll(() => left.textContent(), POLL).toBe('You can write again in 30 s');
  await ben.page.getByRole('status').getByText('You can write again in 30 s.').waitFor();
  const send = ben.page.getByRole('button', { name: 'Send', exact: true });
  await ben.write('Two'); // a draft
  expect(await send.isDisabled()).toBe(true);
  await ben.page.clock.runFor(10_000);
  await expect.poll(() => left.textContent(), POLL).toBe('You can write again in 20 s');
  await ben.page.keyboard.press('Enter');
  await ben.sees('One');
  await ben.page.clock.runFor(20_000);
  await expect.poll(() => send.isDisabled(), POLL).toBe(false);
  expect(await ben.composer('lobby').inputValue()).toBe('Two');
  await ben.composer('lobby').fill('word '.repeat(3_000));
  await ben.page.getByText('in slow mode you can send one at a time').waitFor();
  await ben.page.clock.resume();
  await ben.composer('lobby').fill('Two');
  await accessible(ben.page);
  // Moderators write as they like.
  await mia.write('Three', 'Four');
  await ben.sees('One', 'Three', 'Four');

  await roomButton(mia).click();
  await choose(mia, 'Off');
  await hold(ben).waitFor({ state: 'detached' });
  await ben.composer('lobby').fill('Five');
  await ben.page.keyboard.press('Enter');
  await mia.sees('One', 'Three', 'Four', 'Five');

  // Another page counts from the last message, too.
  await choose(mia, '5 min');
  await left.getByText(/^You can write again in \d min \d+ s$/).waitFor();
  await ben.page.reload();
  await left.getByText(/^You can write again in \d min \d+ s$/).waitFor();
  expect(await send.isDisabled()).toBe(true);
});

test('in a frozen room only moderators write, over a restart too', async () => {
  const data = await dataDirectory();
  await current.startAnother({ data, moderators: 'Mia' });
  const net = await network();
  const mia = await logIn('Mia', { url: net.url });
  const ben = await logIn('Ben', { url: net.url });
  await ben.write('Before');
  await mia.sees('Before');
  await roomButton(mia).click();
  await choose(mia, 'Only moderators');
  await mia.page.keyboard.press('Escape');
  await hold(ben).getByText('This room is frozen. Only moderators can write.').waitFor();
  await openField(ben).toBe(false);
  expect(await ben.page.locator('.topic').isDisabled()).toBe(true);
  await hold(mia).getByText('This room is frozen. Only moderators can write.').waitFor();
  await mia.write('Quiet, please');
  await ben.sees('Before', 'Quiet, please');
  await accessible(ben.page);

  await current.server.stop();
  net.leadTo(await current.startAnother({ data, moderators: 'Mia' }));
  await ben.online();
  await hold(ben).getByText('This room is frozen').waitFor();
  await mia.online();
  await roomButton(mia).click();
  await choose(mia, 'Everyone');
  await hold(ben).waitFor({ state: 'detached' });
  await edit(ben, 'Before', 'After');
  await mia.sees('After', 'Quiet, please');
});

test('reports reach the moderators, with a link to the message', async () => {
  await current.startAnother({ moderators: 'Mia' });
  const mia = await logIn('Mia');
  const ana = await logIn('Ana');
  const ben = await logIn('Ben');
  await ben.join('club');
  await ben.write('Buy <i>this</i>');
  await ana.join('club');
  await act(ana, 'Buy <i>this</i>', 'Report');
  const dialog = ana.page.getByRole('dialog', { name: 'Report this message' });
  await accessible(ana.page);
  expect(await dialog.getByText('Only moderators see it, with your name.').isVisible()).toBe(true);
  await ana.page.getByLabel('What is wrong with it?').fill('Is <b>spam</b>');
  await ana.page.keyboard.press('Enter');
  await ana.page.locator('.toasts').getByText('Moderators will look at it.').waitFor();
  await dialog.waitFor({ state: 'detached' });

  await ben.openPrivately('Ana');
  await ben.write('I know where you live');
  await ana.openPrivately('Ben');
  await ana.sees('I know where you live');
  await act(ana, 'I know where you live', 'Report');
  await ana.page.getByLabel('What is wrong with it?').fill('A threat');
  await ana.page.keyboard.press('Enter');

  await mia.page.getByRole('button', { name: 'Moderation, 2 new reports' }).click();
  const items = roomDialog(mia).getByRole('list', { name: 'Reports' }).getByRole('listitem');
  await expect.poll(() => items.count(), POLL).toBe(2);
  expect(await items.nth(0).textContent()).toContain('A threatI know where you liveAna about Ben, in private.');
  await items.nth(1).getByText('Is <b>spam</b>', { exact: true }).waitFor();
  await items.nth(1).getByText('Ana about').waitFor();
  await accessible(mia.page);
  await items.nth(1).getByRole('link', { name: 'Show' }).click();
  await mia.isIn('club');
  await mia.row('Buy <i>this</i>').waitFor();
  // Moderators may delete what others wrote.
  await act(mia, 'Buy <i>this</i>', 'Delete');
  await mia.page.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }).click();
  await ana.item('club').click();
  await ana.row('This message was deleted').waitFor();
  await expect.poll(() => mia.page.getByRole('button', { name: 'Moderation', exact: true }).count(), POLL).toBe(1);
});

test('nobody else sees what is for moderators', async () => {
  await current.startAnother({ moderators: 'Mia, Tom' });
  const ana = await logIn('Ana');
  const mia = await logIn('Mia');
  const tom = await logIn('Tom');
  await mia.write('Hello');
  await ana.sees('Hello');
  await react(ana, 'Hello', 'heart');
  await ana.row('Hello').locator('.bubble').hover();
  await ana.row('Hello').getByRole('button', { name: 'Report' }).waitFor();
  expect(await ana.page.getByRole('button', { name: /Moderat|Delete/ }).count()).toBe(0);
  const mute = { type: 'moderate', room: 'lobby', data: { action: 'freeze' } };
  await expect(sendAs(ana, mute)).rejects.toThrow('forbidden');
  // Moderators cannot mute each other, which the dialog says.
  await tom.page.locator('.people').getByRole('button', { name: 'Moderate \u2068Mia\u2069' }).click();
  await tom.page.getByRole('dialog').locator('.primary').click();
  await userDialog(tom, 'Mia').getByText('Not done: This user cannot be muted or banned.').waitFor();
  await accessible(tom.page);
});

test('a moderator needs no mouse', async () => {
  await current.startAnother({ moderators: 'Mia' });
  const mia = await logIn('Mia');
  const ben = await logIn('Ben');
  await ben.write('Nonsense');
  await mia.sees('Nonsense');
  const { keyboard } = mia.page;
  await mia.log.focus();
  await keyboard.press('ArrowUp');
  await keyboard.press('Enter');
  await mia.page.getByRole('dialog', { name: 'Message' }).waitFor();
  await mia.page.getByRole('button', { name: 'Moderate', exact: true }).focus();
  await keyboard.press('Enter');
  await userDialog(mia, 'Ben').waitFor();
  const reason = mia.page.getByLabel('Reason', { exact: true });
  await expect.poll(() => reason.evaluate((e) => e === document.activeElement), POLL).toBe(true);
  await keyboard.type('Enough');
  await keyboard.press('Enter');
  await hold(ben).getByText('Enough').waitFor();
  await userDialog(mia, 'Ben').waitFor({ state: 'detached' });
  await expect.poll(() => mia.page.evaluate(() => document.activeElement !== document.body), POLL).toBe(true);
});

test('a phone in the dark has it too', async () => {
  await current.startAnother({ moderators: 'Mia' });
  const phone = { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true, colorScheme: 'dark' } as const;
  const ben = await logIn('Ben', phone);
  await ben.write('Nonsense');
  await ben.status('Nonsense', 'sent');
  const mia = await logIn('Mia', phone);
  await mia.row('Nonsense').waitFor();
  const touch = await mia.page.context().newCDPSession(mia.page);
  const sheet = mia.page.getByRole('dialog', { name: 'Message' });
  await longPress(touch, mia.row('Nonsense').locator('.bubble'), sheet);
  await accessible(mia.page);
  await sheet.getByRole('button', { name: 'Moderate' }).tap();
  await userDialog(mia, 'Ben').waitFor();
  await accessible(mia.page);
  await decide(mia, 'Mute', 'Enough', 'For good');
  await hold(ben).getByText('You are muted in this room. Until a moderator lifts it.').waitFor();
  await accessible(ben.page);
  await mia.page.getByRole('button', { name: 'Who is here' }).tap();
  await accessible(mia.page);
  await mia.page
    .getByRole('dialog', { name: 'Who is here' })
    .getByRole('button', { name: 'Moderate \u2068Ben\u2069' })
    .tap();
  await userDialog(mia, 'Ben').getByRole('button', { name: 'Lift: \u2068Ben\u2069 is muted' }).tap();
  await hold(ben).waitFor({ state: 'detached' });
  await userDialog(mia, 'Ben').getByRole('button', { name: 'Close' }).tap();
  await roomButton(mia).tap();
  await choose(mia, '5 s');
  await hold(ben).getByText('Slow mode').waitFor();
  await accessible(mia.page);
  for (const { page } of [mia, ben]) {
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
  }
});

test('names and reasons from others are only ever text', async () => {
  await current.startAnother({ moderators: 'Mia' });
  const name = '<b onclick=alert(1)>Ben';
  const mia = await logIn('Mia');
  const ben = await logIn(name);
  await mia.write('Hello');
  await ben.sees('Hello');
  await act(ben, 'Hello', 'Report');
  const reason = '\u202e<img src=x onerror=alert(1)>\u2069 "reason"';
  await ben.page.getByLabel('What is wrong with it?').fill(reason);
  await ben.page.keyboard.press('Enter');
  await mia.page.getByRole('button', { name: 'Moderation, 1 new report', exact: true }).click();
  const item = roomDialog(mia).getByRole('list', { name: 'Reports' }).getByRole('listitem');
  await item.waitFor();
  await expect.poll(() => item.locator('bdi').allTextContents(), POLL).toEqual([reason, 'Hello', name, 'Mia', 'lobby']);
  await mia.page.keyboard.press('Escape');
  await mia.page
    .locator('.people')
    .getByRole('button', { name: `Moderate \u2068${name}\u2069` })
    .click();
  expect(await mia.page.locator('dialog h2 bdi').textContent()).toBe(name);
  await decide(mia, 'Mute', reason);
  expect(await mia.page.locator('.toast bdi').first().textContent()).toBe(name);
  await expect.poll(() => hold(ben).locator('p bdi').allTextContents(), POLL).toEqual([reason]);
  await roomButton(mia).click();
  const decision = roomDialog(mia).getByRole('list', { name: 'Decisions' }).locator('bdi');
  await expect.poll(() => decision.allTextContents(), POLL).toEqual([name, reason, 'Mia']);
  for (const { page } of [mia, ben]) expect(await page.locator('main img[src=x], main b').count()).toBe(0);
});
