// The real server and the one in memory, behind one interface.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import WebSocket from 'ws';
import type { ChatOptions, WebSocketConstructor } from '../src/index.js';
import { ChatClient } from '../src/index.js';
import { FakeHub } from './fake.js';

export interface Backend {
  /** Makes a client that reconnects quickly. */
  client(user: string, options?: ChatOptions): ChatClient;
  /** Breaks all connections without a close frame. */
  cut(): Promise<void>;
  /**
   * Shuts the server down properly and starts another, with or without its
   * logs.
   */
  restart(forget: boolean): Promise<void>;
  /** Asks the connections of a user. An error becomes its text. */
  ask(user: string, event: string, data: unknown): Promise<unknown[]>;
  stop(): Promise<void>;
}

const QUICK: ChatOptions = { backoff: { min: 20, max: 200 } };

export class FakeBackend implements Backend {
  readonly #hub = new FakeHub();
  #asked = 0;

  client(user: string, options: ChatOptions = {}): ChatClient {
    return this.#hub.client({ ...QUICK, getToken: () => user, ...options });
  }

  async cut(): Promise<void> {
    for (const socket of this.#hub.sockets) socket.end();
  }

  async restart(forget: boolean): Promise<void> {
    const open = this.#hub.sockets.filter((s) => !s.closed);
    for (const socket of open) socket.say({ type: 'reconnect', data: { afterMs: 50 } });
    await new Promise((resolve) => setTimeout(resolve, 10));
    for (const socket of open) socket.end(4000);
    if (forget) this.#hub.forget();
  }

  async ask(user: string, event: string, data: unknown): Promise<unknown[]> {
    const id = `q${++this.#asked}`;
    const asked = this.#hub.sockets.filter((s) => !s.closed && s.user.id === user);
    const answers = asked.map(
      (s) =>
        new Promise((resolve) => {
          const answered = (_: unknown, e: { id: string; data?: unknown }) => {
            if (e.id === id) resolve(e.data);
          };
          this.#hub.script.set('ack', answered);
          this.#hub.script.set('error', (_, e) => {
            const { code, message } = e.data as { code: string; message: string };
            if (e.id === id) resolve(`${code}: ${message}`);
          });
          s.say({ type: event, id, ack: true, data });
        }),
    );
    return Promise.all(answers);
  }

  async stop(): Promise<void> {}
}

const SECRET = 'a secret of the tests, long enough for HS256';

/** Makes a token for a user that expires in `life` seconds. */
export function token(user: string, life = 3_600, name = user): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const exp = Date.now() / 1_000 + life;
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ userId: user, name, exp })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

/** Makes a token that is no JWT and ends with `rest`. */
export function opaqueToken(user: string, rest: string): string {
  return `opaque:${user}:${createHash('sha256').update(rest).digest('hex')}:${rest}`;
}

/** The Go server of test/server. */
export class RealBackend implements Backend {
  readonly #dir: string;
  readonly #process: ChildProcess;
  readonly address: string;

  private constructor(dir: string, process: ChildProcess, address: string) {
    this.#dir = dir;
    this.#process = process;
    this.address = address;
  }

  /** Starts the server, with further arguments. */
  static async start(...args: string[]): Promise<RealBackend> {
    const dir = mkdtempSync(join(tmpdir(), 'chathub-client-'));
    const binary = join(dir, 'server');
    const built = spawnSync('go', ['build', '-o', binary, './server'], { cwd: import.meta.dirname, encoding: 'utf8' });
    if (built.status !== 0) throw new Error(`go build: ${built.stderr || built.error}`);
    const child = spawn(binary, args, {
      env: { ...process.env, JWT_SECRET: SECRET },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const [line] = await once(child.stdout, 'data');
    return new RealBackend(dir, child, String(line).trim());
  }

  client(user: string, options: ChatOptions = {}): ChatClient {
    return new ChatClient(`http://${this.address}/ws`, {
      ...QUICK,
      WebSocket: WebSocket as unknown as WebSocketConstructor,
      getToken: () => token(user),
      ...options,
    });
  }

  cut(): Promise<void> {
    return this.do('cut');
  }

  restart(forget: boolean): Promise<void> {
    return this.do(forget ? 'restart?forget' : 'restart');
  }

  ask(user: string, event: string, data: unknown): Promise<unknown[]> {
    return this.do(`ask?${new URLSearchParams({ user, event })}`, data);
  }

  async do<T>(what: string, body: unknown = null): Promise<T> {
    const response = await fetch(`http://${this.address}/do/${what}`, { method: 'POST', body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${what}: ${await response.text()}`);
    return (await response.json()) as T;
  }

  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    this.#process.kill(name);
  }

  async stop(): Promise<void> {
    this.#process.stdin?.end();
    if (this.#process.exitCode === null) await once(this.#process, 'exit');
    rmSync(this.#dir, { recursive: true });
  }
}
