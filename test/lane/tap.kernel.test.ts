// A tap that cannot keep up: its turns end all the same.

import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Device } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { type Observer, Tap } from '../../src/lane/tap.ts';
import { createCable, createNamespace } from '../harness/namespace.ts';

const FLOOD = join(import.meta.dirname, '..', '..', 'bench', 'udp-flood.ts');

it('ends a round of reading while more comes than its observers can look at, and counts all that is left out', async () => {
  await using near = createNamespace();
  await using far = createNamespace();
  createCable({ namespace: near, device: 'e0', address: '10.96.0.1/24' }, { namespace: far, device: 'e1' });
  near.ip('link set e0 alias taplane:u1');
  near.ip('neigh add 10.96.0.9 lladdr 02:00:00:00:96:09 dev e0');
  const tap = new Tap(Device.fromPartial({ uid: 'u1', interface: 'e0', networkNamespace: near.name, tap: true }));
  let [seen, lost] = [0, 0];
  const slow: Observer = {
    offer: () => {
      seen++;
      for (const end = performance.now() + 0.02; performance.now() < end; );
    },
    lose: (_, count) => {
      lost += count;
    },
    flush: () => {},
  };
  tap.add(slow);
  try {
    await using load = near.spawn([process.execPath, FLOOD, '10.96.0.9', '3', '72', '0', '0']);
    // Nothing else has its turn before the flood ends, unless a round ends by itself.
    await expect.poll(() => lost, { timeout: 20_000 }).toBeGreaterThan(0);
    const before = seen;
    tap.drain();
    // As much as a ring of 4 MiB holds of frames of 114 bytes, and less than comes meanwhile.
    expect(seen - before).toBeGreaterThan(1000);
    expect(seen - before).toBeLessThan(30_000);
    expect(load.isRunning).toBe(true);
    const { sent } = JSON.parse((await load.ended).stdout) as { sent: number };
    await expect.poll(() => seen + lost, { timeout: 20_000 }).toBeGreaterThanOrEqual(sent);
    await tap.settle();
    // IPv6 says something of its own.
    expect(seen + lost).toBeLessThan(sent + 50);
  } finally {
    tap.close();
  }
});
