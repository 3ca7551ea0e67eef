// The packed package works in an empty project.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
let dir: string;

function run(command: string, args: string[], cwd: string): string {
  const done = spawnSync(command, args, { cwd, encoding: 'utf8' });
  expect(done.stderr.replace(/^npm (notice|warn).*\n/gm, '') + (done.status ? done.stdout : '')).toBe('');
  expect(done.status).toBe(0);
  return done.stdout;
}

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'chathub-pack-'));
  // `npm run check` has built it.
  run('npm', ['pack', '--ignore-scripts', '--pack-destination', dir], root);
  const archive = readdirSync(dir).find((name) => name.endsWith('.tgz')) ?? '';
  writeFileSync(join(dir, 'package.json'), '{"private":true,"type":"module"}');
  run('npm', ['install', '--offline', '--no-audit', '--no-fund', '--ignore-scripts', `./${archive}`], dir);
});
afterAll(() => rmSync(dir, { recursive: true }));

test('it has what is built, and no dependencies', () => {
  const installed = join(dir, 'node_modules', 'chathub-client');
  expect(readdirSync(installed).sort()).toEqual(['LICENSE', 'README.md', 'dist', 'package.json']);
  expect(readdirSync(join(dir, 'node_modules')).filter((name) => !name.startsWith('.'))).toEqual(['chathub-client']);
  const { version } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
  expect(version).toBe(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version);
});

test('Node imports it as ES modules', () => {
  writeFileSync(
    join(dir, 'main.js'),
    `import { ChatClient, ChatError, newId } from 'chathub-client';
import { keptIn } from 'chathub-client/storage';
import { storesOf } from 'chathub-client/store';
const none = { getItem: () => null, setItem() {}, removeItem() {} };
const chat = new ChatClient('ws://localhost/ws', { storage: keptIn(none) });
const { snapshot } = storesOf(chat).room('lobby');
console.log(typeof newId(), new ChatError('closed', 'x').code, snapshot.status);
console.log(import.meta.resolve('chathub-client/react').endsWith('/dist/react/index.js'));
await import('chathub-client/dist/client.js').then(() => console.log('wrong'), ({ code }) => console.log(code));
`,
  );
  expect(run(process.execPath, ['main.js'], dir)).toBe('string closed left\ntrue\nERR_PACKAGE_PATH_NOT_EXPORTED\n');
});

test.each(['nodenext', 'bundler'])('its types are found with the module resolution %s', (moduleResolution) => {
  mkdirSync(join(dir, 'node_modules', '@types'), { recursive: true });
  for (const name of ['react', '@types/react', 'csstype']) {
    const link = join(dir, 'node_modules', name);
    rmSync(link, { force: true });
    symlinkSync(join(root, 'node_modules', name), link);
  }
  writeFileSync(
    join(dir, 'main.ts'),
    `import { ChatClient, type Overview } from 'chathub-client';
import { type Message, storesOf } from 'chathub-client/store';
import { useRoom } from 'chathub-client/react';
const chat = new ChatClient('/ws');
const overview: Promise<Overview> = chat.overview({ rooms: ['a'] });
const messages: readonly Message[] = storesOf(chat).room('a').snapshot.messages;
export const hook: (name: string) => { readonly unread: number | undefined } = useRoom;
// @ts-expect-error: a name is a text
chat.room(1);
console.log(overview, messages);
`,
  );
  const module = moduleResolution === 'nodenext' ? 'nodenext' : 'es2022';
  const options = ['--strict', '--noEmit', '--target', 'es2022', '--lib', 'es2022,dom', '--types', ''];
  const args = [...options, '--module', module, '--moduleResolution', moduleResolution, 'main.ts'];
  run(join(root, 'node_modules/.bin/tsc'), args, dir);
});
