// A thousand interfaces (four hundred on a machine that is not quiet): made over the API as fast as by `ip`, restarted and rebooted quickly, at a bounded cost of memory.

import { expect, it } from 'vitest';
import { ListInterfacesRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import type { TaplaneClient } from '../../src/rpc/client.ts';
import { startAgent } from '../harness/agent.ts';
import { bound } from '../harness/bound.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { summary } from '../harness/percentile.ts';
import { creation, TUN } from './specs.ts';

const COUNT = bound(1000, 400);
const IN_FLIGHT = 16;
const name = (index: number): string => `s${index}`;
const cidr = (index: number): string => `10.${100 + (index >> 8)}.${index & 255}.1/24`;

it(`makes ${COUNT} interfaces at least as fast as ip does, restarts in 10 s, and takes at most 64 kB for each`, async () => {
  const byIp = await makeByIp();
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const client = agent.client({ timeoutMs: 60_000 });
  await client.node.getNode();
  await warm(client);
  const rssBefore = agent.rss();
  const delays: number[] = [];
  const begun = performance.now();
  await makeAll(client, delays);
  const byApi = performance.now() - begun;
  const perInterface = (agent.rss() - rssBefore) / COUNT;
  expect(deviceCount(ns)).toBe(COUNT);
  expect(ns.run('ip', '-br', 'addr', 'show', 'dev', name(COUNT - 1))).toContain(cidr(COUNT - 1));

  const restarted = await restartTime(agent);
  expect(deviceCount(ns)).toBe(COUNT);

  // Reboot: every device is gone.
  await agent.stop();
  // As one group: the kernel waits once for all.
  ns.run('sh', '-c', `ip -o link | awk -F': ' '$2 != "lo" {print "link set " $2 " group 7"}' | ip -batch -; ip link del group 7`);
  expect(deviceCount(ns)).toBe(0);
  await agent.start();
  const rebooted = agent.readyMs;
  expect(deviceCount(ns)).toBe(COUNT);
  expect(ns.run('ip', '-br', 'addr', 'show', 'dev', name(COUNT >> 1))).toContain(cidr(COUNT >> 1));
  const { interfaces } = await agent.client().interfaces.list(ListInterfacesRequest.fromPartial({ pageSize: 1000 }));
  expect(interfaces.filter(({ status }) => status?.conditions[0]?.reason === 'AsSpecified')).toHaveLength(COUNT);

  console.log(
    [
      `${COUNT} by ip (3 processes each): ${byIp.toFixed(0)} ms; over the API, ${IN_FLIGHT} at a time: ${byApi.toFixed(0)} ms, ratio ${(byIp / byApi).toFixed(2)}; each ${summary(delays)}`,
      `restart with all devices there: ${restarted.toFixed(0)} ms; with none: ${rebooted.toFixed(0)} ms; memory for each interface: ${(perInterface / 1024).toFixed(1)} KiB`,
    ].join('\n'),
  );
  expect(byApi).toBeLessThanOrEqual(byIp * bound(1, 4));
  expect(restarted).toBeLessThanOrEqual(bound(10_000, 40_000));
  expect(rebooted).toBeLessThanOrEqual(bound(10_000, 40_000));
  expect(perInterface).toBeLessThanOrEqual(bound(64, 256) * 1000);
}, 600_000);

/** As a script would, with one shell and three processes for each interface. */
async function makeByIp(): Promise<number> {
  await using ns = createNamespace();
  const script = Array.from(
    { length: COUNT },
    (_, index) => `ip tuntap add dev ${name(index)} mode tun; ip addr add ${cidr(index)} dev ${name(index)}; ip link set ${name(index)} up`,
  ).join('\n');
  const begun = performance.now();
  const result = await ns.exec(['sh', '-e'], { input: script, timeoutMs: 300_000 });
  const took = performance.now() - begun;
  expect(result.code).toBe(0);
  expect(deviceCount(ns)).toBe(COUNT);
  return took;
}

/** The agent's code is compiled as it runs: a first few creations are not what an agent of hours does. */
async function warm(client: TaplaneClient): Promise<void> {
  for (let index = 0; index < 20; index++) {
    await client.interfaces.create(creation('warm', { mode: TUN, up: true, addresses: [{ cidr: '10.99.0.1/24' }] }));
    await client.interfaces.delete({ name: 'interfaces/warm', etag: '', requestId: '', validateOnly: false, allowMissing: false });
  }
}

async function makeAll(client: TaplaneClient, delays: number[]): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < COUNT) {
      const index = next++;
      const begun = performance.now();
      await client.interfaces.create(creation(name(index), { mode: TUN, up: true, addresses: [{ cidr: cidr(index) }] }));
      delays.push(performance.now() - begun);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
}

async function restartTime(agent: { restart(): Promise<void>; kill9(): Promise<void>; readyMs: number }): Promise<number> {
  await agent.kill9();
  await agent.restart();
  return agent.readyMs;
}

function deviceCount(ns: Namespace): number {
  return Number(ns.run('sh', '-c', 'ip -o link | wc -l').trim()) - 1;
}
