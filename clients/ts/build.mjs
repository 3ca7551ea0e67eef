// Builds what is published: ES modules with source maps. A property whose name
// begins with an underscore is the package's own, and gets a short name. A
// function or a constant that is used once goes to its place of use, which
// minifiers of applications do too rarely.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { build } from 'esbuild';
import { minify } from 'terser';

const { outputFiles } = await build({
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
  write: false,
});
const texts = new Map(outputFiles.map(({ path, text }) => [path, text]));

rmSync('dist', { recursive: true, force: true });
for (const [path, text] of texts) {
  if (path.endsWith('.map')) continue;
  const { code, map } = await minify(text, {
    module: true,
    mangle: false,
    compress: {
      defaults: false,
      evaluate: true,
      join_vars: true,
      passes: 3,
      reduce_funcs: true,
      reduce_vars: true,
      unused: true,
    },
    format: { beautify: true, preserve_annotations: true },
    sourceMap: { content: texts.get(`${path}.map`), includeSources: true, url: `${basename(path)}.map` },
  });
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, code);
  writeFileSync(`${path}.map`, map);
}
