// Runs with every kernel and e2e test file: prints the seed once, and fails the file that leaves a namespace or a process behind.

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { lanesUnder } from './lanes.ts';
import { namespacesOf } from './namespace.ts';
import { runningChildren } from './process.ts';
import { seed } from './random.ts';

beforeAll(() => console.log(`TAPLANE_SEED=${seed}`));

afterAll(() => {
  const left = [
    ...namespacesOf(process.pid).map((name) => `namespace ${name}`),
    ...runningChildren().map((command) => `process ${command}`),
    ...lanesUnder(join(tmpdir(), `tpl-${process.pid}-`)).map((pid) => `lane with pid ${pid}`),
  ];
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
});
