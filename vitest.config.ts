import { defineConfig } from 'vitest/config';

// Forks, not threads: tests map shared memory, load native code and start workers of their own.
// Two workers at most, so that the timing of a loaded machine stays close to that of a laptop. The files that a worker runs share its
// modules (a quarter of the time was loading them): a test that changes something global changes it back.
export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    isolate: false,
    testTimeout: 20_000,
    hookTimeout: 20_000,
    passWithNoTests: true,
    projects: [
      { extends: true, test: { name: 'fast', include: ['test/**/*.test.ts'], exclude: ['test/slow/**', 'test/system/**'] } },
      {
        extends: true,
        // The suites that take any bus once more, over a function that is served. `-t vfio-user` leaves out what is not about a bus.
        test: {
          name: 'served',
          include: ['test/bus/buses.test.ts', 'test/driver/*.test.ts', 'test/mover/*.test.ts'],
          env: { SDXI_TEST_BUS: 'vfio-user' },
        },
      },
      { extends: true, test: { name: 'slow', include: ['test/slow/**/*.test.ts'], testTimeout: 300_000 } },
      {
        extends: true,
        // One guest after the other: an emulated processor takes a whole one.
        test: { name: 'system', include: ['test/system/**/*.test.ts'], testTimeout: 300_000, hookTimeout: 600_000, fileParallelism: false },
      },
    ],
  },
});
