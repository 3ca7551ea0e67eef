import { expect, test } from 'vitest';
import { accessible } from './access.js';
import { logIn, POLL, testServer, type User, withBrowser } from './browser.js';

withBrowser();

const idOf = (user: User) =>
  user.page.evaluate(() => JSON.parse(sessionStorage.getItem('chathub:session') ?? '').user.id as string);

const refusal = (user: User) => user.page.locator('.refusal');

test('a user who is removed from a room sees it, with the reason, and can join again', async () => {
  const hub = await testServer();
  const ana = await logIn('Ana', hub);
  const ben = await logIn('Ben', hub);
  await ben.write('Buy this', 'And this');
  await ana.sees('Buy this', 'And this');
  await ben.page.keyboard.type('Unsent');
  const reason = 'No <b>advertising</b>, \u202eplease';
  await hub.do('remove', { user: await idOf(ben), room: 'lobby', reason });

  await refusal(ben).getByText('You were removed from this room').waitFor();
  expect(await refusal(ben).locator('bdi').textContent()).toBe(reason);
  // For screen readers.
  await ben.page.getByRole('status').getByText(`You were removed from this room. ${reason}`, { exact: true }).waitFor();
  await ben.item('lobby').getByText('You were removed').waitFor();
  expect(await ben.composer('lobby').isDisabled()).toBe(true);
  await ben.sees('Buy this', 'And this');
  await ana.page.getByText('Only you are here').first().waitFor();
  await ana.write('He is gone');
  await accessible(ben.page);

  await refusal(ben).getByRole('button', { name: 'Join again' }).click();
  await ben.isIn('lobby');
  await ben.sees('Buy this', 'And this', 'He is gone');
  expect(await refusal(ben).count()).toBe(0);
  expect(await ben.composer('lobby').inputValue()).toBe('Unsent');
  await expect.poll(() => ben.composer('lobby').evaluate((area) => area === document.activeElement), POLL).toBe(true);
  await ben.write('Sorry');
  await ana.sees('Buy this', 'And this', 'He is gone', 'Sorry');
});

test('a removal without a reason, from a room that is not open, stays over a reconnect', async () => {
  const hub = await testServer();
  const ana = await logIn('Ana', hub);
  await ana.join('club');
  await hub.do('remove', { user: await idOf(ana), room: 'lobby' });
  await ana.item('lobby').getByText('You were removed').waitFor();
  await ana.composer('club').waitFor();
  const again = ana.page.waitForEvent('websocket');
  await hub.do('cut', {});
  await again;
  await ana.write('Back');
  await ana.status('Back', 'sent');
  await ana.item('lobby').click();
  await refusal(ana).getByText('You were removed from this room', { exact: true }).waitFor();
  expect(await refusal(ana).locator('bdi').textContent()).toBe('');
  await ana.page.getByRole('button', { name: 'Leave the room' }).click();
  await ana.isIn('club');
  expect(await ana.item('lobby').count()).toBe(0);
});

test('a room that cannot be joined says why, and can be tried again', async () => {
  const hub = await testServer();
  const ana = await logIn('Ana', hub);
  await ana.page.getByRole('button', { name: 'Join a room' }).first().click();
  await ana.page.getByLabel('Name of the room').fill('members');
  await ana.page.getByRole('button', { name: 'Join', exact: true }).click();
  for (let n = 0; n < 2; n++) {
    await refusal(ana).getByText('You cannot join this room').waitFor();
    await refusal(ana).getByText('Members only').waitFor();
    expect(await ana.composer('members').isDisabled()).toBe(true);
    await refusal(ana).getByRole('button', { name: 'Try again' }).click();
  }
  await ana.item('members').getByText('You cannot join').waitFor();
  await ana.item('lobby').click();
  await ana.isIn('lobby');
});
