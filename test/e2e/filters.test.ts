// Filters, sampling, length and direction of streams, against tcpdump with the same expressions on the same traffic: byte for byte, in order.

import { expect, it } from 'vitest';
import { Direction, type StreamTotals } from '../../src/gen/taplane/v1/packet.ts';
import { StreamOpen_Mode } from '../../src/gen/taplane/v1/packet_service.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { stopLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { type OpenPartial, PacketClient } from '../harness/packet-stream.ts';
import { random } from '../harness/random.ts';
import { shareAgent } from '../harness/shared-agent.ts';
import { complaints, startTcpdump, type Tcpdump } from '../harness/tcpdump.ts';
import { counters, noRouterSolicitations, quiet, sendOfEverything, sendSegmented } from '../harness/traffic.ts';
import { ethernetFrame, rawPacket } from '../packet/frame-corpus.ts';
import { udpPacket } from '../packet/frames.ts';
import { creation, type PartialSpec, TAP, TUN } from './specs.ts';

const { CONSUME, OBSERVE } = StreamOpen_Mode;
const { INBOUND, OUTBOUND } = Direction;
const DEVICE = 'f0';
const IFACE = `interfaces/${DEVICE}`;
const V4 = '10.90.0.9';
const V6 = 'fd90::9';
const MAC = '02:00:00:00:90:09';
const addresses = [{ cidr: '10.90.0.1/24' }, { cidr: 'fd90::1/64' }];

async function withDevice(spec: PartialSpec, work: (agent: Agent, ns: Namespace) => Promise<void>): Promise<void> {
  await using shared = await shareAgent();
  const { agent, ns } = shared;
  noRouterSolicitations(ns);
  await agent.client().interfaces.create(creation(DEVICE, { up: true, txQueueLength: 10_000, addresses, ...spec }));
  await work(agent, ns);
}

/** What of the frames went this way. */
const frames = (client: PacketClient, direction?: Direction): string[] =>
  client.frames.filter((frame) => direction === undefined || frame.direction === direction).map(({ data }) => data.toString('hex'));

const witnessed = (tcpdump: Tcpdump, expression = ''): string[] => tcpdump.frames(expression).map(({ data }) => data.toString('hex'));

/** Waits for the account of everything that passed, and checks it. */
async function settled(client: PacketClient, offered: number): Promise<StreamTotals> {
  await client.until(
    () => Number(client.totals?.offered) >= offered && client.received >= Number(client.totals?.delivered),
    `${offered} offered`,
    30_000,
  );
  expect(Number(client.totals?.offered)).toBe(offered);
  expect(client.totals?.dropped).toEqual([]);
  expect(client.problems).toEqual([]);
  return client.totals as StreamTotals;
}

interface Opened {
  filter: string;
  client: PacketClient;
}

/** Streams with these filters, with traffic in both directions, against two witnesses. */
async function compare(
  agent: Agent,
  ns: Namespace,
  filters: readonly string[],
  inbound: readonly Buffer[],
  send: () => Promise<void>,
): Promise<void> {
  const all: PacketClient[] = [];
  const open = async (request: OpenPartial): Promise<PacketClient> => {
    const client = await PacketClient.stream(agent.server, { interface: IFACE, queueBytes: 8 * 1024 * 1024, ...request }).ready();
    all.push(client);
    return client;
  };
  try {
    // With the first consumer the carrier comes.
    const consuming: Opened[] = [];
    for (const filter of filters) consuming.push({ filter, client: await open({ filter, mode: CONSUME }) });
    await quiet(ns, DEVICE);
    // What the kernel said by itself until now: those who come next do not see it.
    const early = consuming.map(({ client }) => ({ received: client.received, offered: Number(client.totals?.offered ?? 0) }));
    await using sent = await startTcpdump(ns, DEVICE, 'out');
    await using received = await startTcpdump(ns, DEVICE, 'in');
    const observing: Opened[] = [];
    for (const filter of filters) observing.push({ filter, client: await open({ filter, mode: OBSERVE }) });
    const [filter = ''] = filters;
    const outOnly = await open({ filter, mode: OBSERVE, direction: OUTBOUND });
    const inOnly = await open({ filter, mode: OBSERVE, direction: INBOUND });
    const sampled = await open({ filter, mode: OBSERVE, direction: OUTBOUND, sampling: 7 });
    const short = await open({ mode: OBSERVE, direction: OUTBOUND, snapLength: 64 });
    const before = counters(ns, DEVICE);

    await send();
    const injector = (consuming[0] as Opened).client;
    const injected = await injector.worked(await injector.send(inbound));
    expect(Number(injected.accepted)).toBeGreaterThan(inbound.length * 0.7);
    await quiet(ns, DEVICE);
    const after = counters(ns, DEVICE);
    const out = after.txPackets - before.txPackets;
    await sent.has(out);
    // Not all that the device takes gets as far as those who watch: a VLAN tag with nothing behind it does not.
    await received.settles();
    await sent.stop();
    await received.stop();
    const [wereSent, wereReceived] = [witnessed(sent), witnessed(received)];
    expect([wereSent.length, after.txDropped]).toEqual([out, before.txDropped]);

    for (const { filter, client } of observing) {
      const [wantedOut, wantedIn] = [witnessed(sent, filter), witnessed(received, filter)];
      const totals = await settled(client, wereSent.length + wereReceived.length);
      expect(frames(client, OUTBOUND), `observed, out: ${filter}`).toEqual(wantedOut);
      expect(frames(client, INBOUND), `observed, in: ${filter}`).toEqual(wantedIn);
      expect(client.frames.every(({ originalLength }) => originalLength === 0)).toBe(true);
      expect(Number(totals.filtered)).toBe(wereSent.length + wereReceived.length - wantedOut.length - wantedIn.length);
      // Each has something to let through, and something to keep back.
      expect(wantedOut.length, filter).toBeGreaterThan(0);
      expect(Number(totals.filtered), filter).toBeGreaterThan(0);
    }
    for (const [index, { filter, client }] of consuming.entries()) {
      const { offered = 0, received: first } = early[index] ?? {};
      await settled(client, offered + wereSent.length);
      expect(frames(client).slice(first), `consumed: ${filter}`).toEqual(witnessed(sent, filter));
      expect(client.frames.every(({ direction }) => direction === OUTBOUND)).toBe(true);
    }
    const wanted = witnessed(sent, filter);
    await settled(outOnly, wereSent.length);
    expect(frames(outOnly)).toEqual(wanted);
    await settled(inOnly, wereReceived.length);
    expect(frames(inOnly)).toEqual(witnessed(received, filter));
    const { sampledOut, filtered } = await settled(sampled, wereSent.length);
    expect(frames(sampled)).toEqual(wanted.filter((_, index) => index % 7 === 0));
    expect([Number(sampledOut), Number(filtered)]).toEqual([wanted.length - frames(sampled).length, wereSent.length - wanted.length]);
    await settled(short, wereSent.length);
    expect(short.frames.map(({ data, originalLength }) => [data.toString('hex'), originalLength])).toEqual(
      wereSent.map((frame) => [frame.slice(0, 128), frame.length > 128 ? frame.length / 2 : 0]),
    );
  } finally {
    for (const client of all) client[Symbol.dispose]();
  }
}

it('picks what tcpdump picks, on a TUN', async () => {
  await withDevice({ mode: TUN }, async (agent, ns) => {
    const dice = random('filters on a TUN');
    const filters = ['udp and portrange 1000-2000', 'icmp or icmp6', 'tcp[tcpflags] & tcp-syn != 0 or ip6[40 + 13] & tcp-syn != 0'];
    const inbound = Array.from({ length: 300 }, () => rawPacket(dice));
    await compare(agent, ns, filters, inbound, () => sendOfEverything(ns, [V4, V6]));
  });
});

/**
 * Two TAPs in a bridge that keeps no order among VLANs: tagged frames that come in through the second go out through the first, with their
 * tags beside them, where the kernel has put them. What the node itself sends goes out through both.
 */
async function withBridge(spec: PartialSpec, work: (agent: Agent, ns: Namespace, second: PacketClient) => Promise<void>): Promise<void> {
  await using ns = createNamespace();
  noRouterSolicitations(ns);
  await using agent = await startAgent({ namespace: ns });
  try {
    // With an address of its own: neighbours would not outlive the change to that of a port.
    ns.ip('link add b0 address 02:00:00:00:90:01 type bridge mcast_snooping 0');
    ns.ip('link set b0 up');
    for (const { cidr } of addresses) ns.ip(`addr add ${cidr} dev b0 ${cidr.includes(':') ? 'nodad' : ''}`);
    for (const address of [V4, V6]) ns.ip(`neigh add ${address} lladdr ${MAC} dev b0`);
    const port: PartialSpec = { mode: TAP, up: true, controller: 'b0', txQueueLength: 10_000, ...spec };
    for (const name of [DEVICE, 'g0']) await agent.client().interfaces.create(creation(name, port));
    const superFrames = spec.vnetHeader ?? false;
    using second = await PacketClient.stream(agent.server, {
      interface: 'interfaces/g0',
      mode: StreamOpen_Mode.INJECT,
      superFrames,
    }).ready();
    await work(agent, ns, second);
  } finally {
    await stopLanes(agent);
  }
}

it('picks what tcpdump picks, on a TAP with VLAN tags', async () => {
  await withBridge({}, async (agent, ns, second) => {
    const dice = random('filters on a TAP');
    const inbound = Array.from({ length: 300 }, () => ethernetFrame(dice));
    const forwarded = Array.from({ length: 500 }, () => ethernetFrame(dice));
    const filters = [
      'vlan 5 and (udp or tcp)',
      'udp and portrange 1000-2000 or udp port 53',
      `ether host ${MAC} and not ip or ether src 02:00:00:00:00:01`,
      'arp',
      'vlan and vlan and ip6',
      'tcp[tcpflags] & tcp-syn != 0',
    ];
    await compare(agent, ns, filters, inbound, async () => {
      await sendOfEverything(ns, [V4, V6]);
      // Nobody answers: ARP.
      await ns.exec(['ping', '-n', '-c', '1', '-W', '0.1', '10.90.0.77']);
      await second.worked(await second.send(forwarded));
    });
  });
});

/** Payloads that the pieces of the super-datagrams of `sendSegmented` must have. */
function payloads({ count, bytes, segment }: { count: number; bytes: number; segment: number }): string[] {
  return Array.from({ length: count }, (_, n) => Buffer.from(Array.from({ length: bytes }, (_, at) => (n + at * 7) % 256))).flatMap(
    (whole) =>
      Array.from({ length: Math.ceil(bytes / segment) }, (_, piece) =>
        whole.subarray(piece * segment, (piece + 1) * segment).toString('hex'),
      ),
  );
}

/** Where the payload of a UDP datagram begins. */
function payloadAt(frame: Buffer, ethernet: boolean): number {
  let at = 0;
  if (ethernet) for (at = 14; [0x8100, 0x88a8].includes(frame.readUInt16BE(at - 2)); ) at += 4;
  return at + ((frame[at] as number) >> 4 === 4 ? 20 : 40) + 8;
}

/** Sends super-datagrams to `targets`, and what `more` answers besides; all of it must come in the wanted pieces. */
async function compareCut(agent: Agent, ns: Namespace, ethernet: boolean, more: () => Promise<string[]> = async () => []): Promise<void> {
  const filter = 'udp port 1500';
  const open = { interface: IFACE, filter: ethernet ? `${filter} or (vlan and ${filter})` : filter, queueBytes: 16 * 1024 * 1024 };
  using consumer = await PacketClient.stream(agent.server, { ...open, mode: CONSUME }).ready();
  await quiet(ns, DEVICE);
  using observer = await PacketClient.stream(agent.server, { ...open, mode: OBSERVE }).ready();
  await using tcpdump = await startTcpdump(ns, DEVICE);
  const shape = { count: 5, bytes: 60_000, segment: 1200 };
  // The last piece is shorter.
  const uneven = { count: 5, bytes: 10_001, segment: 500 };
  const wanted: string[] = [];
  for (const target of [V4, V6]) {
    for (const each of [shape, uneven]) {
      await sendSegmented(ns, target, each);
      wanted.push(...payloads(each));
    }
  }
  const others = await more();
  wanted.push(...others);
  for (const client of [consumer, observer]) {
    await client.until(() => client.received >= wanted.length, `${wanted.length} pieces`);
    const got = client.frames.map(({ data }) => data.subarray(payloadAt(data, ethernet)).toString('hex'));
    expect(got).toEqual(wanted);
    expect(client.problems).toEqual([]);
  }
  expect(frames(consumer)).toEqual(frames(observer));
  expect(
    complaints(
      consumer.frames.map(({ data }) => data),
      ethernet,
    ),
  ).toEqual([]);
  // They really came as super-frames.
  await tcpdump.has(20);
  expect(tcpdump.frames().filter(({ length }) => length > 9000).length).toBe(20 + (others.length > 0 ? 4 : 0));
}

it('cuts super-frames into what would be on the wire, on a TUN, for those who consume and those who watch', async () => {
  await withDevice({ mode: TUN, vnetHeader: true }, (agent, ns) => compareCut(agent, ns, false));
});

/** A UDP super-frame to port 1500 behind its virtio header, with VLAN tags before the IP header. */
function superFrame(version: 4 | 6, tags: string, payload: Buffer, segment: number): Buffer {
  const packet = udpPacket(version, payload);
  const ipBytes = version === 4 ? 20 : 40;
  const sum = packet.readUInt16BE(ipBytes + 6);
  packet.writeUInt16BE(1500, ipBytes + 2);
  // The sum of the pseudo-header stands where the checksum will be.
  packet.writeUInt16BE(sum, ipBytes + 6);
  const link = Buffer.from(`020000009009 020000009008 ${tags} ${version === 4 ? '0800' : '86dd'}`.replaceAll(' ', ''), 'hex');
  const header = Buffer.alloc(10);
  // struct virtio_net_hdr: needs a checksum; UDP_L4; length of the headers; bytes of a piece; where the checksum starts and stands.
  header.set([1, 5]);
  for (const [at, value] of [link.length + ipBytes + 8, segment, link.length + ipBytes, 6].entries())
    header.writeUInt16LE(value, 2 + at * 2);
  return Buffer.concat([header, link, packet]);
}

it('cuts super-frames on a TAP, also those whose VLAN tag the kernel has put beside them', async () => {
  await withBridge({ vnetHeader: true }, (agent, ns, second) =>
    compareCut(agent, ns, true, async () => {
      const payload = Buffer.from(Array.from({ length: 20_000 }, (_, at) => (at * 11) % 256));
      const tagged = ([4, 6] as const).flatMap((version) =>
        ['8100 0005', '88a8 2006'].map((tags) => superFrame(version, tags, payload, 1300)),
      );
      const injected = await second.worked(await second.send(tagged));
      expect(Number(injected.accepted)).toBe(tagged.length);
      const pieces = Array.from({ length: Math.ceil(20_000 / 1300) }, (_, at) =>
        payload.subarray(at * 1300, (at + 1) * 1300).toString('hex'),
      );
      return tagged.flatMap(() => pieces);
    }),
  );
});
