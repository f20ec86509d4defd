/** Fault tests: kill, cut, fill, delay. Apart from the others because they need root and take minutes. */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    root: fileURLToPath(new URL('../..', import.meta.url)),
    include: ['test/faults/**/*.faults.ts'],
    environment: 'node',
    pool: 'forks',
    // One at a time: they change the network and the clock of what they run, and measure it.
    fileParallelism: false,
    testTimeout: 300_000,
    hookTimeout: 60_000,
  },
});
