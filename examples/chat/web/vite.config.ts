import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const server = process.env.CHAT_URL ?? 'http://localhost:5000';

export default defineConfig({
  plugins: [react()],
  base: './', // under any path
  // The client's directory has a React of its own, for its tests.
  resolve: { dedupe: ['react', 'react-dom'] },
  server: {
    proxy: {
      '/login': server,
      '/ws': { target: server, ws: true },
    },
  },
  build: {
    license: { fileName: 'licenses.txt' }, // React's asks to be with it
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the policy of the server takes files alone
    // No hashes: the server has every file revalidated, and a new build changes files instead of names.
    rolldownOptions: {
      output: {
        entryFileNames: 'app.js',
        chunkFileNames: '[name].js',
        assetFileNames: (asset) => (asset.names.some((name) => name.endsWith('.css')) ? 'app.css' : '[name][extname]'),
      },
    },
  },
});
