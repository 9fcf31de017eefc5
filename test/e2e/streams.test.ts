// Streams over the death of those who carry them: agents, lanes, connections, devices.

import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { InterfaceSpec_Carrier } from '../../src/gen/taplane/v1/interface.ts';
import { Loss_Reason } from '../../src/gen/taplane/v1/packet.ts';
import { StreamOpen_Mode } from '../../src/gen/taplane/v1/packet_service.ts';
import type { Agent } from '../harness/agent.ts';
import { bound } from '../harness/bound.ts';
import { watchKernel } from '../harness/ip-monitor.ts';
import { lanesOf, lostCarrier } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { PacketClient } from '../harness/packet-stream.ts';
import { runSync } from '../harness/process.ts';
import { shareAgent } from '../harness/shared-agent.ts';
import { link } from '../harness/truth.ts';
import { creation, deletion, type PartialSpec, TUN } from './specs.ts';

const spec: PartialSpec = { mode: TUN, up: true, addresses: [{ cidr: '10.80.0.1/24' }] };
const IFACE = 'interfaces/s0';
const ROUNDS = bound(50, 15);

async function withStream(more: PartialSpec, work: (agent: Agent, ns: Namespace) => Promise<void>): Promise<void> {
  await using shared = await shareAgent();
  const { agent, ns } = shared;
  await agent.client().interfaces.create(creation('s0', { ...spec, ...more }));
  await work(agent, ns);
}

/** Sends numbered UDP datagrams to an address behind the interface; the numbers can be read from what comes out. */
async function sendNumbered(ns: Namespace, count: number, perSecond: number, first = 0): Promise<void> {
  const script = `
import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
begun = time.time()
for n in range(${count}):
    s.sendto(struct.pack('>I', ${first} + n) + bytes(100), ('10.80.0.9', 9))
    ahead = begun + (n + 1) / ${perSecond} - time.time()
    if ahead > 0: time.sleep(ahead)
`;
  const sent = await ns.exec(['/usr/bin/python3', '-c', script]);
  expect(sent.stderr).toBe('');
}

/** Numbers of the datagrams among frames: UDP behind an IPv4 header of 20 bytes. */
const numbers = (client: PacketClient): number[] =>
  client.frames.filter(({ data }) => data.length === 132 && data[9] === 17).map(({ data }) => data.readUInt32BE(28));

it('goes on by token with another agent after kill -9, and with a window loses nothing', async () => {
  await withStream({}, async (agent, ns) => {
    const open = { interface: IFACE, filter: 'udp port 9', windowBytes: 1024 * 1024, resumeTimeout: { seconds: 30n } };
    const total = 3000;
    const sending = sendNumbered(ns, total, 500);
    let client = await PacketClient.stream(agent.server, open).ready();
    // What was sent before the stream was there is not its.
    const seen: number[] = [];
    const gather = (): void => void seen.push(...numbers(client));
    const acknowledging = setInterval(() => client.acknowledge(), 20);
    try {
      for (let kill = 0; kill < 5; kill++) {
        await sleep(700);
        await agent.kill9();
        await client.until(() => client.error !== undefined, 'the end of the connection');
        expect(client.problems).toEqual([]);
        gather();
        await agent.restart();
        const before = client;
        client = await PacketClient.stream(agent.server, open, { from: before }).ready();
        before[Symbol.dispose]();
        expect(client.opened?.resumed).toBe(true);
      }
      await sending;
      await client.until(() => (numbers(client).at(-1) ?? seen.at(-1)) === total - 1, 'the last datagram');
      gather();
    } finally {
      clearInterval(acknowledging);
      client[Symbol.dispose]();
    }
    const first = seen[0] ?? total;
    expect(first).toBeLessThan(total / 2);
    expect(seen).toEqual(Array.from({ length: total - first }, (_, index) => first + index));
    expect(client.lostFrames).toBe(0);
    expect(client.problems).toEqual([]);
  });
});

it('without a window tells every frame that a dying agent swallowed', async () => {
  // What the device has no room for is not in the account.
  await withStream({ txQueueLength: 10_000 }, async (agent, ns) => {
    const open = { interface: IFACE, filter: 'udp port 9', resumeTimeout: { seconds: 30n }, maxBatchBytes: 1024 };
    const first = await PacketClient.stream(agent.server, open).ready();
    // A client that does not read: the way to it fills up, and is lost with the agent.
    await sendNumbered(ns, 50, 5000);
    await first.until(() => first.received >= 50, '50 frames');
    first.pause();
    await sendNumbered(ns, 4000, 4000, 50);
    await agent.kill9();
    first.resume();
    await first.until(() => first.error !== undefined, 'the end of the connection');
    await agent.restart();
    using second = await PacketClient.stream(agent.server, open, { from: first }).ready();
    first[Symbol.dispose]();
    await sendNumbered(ns, 10, 1000, 4050);
    await second.until(() => numbers(second).at(-1) === 4059, 'the last datagram');
    expect(second.lost.get(Loss_Reason.IN_TRANSIT) ?? 0).toBeGreaterThan(0);
    expect(first.received + second.received + second.lostFrames).toBe(4060);
    expect(Number(second.totals?.offered) - Number(second.totals?.filtered)).toBe(4060);
    expect([...first.problems, ...second.problems]).toEqual([]);
  });
});

it('does not go on with a token that is unknown, of another interface or mode, or whose time is over, and says so', async () => {
  await withStream({}, async (agent) => {
    await agent.client().interfaces.create(creation('s1', { mode: TUN, up: true }));
    const open = { interface: IFACE, resumeTimeout: { seconds: 1n } };
    const first = await PacketClient.stream(agent.server, open).ready();
    expect(first.opened?.resumeToken).not.toBe('');
    using other = PacketClient.stream(agent.server, { ...open, interface: 'interfaces/s1' }, { from: first });
    await expect(other.ready()).rejects.toThrow('OUT_OF_RANGE RESUME_TOKEN_UNKNOWN');
    using more = PacketClient.stream(agent.server, { ...open, mode: StreamOpen_Mode.INJECT }, { from: first });
    await expect(more.ready()).rejects.toThrow(/INVALID_ARGUMENT INVALID_FIELDS.*mode/);
    first.nextSequence = 99;
    using beyond = PacketClient.stream(agent.server, open, { from: first });
    await expect(beyond.ready()).rejects.toThrow('OUT_OF_RANGE RESUME_SEQUENCE_UNKNOWN');
    first.nextSequence = 1;
    first[Symbol.dispose]();
    await sleep(2500);
    using late = PacketClient.stream(agent.server, open, { from: first });
    await expect(late.ready()).rejects.toThrow('OUT_OF_RANGE RESUME_TOKEN_UNKNOWN');
  });
});

it('takes a stream over from a connection that has not noticed that its client is gone', async () => {
  await withStream({}, async (agent, ns) => {
    const open = { interface: IFACE, filter: 'udp port 9', resumeTimeout: { seconds: 10n } };
    using first = await PacketClient.stream(agent.server, open).ready();
    using second = await PacketClient.stream(agent.server, open, { from: first }).ready();
    await first.until(() => first.error !== undefined, 'the end of the first');
    expect(first.error?.code).toBe('UNAVAILABLE');
    await sendNumbered(ns, 5, 1000);
    await second.until(() => second.received === 5, 'five frames');
    expect(first.received).toBe(0);
  });
});

it('ends with UNAVAILABLE when its lane dies, and can be opened again at once', async () => {
  await withStream({}, async (agent, ns) => {
    for (let round = 0; round < 5; round++) {
      using client = await PacketClient.stream(agent.server, { interface: IFACE, filter: 'udp port 9' }).ready();
      const [pid = 0] = await lanesOf(agent);
      process.kill(pid, 'SIGKILL');
      await client.until(() => client.error !== undefined, 'the end');
      expect(client.error).toMatchObject({ code: 'UNAVAILABLE', reason: 'LANE_UNAVAILABLE' });
      using again = await PacketClient.stream(agent.server, { interface: IFACE, filter: 'udp port 9' }).ready();
      await sendNumbered(ns, 3, 1000);
      await again.until(() => again.received === 3, 'frames of the new lane');
    }
  });
});

it('outlives its device: the agent makes it anew, and the stream goes on with it', async () => {
  await withStream({}, async (agent, ns) => {
    using client = await PacketClient.stream(agent.server, { interface: IFACE, filter: 'udp port 9' }).ready();
    using watcher = await PacketClient.stream(agent.server, {
      interface: IFACE,
      mode: StreamOpen_Mode.OBSERVE,
      filter: 'udp port 9',
    }).ready();
    for (let round = 0; round < 5; round++) {
      const before = link(ns, 's0')?.ifindex;
      ns.ip('link del s0');
      await expect.poll(() => link(ns, 's0')?.flags.includes('LOWER_UP'), { timeout: 15_000 }).toBe(true);
      expect(link(ns, 's0')?.ifindex).not.toBe(before);
      const wanted = client.received + 1;
      const watched = watcher.received + 1;
      // The kernel takes up to a second to put the queueing discipline in place after the carrier came.
      const bothSee = async (): Promise<boolean> => {
        await sendNumbered(ns, 1, 1000);
        return client.received >= wanted && watcher.received >= watched;
      };
      await expect.poll(bothSee, { timeout: 15_000, interval: 100 }).toBe(true);
    }
    expect([...client.problems, ...watcher.problems]).toEqual([]);
  });
});

it.each(['made anew under its name', 'left by the device'])('finds the device again when the namespace was %s', async (how) => {
  await using other = createNamespace();
  await withStream({}, async (agent) => {
    const inside: PartialSpec = { ...spec, carrier: InterfaceSpec_Carrier.KEEP, networkNamespace: other.name };
    await agent.client().interfaces.create(creation('n0', inside));
    using client = await PacketClient.stream(agent.server, { interface: 'interfaces/n0', filter: 'udp port 9' }).ready();
    const observe = { interface: 'interfaces/n0', mode: StreamOpen_Mode.OBSERVE, filter: 'udp port 9' };
    using watcher = await PacketClient.stream(agent.server, observe).ready();
    await using away = createNamespace();
    if (how === 'left by the device') other.ip(`link set n0 netns ${away.name}`);
    else {
      // The descriptors of the lane keep the old namespace, and the device in it, alive.
      runSync('ip', 'netns', 'delete', other.name);
      runSync('ip', 'netns', 'add', other.name);
    }
    const carries = (): boolean => link(other, 'n0')?.flags.includes('LOWER_UP') ?? false;
    await expect.poll(carries, { timeout: 60_000 }).toBe(true);
    const bothSee = async (): Promise<boolean> => {
      await sendNumbered(other, 1, 1000);
      return client.received > 0 && watcher.received > 0;
    };
    await expect.poll(bothSee, { timeout: 60_000, interval: 200 }).toBe(true);
  });
});

it('ends with NOT_FOUND when its interface is deleted', async () => {
  await withStream({}, async (agent) => {
    using client = await PacketClient.stream(agent.server, { interface: IFACE }).ready();
    await agent.client().interfaces.delete(deletion('s0'));
    await client.until(() => client.error !== undefined, 'the end');
    expect(client.error).toMatchObject({ code: 'NOT_FOUND', reason: 'INTERFACE_DELETED' });
  });
});

it('shows no change of the carrier while our own consumers come and go, again and again, on one queue and on several', async () => {
  const { KEEP } = InterfaceSpec_Carrier;
  const shapes: [PartialSpec, number][] = [
    [{}, ROUNDS],
    [{ multiQueue: true }, ROUNDS],
    [{ multiQueue: true, queues: 3, vnetHeader: true }, bound(10, 5)],
  ];
  for (const [more, rounds] of shapes) {
    await withStream({ carrier: KEEP, ...more }, async (agent, ns) => {
      await expect.poll(() => link(ns, 's0')?.flags.includes('LOWER_UP'), { timeout: 15_000 }).toBe(true);
      await sleep(1200);
      await using watch = await watchKernel(ns);
      for (let round = 0; round < rounds; round++) {
        using client = await PacketClient.stream(agent.server, { interface: IFACE, filter: 'udp port 9' }).ready();
        await sendNumbered(ns, 1, 1000, round);
        await client.until(() => client.received > 0, `the frame of round ${round}`);
        // What came while nobody read is not shown to who comes later.
        expect(numbers(client)).toEqual([round]);
        client.end();
        await client.until(() => client.ended, 'the end');
        await sendNumbered(ns, 1, 1000, 1_000_000);
      }
      expect(lostCarrier(await watch.settle(), 's0')).toEqual([]);
    });
  }
});

it('leaves nothing behind: no stream, no file descriptor, no memory, over 200 openings of every kind', async () => {
  await withStream({}, async (agent) => {
    const open = async (mode: StreamOpen_Mode, how: 'end' | 'cancel'): Promise<void> => {
      using client = await PacketClient.stream(agent.server, { interface: IFACE, mode, filter: 'tcp' }).ready();
      if (how === 'cancel') return;
      client.end();
      await client.until(() => client.ended, 'the end');
    };
    const modes = [StreamOpen_Mode.CONSUME, StreamOpen_Mode.OBSERVE, StreamOpen_Mode.INJECT];
    const all = async (rounds: number): Promise<void> => {
      for (let round = 0; round < rounds; round++)
        for (const mode of modes) for (const how of ['end', 'cancel'] as const) await open(mode, how);
    };
    // One client: each is a connection that the agent holds.
    const { node } = agent.client();
    const idle = async (): Promise<number> => (await node.getNode()).lanes[0]?.streams ?? -1;
    await all(3);
    await expect.poll(idle, { timeout: 10_000 }).toBe(0);
    const [pid = 0] = await lanesOf(agent);
    const count = (): number => readdirSync(`/proc/${pid}/fd`).length;
    const before = { lane: count(), agent: agent.fds() };
    await all(34);
    await expect.poll(idle, { timeout: 10_000 }).toBe(0);
    await expect.poll(count, { timeout: 10_000 }).toBeLessThanOrEqual(before.lane + 2);
    await expect.poll(() => agent.fds(), { timeout: 10_000 }).toBeLessThanOrEqual(before.agent + 4);
    expect(existsSync(`/proc/${pid}`)).toBe(true);
  });
});
