// Measures what the package adds to an application that minifies and
// compresses. Fails if that is over the limit.
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const parts = [
  { name: 'chathub-client', entry: 'src/index.ts', limit: 9_100 },
  {
    name: 'chathub-client/storage, besides it',
    entry: 'src/storage.ts',
    limit: 450,
    external: ['./check.js', './protocol.js'],
  },
  { name: 'chathub-client/store, besides it', entry: 'src/store/index.ts', limit: 5_390, external: ['../index.js'] },
  {
    name: 'chathub-client/react with its stores, besides it',
    entry: 'src/react/index.ts',
    limit: 5_900,
    external: ['react', '../index.js'],
  },
];

for (const { name, entry, limit, external = [] } of parts) {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    external,
    write: false,
  });
  const size = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  console.log(`${name}: ${size} bytes minified and gzipped, of ${limit}`);
  if (size > limit) process.exitCode = 1;
}
