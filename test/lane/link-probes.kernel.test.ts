// Probes through links of every protocol, between two data planes and to the kernel of a host: round trips, the size of the path, throughput. And a
// path that shrinks, whose "too big" nobody sends.

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Device } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { LinkSpec_Protocol as Protocol, LinkSpec_Transport as Transport } from '../../src/gen/taplane/v1/link.ts';
import type { ProbeResult } from '../../src/gen/taplane/v1/link_service.ts';
import { keyPair } from '../../src/lane/wireguard/noise.ts';
import { SOON } from '../harness/bound.ts';
import { type Linked, LinkLane, linkDevice } from '../harness/link-lane.ts';
import { createCable, createNamespace, type Namespace } from '../harness/namespace.ts';

const KEYS = [randomBytes(32), randomBytes(32)] as const;
const inner = (end: 1 | 2): string[] => [`10.9.0.${end}/24`, `fd09::${end}/64`];
const outer = (end: 1 | 2, port: number, v6: boolean): string => (v6 ? `[2001:db8::${end}]:${port}` : `192.0.2.${end}:${port}`);

type Shape = (end: 1 | 2, v6: boolean) => Linked['spec'] & { tap?: boolean };

const other = (end: 1 | 2): 1 | 2 => (end === 1 ? 2 : 1);
const wireguard: Shape = (end, v6) => ({
  protocol: Protocol.WIREGUARD,
  listen: ':51820',
  wireguard: { privateKey: KEYS[end - 1] as Buffer },
  peers: [
    {
      publicKey: keyPair(KEYS[other(end) - 1] as Buffer).publicKey,
      endpoint: outer(other(end), 51820, v6),
      allowedPrefixes: [`10.9.0.${other(end)}/32`, `fd09::${other(end)}/128`],
    },
  ],
});
const vxlan: Shape = (end, v6) => ({
  tap: true,
  protocol: Protocol.VXLAN,
  vxlan: { vni: 7, noLearning: false, ageSeconds: 0, maxAddresses: 0, stormLimit: 0, suppressNeighbours: false },
  peers: [{ endpoint: outer(other(end), 4789, v6) }],
});
const udp: Shape = (end, v6) => ({ protocol: Protocol.FRAMES, listen: ':7000', peers: [{ endpoint: outer(other(end), 7000, v6) }] });
const tapUdp: Shape = (end, v6) => ({ ...udp(end, v6), tap: true });
const tcp: Shape = (end, v6) => ({
  protocol: Protocol.FRAMES,
  transport: Transport.TCP,
  listen: end === 1 ? ':7000' : '',
  peers: end === 1 ? [] : [{ endpoint: outer(1, 7000, v6) }],
});

interface End {
  ns: Namespace;
  lane: LinkLane;
  device: Device;
}

async function joined(shape: Shape, v6: boolean, run: (one: End, two: End) => Promise<void>): Promise<void> {
  await using a = createNamespace();
  await using b = createNamespace();
  createCable({ namespace: a, device: 'e0', address: '192.0.2.1/24' }, { namespace: b, device: 'e0', address: '192.0.2.2/24' });
  for (const [ns, end] of [
    [a, 1],
    [b, 2],
  ] as const)
    ns.ip(`address add 2001:db8::${end}/64 dev e0 nodad`);
  const end = async (ns: Namespace, number: 1 | 2): Promise<End> => {
    const { tap = false, ...spec } = shape(number, v6);
    const device = linkDevice(ns, 't0', { tap, addresses: inner(number) });
    const lane = await LinkLane.start(ns);
    await lane.hold({ device, spec, setup: { addresses: inner(number), handshakeEpoch: BigInt(Date.now()) } });
    return { ns, lane, device };
  };
  const one = await end(a, 1);
  await using _a = one.lane;
  const two = await end(b, 2);
  await using _b = two.lane;
  await until(async () => (await one.ns.exec(['ping', '-c1', '-W1', '10.9.0.2'])).code === 0);
  await run(one, two);
}

/** `expect.poll` knows of one test at a time. */
async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + SOON.timeout; !(await isSo()); await sleep(100))
    if (performance.now() > deadline) throw new Error('it does not come true');
}

async function probed({ lane, device }: End, request: Parameters<LinkLane['probe']>[1]): Promise<ProbeResult> {
  const last = (await lane.probe(device, { count: 3, intervalMs: 10, ...request })).at(-1)?.progress;
  if (last?.$case !== 'result') throw new Error('no result');
  return last.value;
}

describe.concurrent.each<[string, Shape, boolean, number]>([
  ['wireguard over IPv4', wireguard, false, 1420],
  ['wireguard over IPv6', wireguard, true, 1420],
  ['vxlan', vxlan, false, 1450],
  ['frames over UDP', udp, false, 1472],
  ['frames over UDP on a TAP', tapUdp, true, 1438],
  ['frames over TCP', tcp, false, 1500],
])('a link of %s', (name, shape, v6, most) => {
  it.concurrent('is probed from both ends, and searched for the size of its path', async () => {
    await joined(shape, v6, async (one, two) => {
      const { received, twoEnded, pathMtu, throughputOut, throughputIn } = await probed(one, { pathMtu: true, throughputSeconds: 1 });
      console.log(`${name}: size ${pathMtu}, ${(throughputOut / 1e6).toFixed(0)} Mbit/s out, ${(throughputIn / 1e6).toFixed(0)} in`);
      expect([received, twoEnded]).toEqual([3, true]);
      expect(pathMtu).toBe(most);
      expect(throughputOut).toBeGreaterThan(1e6);
      expect(throughputIn).toBeGreaterThan(1e6);
      expect((await probed(two, {})).received).toBe(3);
      // None of it reached the devices, nor their counts.
      const { traffic, peers } = await one.lane.status();
      expect(Number(traffic?.receivedPackets)).toBeLessThan(100);
      expect(peers[0]?.roundTrip?.nanos).toBeGreaterThan(0);
    });
  });
});

it.concurrent('finds a path that has shrunk in silence, and cuts what is sent to fit', async () => {
  await joined(wireguard, false, async (one, two) => {
    // The far end takes no datagram of more than 1,280 bytes, and says nothing.
    two.ns.ip('link set dev e0 mtu 1280');
    const sending = one.ns.spawn(['ping', '-i', '0.05', '-q', '10.9.0.2']);
    // 60 bytes go outside; what is found at first is coarse.
    const found = async (): Promise<number> => (await one.lane.status()).peers[0]?.pathMtu ?? 0;
    await until(async () => Math.abs((await found()) - (1280 - 60)) < 24);
    const pathMtu = await found();
    await sending[Symbol.asyncDispose]();
    console.log(`a path of 1,280 bytes: ${pathMtu} inside`);
    expect(pathMtu).toBeLessThanOrEqual(1280 - 60);
    // A packet that is not to be fragmented is answered, not lost.
    const { stdout, stderr } = await one.ns.exec(['ping', '-c1', '-W2', '-M', 'do', '-s', '1300', '10.9.0.2']);
    expect(stdout + stderr).toMatch(/Message too long|message too long|Frag needed/);
  });
});
