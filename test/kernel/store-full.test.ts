// The state directory on a disk that is full: refused in the words of the API, nothing half written, and well again with room.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { prepare } from '../../src/interface/canonical.ts';
import { INTERFACE_RECORDS, type Record } from '../../src/interface/record.ts';
import { Store } from '../../src/resource/store.ts';
import { runSync } from '../harness/process.ts';
import { tap } from '../interface/specs.ts';
import { manage, reasonOf, TUN } from './managed.ts';

const folder = join(mkdtempSync(join(tmpdir(), `tpl-${process.pid}-full-`)), 'disk');
beforeAll(() => {
  mkdirSync(folder);
  runSync('mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder);
});
afterAll(() => {
  runSync('umount', '-l', folder);
  rmSync(join(folder, '..'), { recursive: true });
});

const ballast = join(folder, 'ballast');
/** Leaves no room. */
function fill(): void {
  try {
    writeFileSync(ballast, Buffer.alloc(2 * 1024 * 1024));
  } catch {
    // full, as wanted
  }
}

const record = (name: string): Record => ({
  name,
  uid: name,
  phase: 'ready',
  labels: { text: 'x'.repeat(5000) },
  spec: prepare(tap()),
  generation: 1,
  createTimeMs: 1,
  updateTimeMs: 1,
  addressSinceMs: {},
});

it('refuses commits while it is full, keeps what it has, and goes on when there is room', async () => {
  const store = new Store(folder, INTERFACE_RECORDS, Date.now);
  await store.commit({ put: record('a') });
  fill();
  const refused = await Promise.allSettled(Array.from({ length: 50 }, (_, n) => store.commit({ put: record(`b${n}`) })));
  expect(
    refused.every(
      (outcome) => outcome.status === 'rejected' && outcome.reason.code === 'RESOURCE_EXHAUSTED' && outcome.reason.reason === 'DISK_FULL',
    ),
  ).toBe(true);
  store.prune();
  rmSync(ballast);
  await store.commit({ put: record('c') });
  store.close();
  const again = new Store(folder, INTERFACE_RECORDS, Date.now);
  expect(again.records.map(({ name }) => name)).toEqual(['a', 'c']);
  expect(again.findings).toMatchObject({ corruptFiles: [], badRecords: [] });
  again.close();
});

it('an agent on it refuses to create, leaves no device, and creates when there is room', async () => {
  const stateDir = join(folder, 'agent');
  mkdirSync(stateDir);
  await using managed = await manage({ args: ['--state-dir', stateDir] });
  await managed.create('k0', { mode: TUN });
  fill();
  let reason = 'none';
  // Pages that the log has already may take a few more.
  for (let n = 1; n < 200 && reason === 'none'; n++) reason = await reasonOf(managed.create(`k${n}`, { mode: TUN }));
  expect(reason).toBe('DISK_FULL');
  const devices = (managed.ns.ip('-j link') as { ifname: string }[]).map(({ ifname }) => ifname).filter((name) => name.startsWith('k'));
  rmSync(ballast);
  await managed.create('last', { mode: TUN });
  await managed.agent.kill9();
  await managed.agent.start();
  for (const name of [...devices, 'last']) expect((await managed.get(name)).status?.state).toBe(1);
  await managed.agent.stop();
});
