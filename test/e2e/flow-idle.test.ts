// Meters of devices that are down: many of them cost next to nothing, and one whose device was made again meanwhile goes on with the new one.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { type Agent, startAgent } from '../harness/agent.ts';
import { counted, FlowDriver, watched } from '../harness/flow-driver.ts';
import { FlowObserver } from '../harness/flow-observer.ts';
import { everything } from '../harness/flow-traffic.ts';
import { TUN_WIRE } from '../harness/frame-layers.ts';
import { lanesOf, stopLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { link } from '../harness/truth.ts';
import { creation, TUN, updating } from './specs.ts';

const INTERFACES = 100;
const IDLE_MS = 4000;
/** Looking for each device four times a second takes twice as much. */
const CPU_MS = 150;
const CLOCK_TICK_MS = 10;
const SOON = { timeout: 20_000, interval: 50 };
const down = { mode: TUN, up: false, sysctls: { 'ipv6/disable_ipv6': '1' }, flowMetering: { idleTimeout: 1 } };

/** CPU time of a process (proc(5), utime and stime). */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * CLOCK_TICK_MS;
}

async function withAgent(work: (agent: Agent, ns: Namespace) => Promise<void>): Promise<void> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  try {
    await work(agent, ns);
  } finally {
    await stopLanes(agent);
  }
}

it('costs next to nothing while devices are down', async () => {
  await withAgent(async (agent, ns) => {
    const names = Array.from({ length: INTERFACES }, (_, index) => `d${index}`);
    const { interfaces } = agent.client();
    for (const name of names) await interfaces.create(creation(name, down));
    for (const name of names) await watched(ns, name);
    const [lane] = (await lanesOf(agent)) as [number];
    await sleep(IDLE_MS / 2);
    const before = cpuMs(lane);
    await sleep(IDLE_MS);
    const spent = cpuMs(lane) - before;
    console.log(`${INTERFACES} meters of devices that are down: ${spent} ms of the lane in ${IDLE_MS} ms`);
    expect(spent).toBeLessThan(CPU_MS);
  });
});

it('goes on with a device that was made again while it was down', async () => {
  await withAgent(async (agent, ns) => {
    await using observer = await FlowObserver.follow(agent);
    await agent.client().interfaces.create(creation('d0', down));
    await watched(ns, 'd0');
    await sleep(500);
    const index = link(ns, 'd0')?.ifindex;
    ns.ip('link del d0');
    await expect.poll(() => link(ns, 'd0')?.ifindex ?? index, SOON).not.toBe(index);
    await watched(ns, 'd0');
    await using driver = await FlowDriver.hold(ns, 'd0', 'tun');
    await agent.client().interfaces.update(updating('d0', { up: true }, ['spec.up']));
    await driver.send(everything(TUN_WIRE));
    const device = counted(ns, 'd0');
    const told = () => observer.sums('d0');
    await observer.until(
      () => told().inbound.packets >= device.inbound.packets && told().outbound.packets >= device.outbound.packets,
      'what passed',
    );
    expect(told()).toEqual(device);
  });
});
