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

const readme = readFileSync(join(root, 'README.md'), 'utf8');
const blocks = [...readme.matchAll(/^```(tsx?)\n(.*?)^```/gms)];

/** Compiles a program of its own, without the declarations of others. */
function compile(name: string, code: string): void {
  rmSync(dir, { recursive: true });
  mkdirSync(dir);
  writeFileSync(join(dir, name), code);
  writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify(config));
  const tsc = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', dir], { encoding: 'utf8' });
  expect(tsc.stdout).toBe('');
  expect(tsc.status).toBe(0);
}

test.each(blocks.map(([, language, code = ''], i) => ({ name: `${i + 1}.${language}`, code })))(
  'block $name',
  ({ name, code }) => compile(name, code),
);

test('it shows the main uses', () => expect(blocks.length).toBeGreaterThanOrEqual(5));

const spans = (text: string) => [...text.matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code);

/** The code in the first column of the table with this header. */
function column(header: string): string[] {
  const table = readme.slice(readme.indexOf(`\n| ${header} |`)).match(/\n(\|.*\n)+/)?.[0] ?? '';
  const rows = table.trim().split('\n').slice(2);
  const codes = rows.flatMap((row) => spans(row.split('|')[1] ?? ''));
  expect(codes.length).toBeGreaterThan(4);
  return codes;
}

test('the tables and the text name what exists', () => {
  const made = spans(readme.replace(/^```.*?^```/gms, '')).filter((code) => /^(new )?[A-Z]\w*[<(]/.test(code));
  expect(made.length).toBeGreaterThanOrEqual(3);
  compile(
    'inline.ts',
    `import { ChatClient, ChatError, type ChatOptions, type Position } from 'chathub-client';
import * as react from 'chathub-client/react';
import { type Store, storesOf } from 'chathub-client/store';

type Events = object;
type Calls = object;
type Questions = object;
declare const url: string, type: string, room: string, to: string, id: string, message: string, name: string, userId: string;
declare const timeout: number, history: number, before: number, limit: number, after: number, around: number;
declare const seq: number, re: number, key: string, on: boolean, inbox: boolean, every: number;
declare const types: string[], rooms: string[];
declare const data: never, value: unknown, expect: number;
declare const fn: (...args: unknown[]) => never;
declare const signal: AbortSignal;
declare const since: Position;
declare const options: ChatOptions;
const { getToken } = options;
const chat = new ChatClient(url);
const lobby = chat.room('lobby');
const stores = storesOf(chat);
declare const store: Store<unknown>;

${made.join(';\n')};
${column('option')
  .map((option) => `options.${option.replace(/\W.*/, '')}`)
  .join(';\n')};
${column('member')
  .map((code) => `chat.${code}`)
  .join(';\n')};
${column('member of a room')
  .map((code) => `lobby.${code}`)
  .join(';\n')};
${column('hook')
  .map((code) => `react.${code}`)
  .join(';\n')};
${column('store of `storesOf(chat)`')
  .map((code) => `stores.${code}`)
  .join(';\n')};
`,
  );
});
