// Packet mirrors, seen by a subscriber that knows nothing of Taplane: a TCP socket that speaks the text protocol of NATS, and protoc.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type Condition, Condition_Status, type Interface, ResponderSpec_Kind } from '../../src/gen/taplane/v1/interface.ts';
import { Direction, LinkType, PacketBatch } from '../../src/gen/taplane/v1/packet.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { lanesOf, stopLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import type { Child } from '../harness/process.ts';
import { quiet } from '../harness/traffic.ts';
import { natsBinary } from '../nats/real-nats.ts';
import { creation, type PartialSpec, TUN, updating } from './specs.ts';

const ROOT = join(import.meta.dirname, '..', '..');
/** Ours, and those of Google, which protoc on a user's machine brings along. */
const PROTOS = [join(ROOT, 'proto'), join(ROOT, 'node_modules', 'google-proto-files')];
const DEVICE = 'm0';
const PORT = 4222;
const NODE = ['--node', 'n1.example'];
/** The point of the name has a meaning in NATS. */
const SUBJECT = `taplane.v1.default.n1=2Eexample.packet.${DEVICE}`;
const spec: PartialSpec = {
  mode: TUN,
  up: true,
  addresses: [{ cidr: '10.95.0.1/24' }],
  sysctls: { 'ipv6/disable_ipv6': '1' },
  responders: [{ id: 'echo', kind: ResponderSpec_Kind.ICMP_ECHO }],
  packetMirror: { filter: 'icmp' },
};

/** Prints a line for each message: the subject and the bytes in hexadecimal. */
const SUBSCRIBER = `
import json, socket, sys
port, subject, user, password = sys.argv[1:]
s = socket.create_connection(('127.0.0.1', int(port)))
f = s.makefile('rb')
options = {'verbose': False, 'pedantic': True}
if user: options.update(user=user, **{'pass': password})
s.sendall(('CONNECT %s\\r\\nSUB %s 1\\r\\nPING\\r\\n' % (json.dumps(options), subject)).encode())
for line in f:
    words = line.split()
    if words[0] == b'MSG':
        payload = f.read(int(words[-1]))
        f.read(2)
        print(words[1].decode(), payload.hex(), flush=True)
    elif words[0] == b'PING': s.sendall(b'PONG\\r\\n')
    elif words[0] == b'PONG': print('ready', flush=True)
    elif words[0] == b'-ERR': sys.exit(line.decode())
`;

async function subscribe(ns: Namespace, port = PORT, user = '', password = ''): Promise<Child> {
  const child = ns.spawn(['/usr/bin/python3', '-u', '-c', SUBSCRIBER, String(port), 'taplane.v1.>', user, password]);
  await child.until(({ stdout }) => stdout.includes('ready'), 'the subscription', 20_000);
  return child;
}

interface Message {
  subject: string;
  bytes: Buffer;
  batch: PacketBatch;
}

function messages(subscriber: Child): Message[] {
  // The last line may not be whole yet.
  const lines = subscriber.stdout.split('\n').slice(0, -1);
  return lines.flatMap((line) => {
    const [subject = '', hex] = line.split(' ');
    if (hex === undefined) return [];
    const bytes = Buffer.from(hex, 'hex');
    return [{ subject, bytes, batch: PacketBatch.decode(bytes) }];
  });
}

const frameCount = (all: Message[]): number => all.reduce((sum, { batch }) => sum + batch.frames.length, 0);

async function startNats(ns: Namespace): Promise<Child> {
  const nats = ns.spawn([natsBinary as string, '-a', '127.0.0.1', '-p', String(PORT)]);
  await nats.until(({ stderr }) => stderr.includes('Server is ready'), 'nats-server', 20_000);
  return nats;
}

async function withAgent(args: string[], more: PartialSpec, work: (agent: Agent, ns: Namespace) => Promise<void>): Promise<void> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns, args: [...NODE, ...args] });
  try {
    await agent.client().interfaces.create(creation(DEVICE, { ...spec, ...more }));
    await work(agent, ns);
  } finally {
    // In order, so that a server of its own goes too.
    if (args.includes('embedded')) await agent.stop().catch(() => undefined);
    await stopLanes(agent);
  }
}

const read = (agent: Agent): Promise<Interface> => agent.client().interfaces.get({ name: `interfaces/${DEVICE}` });

const conditionIn = (found: Interface): Condition | undefined => found.status?.conditions.find(({ type }) => type === 'Mirroring');

/** Waits for the condition `Mirroring` to hold, or not to hold with this in its message. */
async function mirroring(agent: Agent, holds: boolean, message = ''): Promise<void> {
  const told = async (): Promise<string> => {
    const condition = conditionIn(await read(agent));
    return condition === undefined ? 'none' : `${condition.status === Condition_Status.TRUE} ${condition.reason} ${condition.message}`;
  };
  const wanted = holds ? /^true Copying / : new RegExp(`^false NotCopying .*${message}`);
  await expect.poll(told, { timeout: 20_000, interval: 100 }).toMatch(wanted);
}

/** So many requests and no more, all at once: then ping waits a second for an answer, and not just twice as long as the slowest took. */
async function ping(ns: Namespace, count: number, ...options: string[]): Promise<void> {
  const { stdout } = await ns.exec(['ping', '-n', '-c', String(count), '-l', String(count), ...options, '10.95.0.9']);
  expect(stdout).toContain(`${count} packets transmitted, ${count} received`);
}

it.skipIf(!natsBinary)('copies packets to whoever subscribes, and protoc alone reads them', async () => {
  await withAgent(['--nats', `nats://127.0.0.1:${PORT}`], {}, async (agent, ns) => {
    await using nats = await startNats(ns);
    await mirroring(agent, true);
    await quiet(ns, DEVICE);
    await using subscriber = await subscribe(ns);
    // Long enough to be cut.
    await ping(ns, 10, '-s', '300');
    await ns.exec(['/usr/bin/python3', '-c', `import socket; socket.socket(2, 2).sendto(b'no', ('10.95.0.9', 9))`]);
    await subscriber.until(() => frameCount(messages(subscriber)) >= 20, '20 frames', 20_000);
    const all = messages(subscriber);
    expect(frameCount(all)).toBe(20);
    let next = 1n;
    for (const { subject, batch } of all) {
      expect(subject).toBe(SUBJECT);
      expect(batch.opened).toMatchObject({ linkType: LinkType.RAW, snapLength: 128 });
      expect(batch.firstSequence).toBe(next);
      next += BigInt(batch.frames.length);
      const { offered = 0n, delivered, filtered = 0n } = batch.totals ?? {};
      expect([delivered, offered - filtered]).toEqual([next - 1n, next - 1n]);
      for (const { data, originalLength } of batch.frames) expect([data.length, data[9], originalLength]).toEqual([128, 1, 328]);
    }
    const directions = all.flatMap(({ batch }) => batch.frames.map(({ direction }) => direction));
    expect(directions.filter((direction) => direction === Direction.OUTBOUND).length).toBe(10);
    expect(directions.filter((direction) => direction === Direction.INBOUND).length).toBe(10);

    const [first] = all as [Message];
    const args = ['--decode', 'taplane.v1.PacketBatch', ...PROTOS.map((folder) => `-I${folder}`), 'taplane/v1/packet.proto'];
    const decoded = spawnSync('protoc', args, { input: first.bytes, encoding: 'utf8' });
    expect([decoded.status, decoded.stderr]).toEqual([0, '']);
    expect(decoded.stdout).toMatch(/^opened \{\n {2}link_type: LINK_TYPE_RAW\n {2}snap_length: 128\n/);
    expect(decoded.stdout.match(/^frames \{/gm)?.length).toBe(first.batch.frames.length);
    expect(decoded.stdout).toContain('original_length: 328');
    // No field that protoc does not know.
    expect(decoded.stdout).not.toMatch(/^\s*\d+[: ]/m);

    const status = (await read(agent)).status?.packetMirror;
    expect(status).toEqual({ publishedFrames: 20n, publishedBatches: BigInt(all.length), droppedFrames: 0n, active: true, reason: '' });

    // What is no more asked for stops.
    await agent.client().interfaces.update(updating(DEVICE, {}, ['spec.packet_mirror']));
    await expect.poll(async () => (await agent.client().node.getNode()).lanes[0]?.streams, { timeout: 15_000 }).toBe(0);
    await ping(ns, 10);
    const found = await read(agent);
    expect([found.status?.packetMirror, conditionIn(found)]).toEqual([undefined, undefined]);
    // What would have come has had the time of what is sent through the same server meanwhile.
    await agent.client().interfaces.update(updating(DEVICE, { packetMirror: { filter: 'icmp', snapLength: 64 } }, ['spec.packet_mirror']));
    await mirroring(agent, true);
    await ping(ns, 1);
    await subscriber.until(() => frameCount(messages(subscriber)) >= 22, 'the frames of the new mirror', 20_000);
    expect(frameCount(messages(subscriber))).toBe(22);
    expect(messages(subscriber).at(-1)?.batch.opened?.snapLength).toBe(64);
    expect(nats.isRunning).toBe(true);
  });
});

it.skipIf(!natsBinary)(
  'counts what NATS cannot take while it is away, goes on when it is back, and costs the interface nothing',
  async () => {
    await withAgent(['--nats', `nats://127.0.0.1:${PORT}`], {}, async (agent, ns) => {
      const [lane] = await (async () => {
        await using nats = await startNats(ns);
        await mirroring(agent, true);
        await quiet(ns, DEVICE);
        await using subscriber = await subscribe(ns);
        await ping(ns, 10);
        await subscriber.until(() => frameCount(messages(subscriber)) >= 20, '20 frames', 20_000);
        nats.kill('SIGKILL');
        await nats.ended;
        return lanesOf(agent);
      })();
      await ping(ns, 50);
      await mirroring(agent, false, 'NATS is not connected');
      const account = async (): Promise<number[]> => {
        const { publishedFrames = -1n, droppedFrames = -1n } = (await read(agent)).status?.packetMirror ?? {};
        return [Number(publishedFrames), Number(droppedFrames)];
      };
      await expect.poll(async () => (await account()).reduce((sum, count) => sum + count), { timeout: 15_000 }).toBe(120);
      const [, dropped = 0] = await account();
      // Some may have gone to a server whose death was not known yet.
      expect(dropped).toBeGreaterThan(50);

      await using again = await startNats(ns);
      await using subscriber = await subscribe(ns);
      const more = async (): Promise<number> => {
        await ping(ns, 1);
        return frameCount(messages(subscriber));
      };
      await expect.poll(more, { timeout: 30_000, interval: 200 }).toBeGreaterThan(0);
      await mirroring(agent, true);
      const before = frameCount(messages(subscriber));
      await ping(ns, 10);
      await subscriber.until(() => frameCount(messages(subscriber)) >= before + 20, '20 more frames', 20_000);
      // Numbers have gaps, but the law holds.
      for (const { batch } of messages(subscriber)) {
        const { offered = 0n, delivered = 0n, filtered = 0n } = batch.totals ?? {};
        expect(offered).toBe(delivered + filtered);
      }
      expect(again.isRunning).toBe(true);
      expect(await lanesOf(agent)).toEqual([lane]);
    });
  },
);

it('says why it does not copy: a filter that does not compile, and NATS that is off', async () => {
  await withAgent(['--nats', 'off'], {}, async (agent, ns) => {
    await mirroring(agent, false, 'NATS is off; start the agent with --nats');
    expect((await read(agent)).status?.packetMirror).toMatchObject({ active: false, publishedFrames: 0n });
    await expect
      .poll(() => ns.exec(['ping', '-n', '-c', '1', '-W', '0.3', '10.95.0.9']).then(({ code }) => code), { timeout: 15_000 })
      .toBe(0);
  });
  await withAgent(['--nats', `nats://127.0.0.1:${PORT}`], { packetMirror: { filter: 'icmp and nonsense' } }, async (agent) => {
    await mirroring(agent, false, 'nonsense');
    await agent.client().interfaces.update(updating(DEVICE, { packetMirror: { filter: 'icmp' } }, ['spec.packet_mirror']));
    await mirroring(agent, true);
  });
});

it.skipIf(!natsBinary)('copies to the server that the agent brings along, which wants its password', async () => {
  await withAgent(['--nats', 'embedded'], {}, async (agent, ns) => {
    await mirroring(agent, true);
    await expect
      .poll(async () => (await agent.client().node.getNode()).nats?.server, { timeout: 20_000 })
      .toMatch(/^nats:\/\/127\.0\.0\.1:\d+$/);
    const port = Number((await agent.client().node.getNode()).nats?.server.split(':').at(-1));
    const configuration = readFileSync(join(agent.stateDir, 'nats', 'server.conf'), 'utf8');
    const password = /pass(?:word)?: *"?([\w-]+)"?/.exec(configuration)?.[1] ?? '';
    await expect(subscribe(ns, port)).rejects.toThrow('Authorization Violation');
    await quiet(ns, DEVICE);
    await using subscriber = await subscribe(ns, port, 'taplane', password);
    await ping(ns, 5);
    await subscriber.until(() => frameCount(messages(subscriber)) >= 10, '10 frames', 20_000);
    expect(messages(subscriber)[0]?.subject).toBe(SUBJECT);
  });
});
