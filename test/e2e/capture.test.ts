// Captures against tcpdump, tshark, capinfos and the counters of the device.

import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, it } from 'vitest';
import { ResponderSpec_Kind } from '../../src/gen/taplane/v1/interface.ts';
import { Direction, Loss_Reason } from '../../src/gen/taplane/v1/packet.ts';
import { CapturePacketsRequest_Format as Format, StreamOpen_Mode } from '../../src/gen/taplane/v1/packet_service.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { lanesOf, stopLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { type CapturePartial, PacketClient } from '../harness/packet-stream.ts';
import { run } from '../harness/process.ts';
import { picked, startTcpdump } from '../harness/tcpdump.ts';
import { counters, noRouterSolicitations, quiet, sendNumbered, sendOfEverything } from '../harness/traffic.ts';
import { link } from '../harness/truth.ts';
import { creation, type PartialSpec, TAP, TUN, updating } from './specs.ts';

const { INBOUND, OUTBOUND } = Direction;
const DEVICE = 'c0';
const IFACE = `interfaces/${DEVICE}`;
const V4 = '10.94.0.9';
const V6 = 'fd94::9';
const FLOOD = join(import.meta.dirname, '..', '..', 'bench', 'udp-flood.ts');
const responder = (kind: ResponderSpec_Kind) => ({ id: 'holder', kind, addresses: [], macAddress: '' });
const sink = responder(ResponderSpec_Kind.SINK);
/** Nothing but what the test sends passes it. */
const still: PartialSpec = {
  mode: TUN,
  up: true,
  txQueueLength: 10_000,
  addresses: [{ cidr: '10.94.0.1/24' }],
  sysctls: { 'ipv6/disable_ipv6': '1' },
};

const folder = mkdtempSync(join(tmpdir(), 'tpl-capture-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function withDevice(spec: PartialSpec, work: (agent: Agent, ns: Namespace) => Promise<void>): Promise<void> {
  await using ns = createNamespace();
  noRouterSolicitations(ns);
  await using agent = await startAgent({ namespace: ns });
  try {
    await agent.client().interfaces.create(creation(DEVICE, spec));
    await work(agent, ns);
  } finally {
    await stopLanes(agent);
  }
}

const capture = (agent: Agent, request: CapturePartial, keep = true): Promise<PacketClient> =>
  PacketClient.capture(agent.server, { interface: IFACE, ...request }, { keep }).ready();

async function ended(client: PacketClient, what = 'the end'): Promise<void> {
  await client.until(() => client.ended || client.error !== undefined, what, 30_000);
  expect(client.error).toBeUndefined();
  expect(client.problems).toEqual([]);
}

/** Runs a tool on a file; neither code nor words may tell of anything amiss. */
async function read(tool: string, args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run([tool, ...args]);
  expect(stderr.split('\n').filter((line) => line !== '' && !line.startsWith('Running as user "root"'))).toEqual([]);
  expect(code).toBe(0);
  return stdout;
}

interface Statistics {
  received: number;
  dropped: number;
  accepted: number;
}

/** Walks the blocks of a pcapng file, which must fill it: how many packets it has, and what its interface statistics, its last block, say. */
function blocks(file: Buffer): { packets: number; statistics: Statistics | undefined } {
  let [packets, at] = [0, 0];
  let statistics: Statistics | undefined;
  while (at < file.length) {
    const [type, length] = [file.readUInt32LE(at), file.readUInt32LE(at + 4)];
    expect(file.readUInt32LE(at + length - 4)).toBe(length);
    expect(statistics, 'nothing comes after the statistics').toBeUndefined();
    if (type === 6) packets++;
    if (type === 5) {
      const values = new Map<number, number>();
      for (let option = at + 20; file.readUInt16LE(option) !== 0; option += 4 + ((file.readUInt16LE(option + 2) + 3) & ~3))
        values.set(file.readUInt16LE(option), Number(file.readBigUInt64LE(option + 4)));
      // isb_ifrecv, isb_ifdrop, isb_filteraccept.
      statistics = { received: values.get(4) ?? -1, dropped: values.get(5) ?? -1, accepted: values.get(6) ?? -1 };
    }
    at += length;
  }
  return { packets, statistics };
}

it.each([
  ['a TUN', TUN],
  ['a TAP', TAP],
] as const)(
  'writes files of %s that tshark and capinfos read, with what tcpdump saw, up to as many frames as were asked for',
  async (_, mode) => {
    const spec: PartialSpec = { mode, up: true, txQueueLength: 10_000, addresses: [{ cidr: '10.94.0.1/24' }, { cidr: 'fd94::1/64' }] };
    await withDevice({ ...spec, responders: [responder(ResponderSpec_Kind.ICMP_ECHO)] }, async (agent, ns) => {
      if (mode === TAP) for (const address of [V4, V6]) ns.ip(`neigh add ${address} lladdr 02:00:00:00:94:09 dev ${DEVICE}`);
      await quiet(ns, DEVICE);
      await using tcpdump = {
        in: await startTcpdump(ns, DEVICE, 'in'),
        out: await startTcpdump(ns, DEVICE, 'out'),
        async [Symbol.asyncDispose]() {
          await this.in[Symbol.asyncDispose]();
          await this.out[Symbol.asyncDispose]();
        },
      };
      const begun = BigInt(Date.now()) * 1_000_000n;
      const most = 600;
      using client = await capture(agent, { format: Format.PCAPNG, maxFrames: BigInt(most) });
      const before = counters(ns, DEVICE);
      await sendOfEverything(ns, [V4, V6]);
      await quiet(ns, DEVICE);
      const after = counters(ns, DEVICE);
      const passed = after.txPackets + after.rxPackets - before.txPackets - before.rxPackets;
      expect(passed).toBeGreaterThan(80);
      expect(passed).toBeLessThan(most);
      await client.until(() => Number(client.totals?.delivered) >= passed, `${passed} frames`);
      expect(client.ended).toBe(false);
      // One more than there is room for.
      await sendNumbered(ns, V4, most - passed + 1);
      await ended(client);
      await tcpdump.out.has(after.txPackets - before.txPackets + most - passed);
      const finished = BigInt(Date.now()) * 1_000_000n;

      const path = join(folder, `${mode}.pcapng`);
      const file = Buffer.concat(client.pcapng);
      writeFileSync(path, file);
      expect(blocks(file)).toEqual({ packets: most, statistics: { received: most, dropped: 0, accepted: most } });
      const directions = (await read('tshark', ['-n', '-r', path, '-T', 'fields', '-e', 'frame.packet_flags_direction']))
        .trim()
        .split('\n')
        .map(Number);
      const all = picked(path);
      expect(all.length).toBe(most);
      let bytes = 0;
      for (const [direction, witness] of [
        [INBOUND, tcpdump.in],
        [OUTBOUND, tcpdump.out],
      ] as const) {
        const ours = all.filter((_, index) => directions[index] === direction);
        // The kernel may have said something of its own before our capture began.
        const seen = witness.frames();
        const start = Math.max(
          seen.findIndex((_, at) => ours.every(({ data }, index) => seen[at + index]?.data.equals(data))),
          0,
        );
        const theirs = seen.slice(start, start + ours.length);
        expect(ours.length).toBeGreaterThan(5);
        expect(ours.map(({ data, length }) => [length, data.toString('hex')])).toEqual(
          theirs.map(({ data, length }) => [length, data.toString('hex')]),
        );
        for (const { timeNs } of ours) expect(timeNs >= begun && timeNs <= finished).toBe(true);
        bytes += theirs.reduce((sum, { length }) => sum + length, 0);
      }
      expect((await read('tshark', ['-n', '-r', path])).trim().split('\n').length).toBe(most);
      const about = await read('capinfos', ['-M', path]);
      expect(about).toMatch(/File type:\s+pcapng\n/);
      expect(Number(/Number of packets:\s+(\d+)/.exec(about)?.[1])).toBe(most);
      expect(Number(/Data size:\s+(\d+)/.exec(about)?.[1])).toBe(bytes);
      expect(about).toMatch(new RegExp(`Name = ${DEVICE}`));
      expect(about).toMatch(/Number of stat entries = 1/);
    });
  },
);

it('ends with OK at each limit: frames, bytes, time', async () => {
  await withDevice({ ...still, responders: [sink] }, async (agent, ns) => {
    await quiet(ns, DEVICE);
    const begun = performance.now();
    const all: PacketClient[] = [];
    const open = async (request: CapturePartial): Promise<PacketClient> => {
      const client = await capture(agent, request);
      all.push(client);
      return client;
    };
    try {
      const tenFrames = await open({ maxFrames: 10n });
      const thousandBytes = await open({ maxBytes: 1000n });
      const shortFrames = await open({ maxBytes: 1000n, snapLength: 50 });
      const noRoom = await open({ maxBytes: 131n });
      const sampled = await open({ maxFrames: 10n, sampling: 3, filter: 'udp port 9' });
      const file = await open({ maxFrames: 5n, format: Format.PCAPNG, filter: 'udp' });
      const aSecond = await open({ duration: { seconds: 1n, nanos: 500_000_000 } });
      const inbound = await open({ duration: { seconds: 1n, nanos: 500_000_000 }, direction: INBOUND });
      await sendNumbered(ns, V4, 40, { bytes: 104 });
      for (const client of all) await ended(client);
      expect(performance.now() - begun).toBeGreaterThan(1500);
      const numbers = (client: PacketClient): number[] => client.frames.map(({ data }) => data.readUInt32BE(28));
      const upTo = (count: number, step = 1): number[] => Array.from({ length: count }, (_, index) => index * step);
      expect(numbers(tenFrames)).toEqual(upTo(10));
      expect(tenFrames.totals).toMatchObject({ offered: 10n, delivered: 10n });
      expect(tenFrames.frames.every(({ data, direction }) => data.length === 132 && direction === OUTBOUND)).toBe(true);
      // 7 times 132 bytes.
      expect(numbers(thousandBytes)).toEqual(upTo(7));
      expect(numbers(shortFrames)).toEqual(upTo(20));
      expect(shortFrames.frames.every(({ data, originalLength }) => data.length === 50 && originalLength === 132)).toBe(true);
      expect(noRoom.received).toBe(0);
      expect(numbers(sampled)).toEqual(upTo(10, 3));
      expect(sampled.totals).toMatchObject({ offered: 28n, sampledOut: 18n });
      expect(blocks(Buffer.concat(file.pcapng))).toEqual({ packets: 5, statistics: { received: 5, dropped: 0, accepted: 5 } });
      expect(numbers(aSecond)).toEqual(upTo(40));
      expect([inbound.received, Number(inbound.totals?.offered ?? 0n)]).toEqual([0, 0]);
    } finally {
      for (const client of all) client[Symbol.dispose]();
    }
  });
});

function flood(ns: Namespace, seconds: number, perSecond: number, payload = 72): Promise<{ code: number | null }> {
  return ns.exec([process.execPath, FLOOD, V4, String(seconds), String(payload), String(perSecond), '0']);
}

/** What has passed those who watch: what was read from the device, and what it had no room for. */
function passed(ns: Namespace): number {
  const { rxPackets, txPackets, txDropped } = counters(ns, DEVICE);
  return rxPackets + txPackets + txDropped;
}

it('tells at the end of the file what a client that does not read has lost: captured and dropped are what passed', async () => {
  await withDevice({ ...still, responders: [sink] }, async (agent, ns) => {
    await quiet(ns, DEVICE);
    const before = passed(ns);
    const request = { format: Format.PCAPNG, queueBytes: 65_536, duration: { seconds: 3n } };
    using client = await capture(agent, request);
    client.pause();
    expect((await flood(ns, 1, 30_000, 400)).code).toBe(0);
    expect(client.ended).toBe(false);
    client.resume();
    await ended(client);
    const total = passed(ns) - before;
    const { packets, statistics } = blocks(Buffer.concat(client.pcapng));
    console.log(`captured ${packets}, dropped ${statistics?.dropped}, passed ${total}`);
    expect(packets + (statistics?.dropped ?? 0)).toBe(total);
    expect(statistics?.received).toBe(total);
    expect(statistics?.dropped).toBeGreaterThan(total / 3);
    expect(Number(client.totals?.offered)).toBe(total);
    expect(client.lost.get(Loss_Reason.QUEUE_FULL)).toBeGreaterThan(total / 4);
    expect(client.lostFrames).toBe(statistics?.dropped);
    const path = join(folder, 'lossy.pcapng');
    writeFileSync(path, Buffer.concat(client.pcapng));
    expect(Number(/Number of packets:\s+(\d+)/.exec(await read('capinfos', ['-M', path]))?.[1])).toBe(packets);
  });
});

it('tells what the kernel had to drop while the lane stood still: offered is what the device has counted', async () => {
  await withDevice({ ...still, responders: [sink] }, async (agent, ns) => {
    await quiet(ns, DEVICE);
    const before = passed(ns);
    using client = await capture(agent, { snapLength: 64, queueBytes: 64 * 1024 * 1024 }, false);
    const [lane = 0] = await lanesOf(agent);
    // Shorter than what the agent takes for death.
    process.kill(lane, 'SIGSTOP');
    try {
      expect((await flood(ns, 1.2, 100_000)).code).toBe(0);
    } finally {
      process.kill(lane, 'SIGCONT');
    }
    await sendNumbered(ns, V4, 100);
    await client.until(() => client.totals !== undefined && Number(client.totals.offered) >= passed(ns) - before, 'the account', 20_000);
    await quiet(ns, DEVICE, 700);
    const total = passed(ns) - before;
    const kernel = client.lost.get(Loss_Reason.KERNEL) ?? 0;
    console.log(
      `passed ${total}, captured ${client.received}, dropped by the kernel ${kernel}, by the queue ${client.lostFrames - kernel}`,
    );
    expect(Number(client.totals?.offered)).toBe(total);
    expect(kernel).toBeGreaterThan(1000);
    expect(client.received + client.lostFrames).toBe(total);
    expect(client.problems).toEqual([]);
    expect(await lanesOf(agent)).toEqual([lane]);
  });
});

/** Holds the only queue of a device and throws away what comes; a line on standard input makes it write that many datagrams inwards. */
const HOLDER = `
import fcntl, os, select, struct, sys
fd = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH', sys.argv[1].encode(), 0x1001)) # TUNSETIFF, IFF_TUN | IFF_NO_PI
print('held', flush=True)
while True:
    ready, _, _ = select.select([fd, sys.stdin], [], [])
    if fd in ready: os.read(fd, 65536)
    if sys.stdin in ready:
        for n in range(int(sys.stdin.readline())):
            os.write(fd, bytes.fromhex('4500002000000000401100000a5e00090a5e0001 0009270f000c0000') + struct.pack('>I', n))
`;

it('captures an interface whose only queue another program holds, and says who holds it to those who want to consume', async () => {
  await withDevice(still, async (agent, ns) => {
    await using holder = ns.spawn(['/usr/bin/python3', '-u', '-c', HOLDER, DEVICE]);
    await holder.until(({ stdout }) => stdout.includes('held'), 'the other program', 20_000);
    await quiet(ns, DEVICE);
    using client = await capture(agent, {});
    await sendNumbered(ns, V4, 30);
    holder.stdin.write('20\n');
    await client.until(() => client.received >= 50, '50 frames');
    const numbers = (direction: Direction): number[] =>
      client.frames.filter((frame) => frame.direction === direction).map(({ data }) => data.readUInt32BE(28));
    expect(numbers(OUTBOUND)).toEqual(Array.from({ length: 30 }, (_, index) => index));
    expect(numbers(INBOUND).slice(0, 20)).toEqual(Array.from({ length: 20 }, (_, index) => index));
    expect(client.problems).toEqual([]);
    using consumer = PacketClient.stream(agent.server, { interface: IFACE });
    await expect(consumer.ready()).rejects.toThrow(`FAILED_PRECONDITION DEVICE_BUSY`);
    expect(consumer.error?.message).toContain(`python3 (pid ${holder.pid})`);
  });
});

it('captures while others consume, in another network namespace', async () => {
  await using elsewhere = createNamespace();
  noRouterSolicitations(elsewhere);
  await withDevice({ ...still, networkNamespace: elsewhere.name }, async (agent, ns) => {
    expect(ns.has(DEVICE)).toBe(false);
    using consumer = await PacketClient.stream(agent.server, { interface: IFACE, filter: 'udp port 9' }).ready();
    using other = await PacketClient.stream(agent.server, { interface: IFACE, filter: 'udp port 9' }).ready();
    await quiet(elsewhere, DEVICE);
    using client = await capture(agent, { filter: 'udp port 9' });
    await sendNumbered(elsewhere, V4, 500);
    const wanted = Array.from({ length: 500 }, (_, index) => index);
    for (const each of [client, consumer, other]) {
      await each.until(() => each.received >= 500, '500 frames');
      expect(each.frames.map(({ data }) => data.readUInt32BE(28))).toEqual(wanted);
      expect(each.problems).toEqual([]);
    }
  });
});

it('goes on when the interface has been down, by whoever took it down, and misses nothing', async () => {
  await withDevice({ ...still, responders: [sink] }, async (agent, ns) => {
    const { interfaces } = agent.client();
    await quiet(ns, DEVICE);
    using client = await capture(agent, { filter: 'udp port 9' });
    const isUp = (): boolean => link(ns, DEVICE)?.flags.includes('UP') ?? false;
    const [lane = 0] = await lanesOf(agent);
    const sockets = (): string[] =>
      readdirSync(`/proc/${lane}/fd`)
        .map((fd) => readlinkOrNone(`/proc/${lane}/fd/${fd}`))
        .filter((to) => to.startsWith('socket:'));
    const before = counters(ns, DEVICE).txPackets;
    const downs = [
      async () => ns.ip(`link set ${DEVICE} down`),
      async () => {
        await interfaces.update(updating(DEVICE, { up: false }, ['spec.up']));
        expect(isUp()).toBe(false);
        await sleep(300);
        const open = sockets();
        await sleep(300);
        // Nothing is opened again and again meanwhile.
        expect(sockets()).toEqual(open);
        await interfaces.update(updating(DEVICE, { up: true }, ['spec.up']));
      },
      // Up again before anybody can look.
      async () => void ns.run('sh', '-c', `ip link set ${DEVICE} down; ip link set ${DEVICE} up`),
    ];
    for (const [round, down] of downs.entries()) {
      await down();
      await expect.poll(isUp, { timeout: 15_000 }).toBe(true);
      const wanted = client.received + 1;
      const passes = async (): Promise<boolean> => {
        await sendNumbered(ns, V4, 1, { first: round });
        return client.received >= wanted;
      };
      await expect.poll(passes, { timeout: 15_000, interval: 100 }).toBe(true);
      await sendNumbered(ns, V4, 200, { first: 1000 });
      await client.until(() => client.frames.at(-1)?.data.readUInt32BE(28) === 1199, 'the last of 200');
      const numbers = client.frames.slice(wanted - 1).map(({ data }) => data.readUInt32BE(28));
      expect(numbers.filter((number) => number >= 1000)).toEqual(Array.from({ length: 200 }, (_, index) => 1000 + index));
      expect(numbers.filter((number) => number < 1000 && number !== round)).toEqual([]);
    }
    const passed = counters(ns, DEVICE).txPackets - before;
    await client.until(() => Number(client.totals?.offered) >= passed, `${passed} offered`);
    expect(Number(client.totals?.offered)).toBe(passed);
    expect(client.received).toBe(passed);
    expect(client.error).toBeUndefined();
    expect(client.problems).toEqual([]);
  });
});

function readlinkOrNone(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

it('shows all that passed before the end was asked for', async () => {
  await withDevice({ ...still, responders: [sink] }, async (agent, ns) => {
    await quiet(ns, DEVICE);
    for (let round = 0; round < 10; round++) {
      using observer = await PacketClient.stream(agent.server, { interface: IFACE, mode: StreamOpen_Mode.OBSERVE }).ready();
      await sendNumbered(ns, V4, 20, { first: 100 * round, perSecond: 100_000 });
      observer.end();
      await ended(observer);
      const wanted = Array.from({ length: 20 }, (_, index) => 100 * round + index);
      expect(observer.frames.map(({ data }) => data.readUInt32BE(28)).slice(-20)).toEqual(wanted);
    }
  });
});
