// The README's code compiles.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
const dir = join(root, 'test', 'readme');
const config = {
  extends: '../../tsconfig.json',
  compilerOptions: { jsx: 'react-jsx', types: ['node'], skipLibCheck: true },
  include: ['*'],
};

beforeAll(() => mkdirSync(dir, { recursive: true }));
afterAll(() => rmSync(dir, { recursive: true }));

const blocks = [...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/^```(tsx?)\n(.*?)^```/gms)];

// Each block is a program of its own, without the declarations of the others.
test.each(blocks.map(([, language, code], i) => ({ name: `${i + 1}.${language}`, code })))(
  '$name',
  ({ name, code }) => {
    rmSync(dir, { recursive: true });
    mkdirSync(dir);
    writeFileSync(join(dir, name), code ?? '');
    writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify(config));
    const tsc = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', dir], { encoding: 'utf8' });
    expect(tsc.stdout).toBe('');
    expect(tsc.status).toBe(0);
  },
);

test('it shows the main uses', () => expect(blocks.length).toBeGreaterThanOrEqual(4));
