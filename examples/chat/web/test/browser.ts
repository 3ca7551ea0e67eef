import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  type Locator,
  type Page,
} from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { Network, Server, type ServerOptions, TestServer } from './server.js';

let browser: Browser;
let server: Server;
const ends: (() => Promise<unknown>)[] = [];

/** The server of the test, or the last one that replaced it. */
export const current = {
  get server(): Server {
    return server;
  },
  /** Starts another server. The two share only the data directory, if any. */
  async startAnother(options?: ServerOptions): Promise<Server> {
    const another = await Server.start(options);
    server = another;
    ends.push(() => another.stop('SIGKILL'));
    return another;
  },
};

/**
 * What no page may do in any test: fail, violate its policy, or send requests
 * to other sites.
 */
const complaints: string[] = [];

/** Returns and forgets the complaints, in a test that provokes them. */
export const takeComplaints = (): string[] => complaints.splice(0);

/** Starts a browser for a file of tests, and a server for each test. */
export function withBrowser(): void {
  beforeAll(async () => {
    const executablePath = process.env.CHROMIUM ?? execFileSync('which', ['chromium'], { encoding: 'utf8' }).trim();
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] }); // for root
  });
  afterAll(() => browser.close());
  beforeEach(async () => {
    complaints.length = 0;
    await current.startAnother();
  });
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
    expect(complaints).toEqual([]);
  });
}

/** Has `fn` called at the end of the test. */
export function atEnd(fn: () => Promise<unknown>): void {
  ends.push(fn);
}

/** Makes a directory for a server's messages, until the end of the test. */
export async function dataDirectory(): Promise<string> {
  const data = await mkdtemp(join(tmpdir(), 'chathub-data-'));
  ends.push(() => rm(data, { recursive: true }));
  return data;
}

/** Starts a test server, with the page and the log-in of the program. */
export async function testServer(): Promise<TestServer> {
  const hub = await TestServer.start(server);
  ends.push(() => hub.stop());
  return hub;
}

export async function network(): Promise<Network> {
  const net = await Network.to(server);
  ends.push(() => net.close());
  return net;
}

export async function context(options: BrowserContextOptions = {}): Promise<BrowserContext> {
  const ctx = await browser.newContext({ viewport: { width: 1200, height: 760 }, reducedMotion: 'reduce', ...options });
  ctx.setDefaultTimeout(60_000); // ends a test that hangs
  ends.push(() => ctx.close());
  return ctx;
}

/** Opens a page, and notes what it may not do. */
export async function openPage(ctx: BrowserContext, url: string): Promise<Page> {
  const page = await ctx.newPage();
  page.on('pageerror', (err) => complaints.push(`error: ${err.stack}`));
  page.on('dialog', (dialog) => complaints.push(`dialog: ${dialog.message()}`));
  page.on('request', (r) => r.url().startsWith(`${new URL(url).origin}/`) || complaints.push(`request: ${r.url()}`));
  page.on('console', (m) => /Content.Security.Policy/i.test(m.text()) && complaints.push(m.text()));
  await page.goto(url);
  return page;
}

interface UserOptions extends BrowserContextOptions {
  /** Default: the server's own. */
  url?: string;
  /** Opens a second tab in this user's browser. */
  beside?: User;
  /** Is called before the log-in. */
  prepare?: (page: Page) => Promise<void>;
}

/** Logs in and waits until the lobby is joined. */
export async function logIn(name: string, options: UserOptions = {}): Promise<User> {
  const { url = `http://127.0.0.1:${server.port}/`, beside, prepare, ...rest } = options;
  const page = await openPage(beside?.page.context() ?? (await context(rest)), url);
  await prepare?.(page);
  const user = new User(name, page);
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Start chatting' }).click();
  await user.isIn('lobby');
  return user;
}

/** A person at a page: what they do and see. */
export class User {
  readonly name: string;
  readonly page: Page;

  constructor(name: string, page: Page) {
    this.name = name;
    this.page = page;
  }

  get log(): Locator {
    return this.page.getByRole('log');
  }

  /** The texts of all messages, visible or not. */
  get messages(): Locator {
    return this.log.locator('.text');
  }

  get banner(): Locator {
    return this.page.locator('.banner');
  }

  composer(title: string): Locator {
    return this.page.getByRole('textbox', { name: `Message ${title}`, exact: true });
  }

  /** The entry in the list of conversations. */
  item(title: string): Locator {
    return this.page
      .getByRole('navigation')
      .locator('button[data-place]')
      .filter({ has: this.page.getByText(title, { exact: true }) });
  }

  /** The only message with this text. */
  row(text: string): Locator {
    const exact = new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`);
    return this.log.locator('.row').filter({ has: this.page.locator('.text', { hasText: exact }) });
  }

  async online(): Promise<void> {
    await this.page.locator('.app[data-state=connected]').waitFor();
  }

  async offline(): Promise<void> {
    await this.page.locator('.app:not([data-state=connected])').waitFor();
  }

  async write(...texts: string[]): Promise<void> {
    const composer = this.page.locator('.composer textarea');
    for (const text of texts) {
      await composer.fill(text);
      await composer.press('Enter');
    }
  }

  async join(room: string): Promise<void> {
    await this.page.getByRole('button', { name: 'Join a room' }).first().click();
    await this.page.getByLabel('Name of the room').fill(room);
    await this.page.getByRole('button', { name: 'Join', exact: true }).click();
    await this.isIn(room);
  }

  /** Waits until a room is open and joined. Typing is not sent before. */
  async isIn(room: string): Promise<void> {
    await this.composer(room).waitFor();
    await this.page
      .locator('.bar')
      .getByText(/ here$/)
      .waitFor();
    await this.online();
  }

  /** Opens the private messages with a user who is online. */
  async openPrivately(name: string): Promise<void> {
    await this.page
      .getByRole('region', { name: /^People/ })
      .getByRole('button', { name })
      .click();
    await this.composer(name).waitFor();
  }

  /** Waits until these messages are shown, in this order and no others. */
  async sees(...texts: string[]): Promise<void> {
    await expect.poll(() => this.messages.allTextContents(), POLL).toEqual(texts);
  }

  /** Waits until a message has this status. */
  async status(text: string, status: 'sending' | 'sent' | 'failed'): Promise<void> {
    await this.row(text)
      .and(this.page.locator(`.${status}`))
      .waitFor();
  }
}

/**
 * Stops the clock of a page, so that nothing happens there because time passes.
 * The clock must be installed before.
 */
export async function stopClock(page: Page): Promise<void> {
  await page.clock.pauseAt((await page.evaluate(() => Date.now())) + 1_000);
}

/** How long a condition may take before the test fails. */
export const POLL = { timeout: 60_000, interval: 20 };
