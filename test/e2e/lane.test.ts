// The data-plane process: it keeps the carrier of interfaces that ask for it, over the death of agents, consumers and itself.

import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { InterfaceSpec_Carrier } from '../../src/gen/taplane/v1/interface.ts';
import type { TaplaneClient } from '../../src/rpc/client.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { type KernelEvent, watchKernel } from '../harness/ip-monitor.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { percentile, summary } from '../harness/percentile.ts';
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
async function withKept(spec: { [name: string]: PartialSpec }, work: (agent: Agent, ns: Namespace) => Promise<void>): Promise<void> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const pids = new Set<number>();
  try {
    for (const [name, item] of Object.entries(spec))
      await agent.client().interfaces.create(creation(name, { up: true, carrier: KEEP, ...item }));
    for (const name of Object.keys(spec)) await expect.poll(() => carrier(ns, name), { timeout: 5000, interval: 20 }).toBe(true);
    await expect.poll(() => lanePid(agent), { timeout: 5000, interval: 20 }).toBeGreaterThan(1);
    pids.add(await lanePid(agent));
    await work(agent, ns);
  } finally {
    pids.add(await lanePid(agent).catch(() => 0));
    for (const pid of pids) if (pid > 1 && existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
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
      for (const name of ['k0', 'k1', 'k2']) await expect.poll(() => kept(agent, name), { timeout: 3000 }).toBe('Parked');
      expect((await interfaces.get({ name: 'interfaces/k0' })).status?.holders).toMatchObject([{ pid, queues: 1 }]);
      await interfaces.update(updating('k0', { carrier: FOLLOW }, ['spec.carrier']));
      await expect.poll(() => carrier(ns, 'k0'), { timeout: 3000 }).toBe(false);
      expect(carrier(ns, 'k1')).toBe(true);
      // Deleted by hand and made anew by the agent: parked again.
      ns.ip('link del k1');
      await expect.poll(() => carrier(ns, 'k1'), { timeout: 5000 }).toBe(true);
      // With the last one the lane ends.
      for (const name of ['k0', 'k1', 'k2']) await interfaces.delete(deletion(name));
      await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 5000 }).toBe(false);
    },
  );
});

it('keeps the carrier while agents die and come, 20 times, and is taken over by each', async () => {
  await withKept({ k0: { mode: TAP, addresses: [{ cidr: '10.60.0.1/24' }] } }, async (agent, ns) => {
    const pid = await lanePid(agent);
    await using watch = await watchKernel(ns);
    for (let round = 0; round < 20; round++) {
      await agent.kill9();
      expect(carrier(ns, 'k0')).toBe(true);
      await agent.restart();
      await expect.poll(() => lanePid(agent), { timeout: 3000, interval: 20 }).toBe(pid);
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

it('comes back within a second when it is killed, 30 times, with all it held', async () => {
  await withKept({ k0: { mode: TUN }, k1: { mode: TAP } }, async (agent, ns) => {
    const delays: number[] = [];
    const fds = agent.fds();
    for (let round = 0; round < 30; round++) {
      const pid = await lanePid(agent);
      const begun = performance.now();
      process.kill(pid, 'SIGKILL');
      await expect
        .poll(async () => ![0, pid].includes(await lanePid(agent)) && carrier(ns, 'k0') && carrier(ns, 'k1'), {
          timeout: 8000,
          interval: 10,
        })
        .toBe(true);
      delays.push(performance.now() - begun);
    }
    console.log(`lane back after kill -9: ${summary(delays)}`);
    expect(percentile(delays, 99)).toBeLessThanOrEqual(1000);
    expect(Math.abs(agent.fds() - fds)).toBeLessThanOrEqual(4);
  });
});

it('is told off by an agent that wants nothing of what an agent before it left behind', async () => {
  await withKept({ k0: { mode: TUN } }, async (agent, ns) => {
    const pid = await lanePid(agent);
    await agent.kill9();
    expect(carrier(ns, 'k0')).toBe(true);
    // The same runtime directory, another state: as when the change that ended the keeping was made just before the kill.
    await using other = await startAgent({ namespace: ns, args: ['--runtime-dir', agent.runtimeDir] });
    await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 5000 }).toBe(false);
    expect(carrier(ns, 'k0')).toBe(false);
    expect(await lanePid(other)).toBe(0);
    await other.stop();
    await agent.restart();
    await expect.poll(() => carrier(ns, 'k0'), { timeout: 5000 }).toBe(true);
  });
});
