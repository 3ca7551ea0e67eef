import { svelte } from '@sveltejs/vite-plugin-svelte';
import react from '@vitejs/plugin-react';
import vue from '@vitejs/plugin-vue';
import { defineConfig } from 'vite';

export default defineConfig(({ isSsrBuild }) => ({
  plugins: [vue(), svelte(), react()],
  // The client's directory has its own React, for its tests.
  resolve: { dedupe: ['react', 'react-dom'] },
  build: isSsrBuild ? {} : { rolldownOptions: { input: ['dom.html', 'vue.html', 'svelte.html', 'react.html'] } },
  test: { include: ['test/**/*.test.js'], testTimeout: 120_000, hookTimeout: 60_000 },
}));
