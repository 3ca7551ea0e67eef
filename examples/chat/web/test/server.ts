import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer, connect as dial, type Server as Listener, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { inject } from 'vitest';

const SECRET = 'the same for all servers of a test';

export interface ServerOptions {
  secret?: string;
  /** The directory that keeps the messages. Default: they are in memory. */
  data?: string | undefined;
  /** Names, separated by commas. Default: nobody may moderate. */
  moderators?: string;
}

/** The chat program in its own process, on a free port. */
export class Server {
  readonly port: number;
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess, port: number) {
    this.#process = process;
    this.port = port;
  }

  static async start({ secret = SECRET, data, moderators = '' }: ServerOptions = {}): Promise<Server> {
    const args = ['-addr', '127.0.0.1:0', '-rate', '-1', '-moderators', moderators, ...(data ? ['-data', data] : [])];
    const process = spawn(inject('binary'), args, {
      env: { JWT_SECRET: secret },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    for await (const line of createInterface({ input: process.stderr })) {
      const port = /chat is ready.*:(\d+)\//.exec(line)?.[1];
      if (!port) continue;
      process.stderr.resume(); // a full pipe would block it
      return new Server(process, Number(port));
    }
    throw new Error('The server did not start');
  }

  /** Ends the process, gracefully or at once. Resolves when it has ended. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill(signal);
    await once(this.#process, 'exit');
  }
}

/**
 * The test server of clients/ts, which does what a test asks for. It has the
 * page and the log-in of the program.
 */
export class TestServer {
  readonly address: string;
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess, address: string) {
    this.#process = process;
    this.address = address;
  }

  static async start(program: Server): Promise<TestServer> {
    const process = spawn(inject('testServer'), ['-page', `http://127.0.0.1:${program.port}`], {
      env: { JWT_SECRET: SECRET },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const [address] = await once(createInterface({ input: process.stdout }), 'line');
    return new TestServer(process, address);
  }

  get url(): string {
    return `http://${this.address}/`;
  }

  async do(what: string, query: Record<string, string>): Promise<void> {
    const response = await fetch(`http://${this.address}/do/${what}?${new URLSearchParams(query)}`, { method: 'POST' });
    if (!response.ok) throw new Error(`${what}: ${await response.text()}`);
  }

  /** Ends the process. Resolves when it has ended. */
  async stop(): Promise<void> {
    this.#process.stdin?.end();
    if (this.#process.exitCode === null) await once(this.#process, 'exit');
  }
}

/**
 * A network between browsers and a server, which can fail. Its address stays
 * the same when the server is replaced.
 */
export class Network {
  #listener: Listener;
  #port: number;
  #down = false;
  #deaf = false;
  readonly #lines = new Set<Line>();

  private constructor(listener: Listener, port: number) {
    this.#listener = listener;
    this.#port = port;
    listener.on('connection', (near) => this.#connected(near));
  }

  static async to(server: Server): Promise<Network> {
    const listener = createServer();
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    return new Network(listener, server.port);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#listener.address() as AddressInfo).port}/`;
  }

  /** Leads to another server from now on. */
  leadTo(server: Server): void {
    this.#port = server.port;
  }

  /** Ends all connections, and every new one. */
  cut(): void {
    this.#down = true;
    for (const line of this.#lines) line.end();
  }

  /** Drops everything from the server, but nothing to it. */
  deafen(): void {
    this.#deaf = true;
    for (const { far } of this.#lines) far.unpipe();
  }

  mend(): void {
    this.#down = this.#deaf = false;
  }

  async close(): Promise<void> {
    this.cut();
    this.#listener.close();
    await once(this.#listener, 'close');
  }

  #connected(near: Socket): void {
    if (this.#down) return void near.destroy();
    const far = dial(this.#port, '127.0.0.1');
    const line: Line = {
      far,
      end: () => {
        this.#lines.delete(line);
        near.destroy();
        far.destroy();
      },
    };
    this.#lines.add(line);
    for (const socket of [near, far]) socket.on('error', line.end).on('close', line.end);
    near.pipe(far);
    if (!this.#deaf) far.pipe(near);
  }
}

interface Line {
  readonly far: Socket;
  end(): void;
}
