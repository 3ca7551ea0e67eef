// The behaviour suite that `chathub conform` plays for any client.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { drive } from './conform.js';

const dir = mkdtempSync(join(tmpdir(), 'chathub-conform-'));
const binary = join(dir, 'chathub');

beforeAll(() => {
  const built = spawnSync('go', ['build', '-o', binary, '../../../cmd/chathub'], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  });
  if (built.status !== 0) throw new Error(`go build: ${built.stderr || built.error}`);
}, 300_000);
afterAll(() => rmSync(dir, { recursive: true }));

interface Report {
  passed: number;
  failed: number;
  scenarios: { name: string; pass: boolean; problems: { section: number; text: string }[] }[];
}

test('the client passes all scenarios of chathub conform', async () => {
  const child = spawn(binary, ['conform', '-json', '-quiet', '1s'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise<string>((resolve, reject) => {
    let out = '';
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    child.on('error', reject);
    child.on('close', () => resolve(out));
  });
  for await (const line of createInterface(child.stderr)) {
    const [, base] = /^listening on (\S+)$/.exec(line) ?? [];
    if (base) void drive(base, { backoff: { min: 20, max: 200 }, pongTimeout: 1_000 });
  }
  const report = JSON.parse(await ended) as Report;
  expect(report.scenarios.filter((s) => !s.pass)).toEqual([]);
  expect(report.passed).toBeGreaterThan(20);
}, 120_000);
