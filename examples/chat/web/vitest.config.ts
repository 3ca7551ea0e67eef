import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: 'test/setup.ts',
    testTimeout: 180_000, // ends a test that hangs
    hookTimeout: 120_000,
    maxWorkers: 2,
  },
});
