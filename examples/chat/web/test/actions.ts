// What people do with messages.
import type { CDPSession, Locator } from 'playwright-core';
import { expect } from 'vitest';
import { POLL, type User } from './browser.js';

/** Points at a message, and clicks a button of its bar. */
export async function act(user: User, text: string, label: string): Promise<void> {
  await user.row(text).locator('.bubble').hover();
  await user.row(text).getByRole('button', { name: label, exact: true }).click();
}

export async function edit(user: User, text: string, to: string): Promise<void> {
  await act(user, text, 'Edit');
  const field = user.page.getByLabel('Edit the message');
  expect(await field.inputValue()).toBe(text);
  await field.fill(to);
  await field.press('Enter');
}

export async function remove(user: User, text: string): Promise<void> {
  await act(user, text, 'Delete');
  await user.page
    .getByRole('dialog', { name: 'Delete this message?' })
    .getByRole('button', { name: 'Delete', exact: true })
    .click();
}

export async function react(user: User, text: string, name: string): Promise<void> {
  await act(user, text, 'React');
  await user
    .row(text)
    .getByRole('button', { name: `React with ${name}` })
    .click();
}

/** Holds a finger on an element until another one is there. */
export async function longPress(touch: CDPSession, on: Locator, until: Locator): Promise<void> {
  await until.waitFor({ state: 'detached' });
  const box = await on.boundingBox();
  if (!box) throw new Error('It is not visible');
  const touchPoints = [{ x: box.x + box.width / 2, y: box.y + box.height / 2 }];
  await touch.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints });
  await until.waitFor();
  await touch.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
  await until.waitFor(); // it does not close again
}

/** Sends events over another connection. Returns the last answer. */
export function sendAs(user: User, ...events: object[]): Promise<{ seq: number }> {
  return user.page.evaluate(async (events) => {
    const { token } = JSON.parse(sessionStorage.getItem('chathub:session') ?? '');
    const ws = new WebSocket(new URL('ws', document.baseURI), ['chathub.v1', `chathub.bearer.${token}`]);
    await new Promise((resolve) => ws.addEventListener('open', resolve));
    let last = { seq: 0 };
    for (const event of [{ type: 'join-room', room: 'lobby' }, ...events]) {
      const id = crypto.randomUUID();
      const answer = new Promise<typeof last>((resolve, reject) => {
        ws.addEventListener('message', ({ data: text }) => {
          const { type, id: of, data } = JSON.parse(text);
          if (of === id && type === 'ack') resolve(data);
          if (of === id && type === 'error') reject(new Error(text));
        });
      });
      ws.send(JSON.stringify({ id, ...event }));
      last = await answer;
    }
    ws.close();
    return last;
  }, events);
}

/** Waits until a message has focus and is in sight. */
export async function focusedRow(user: User, text: string): Promise<void> {
  await user.row(text).waitFor();
  await expect.poll(() => user.row(text).evaluate((e) => e === document.activeElement), POLL).toBe(true);
  await expect.poll(() => inSight(user.row(text)), POLL).toBe(true);
}

export const inSight = (row: Locator): Promise<boolean> =>
  row.evaluate((element) => {
    const { top, bottom } = element.getBoundingClientRect();
    const log = element.closest('.log')?.getBoundingClientRect();
    return log !== undefined && top >= log.top - 1 && bottom <= log.bottom + 1;
  });
