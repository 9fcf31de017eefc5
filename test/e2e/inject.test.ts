// Frames that a client sends into an interface, seen by tcpdump on the device: every byte of them, in order; and what becomes of those that
// the kernel does not take, of requests that are none, and of devices that go away.

import { createHash } from 'node:crypto';
import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import { expect, it } from 'vitest';
import { PacketBatch, InjectRejection_Reason as Reason } from '../../src/gen/taplane/v1/packet.ts';
import { PacketServiceService, StreamOpen_Mode, StreamPacketsRequest } from '../../src/gen/taplane/v1/packet_service.ts';
import { type DecodedStatus, decodeStatus } from '../../src/rpc/status.ts';
import type { Agent } from '../harness/agent.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { type OpenPartial, PacketClient } from '../harness/packet-stream.ts';
import { random } from '../harness/random.ts';
import { shareAgent } from '../harness/shared-agent.ts';
import { link } from '../harness/truth.ts';
import { Wiretap } from '../harness/wiretap.ts';
import { creation, type PartialSpec, TAP, TUN, updating } from './specs.ts';

const { INJECT, OBSERVE, CONSUME } = StreamOpen_Mode;
type Name = keyof typeof Reason;
const NAMES = Object.keys(Reason) as Name[];
const REQUEST_FRAMES = 64;
const WORKED_EVERY = 8n;

async function withAgent(specs: Record<string, PartialSpec>, work: (agent: Agent, ns: Namespace) => Promise<void>): Promise<void> {
  await using shared = await shareAgent();
  const { agent, ns } = shared;
  for (const [name, spec] of Object.entries(specs)) await agent.client().interfaces.create(creation(name, { up: true, ...spec }));
  await work(agent, ns);
}

const inject = (agent: Agent, name: string, more: OpenPartial = {}): Promise<PacketClient> =>
  PacketClient.stream(agent.server, { interface: `interfaces/${name}`, mode: INJECT, ...more }).ready();

const chance = random('inject');
const noise = Buffer.from(chance.bytes(2 ** 17));

/** Of a length, of random bytes behind the header; to nobody, so that the node has nothing to say to it. */
function ip(version: number, length: number): Buffer {
  const at = chance.integer(0, 65_535);
  const frame = Buffer.from(noise.subarray(at, at + length));
  const head =
    version === 4
      ? '450000000000400040fd0000c6336407cb007109'
      : `60000000000059ff${'20010db8'.padEnd(32, '7')}${'20010db8'.padEnd(32, '9')}`;
  frame.write(head, 0, 'hex');
  const [told, place] = version === 4 ? [length, 2] : [length - 40, 4];
  if (told >= 0 && told <= 65_535 && length > 6) frame.writeUInt16BE(told, place);
  return frame;
}

/** To a station that is not there, of a protocol that nobody speaks (IEEE 802, local experiment). */
function ethernet(length: number): Buffer {
  const at = chance.integer(0, 65_535);
  const frame = Buffer.from(noise.subarray(at, at + length));
  frame.write('02000000000102000000000288b5', 0, 'hex');
  return frame;
}

/** Mostly short, sometimes as long as the wire takes, seldom as long as a frame can be. */
function frameOf(tap: boolean, number: number): Buffer {
  const most = number % 997 === 0 ? 65_535 : number % 16 === 0 ? 1500 : 300;
  if (tap) return ethernet(chance.integer(14, most));
  return chance.integer(0, 1) === 0 ? ip(4, chance.integer(20, most)) : ip(6, chance.integer(40, most));
}

/** Of the lengths and bytes of frames in their order. */
class Sum {
  readonly #hash = createHash('sha256');
  count = 0;

  add(frames: readonly Uint8Array[]): this {
    const length = Buffer.alloc(4);
    for (const frame of frames) {
      length.writeUInt32LE(frame.length);
      this.#hash.update(length).update(frame);
    }
    this.count += frames.length;
    return this;
  }

  end(): { count: number; sha256: string } {
    return { count: this.count, sha256: this.#hash.digest('hex') };
  }
}

/** Sends frames in at a pace that tcpdump keeps up with, and expects that it has seen each. Counts those of a TUN by their version. */
async function expectSame(
  agent: Agent,
  ns: Namespace,
  name: string,
  tap: boolean,
  count: number,
  versions: Record<number, number> = {},
): Promise<void> {
  using client = await inject(agent, name);
  await using wire = await Wiretap.listen(ns, name, '-Q', 'in');
  const sent = new Sum();
  for (let number = 0; number < count; ) {
    const frames = Array.from({ length: Math.min(REQUEST_FRAMES, count - number) }, () => frameOf(tap, number++));
    sent.add(frames);
    if (!tap) for (const [first = 0] of frames) versions[first >> 4] = (versions[first >> 4] ?? 0) + 1;
    const id = await client.send(frames);
    if (id % WORKED_EVERY === 0n) await client.worked(id);
  }
  client.end();
  await client.until(() => client.ended, 'the end');
  expect(client.injected).toMatchObject({ accepted: BigInt(count), rejected: [] });
  await wire.stop(count);
  expect({ name, ...new Sum().add(wire.packets()).end() }).toEqual({ name, ...sent.end() });
  expect(client.problems).toEqual([]);
}

/** Waits for all, also when one fails: nothing goes on behind a test. */
async function together(work: Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason;
}

/** Packets that reached IP in the namespace. */
function ipReceived(ns: Namespace): { v4: number; v6: number } {
  const v4 = /^Ip: \d+ \d+ (\d+)/m.exec(ns.run('cat', '/proc/net/snmp'))?.[1];
  const v6 = /^Ip6InReceives\s+(\d+)/m.exec(ns.run('cat', '/proc/net/snmp6'))?.[1];
  return { v4: Number(v4), v6: Number(v6) };
}

/** Frames that the kernel counts as received through the device. */
function received(ns: Namespace, name: string): number {
  const [found] = ns.ip(`-j -s link show dev ${name}`) as { stats64: { rx: { packets: number } } }[];
  return found?.stats64.rx.packets ?? -1;
}

/** Rejected frames by reason, of a client's account. */
function rejections(client: PacketClient): Partial<Record<Name, number>> {
  return Object.fromEntries((client.injected?.rejected ?? []).map(({ reason, count }) => [nameOf(reason), Number(count)]));
}

function nameOf(reason: number): Name {
  return NAMES.find((name) => Reason[name] === reason) ?? 'UNSPECIFIED';
}

function rejected(client: PacketClient): number {
  return Object.values(rejections(client)).reduce((sum, count) => sum + count, 0);
}

it('sends 100,000 frames in as they are', async () => {
  await withAgent({ i0: { mode: TUN } }, (agent, ns) => expectSame(agent, ns, 'i0', false, 100_000));
});

it('sends frames in as they are, whatever the shape of the device', async () => {
  const shapes: Record<string, PartialSpec> = {};
  for (let bits = 1; bits < 16; bits++) {
    const has = (bit: number): boolean => (bits & bit) !== 0;
    const [multiQueue, packetInfo, vnetHeader] = [has(2), has(4), has(8)];
    const mode = has(1) ? TAP : TUN;
    const name = `${has(1) ? 'tap' : 'tun'}${multiQueue ? '-mq' : ''}${packetInfo ? '-pi' : ''}${vnetHeader ? '-vnet' : ''}`;
    shapes[name] = { mode, multiQueue, packetInfo, vnetHeader, queues: multiQueue ? 2 : 1 };
  }
  await withAgent(shapes, async (agent, ns) => {
    const work = Object.entries(shapes).map(([name, { mode }]) => ({ name, tap: mode === TAP }));
    const frames: Record<number, number> = { 4: 0, 6: 0 };
    const before = ipReceived(ns);
    while (work.length > 0) await together(work.splice(0, 5).map(({ name, tap }) => expectSame(agent, ns, name, tap, 2000, frames)));
    // And was told what they are: IP took those of all TUNs.
    const after = ipReceived(ns);
    expect(after.v4 - before.v4).toBe(frames[4]);
    expect(after.v6 - before.v6).toBeGreaterThanOrEqual(frames[6] ?? 0);
    expect(frames[4]).toBeGreaterThan(5000);
  });
});

it('counts each frame that is not taken by why it is not, and takes all others', async () => {
  const tuns = { t0: {}, t1: { packetInfo: true }, t2: { vnetHeader: true }, t3: { packetInfo: true, vnetHeader: true, multiQueue: true } };
  const taps = { e0: {}, e1: { packetInfo: true }, e2: { vnetHeader: true }, e3: { packetInfo: true, vnetHeader: true, multiQueue: true } };
  const specs = [
    ...Object.entries(tuns).map(([name, spec]) => [name, { mode: TUN, ...spec }]),
    ...Object.entries(taps).map(([name, spec]) => [name, { mode: TAP, ...spec }]),
  ];
  const version = (nibble: number): Buffer => Buffer.concat([Buffer.of(nibble << 4), Buffer.alloc(59)]);
  // Header lengths that do not fit are not ours to judge: the kernel takes the frame, and drops it where it reads it.
  const truncated = Buffer.from(ip(4, 20)).fill(0x4f, 0, 1);
  const good = {
    tun: [
      ip(4, 20),
      ip(6, 40),
      truncated,
      Buffer.from(ip(4, 28)).fill(0xff, 2, 4),
      ...[1500, 9000, 65_535].flatMap((length) => [ip(4, length), ip(6, length)]),
    ],
    tap: [14, 15, 60, 1500, 9000, 65_535, 65_549].map(ethernet).concat(Buffer.alloc(14), Buffer.alloc(60, 0xff)),
  };
  const bad: Record<'tun' | 'tap', [Reason, Buffer][]> = {
    tun: [
      [Reason.EMPTY, Buffer.alloc(0)],
      [Reason.TOO_SHORT, ip(4, 1)],
      [Reason.TOO_SHORT, ip(4, 13)],
      [Reason.TOO_SHORT, ip(4, 14)],
      [Reason.TOO_SHORT, ip(4, 19)],
      [Reason.TOO_SHORT, ip(6, 39)],
      [Reason.TOO_LONG, ip(4, 65_536)],
      [Reason.TOO_LONG, Buffer.alloc(100_000, 0x45)],
      ...[0, 1, 2, 3, 5, 7, 8, 15].map((nibble): [Reason, Buffer] => [Reason.BAD_VERSION, version(nibble)]),
      [Reason.BAD_VERSION, Buffer.alloc(13)],
    ],
    tap: [
      [Reason.EMPTY, Buffer.alloc(0)],
      [Reason.TOO_SHORT, ethernet(1)],
      [Reason.TOO_SHORT, ethernet(13)],
      [Reason.TOO_LONG, ethernet(65_550)],
      [Reason.TOO_LONG, Buffer.alloc(100_000)],
    ],
  };
  await withAgent(Object.fromEntries(specs) as Record<string, PartialSpec>, async (agent, ns) => {
    const judge = async (name: string): Promise<void> => {
      const kind = name.startsWith('t') ? 'tun' : 'tap';
      using client = await inject(agent, name);
      await using wire = await Wiretap.listen(ns, name, '-Q', 'in');
      const mixed = chance.shuffled([...good[kind].map((frame): [Reason, Buffer] => [0, frame]), ...bad[kind]]);
      await client.worked(await client.send(mixed.map(([, frame]) => frame)));
      const expected: Record<string, number> = {};
      for (const [reason] of bad[kind]) expected[nameOf(reason)] = (expected[nameOf(reason)] ?? 0) + 1;
      expect({ name, ...rejections(client) }).toEqual({ name, ...expected });
      // The stream is none the worse for it.
      await client.worked(await client.send(good[kind]));
      expect(Number(client.injected?.accepted)).toBe(2 * good[kind].length);
      expect(Number(client.injected?.accepted) + rejected(client)).toBe(mixed.length + good[kind].length);
      await wire.stop(2 * good[kind].length);
      const taken = [...mixed.filter(([reason]) => reason === 0).map(([, frame]) => frame), ...good[kind]];
      expect(new Sum().add(wire.packets()).end()).toEqual(new Sum().add(taken).end());
    };
    for (const names of [Object.keys(tuns), Object.keys(taps)]) await together(names.map(judge));
  });
});

it('takes super-frames with a virtio header that fits, and says so of one that does not', async () => {
  await withAgent({ v0: { mode: TUN, vnetHeader: true } }, async (agent, ns) => {
    using client = await inject(agent, 'v0', { superFrames: true });
    await using wire = await Wiretap.listen(ns, 'v0', '-Q', 'in');
    // TCP over IPv4 with 4,000 bytes, to be cut into pieces of 1,000 (struct virtio_net_hdr: checksum wanted, TCPv4).
    const segment = ip(4, 4040);
    segment[9] = 6;
    segment[32] = 0x50;
    const header = (hex: string): Buffer => Buffer.from(hex, 'hex');
    const fits = Buffer.concat([header('0101 2800 e803 1400 1000'.replaceAll(' ', '')), segment]);
    const plain = Buffer.concat([Buffer.alloc(10), ip(6, 100)]);
    const unknownGso = Buffer.concat([header('007f28000000e8030000'), segment]);
    const beyond = Buffer.concat([header('0101ff7fe803ff7f1000'), segment]);
    const short = Buffer.alloc(10);
    await client.worked(await client.send([fits, Buffer.alloc(0), plain, unknownGso, beyond, short, fits]));
    expect(client.injected?.accepted).toBe(3n);
    expect(rejections(client)).toEqual({ EMPTY: 1, TOO_SHORT: 1, BAD_HEADER: 2 });
    await wire.stop(3);
    expect(wire.packets().map(({ length }) => length)).toEqual([4040, 100, 4040]);
  });
});

it('says that the interface is down, and goes on when it is up again', async () => {
  await withAgent({ i0: { mode: TUN }, e0: { mode: TAP } }, async (agent, ns) => {
    const { interfaces } = agent.client();
    for (const name of ['i0', 'e0']) {
      using client = await inject(agent, name);
      const frames = Array.from({ length: 10 }, (_, number) => frameOf(name === 'e0', number + 1));
      await client.worked(await client.send(frames));
      await interfaces.update(updating(name, { up: false }, ['spec.up']));
      await client.worked(await client.send(frames));
      expect(client.injected?.accepted).toBe(10n);
      expect(rejections(client)).toEqual({ INTERFACE_DOWN: 10 });
      await interfaces.update(updating(name, { up: true }, ['spec.up']));
      await client.worked(await client.send(frames));
      expect(client.injected?.accepted).toBe(20n);
      expect(rejections(client)).toEqual({ INTERFACE_DOWN: 10 });
      expect(received(ns, name)).toBe(20);
    }
  });
});

it('says that the device is gone, and goes on with the one that the agent makes anew', async () => {
  await withAgent({ i0: { mode: TUN } }, async (agent, ns) => {
    using client = await inject(agent, 'i0');
    let sent = 0;
    const send = async (): Promise<void> => {
      const frames = Array.from({ length: 16 }, () => frameOf(false, ++sent));
      await client.worked(await client.send(frames));
    };
    for (let round = 0; round < 3; round++) {
      for (let times = 0; times < 20; times++) await send();
      const before = { gone: rejections(client).NO_DEVICE ?? 0, index: link(ns, 'i0')?.ifindex };
      ns.ip('link del i0');
      await send();
      expect(rejections(client).NO_DEVICE).toBeGreaterThan(before.gone);
      await expect.poll(() => link(ns, 'i0')?.flags.includes('UP') ?? false, { timeout: 20_000, interval: 20 }).toBe(true);
      expect(link(ns, 'i0')?.ifindex).not.toBe(before.index);
      const taken = Number(client.injected?.accepted);
      const acceptedNext = async (): Promise<number> => {
        await send();
        return Number(client.injected?.accepted);
      };
      await expect.poll(acceptedNext, { timeout: 20_000, interval: 20 }).toBeGreaterThan(taken);
      expect(received(ns, 'i0')).toBe(Number(client.injected?.accepted) - taken);
    }
    expect(Number(client.injected?.accepted) + rejected(client)).toBe(sent);
    // A new device may be there before it is up.
    expect(Object.keys(rejections(client)).filter((reason) => !['NO_DEVICE', 'INTERFACE_DOWN'].includes(reason))).toEqual([]);
    expect(client.problems).toEqual([]);
  });
});

it('works a request with 65,537 frames off, and all that was sent before the client half-closed', async () => {
  await withAgent({ i0: { mode: TUN } }, async (agent, ns) => {
    using client = await inject(agent, 'i0');
    const tiny = ip(4, 20);
    await client.worked(await client.send(Array(65_537).fill(tiny)));
    expect(client.injected?.accepted).toBe(65_537n);
    await client.worked(await client.send(Array(65_537).fill(Buffer.of(0x45))));
    expect(rejections(client)).toEqual({ TOO_SHORT: 65_537 });
    // Neither has anything to do with what is asked for: they are counted, and the stream goes on.
    for (let request = 0; request < 20; request++) await client.send(Array(500).fill(tiny));
    client.end();
    await client.until(() => client.ended, 'the end');
    expect(client.injected?.accepted).toBe(75_537n);
    expect(received(ns, 'i0')).toBe(75_537);
  });
});

it('lets a stream that only observes send nothing, and one that consumes send as one that injects', async () => {
  await withAgent({ i0: { mode: TUN } }, async (agent, ns) => {
    using observer = await inject(agent, 'i0', { mode: OBSERVE, filter: 'ip src 198.51.100.7' });
    await observer.worked(await observer.send([ip(4, 100), Buffer.alloc(0)]));
    expect(observer.injected?.accepted).toBe(0n);
    expect(rejections(observer)).toEqual({ NOT_ATTACHED: 2 });
    using consumer = await inject(agent, 'i0', { mode: CONSUME });
    const frame = ip(4, 100);
    await consumer.worked(await consumer.send([frame]));
    expect(received(ns, 'i0')).toBe(1);
    await observer.until(() => observer.received === 1, 'the frame to be observed');
    expect(observer.frames[0]?.data).toEqual(frame);
    expect(observer.frames[0]?.direction).toBe(1);
  });
});

/** A client that sends bytes, whatever they are. */
class RawClient implements Disposable {
  readonly injected: bigint[] = [];
  readonly over: Promise<DecodedStatus | undefined>;
  readonly #client: Client;
  readonly #call;

  constructor(server: string) {
    this.#client = new Client(server, credentials.createInsecure(), {
      'grpc.default_authority': 'taplane',
      'grpc.use_local_subchannel_pool': 1,
    });
    const same = (bytes: Buffer): Buffer => bytes;
    const { path } = PacketServiceService.streamPackets;
    const call = this.#client.makeBidiStreamRequest(path, same, PacketBatch.decode, { deadline: Date.now() + 20_000 });
    this.#call = call;
    call.on('data', ({ injected }: PacketBatch) => {
      if (injected !== undefined) this.injected.push(injected.accepted);
    });
    this.over = new Promise((resolve) => {
      call.on('error', (error: ServiceError) => resolve(decodeStatus(error)));
      call.on('end', () => resolve(undefined));
    });
  }

  send(bytes: Uint8Array): this {
    this.#call.write(Buffer.from(bytes));
    return this;
  }

  request(request: object): this {
    return this.send(StreamPacketsRequest.encode(StreamPacketsRequest.fromPartial(request)).finish());
  }

  end(): this {
    this.#call.end();
    return this;
  }

  [Symbol.dispose](): void {
    this.#call.cancel();
    this.#client.close();
  }
}

it('ends a stream whose request is no message, or out of place, and no other', async () => {
  await withAgent({ i0: { mode: TUN } }, async (agent, ns) => {
    using other = await inject(agent, 'i0');
    const open = { interface: 'interfaces/i0', mode: INJECT };
    const frame = ip(4, 50);
    const good = Buffer.from(StreamPacketsRequest.encode(StreamPacketsRequest.fromPartial({ frames: [frame] })).finish());
    const hex = (text: string): Buffer => Buffer.from(text, 'hex');
    const malformed = {
      'a frame longer than its request': hex('127f4500'),
      'a frame of 2^63 bytes': hex('12ffffffffffffffff7f'),
      'a number that does not end': hex('18ffffffffffffffffffff01'),
      'a tag that does not end': hex('ff'),
      'field 0': hex('0200'),
      'wire type 7': hex('1700'),
      'a cut fixed number': hex('f90100'),
      text: Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    };
    let sent = 0;
    for (const [what, bytes] of Object.entries(malformed)) {
      using raw = new RawClient(agent.server)
        .request({ open })
        .send(good)
        .send(Buffer.concat([good, bytes]))
        .send(good);
      expect({ what, ...(await raw.over) }).toMatchObject({ what, code: 'INVALID_ARGUMENT', reason: 'MALFORMED_REQUEST' });
      // What stood before it was taken, nothing after it.
      sent += 2;
      expect({ what, received: received(ns, 'i0') }).toEqual({ what, received: sent });
      await other.worked(await other.send([frame]));
      sent += 1;
      using first = new RawClient(agent.server).send(bytes);
      expect({ what, ...(await first.over) }).toMatchObject({ what, code: 'INVALID_ARGUMENT' });
    }
    const misplaced: [string, RawClient, string][] = [
      ['no open', new RawClient(agent.server).request({ frames: [frame] }), 'open'],
      ['an empty request', new RawClient(agent.server).send(Buffer.alloc(0)), 'open'],
      ['no request', new RawClient(agent.server).end(), 'open'],
      ['open again', new RawClient(agent.server).request({ open }).request({ open }), 'open'],
      ['no interface', new RawClient(agent.server).request({ open: { mode: INJECT } }), 'open.interface'],
    ];
    for (const [what, raw, field] of misplaced) {
      using client = raw;
      const error = await client.over;
      expect({ what, code: error?.code, fields: error?.fields.map((each) => each.field) }).toEqual({
        what,
        code: 'INVALID_ARGUMENT',
        fields: [field],
      });
    }
    using unknown = new RawClient(agent.server).request({ open: { interface: 'interfaces/none', mode: INJECT } });
    expect(await unknown.over).toMatchObject({ code: 'NOT_FOUND', reason: 'INTERFACE_NOT_FOUND' });
    await other.worked(await other.send([frame]));
    expect(Number(other.injected?.accepted)).toBe(Object.keys(malformed).length + 1);
    expect(other.error).toBeUndefined();
  });
});

it('tells everything that is wrong with an opening at once', async () => {
  await withAgent({ i0: { mode: TUN } }, async (agent) => {
    const refusal = async (open: OpenPartial): Promise<DecodedStatus | undefined> => {
      using client = PacketClient.stream(agent.server, { interface: 'interfaces/i0', ...open });
      await expect(client.ready()).rejects.toThrow();
      return client.error;
    };
    const filter = { filter: 'udp port' };
    expect(await refusal(filter)).toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{ field: 'open.filter' }] });
    const all = await refusal({
      ...filter,
      mode: 9 as StreamOpen_Mode,
      snapLength: 65_550,
      windowBytes: 16_383,
      queueBytes: 65_535,
      maxBatchBytes: 1_048_577,
      direction: 7 as 1,
      ownQueue: true,
      superFrames: true,
      resumeTimeout: { seconds: 61n },
      resumeToken: 'x'.repeat(129),
    });
    expect(all).toMatchObject({ code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELDS' });
    expect(all?.fields.map(({ field }) => field).sort()).toEqual(
      [
        'direction',
        'filter',
        'max_batch_bytes',
        'mode',
        'own_queue',
        'queue_bytes',
        'resume_timeout',
        'resume_token',
        'snap_length',
        'super_frames',
        'window_bytes',
      ].map((field) => `open.${field}`),
    );
    const long = await refusal({ filter: 'ip or '.repeat(400), windowBytes: 67_108_865 });
    expect(long?.fields.map(({ field }) => field)).toEqual(['open.filter', 'open.window_bytes']);
    const observer = await refusal({ mode: OBSERVE, ownQueue: true, superFrames: true });
    expect(new Set(observer?.fields.map(({ field }) => field))).toEqual(new Set(['open.own_queue', 'open.super_frames']));
    // What is at the bound is not beyond it.
    using ready = await inject(agent, 'i0', {
      windowBytes: 16_384,
      queueBytes: 65_536,
      maxBatchBytes: 1024,
      snapLength: 65_549,
      resumeTimeout: { seconds: 60n },
    });
    expect(ready.opened).toMatchObject({ snapLength: 65_549, queueBytes: 65_536, maxBatchBytes: 1024 });
  });
});

it('names the program that holds a device, and has the device when that has ended', async () => {
  await withAgent({ i0: { mode: TUN } }, async (agent, ns) => {
    const script = `
import fcntl, os, struct, sys
fd = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', b'i0', 0x1001))
print('held', flush=True)
sys.stdin.read()
`;
    const hold = async (where: Namespace) => {
      const child = where.spawn(['/usr/bin/python3', '-c', script]);
      await child.until(({ stdout }) => stdout.includes('held'), 'the device to be held', 20_000);
      return child;
    };
    await using holder = await hold(ns);
    // A device of the same name that is no concern of ours.
    await using elsewhere = createNamespace();
    await using _stranger = await hold(elsewhere);
    for (const mode of [CONSUME, INJECT]) {
      using client = PacketClient.stream(agent.server, { interface: 'interfaces/i0', mode });
      await expect(client.ready()).rejects.toThrow();
      expect(client.error).toMatchObject({
        code: 'FAILED_PRECONDITION',
        reason: 'DEVICE_BUSY',
        preconditions: [{ type: 'DEVICE', subject: 'i0' }],
      });
      expect(client.error?.message).toMatch(new RegExp(`held by python3\\S* \\(pid ${holder.pid}\\):`));
    }
    // Watching takes nothing away.
    using observer = await inject(agent, 'i0', { mode: OBSERVE });
    expect(observer.opened).toBeDefined();
    holder.stdin.end();
    await holder.ended;
    using client = await inject(agent, 'i0');
    expect((await client.worked(await client.send([ip(4, 60)]))).accepted).toBe(1n);
  });
});
