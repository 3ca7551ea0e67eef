// Builds what is published: ES modules with source maps. A property whose name
// begins with an underscore is the package's own, and gets a short name.
import { rmSync } from 'node:fs';
import { build } from 'esbuild';

rmSync('dist', { recursive: true, force: true });
await build({
  entryPoints: ['index', 'storage', 'store/index', 'react/index'].map((name) => `src/${name}.ts`),
  outdir: 'dist',
  outbase: 'src',
  bundle: true,
  splitting: true,
  format: 'esm',
  target: 'es2022',
  external: ['react'],
  mangleProps: /^_/,
  sourcemap: true,
  logLevel: 'warning',
});
