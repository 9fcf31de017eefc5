// Stands in for the kernel and e2e tests where they cannot run: one skipped test for each file, with the reason.

import { globSync } from 'node:fs';
import { describe, it } from 'vitest';

describe('tests on the real kernel', () => {
  for (const file of globSync(['test/kernel/**/*.test.ts', 'test/e2e/**/*.test.ts', 'test/**/*.kernel.test.ts']).sort()) {
    it(file, ({ skip }) => skip('needs root: network namespaces and /dev/net/tun'));
  }
});
