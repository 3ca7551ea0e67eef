import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const DEPLOYED = resolve(import.meta.dirname, '../../../../deploy/nginx.conf');

/** nginx with deploy/nginx.conf, in front of a server. */
export class Nginx {
  readonly url: string;
  readonly #process: ChildProcess;
  readonly #dir: string;

  private constructor(url: string, process: ChildProcess, dir: string) {
    this.url = url;
    this.#process = process;
    this.#dir = dir;
  }

  /** `address` is the host and port of the server, which has the page too. */
  static async before(address: string): Promise<Nginx> {
    const dir = await mkdtemp(join(tmpdir(), 'chathub-nginx-'));
    await chmod(dir, 0o755); // for workers of another user
    const go = execFileSync('go', ['env', 'GOROOT'], { encoding: 'utf8' }).trim();
    const make = ['run', join(go, 'src/crypto/tls/generate_cert.go'), '--host', '127.0.0.1', '--ecdsa-curve', 'P256'];
    execFileSync('go', make, { cwd: dir, stdio: 'pipe' });

    // nginx takes over a socket that listens already, as it does from a
    // predecessor. So nobody can take the port.
    const listener = createServer();
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const at = `127.0.0.1:${(listener.address() as AddressInfo).port}`;
    const { fd } = (listener as unknown as { _handle: { fd: number } })._handle;

    let site = await readFile(DEPLOYED, 'utf8');
    for (const [from, to] of [
      ['listen 443 ssl;', `listen ${at} ssl;`],
      ['/etc/ssl/certs/chat.example.com.pem', join(dir, 'cert.pem')],
      ['/etc/ssl/private/chat.example.com.key', join(dir, 'key.pem')],
      ['server 127.0.0.1:5000 max_fails=0;', `server ${address} max_fails=0;`],
      ['server 127.0.0.1:5001 max_fails=0;', ''],
      ['location /ws {', 'location / { proxy_pass http://chathub; }\n    location /ws {'],
    ] as const) {
      if (site.split(from).length !== 2) throw new Error(`deploy/nginx.conf does not have ${from} once`);
      site = site.replace(from, to);
    }
    await writeFile(join(dir, 'site.conf'), site);
    const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((of) => `${of}_temp_path ${dir}/${of};`);
    await writeFile(
      join(dir, 'nginx.conf'),
      `daemon off; pid ${dir}/pid; events {} http { access_log off; ${paths.join(' ')} include ${dir}/site.conf; }`,
    );
    // Not in everyone's PATH.
    const program = existsSync('/usr/sbin/nginx') ? '/usr/sbin/nginx' : 'nginx';
    const child = spawn(program, ['-p', dir, '-c', join(dir, 'nginx.conf'), '-e', 'stderr'], {
      env: { ...process.env, NGINX: '3;' },
      stdio: ['ignore', 'ignore', 'inherit', fd],
    });
    await once(child, 'spawn');
    listener.close();
    return new Nginx(`https://${at}/`, child, dir);
  }

  async stop(): Promise<void> {
    this.#process.kill();
    if (this.#process.exitCode === null && this.#process.signalCode === null) await once(this.#process, 'exit');
    await rm(this.#dir, { recursive: true });
  }
}
