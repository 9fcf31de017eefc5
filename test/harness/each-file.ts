// Runs with every kernel and e2e test file: prints the seed once, and fails the file that leaves a namespace or a process behind.

import { afterAll, beforeAll } from 'vitest';
import { namespacesOf } from './namespace.ts';
import { runningChildren } from './process.ts';
import { seed } from './random.ts';

beforeAll(() => console.log(`TAPLANE_SEED=${seed}`));

afterAll(() => {
  const left = [
    ...namespacesOf(process.pid).map((name) => `namespace ${name}`),
    ...runningChildren().map((command) => `process ${command}`),
  ];
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
});
