import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';

const LIMIT = 112_000; // bytes with gzip, 68,000 of them for React

test('the page is small', () => {
  const dist = join(import.meta.dirname, '../dist');
  const files = readdirSync(dist).filter((name) => name !== 'licenses.txt');
  const sizes = files.map((name) => gzipSync(readFileSync(join(dist, name)), { level: 9 }).length);
  expect(sizes.reduce((a, b) => a + b)).toBeLessThan(LIMIT);
});
