// Measures what the published package adds to an application that minifies and
// compresses: bytes after gzip -9, and 1 kB is 1,000 of them. Fails if a part
// is over its limit. Run `npm run build` before. With `--peers DIR` it also
// measures other clients in the same way. They have to be there:
// npm install --prefix DIR socket.io-client centrifuge
import { realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const parts = [
  { name: 'chathub-client', entry: 'index.js', limit: 8_850 },
  { name: 'chathub-client/storage, besides the client', entry: 'storage.js', limit: 450 },
  { name: 'chathub-client/store, besides the client', entry: 'store/index.js', limit: 5_320 },
  { name: 'chathub-client/react, besides the client and the stores', entry: 'react/index.js', limit: 740 },
];

/** Bundles a module without the files that the application has already. */
async function bundle(options, without = new Set()) {
  const { outputFiles, metafile } = await build({
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    external: ['react'],
    metafile: true,
    write: false,
    plugins: [
      {
        name: 'without',
        setup({ onResolve }) {
          onResolve({ filter: /^\.\.?\// }, ({ path, resolveDir }) => {
            return without.has(resolve(resolveDir, path)) ? { path, external: true } : undefined;
          });
        },
      },
    ],
    ...options,
  });
  const size = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  return { size, files: Object.keys(metafile.inputs).map((path) => resolve(path)) };
}

const had = new Set();
for (const { name, entry, limit } of parts) {
  const { size, files } = await bundle({ entryPoints: [`dist/${entry}`] }, had);
  if (entry !== 'storage.js') for (const file of files) had.add(file);
  console.log(`${name}: ${size} bytes minified and gzipped, of ${limit}`);
  if (size > limit) process.exitCode = 1;
}

const at = process.argv.indexOf('--peers');
if (at > 0) {
  const resolveDir = realpathSync(process.argv[at + 1]);
  for (const [name, contents] of Object.entries({
    'socket.io-client': `export { io } from 'socket.io-client'`,
    centrifuge: `export { Centrifuge } from 'centrifuge'`,
  })) {
    const { size } = await bundle({ stdin: { contents, resolveDir }, platform: 'browser' });
    console.log(`${name}: ${size} bytes`);
  }
}
