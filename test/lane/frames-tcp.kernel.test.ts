// Frames over TCP against the framing of the TUN/TAP tutorials on the other end, written apart from Taplane, in Python.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { LinkSpec_Protocol as Protocol, LinkSpec_Transport as Transport } from '../../src/gen/taplane/v1/link.ts';
import { bound, whenStrict } from '../harness/bound.ts';
import { LinkLane, linkDevice } from '../harness/link-lane.ts';
import { createCable, createNamespace, type Namespace } from '../harness/namespace.ts';
import { transferBothWays } from '../harness/passage.ts';
import { untilAnswers } from '../harness/ping.ts';
import type { Child } from '../harness/process.ts';

const SIMPLETUN = join(import.meta.dirname, '..', 'harness', 'simpletun.py');
const FRAMES = { protocol: Protocol.FRAMES, transport: Transport.TCP };
const MEBIBYTES = bound(64, 2);

/** Two hosts on a cable, the far one with a device for the program of the tutorials. */
function hosts(kind: 'tun' | 'tap'): AsyncDisposable & { near: Namespace; far: Namespace } {
  const [near, far] = [createNamespace(), createNamespace()];
  createCable({ namespace: near, device: 'e0', address: '10.97.0.1/24' }, { namespace: far, device: 'e0', address: '10.97.0.2/24' });
  for (const [host, number] of [
    [near, 1],
    [far, 2],
  ] as const)
    host.ip(`address add 2001:db8:97::${number}/64 dev e0 nodad`);
  far.ip(`tuntap add dev t1 mode ${kind}`);
  for (const address of ['10.98.0.2/24', '2001:db8:98::2/64 nodad'])
    far.ip(`address add ${address.replace(' nodad', ' dev t1 nodad')}${address.includes('nodad') ? '' : ' dev t1'}`);
  far.ip('link set t1 up');
  return {
    near,
    far,
    async [Symbol.asyncDispose]() {
      near[Symbol.dispose]();
      far[Symbol.dispose]();
    },
  };
}

const NEAR = ['10.98.0.1/24', '2001:db8:98::1/64'];

async function simpletun(far: Namespace, kind: string, role: 'listen' | 'connect', address: string, port: number): Promise<Child> {
  const child = far.spawn(['/usr/bin/python3', SIMPLETUN, 't1', kind, role, address, String(port)]);
  await child.until(({ stdout }) => stdout.includes('ready'), 'simpletun');
  return child;
}

async function passes(near: Namespace, far: Namespace): Promise<void> {
  await untilAnswers(near, '10.98.0.2');
  await untilAnswers(near, '2001:db8:98::2');
  await untilAnswers(far, '10.98.0.1');
  await transferBothWays(near, far, '10.98.0.2', MEBIBYTES);
  await transferBothWays(far, near, '2001:db8:98::1', MEBIBYTES);
}

describe.each(['tun', 'tap'] as const)('simpletun on a %s', (kind) => {
  it('is connected to over IPv4, and again when it was restarted', async () => {
    await using both = hosts(kind);
    const { near, far } = both;
    const device = linkDevice(near, 't0', { tap: kind === 'tap', addresses: NEAR });
    await using lane = await LinkLane.start(near);
    await lane.hold({ device, spec: { ...FRAMES, peers: [{ endpoint: '10.97.0.2:55555', displayName: 'far' }] } });
    const { reason } = await lane.until((status) => status.reason.includes('ECONNREFUSED'));
    expect(reason).toMatch(/^connecting to 10\.97\.0\.2:55555: ECONNREFUSED, next try in \d+ ms$/);
    {
      await using peer = await simpletun(far, kind, 'listen', '10.97.0.2', 55555);
      await lane.untilUp();
      await passes(near, far);
      const status = await lane.status();
      expect(status).toMatchObject({ reason: '', mtu: 1500, peers: [{ endpoint: '10.97.0.2:55555', displayName: 'far', up: true }] });
      expect(Number(status.traffic?.sentBytes)).toBeGreaterThan(MEBIBYTES * 2 ** 20);
      expect(Number(status.traffic?.receivedBytes)).toBeGreaterThan(MEBIBYTES * 2 ** 20);
      expect(status.peers[0]?.traffic).toEqual(status.traffic);
      expect(peer.isRunning).toBe(true);
    }
    await lane.until(({ reason }) => reason.includes('connecting to'));
    await using again = await simpletun(far, kind, 'listen', '10.97.0.2', 55555);
    await lane.untilUp();
    await untilAnswers(near, '10.98.0.2');
    expect(again.isRunning).toBe(true);
  });

  it('connects over IPv6, again when it was restarted, and (a TUN) when the lane was', async () => {
    await using both = hosts(kind);
    const { near, far } = both;
    const device = linkDevice(near, 't0', { tap: kind === 'tap', addresses: NEAR });
    const link = { device, spec: { ...FRAMES, listen: '[2001:db8:97::1]:55555' } };
    {
      await using lane = await LinkLane.start(near);
      await lane.hold(link);
      expect(await lane.status()).toMatchObject({ reason: 'waiting for a connection', listen: '[2001:db8:97::1]:55555', peers: [] });
      {
        await using peer = await simpletun(far, kind, 'connect', '2001:db8:97::1', 55555);
        await lane.untilUp();
        await passes(near, far);
        expect(peer.isRunning).toBe(true);
      }
      await lane.until(({ reason }) => reason === 'waiting for a connection');
      await using peer = await simpletun(far, kind, 'connect', '2001:db8:97::1', 55555);
      await lane.untilUp();
      await untilAnswers(far, '2001:db8:98::1');
      if (kind === 'tap') return;
      await lane.kill();
      await peer.ended;
    }
    await using lane = await LinkLane.start(near);
    await lane.hold(link);
    await using peer = await simpletun(far, kind, 'connect', '2001:db8:97::1', 55555);
    await lane.untilUp();
    await untilAnswers(near, '10.98.0.2');
    expect(peer.isRunning).toBe(true);
  });
});

// It takes as long as finding out that the other end is gone.
whenStrict('finds a path that swallows everything, and joins again within 5 s of its end', async () => {
  await using both = hosts('tun');
  const { near, far } = both;
  const t0 = linkDevice(near, 't0', { addresses: NEAR });
  far.ip('link delete t1');
  const t2 = linkDevice(far, 't2', { addresses: ['10.98.0.3/24'] });
  await using server = await LinkLane.start(near);
  await using client = await LinkLane.start(far);
  await server.hold({ device: t0, spec: { ...FRAMES, listen: '10.97.0.1:55555' } });
  await client.hold({ device: t2, spec: { ...FRAMES, peers: [{ endpoint: '10.97.0.1:55555' }] } });
  await untilAnswers(near, '10.98.0.3');
  // Everything goes to a station that is not there.
  near.ip('neighbour replace 10.97.0.2 lladdr 02:00:00:00:00:99 dev e0 nud permanent');
  far.ip('neighbour replace 10.97.0.1 lladdr 02:00:00:00:00:99 dev e0 nud permanent');
  await using traffic = near.spawn(['ping', '-i', '0.2', '10.98.0.3']);
  await client.until(({ reason }) => reason.includes('connecting to'));
  await server.until(({ reason }) => reason.includes('waiting for'));
  await sleep(10_000);
  near.ip('neighbour delete 10.97.0.2 dev e0');
  far.ip('neighbour delete 10.97.0.1 dev e0');
  const start = performance.now();
  await untilAnswers(near, '10.98.0.3');
  expect(performance.now() - start).toBeLessThan(bound(5000, 20_000));
  expect(traffic.isRunning).toBe(true);
});
