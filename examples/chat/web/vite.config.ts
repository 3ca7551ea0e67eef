import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const server = process.env.CHAT_URL ?? 'http://localhost:5000';

export default defineConfig({
  plugins: [react()],
  base: './', // works under any path
  // The client's directory has its own React, for its tests.
  resolve: { dedupe: ['react', 'react-dom'] },
  server: {
    proxy: {
      '/login': server,
      '/ws': { target: server, ws: true },
    },
  },
  build: {
    license: { fileName: 'licenses.txt' }, // React's license requires it
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the server's policy allows files only
    // Names have no hashes, since browsers revalidate every file. So a new
    // build changes the committed files instead of adding new ones.
    rolldownOptions: {
      output: {
        entryFileNames: 'app.js',
        chunkFileNames: '[name].js',
        assetFileNames: (asset) => (asset.names.some((name) => name.endsWith('.css')) ? 'app.css' : '[name][extname]'),
      },
    },
  },
});
