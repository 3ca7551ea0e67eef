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
  }
}

/** Builds the program, once for all tests. */
export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const dir = await mkdtemp(join(tmpdir(), 'chathub-page-'));
  const binary = join(dir, 'chat');
  await promisify(execFile)('go', ['build', '-o', binary, '.'], { cwd: resolve(import.meta.dirname, '../..') });
  provide('binary', binary);
  return () => rm(dir, { recursive: true });
}
