// Whether a lane answers: one that runs, one that hangs, and none.

import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { checkLane } from '../../src/agent/lane-check.ts';
import { Lanes } from '../../src/agent/lanes.ts';
import { SOON } from '../harness/bound.ts';
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
    // One of an older version has its socket open to the group, where no policy is asked: an agent does not leave it so.
    chmodSync(socket, 0o660);
    const lanes = new Lanes({
      runtimeDir: folder,
      count: 1,
      external: true,
      log: { debug() {}, info() {}, error() {}, warn() {} },
      changed() {},
    });
    lanes.want([]);
    await expect.poll(() => statSync(socket).mode & 0o777, SOON).toBe(0o600);
    await lanes.stop();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a lane that an agent with more has left, and that does not answer, is asked for seldom and without a word', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'taplane-lane-left-'));
  const dials = [0, 0];
  const left = dials.map((_, number) =>
    createServer((socket) => {
      dials[number] = (dials[number] ?? 0) + 1;
      socket.destroy();
    }).listen(join(folder, `lane-${number}.sock`)),
  );
  const warned: object[] = [];
  const silent = { debug() {}, info() {}, error() {}, warn: (fields: object) => void warned.push(fields) };
  try {
    await Promise.all(left.map((server) => once(server, 'listening')));
    const lanes = new Lanes({ runtimeDir: folder, count: 1, external: true, log: silent, changed() {} });
    lanes.want([]);
    await sleep(1500);
    await lanes.stop();
    // The one that is ours is looked for all the time.
    expect(dials[0]).toBeGreaterThan(4);
    expect(dials[1]).toBeLessThan(4);
    expect(warned).toMatchObject([{ lane: 'lane-0' }]);
  } finally {
    for (const server of left) server.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
