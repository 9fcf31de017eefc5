// One link in a lane, its device and its socket: whichever comes later, goes, or changes.

import { createSocket, type Socket } from 'node:dgram';
import { readdirSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import type { Device, LinkSetup as Setup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { LinkSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import {
  type LinkPeer,
  LinkSpec,
  LinkSpec_Protocol as Protocol,
  LinkStatus_State as State,
  LinkSpec_Transport as Transport,
} from '../../src/gen/taplane/v1/link.ts';
import { Devices } from '../../src/lane/devices.ts';
import { Link } from '../../src/lane/link/link.ts';
import { SOON } from '../harness/bound.ts';
import { linkDevice } from '../harness/link-lane.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { run } from '../harness/process.ts';

const held: { close(): void }[] = [];
afterEach(() => {
  for (const one of held.splice(0)) one.close();
});

function setupOf(spec: Partial<Omit<LinkSpec, 'peers'>> & { peers?: Partial<LinkPeer>[] }, more: Partial<Omit<Setup, 'spec'>> = {}): Setup {
  return LinkSetup.fromPartial({
    uid: 'link',
    generation: 1n,
    ...more,
    spec: LinkSpec.fromPartial({ protocol: Protocol.FRAMES, ...spec }),
  });
}

/** A link in this process, as a lane holds it; its sockets are on the loopback of the test. */
function join(device: Device, setup: Setup): { link: Link; release: () => void } {
  const devices = new Devices();
  const port = devices.port(device);
  const link = new Link(port, device, setup);
  const release = () => {
    link.release();
    devices.drop(port);
    devices.close();
  };
  held.push({ close: release });
  return { link, release };
}

async function peer(): Promise<{ socket: Socket; endpoint: string; close: () => void }> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const endpoint = `127.0.0.1:${socket.address().port}`;
  let isOpen = true;
  const close = () => {
    if (isOpen) socket.close();
    isOpen = false;
  };
  held.push({ close });
  return { socket, endpoint, close };
}

const device = (ns: Namespace): Device => ({ ...linkDevice(ns, 't0'), networkNamespace: ns.name });
const received = (ns: Namespace): number =>
  (ns.ip('-j -s link show dev t0') as { stats64: { rx: { packets: number } } }[])[0]?.stats64.rx.packets ?? 0;
const portOf = (link: Link): number => Number(link.state().link?.listen.split(':').at(-1));
const echo = Buffer.from('4500001c000100004001a6dd0a6200020a6200010800f7ff00000000', 'hex');

it('waits for its device, and finds it again after it was gone, with the socket and the counts that it had', async () => {
  await using ns = createNamespace();
  const { socket, endpoint } = await peer();
  const missing = { ...device(ns) };
  ns.ip('link delete t0');
  const { link } = join(missing, setupOf({ listen: '127.0.0.1:0', peers: [{ endpoint }] }, { generation: 7n }));
  expect(link.state()).toMatchObject({
    attached: false,
    reason: expect.stringContaining('t0'),
    linkUid: 'link',
    link: { state: State.WAITING, reason: expect.stringContaining('t0'), observedGeneration: 7n },
  });
  const port = portOf(link);
  expect(port).toBeGreaterThan(0);
  // What comes meanwhile goes nowhere, and is counted.
  socket.send(echo, port, '127.0.0.1');
  await expect.poll(() => link.state().link?.drops, SOON).toMatchObject([{ packets: 1n }]);

  for (let round = 1; round <= 2; round++) {
    device(ns);
    await expect.poll(() => link.state(), SOON).toMatchObject({ attached: true, reason: '', link: { state: State.UP, reason: '' } });
    const before = received(ns);
    socket.send(echo, port, '127.0.0.1');
    await expect.poll(() => received(ns), SOON).toBeGreaterThan(before);
    expect(link.state().link?.traffic?.receivedPackets).toBe(BigInt(round + 1));
    ns.ip('link delete t0');
    await expect.poll(() => link.state(), SOON).toMatchObject({ attached: false, link: { state: State.WAITING } });
    expect(portOf(link)).toBe(port);
  }
});

it('waits for its port as long as another has it, and says so', async () => {
  await using ns = createNamespace();
  const other = await peer();
  const { link } = join(device(ns), setupOf({ listen: other.endpoint, peers: [{ endpoint: '127.0.0.1:9' }] }));
  expect(link.state()).toMatchObject({ attached: false, reason: expect.stringContaining('EADDRINUSE'), link: { state: State.WAITING } });
  expect(link.tunnel).toBeUndefined();
  other.close();
  await expect.poll(() => link.state(), SOON).toMatchObject({ attached: true, reason: '', link: { listen: other.endpoint } });
});

it.each([
  ['UDP', Transport.UDP],
  ['TCP', Transport.TCP],
] as const)('changes what can be changed in place, and begins anew for the rest, over %s', async (_, transport) => {
  await using ns = createNamespace();
  const base = { transport, listen: '127.0.0.1:0', peers: [{ endpoint: '127.0.0.1:9' }] };
  const { link } = join(device(ns), setupOf(base));
  const { tunnel } = link;
  const port = portOf(link);
  expect(link.state().link).toMatchObject({ mtu: transport === Transport.TCP ? 1500 : 1472, observedGeneration: 1n });
  link.again(setupOf({ ...base, mtu: 1300, peers: [{ endpoint: '127.0.0.1:10', displayName: 'ten' }] }, { generation: 2n }));
  expect(link.tunnel).toBe(tunnel);
  expect(portOf(link)).toBe(port);
  expect(link.state().link).toMatchObject({ mtu: 1300, observedGeneration: 2n });
  // To the same port: the old socket is gone by then.
  link.again(setupOf({ ...base, listen: `127.0.0.1:${port}` }));
  expect(link.tunnel).not.toBe(tunnel);
  expect(link.state()).toMatchObject({ attached: true, link: { listen: `127.0.0.1:${port}` } });
  const second = link.tunnel;
  link.again(setupOf({ ...base, listen: `127.0.0.1:${port}` }, { uid: 'another' }));
  expect(link.tunnel).not.toBe(second);
  expect(link.state()).toMatchObject({ attached: true, linkUid: 'another', link: { listen: `127.0.0.1:${port}` } });
  // What cannot be, and back.
  link.again(setupOf({ ...base, listen: '192.0.2.77:1' }));
  expect(link.state()).toMatchObject({ attached: false, reason: expect.stringContaining('EADDRNOTAVAIL') });
  link.again(setupOf({ ...base, protocol: 99 as Protocol }));
  expect(link.state().reason).toContain('does not know this protocol');
  link.again(setupOf({ ...base, peers: [{ endpoint: 'somewhere' }] }));
  expect(link.state().reason).toContain('somewhere is no address and port');
  link.again(setupOf({ ...base, listen: `127.0.0.1:${port}` }));
  expect(link.state()).toMatchObject({ attached: true, reason: '', link: { listen: `127.0.0.1:${port}` } });
});

it.each([
  ['UDP', Transport.UDP, '-u'],
  ['TCP', Transport.TCP, '-t'],
] as const)('marks its socket of %s, and binds it to a device', async (_, transport, kind) => {
  await using ns = createNamespace();
  const base = { transport, listen: '127.0.0.1:0', peers: [{ endpoint: '127.0.0.1:9' }] };
  const { link } = join(device(ns), setupOf({ ...base, socketMark: 0x97, bindDevice: 'lo' }));
  expect(link.state().attached).toBe(true);
  const { stdout } = await run(['ss', '-H', '-a', '-n', '-e', kind, `sport = :${portOf(link)}`]);
  expect(stdout).toContain('fwmark:0x97');
  expect(stdout).toContain('%lo:');
  link.again(setupOf({ ...base, bindDevice: 'nosuch0' }));
  expect(link.state()).toMatchObject({ attached: false, reason: expect.stringContaining('ENODEV') });
});

it('leaves no descriptor behind', async () => {
  await using ns = createNamespace();
  const one = device(ns);
  const specs = [
    { listen: '127.0.0.1:0', peers: [{ endpoint: '127.0.0.1:9' }] },
    { transport: Transport.TCP, listen: '127.0.0.1:0' },
    { transport: Transport.TCP, peers: [{ endpoint: '127.0.0.1:9' }] },
    { listen: '192.0.2.77:1', peers: [{ endpoint: '127.0.0.1:9' }] },
  ];
  const descriptors = () => readdirSync('/proc/self/fd').length;
  join(one, setupOf(specs[0] ?? {})).release();
  const before = descriptors();
  for (let count = 0; count < 5; count++) for (const spec of specs) join(one, setupOf(spec)).release();
  await expect.poll(descriptors, SOON).toBe(before);
});
