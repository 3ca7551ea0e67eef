// Measures what the published package adds to an application that Vite builds:
// bundled and minified by Rolldown, after gzip -9, in bytes. 1 kB is 1,000 of
// them. Fails if a part is over its limit. Run `npm run build` before. With
// `--peers DIR` it also measures other clients in the same way, after
// npm install --prefix DIR socket.io-client centrifuge
import { resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { rolldown } from 'rolldown';

const parts = [
  { name: 'chathub-client', entry: 'index.js', limit: 8_000 },
  { name: 'chathub-client/storage, besides the client', entry: 'storage.js', limit: 450 },
  { name: 'chathub-client/store, besides the client', entry: 'store/index.js', limit: 5_200 },
  { name: 'chathub-client/react, besides the client and the stores', entry: 'react/index.js', limit: 730 },
];

/** Bundles a module without the files that the application has already. */
async function bundle(input, without = new Set(), options = {}) {
  const external = (id) => id === 'react' || without.has(id);
  const build = await rolldown({ input, external, platform: 'browser', ...options });
  const { output } = await build.generate({ minify: true, comments: false });
  const files = output[0].moduleIds;
  await build.close();
  return { size: gzipSync(output[0].code, { level: 9 }).length, files };
}

const had = new Set();
for (const { name, entry, limit } of parts) {
  const { size, files } = await bundle(resolve('dist', entry), had);
  if (entry !== 'storage.js') for (const file of files) had.add(file);
  console.log(`${name}: ${size} bytes minified and gzipped, of ${limit}`);
  if (size > limit) process.exitCode = 1;
}

const at = process.argv.indexOf('--peers');
if (at > 0) {
  const cwd = resolve(process.argv[at + 1]);
  for (const name of ['socket.io-client', 'centrifuge']) {
    console.log(`${name}: ${(await bundle(name, undefined, { cwd })).size} bytes`);
  }
}
