import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** The path of the program, with the committed page. */
    binary: string;
    /** The path of the test server of clients/ts. */
    testServer: string;
  }
}

/** Builds both servers, once for all tests. */
export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const dir = await mkdtemp(join(tmpdir(), 'chathub-page-'));
  for (const [name, at] of [
    ['binary', '../..'],
    ['testServer', '../../../../clients/ts/test/server'],
  ] as const) {
    const path = join(dir, name);
    await promisify(execFile)('go', ['build', '-o', path, '.'], { cwd: resolve(import.meta.dirname, at) });
    provide(name, path);
  }
  return () => rm(dir, { recursive: true });
}
