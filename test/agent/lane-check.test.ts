// Whether a lane answers: one that runs, one that hangs, and none.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkLane } from '../../src/agent/lane-check.ts';
import { Child } from '../harness/process.ts';

const TAPLANE = join(import.meta.dirname, '../../bin/taplane');

test('a lane is asked, and one that hangs is told from one that runs', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'taplane-lane-check-'));
  const socket = join(folder, 'lane-0.sock');
  try {
    expect(await checkLane({ socket })).toMatch(/lane-0\.sock/);
    await using lane = new Child([TAPLANE, 'lane', '--socket', socket]);
    await lane.until(({ stderr }) => stderr.includes('lane ready'), 'the lane', 30_000);
    expect(await checkLane({ socket })).toBeUndefined();
    process.kill(lane.pid, 'SIGSTOP');
    try {
      expect(await checkLane({ socket })).toMatch(/DEADLINE_EXCEEDED/i);
    } finally {
      process.kill(lane.pid, 'SIGCONT');
    }
    expect(await checkLane({ socket })).toBeUndefined();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
