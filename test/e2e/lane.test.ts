// The data-plane process: it keeps the carrier of interfaces that ask for it, over the death of agents, consumers and itself.

import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { InterfaceSpec_Carrier, ResponderSpec_Kind } from '../../src/gen/taplane/v1/interface.ts';
import type { TaplaneClient } from '../../src/rpc/client.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { bound } from '../harness/bound.ts';
import { type KernelEvent, watchKernel } from '../harness/ip-monitor.ts';
import { stopLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { percentile, summary } from '../harness/percentile.ts';
import { untilAnswers } from '../harness/ping.ts';
import { link } from '../harness/truth.ts';
import { creation, deletion, type PartialSpec, TAP, TUN, updating } from './specs.ts';

const { KEEP, FOLLOW } = InterfaceSpec_Carrier;
const carrier = (ns: Namespace, name: string): boolean => link(ns, name)?.flags.includes('LOWER_UP') ?? false;
const clients = new WeakMap<Agent, { pid: number; client: TaplaneClient }>();
/** One connection for each life of an agent, however often we ask. */
function clientOf(agent: Agent): TaplaneClient {
  const known = clients.get(agent);
  if (known?.pid === agent.pid) return known.client;
  const client = agent.client();
  clients.set(agent, { pid: agent.pid, client });
  return client;
}
const lanePid = async (agent: Agent): Promise<number> => (await clientOf(agent).node.getNode()).lanes[0]?.pid ?? 0;
const kept = async (agent: Agent, name: string) =>
  (await clientOf(agent).interfaces.get({ name: `interfaces/${name}` })).status?.conditions.find(({ type }) => type === 'CarrierKept')
    ?.reason;

/** Ends the lane with its agent, however the test ends: nothing else would, which is the point of it. */
async function withKept(
  spec: { [name: string]: PartialSpec },
  work: (agent: Agent, ns: Namespace) => Promise<void>,
  args: string[] = [],
): Promise<void> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns, args });
  try {
    for (const [name, item] of Object.entries(spec))
      await agent.client().interfaces.create(creation(name, { up: true, carrier: KEEP, ...item }));
    for (const name of Object.keys(spec)) await expect.poll(() => carrier(ns, name), { timeout: 20_000, interval: 20 }).toBe(true);
    if (Object.keys(spec).length > 0) await expect.poll(() => lanePid(agent), { timeout: 20_000, interval: 20 }).toBeGreaterThan(1);
    await work(agent, ns);
  } finally {
    await stopLanes(agent);
  }
}

function carrierChanges(events: KernelEvent[], device: string): string[] {
  return events
    .filter((event) => event.kind === 'link' && event.device === device && !event.text.includes('LOWER_UP'))
    .map(({ text }) => text);
}

it('gives carrier to interfaces that keep it, says so, and takes it back when they follow', async () => {
  await withKept(
    { k0: { mode: TUN }, k1: { mode: TAP, multiQueue: true }, k2: { mode: TUN, packetInfo: true, vnetHeader: true } },
    async (agent, ns) => {
      const { interfaces } = agent.client();
      const pid = await lanePid(agent);
      expect(pid).toBeGreaterThan(1);
      for (const name of ['k0', 'k1', 'k2']) await expect.poll(() => kept(agent, name), { timeout: 20_000 }).toBe('Parked');
      expect((await interfaces.get({ name: 'interfaces/k0' })).status?.holders).toMatchObject([{ pid, queues: 1 }]);
      await interfaces.update(updating('k0', { carrier: FOLLOW }, ['spec.carrier']));
      await expect.poll(() => carrier(ns, 'k0'), { timeout: 20_000 }).toBe(false);
      expect(carrier(ns, 'k1')).toBe(true);
      // Deleted by hand and made anew by the agent: parked again.
      ns.ip('link del k1');
      await expect.poll(() => carrier(ns, 'k1'), { timeout: 20_000 }).toBe(true);
      // With the last one the lane ends.
      for (const name of ['k0', 'k1', 'k2']) await interfaces.delete(deletion(name));
      await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 20_000 }).toBe(false);
    },
  );
});

it('keeps the carrier while agents die and come, 8 times, and is taken over by each', async () => {
  await withKept({ k0: { mode: TAP, addresses: [{ cidr: '10.60.0.1/24' }] } }, async (agent, ns) => {
    const pid = await lanePid(agent);
    await using watch = await watchKernel(ns);
    for (let round = 0; round < 8; round++) {
      await agent.kill9();
      expect(carrier(ns, 'k0')).toBe(true);
      await agent.restart();
      await expect.poll(() => lanePid(agent), { timeout: 20_000, interval: 20 }).toBe(pid);
    }
    expect(carrierChanges(await watch.settle(), 'k0')).toEqual([]);
  });
});

it('shows no change of the carrier while a consumer comes and goes, 50 times, and leaves every frame to it', async () => {
  await withKept({ k0: { mode: TUN, multiQueue: true, addresses: [{ cidr: '10.60.0.1/24' }] } }, async (_agent, ns) => {
    await using watch = await watchKernel(ns);
    const script = `
import fcntl, os, struct
for round in range(50):
    fd = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', b'k0', 0x1101))
    os.system('ping -c 1 -W 0.01 10.60.0.%d > /dev/null' % (round + 2))
    os.set_blocking(fd, False)
    frames = []
    try:
        while True: frames.append(os.read(fd, 2048))
    except BlockingIOError: pass
    print(sum(1 for frame in frames if frame[0] >> 4 == 4), flush=True)
    os.close(fd)
`;
    const consumer = await ns.exec(['/usr/bin/python3', '-c', script]);
    expect(consumer.stderr).toBe('');
    expect(consumer.stdout.trim().split('\n')).toEqual(Array(50).fill('1'));
    expect(carrierChanges(await watch.settle(), 'k0')).toEqual([]);
  });
});

const kills = Number(process.env['TAPLANE_LANE_KILLS'] ?? 8);

it('comes back soon when it is killed, with all it held, while packets pass', { timeout: 60_000 + 3000 * kills }, async () => {
  const responders = [{ id: 'echo', kind: ResponderSpec_Kind.ICMP_ECHO }];
  await withKept({ k0: { mode: TUN, responders, addresses: [{ cidr: '10.60.0.1/24' }] }, k1: { mode: TAP } }, async (agent, ns) => {
    const delays: number[] = [];
    const names = ['k0', 'k1'];
    const devices = () => names.map((name) => link(ns, name)?.ifindex);
    const holds = async (): Promise<boolean> =>
      names.every((name) => carrier(ns, name)) && ((await clientOf(agent).node.getNode()).lanes[0]?.attachments ?? 0) === 3;
    await untilAnswers(ns, '10.60.0.9');
    await using watch = await watchKernel(ns);
    await using ping = ns.spawn(['ping', '-n', '-i', '0.01', '10.60.0.9']);
    const answers = (): number => ping.stdout.match(/bytes from/g)?.length ?? 0;
    const before = { devices: devices(), fds: agent.fds() };
    let rssHalfway = 0;
    for (let round = 0; round < kills; round++) {
      // The heap of a young process grows until it has seen its usual work.
      if (round === Math.floor(kills / 2)) rssHalfway = agent.rss();
      const pid = await lanePid(agent);
      const begun = performance.now();
      process.kill(pid, 'SIGKILL');
      await expect
        .poll(async () => ![0, pid].includes(await lanePid(agent)) && (await holds()), { timeout: 20_000, interval: 10 })
        .toBe(true);
      delays.push(performance.now() - begun);
      if (round % 5 !== 4) continue;
      // The kernel takes up to a second to send again after the carrier came.
      const seen = answers();
      await ping.until(() => answers() > seen, 'an answer of the new lane', 20_000);
    }
    const grown = { fds: agent.fds() - before.fds, rss: agent.rss() - rssHalfway };
    console.log(
      `lane back after kill -9: ${summary(delays)}; ${answers()} pings answered meanwhile; agent has ${grown.fds} fds more, ` +
        `${(grown.rss / 2 ** 20).toFixed(1)} MiB more than halfway`,
    );
    expect(percentile(delays, 99)).toBeLessThanOrEqual(bound(1000, 10_000));
    expect(devices()).toEqual(before.devices);
    expect((await watch.settle()).filter(({ kind, deleted }) => kind === 'link' && deleted)).toEqual([]);
    expect(Math.abs(grown.fds)).toBeLessThanOrEqual(4);
    expect(grown.rss).toBeLessThan(30 * 2 ** 20);
  });
});

it('is replaced when it hangs', async () => {
  const responders = [{ id: 'echo', kind: ResponderSpec_Kind.ICMP_ECHO }];
  await withKept({ k0: { mode: TUN, responders, addresses: [{ cidr: '10.60.0.1/24' }] } }, async (agent, ns) => {
    await untilAnswers(ns, '10.60.0.9');
    const pid = await lanePid(agent);
    const index = link(ns, 'k0')?.ifindex;
    process.kill(pid, 'SIGSTOP');
    const begun = performance.now();
    await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 20_000, interval: 50 }).toBe(false);
    await untilAnswers(ns, '10.60.0.9');
    console.log(`lane back after SIGSTOP: ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    expect(performance.now() - begun).toBeLessThanOrEqual(bound(15_000, 30_000));
    expect(await lanePid(agent)).not.toBe(pid);
    expect(link(ns, 'k0')?.ifindex).toBe(index);
  });
});

it('is replaced when it hangs while there is no agent', async () => {
  await withKept({ k0: { mode: TUN } }, async (agent, ns) => {
    const pid = await lanePid(agent);
    process.kill(pid, 'SIGSTOP');
    await agent.kill9();
    await agent.restart();
    await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 40_000, interval: 50 }).toBe(false);
    await expect.poll(() => carrier(ns, 'k0'), { timeout: 20_000 }).toBe(true);
    await expect.poll(() => lanePid(agent), { timeout: 20_000 }).not.toBe(0);
    expect(await lanePid(agent)).not.toBe(pid);
  });
});

it('shares its work with a second one, and takes it all when it is alone again', async () => {
  await withKept(
    {},
    async (agent, ns) => {
      const names: string[] = [];
      const lanes = async () => (await clientOf(agent).node.getNode()).lanes;
      // Which lane it is follows from the uid, which is drawn: until both have some.
      while (names.length < 8 || (names.length < 40 && (await lanes()).filter(({ attachments }) => attachments > 0).length < 2)) {
        const name = `m${names.length}`;
        names.push(name);
        await agent.client().interfaces.create(creation(name, { mode: TUN, up: true, carrier: KEEP }));
        await expect.poll(() => carrier(ns, name), { timeout: 20_000, interval: 20 }).toBe(true);
      }
      await expect.poll(async () => (await lanes()).map(({ name }) => name), { timeout: 20_000 }).toEqual(['lane-0', 'lane-1']);
      const both = await lanes();
      expect(new Set(both.map(({ pid }) => pid)).size).toBe(2);
      for (const { pid, attachments } of both) {
        expect(existsSync(`/proc/${pid}`)).toBe(true);
        expect(attachments).toBeGreaterThan(0);
      }
      expect(both.reduce((sum, { attachments }) => sum + attachments, 0)).toBe(names.length);
      const holders = async (client: TaplaneClient): Promise<(number | undefined)[]> =>
        Promise.all(names.map(async (name) => (await client.interfaces.get({ name: `interfaces/${name}` })).status?.holders[0]?.pid));
      expect(new Set(await holders(agent.client()))).toEqual(new Set(both.map(({ pid }) => pid)));
      // The same with one of them killed: the other is not touched.
      const [first, second] = both.map(({ pid }) => pid) as [number, number];
      process.kill(second, 'SIGKILL');
      await expect
        .poll(async () => ![0, second].includes((await lanes())[1]?.pid ?? 0) && names.every((name) => carrier(ns, name)), {
          timeout: 20_000,
        })
        .toBe(true);
      const third = (await lanes())[1]?.pid ?? 0;
      expect((await lanes())[0]?.pid).toBe(first);

      const devices = () => names.map((name) => link(ns, name)?.ifindex);
      const before = devices();
      await agent.stop();
      await using alone = await startAgent({ namespace: ns, args: ['--state-dir', agent.stateDir, '--runtime-dir', agent.runtimeDir] });
      await expect.poll(() => existsSync(`/proc/${third}`), { timeout: 20_000 }).toBe(false);
      await expect.poll(() => holders(alone.client()), { timeout: 20_000, interval: 200 }).toEqual(names.map(() => first));
      expect(names.filter((name) => !carrier(ns, name))).toEqual([]);
      expect((await alone.client().node.getNode()).lanes).toMatchObject([{ name: 'lane-0', pid: first, attachments: names.length }]);
      expect(devices()).toEqual(before);
    },
    ['--lanes', '2'],
  );
});

it('is told off by an agent that wants nothing of what an agent before it left behind', async () => {
  await withKept({ k0: { mode: TUN } }, async (agent, ns) => {
    const pid = await lanePid(agent);
    await agent.kill9();
    expect(carrier(ns, 'k0')).toBe(true);
    // The same runtime directory, another state: as when the change that ended the keeping was made just before the kill.
    await using other = await startAgent({ namespace: ns, args: ['--runtime-dir', agent.runtimeDir] });
    await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 20_000 }).toBe(false);
    expect(carrier(ns, 'k0')).toBe(false);
    expect(await lanePid(other)).toBe(0);
    await other.stop();
    await agent.restart();
    await expect.poll(() => carrier(ns, 'k0'), { timeout: 20_000 }).toBe(true);
  });
});

it('ends by itself when its socket is gone, since no agent could ever take it over', async () => {
  await withKept({ k9: { mode: TUN } }, async (agent, ns) => {
    const pid = await lanePid(agent);
    await agent.kill9();
    for (const name of readdirSync(agent.runtimeDir)) if (name.startsWith('lane-')) rmSync(join(agent.runtimeDir, name));
    await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 30_000 }).toBe(false);
    expect(carrier(ns, 'k9')).toBe(false);
  });
});
