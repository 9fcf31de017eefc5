// Three kinds of tests: `unit` needs nothing, `kernel` makes devices in fresh network namespaces, `e2e` starts real processes.
// Without root the last two turn into one loudly skipped test for each file, so that a summary never hides them.

import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { VitestReportWriter } from './scripts/vitest-report.ts';

// Both are set by scripts/test.ts.
const isRoot = process.getuid?.() === 0 && process.env['TAPLANE_TEST_NO_ROOT'] === undefined;
const reportPath = process.env['TAPLANE_TEST_REPORT'];

// Everything that a test starts from source shares what was compiled once, the scripts too that bin/taplane does not start.
process.env['NODE_COMPILE_CACHE'] ??= join(import.meta.dirname, 'node_modules', '.cache', 'taplane');

/** Long, and only with TAPLANE_STRICT=1: an image and a package are made, and started. */
const STRICT = process.env['TAPLANE_STRICT'] === '1' ? [] : ['test/deploy/image.kernel.test.ts', 'test/deploy/package.kernel.test.ts'];
const LINKS = ['test/e2e/link*.test.ts', 'test/e2e/controllers.test.ts'];

/** The kinds that touch the machine run after one another, and a few files at a time: much of their time they wait. */
function privileged(name: string, files: string[], groupOrder: number, maxWorkers: number, exclude: string[] = []) {
  return {
    test: {
      name,
      include: isRoot ? files : [],
      exclude,
      setupFiles: ['test/harness/each-file.ts'],
      pool: 'forks' as const,
      maxWorkers,
      sequence: { groupOrder },
      testTimeout: 120_000,
      hookTimeout: 120_000,
      teardownTimeout: 20_000,
    },
  };
}

export default defineConfig({
  test: {
    // Node.js runs the sources as it does in a checkout, and keeps what it compiled: no transformation of our own, a sixth less of the time.
    experimental: { viteModuleRunner: false },
    slowTestThreshold: 5_000,
    reporters: ['default', ...(reportPath ? [new VitestReportWriter(reportPath)] : [])],
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts', ...(isRoot ? [] : ['test/harness/needs-root.ts'])],
          exclude: ['test/kernel/**', 'test/e2e/**', 'test/**/*.kernel.test.ts'],
          // koffi is a native addon: it wants a process, not a thread.
          pool: 'forks',
          // Many start processes and wait for them.
          maxWorkers: 3,
          sequence: { groupOrder: 0 },
          testTimeout: 60_000,
        },
      },
      privileged('kernel', ['test/kernel/**/*.test.ts', 'test/**/*.kernel.test.ts'], 1, 3, STRICT),
      privileged('e2e', ['test/e2e/**/*.test.ts'], 2, 3, LINKS),
      // They wait most of the time, for paths that shrink, part and heal.
      privileged('links', LINKS, 3, 4),
    ],
  },
});
