// Frames over UDP against socat, whose datagrams are what its TUN or TAP reads.

import { describe, expect, it } from 'vitest';
import { LinkSpec_Protocol as Protocol, LinkDrops_Reason as Reason, LinkStatus_State as State } from '../../src/gen/taplane/v1/link.ts';
import { bound, SOON } from '../harness/bound.ts';
import { dropped, LinkLane, linkDevice } from '../harness/link-lane.ts';
import { createCable, createNamespace, type Namespace } from '../harness/namespace.ts';
import { transferBothWays } from '../harness/passage.ts';
import { untilAnswers } from '../harness/ping.ts';
import type { Child } from '../harness/process.ts';

const MEBIBYTES = bound(64, 2);
const NEAR = ['10.98.0.1/24', '2001:db8:98::1/64'];

function hosts(): AsyncDisposable & { near: Namespace; far: Namespace } {
  const [near, far] = [createNamespace(), createNamespace()];
  createCable({ namespace: near, device: 'e0', address: '10.97.0.1/24' }, { namespace: far, device: 'e0', address: '10.97.0.2/24' });
  near.ip('address add 2001:db8:97::1/64 dev e0 nodad');
  far.ip('address add 2001:db8:97::2/64 dev e0 nodad');
  return {
    near,
    far,
    async [Symbol.asyncDispose]() {
      near[Symbol.dispose]();
      far[Symbol.dispose]();
    },
  };
}

/** socat makes the device, which goes with it. */
async function socat(far: Namespace, kind: 'tun' | 'tap', outer: 4 | 6): Promise<Child> {
  const [to, from] = outer === 4 ? ['10.97.0.1', '10.97.0.2'] : ['[2001:db8:97::1]', '[2001:db8:97::2]'];
  const device = `TUN:10.98.0.2/24,tun-type=${kind},tun-name=t1,iff-no-pi,iff-up`;
  const child = far.spawn(['socat', '-b', '2000', `UDP${outer}:${to}:6000,bind=${from}:6001`, device]);
  await expect.poll(() => far.has('t1'), SOON).toBe(true);
  far.ip(`link set t1 mtu ${outer === 4 ? 1458 : 1438}`);
  far.ip('address add 2001:db8:98::2/64 dev t1 nodad');
  return child;
}

describe.each([
  ['tun', 4, 1472],
  ['tap', 6, 1438],
] as const)('socat with a %s, over IPv%i', (kind, outer, mtu) => {
  it('passes both ways, and again after either was restarted, whoever speaks first', async () => {
    await using both = hosts();
    const { near, far } = both;
    const device = linkDevice(near, 't0', { tap: kind === 'tap', addresses: NEAR, mtu });
    const endpoint = outer === 4 ? '10.97.0.2:6001' : '[2001:db8:97::2]:6001';
    const link = { device, spec: { protocol: Protocol.FRAMES, listen: ':6000', peers: [{ endpoint, displayName: 'far' }] } };
    {
      await using lane = await LinkLane.start(near);
      await lane.hold(link);
      {
        await using peer = await socat(far, kind, outer);
        await untilAnswers(near, '10.98.0.2');
        await untilAnswers(near, '2001:db8:98::2');
        await transferBothWays(near, far, '10.98.0.2', MEBIBYTES);
        await transferBothWays(far, near, '2001:db8:98::1', MEBIBYTES);
        const status = await lane.untilUp();
        expect(status).toMatchObject({ reason: '', mtu, peers: [{ endpoint, displayName: 'far', up: true }] });
        expect(status.listen).toMatch(/:6000$/);
        expect(Number(status.traffic?.sentBytes)).toBeGreaterThan(MEBIBYTES * 2 ** 20);
        expect(status.peers[0]?.traffic).toEqual(status.traffic);
        expect(peer.isRunning).toBe(true);
      }
      await using peer = await socat(far, kind, outer);
      // socat ends with the first ICMP error: nothing may be sent to it before it is there.
      await untilAnswers(far, '10.98.0.1');
      expect(peer.isRunning).toBe(true);
      await lane.kill();
    }
    await using lane = await LinkLane.start(near);
    await lane.hold(link);
    await using peer = await socat(far, kind, outer);
    await untilAnswers(far, '2001:db8:98::1');
    await lane.untilUp();
    expect(peer.isRunning).toBe(true);
  });
});

it('takes from its peer only, counts what it does not take, and tells the sender of what is larger than the link takes', async () => {
  await using both = hosts();
  const { near, far } = both;
  const device = linkDevice(near, 't0', { addresses: NEAR });
  await using lane = await LinkLane.start(near);
  await lane.hold({ device, spec: { protocol: Protocol.FRAMES, listen: '10.97.0.1:6000', peers: [{ endpoint: '10.97.0.2:6001' }] } });
  expect(await lane.status()).toMatchObject({
    state: State.CONNECTING,
    reason: '10.97.0.2:6001: nothing heard yet',
    listen: '10.97.0.1:6000',
  });
  const send = (port: number, text: string) =>
    far.run('sh', '-c', `printf '${text}' | socat -u - UDP4:10.97.0.1:6000,bind=10.97.0.2:${port}`);
  send(6002, 'E0000000000000000000000000000');
  send(6002, 'x');
  await lane.until((status) => dropped(status, Reason.STRANGER) === 2);
  expect((await lane.status()).state).toBe(State.CONNECTING);
  send(6001, 'this is no IP packet at all');
  send(6001, 'E');
  await lane.until((status) => dropped(status, Reason.MALFORMED) === 2);
  const status = await lane.untilUp();
  expect(status.traffic?.receivedPackets).toBe(0n);
  expect(status.drops).toHaveLength(2);

  // What is larger than the link takes: its sender is told.
  const setup = { addresses: NEAR };
  await lane.hold({ device, setup, spec: { protocol: Protocol.FRAMES, mtu: 1300, peers: [{ endpoint: '10.97.0.2:6001' }] } });
  for (const address of ['2001:db8:98::7', '10.98.0.7']) {
    const { stdout } = await near.exec(['ping', '-n', '-c', '1', '-W', '1', '-M', 'do', '-s', '1400', address]);
    expect(stdout).toMatch(/mtu = 1300|mtu=1300/);
    expect(stdout).toMatch(address.includes(':') ? 'From 2001:db8:98::1' : 'From 10.98.0.7');
  }
  expect(dropped(await lane.status(), Reason.TOO_BIG)).toBe(2);
});

it('fragments what is larger than the link takes, and may be', async () => {
  await using both = hosts();
  const { near, far } = both;
  const device = linkDevice(near, 't0', { addresses: NEAR, mtu: 1472 });
  await using lane = await LinkLane.start(near);
  await lane.hold({ device, spec: { protocol: Protocol.FRAMES, listen: ':6000', mtu: 601, peers: [{ endpoint: '10.97.0.2:6001' }] } });
  await using _peer = await socat(far, 'tun', 4);
  await untilAnswers(near, '10.98.0.2');
  // Whole ones, and what are fragments already.
  for (const size of ['1000', '4000']) {
    const { stdout } = await near.exec(['ping', '-n', '-c', '3', '-i', '0.05', '-W', '5', '-M', 'dont', '-s', size, '10.98.0.2']);
    expect(stdout).toContain('3 received');
  }
  expect(dropped(await lane.status(), Reason.TOO_BIG)).toBe(0);
});
