// A scan of a million connections into an interface: the meter counts every packet, in bounded memory, and not much slower than ever.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Flow_Event as Event, type MeterTotals } from '../../src/gen/taplane/v1/flow.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { bound } from '../harness/bound.ts';
import { counted, watched } from '../harness/flow-driver.ts';
import { FlowObserver, meterStats } from '../harness/flow-observer.ts';
import { lanesOf, stopLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import type { Child } from '../harness/process.ts';
import { seed } from '../harness/random.ts';
import { creation, TUN, updating } from './specs.ts';

const FLOWS = 1_000_000;
const USUAL = 500_000;
/** Of a table, as the agent asks for it. */
const CAP = 65_536;
const PER_SECOND = 250_000;
/** Longer than the scan: every flow is told of twice, and no observer is too slow for that. */
const LONG_IDLE_S = 60;
const RING_MS = 300;
const CLOCK_TICKS = 100;
const MIB = 1024 * 1024;

class Flood {
  readonly #child: Child;
  #asked = 0;

  constructor(child: Child) {
    this.#child = child;
  }

  static async hold(ns: Namespace, device: string): Promise<Flood> {
    const child = ns.spawn([process.execPath, join(import.meta.dirname, '..', 'harness', 'frame-flood.ts'), device]);
    await child.until(({ stdout }) => stdout.includes('held'), 'the queue to be held', 20_000);
    return new Flood(child);
  }

  async send(kind: 'scan' | 'usual' | 'single', count: number, perSecond = PER_SECOND): Promise<{ sent: number; perSecond: number }> {
    this.#child.stdin.write(`${kind} ${count} ${seed + this.#asked} ${perSecond}\n`);
    this.#asked++;
    const line = await this.#child.until(({ stdout }) => stdout.split('\n').slice(1, -1)[this.#asked - 1], 'the flood to end', 60_000);
    return JSON.parse(line);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }
}

/** CPU time of a process, seconds (proc(5), utime and stime). */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS;
}

function rssOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}

/** The account, once no flow is left in the table. */
async function settled(agent: Agent, name: string, seenLeast: number): Promise<MeterTotals> {
  let totals: MeterTotals | undefined;
  await expect
    .poll(
      async () => {
        ({ totals } = await meterStats(agent, name));
        return totals !== undefined && Number(totals.seenPackets + totals.droppedFrames) >= seenLeast && totals.activeFlows === 0n;
      },
      { timeout: 40_000, interval: 100 },
    )
    .toBe(true);
  return totals as MeterTotals;
}

it('counts every packet of a scan, in bounded memory, and meters what comes after it', async () => {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  try {
    const spec = { mode: TUN, up: true, sysctls: { 'ipv6/disable_ipv6': '1' }, flowMetering: { idleTimeout: 1 } };
    await agent.client().interfaces.create(creation('x0', spec));
    await watched(ns, 'x0');
    await expect.poll(() => lanesOf(agent), { timeout: 20_000, interval: 50 }).toHaveLength(1);
    const [lane] = (await lanesOf(agent)) as [number];
    await using observer = await FlowObserver.follow(agent);
    await using flood = await Flood.hold(ns, 'x0');
    // Compilers have seen it once.
    await flood.send('single', 100_000);
    await settled(agent, 'x0', 100_000);

    const idle = (idleTimeout: number) =>
      agent.client().interfaces.update(updating('x0', { flowMetering: { idleTimeout } }, ['spec.flow_metering']));
    const measure = async (kind: 'scan' | 'usual', count: number) => {
      const before = {
        cpu: cpuOf(lane),
        seen: Number((await meterStats(agent, 'x0')).totals?.seenPackets),
        rx: counted(ns, 'x0').inbound.packets,
      };
      await idle(LONG_IDLE_S);
      const { sent, perSecond } = await flood.send(kind, count);
      // Until the ring has been read: beyond that it is no longer the scan that costs.
      await sleep(RING_MS);
      const cpuS = cpuOf(lane) - before.cpu;
      await idle(1);
      const { inbound } = counted(ns, 'x0');
      expect(inbound.packets - before.rx).toBe(count);
      const totals = await settled(agent, 'x0', inbound.packets);
      const cpuUs = (cpuS * 1e6) / (Number(totals.seenPackets) - before.seen);
      console.log(
        `${kind}: ${sent} packets, ${perSecond}/s, ${cpuUs.toFixed(2)} us of the lane each; dropped ${totals.droppedFrames} so far`,
      );
      return { cpuUs, totals };
    };
    const usual = await measure('usual', USUAL);
    const rssBefore = rssOf(lane);
    let rssMost = 0;
    let activeMost = 0;
    const stop = { now: false };
    const watching = (async () => {
      while (!stop.now) {
        rssMost = Math.max(rssMost, rssOf(lane));
        activeMost = Math.max(activeMost, Number((await meterStats(agent, 'x0')).totals?.activeFlows));
        await sleep(100);
      }
    })();
    const scan = await measure('scan', FLOWS);
    stop.now = true;
    await watching;
    const { totals } = scan;
    const { records } = await meterStats(agent, 'x0');
    await observer.until(() => observer.records.length + observer.missed + observer.lost >= Number(records), 'all records');
    console.log(`${records} records; lane grew by ${((rssMost - rssBefore) / MIB).toFixed(0)} MiB; ${activeMost} flows at once`);

    expect([observer.problems.slice(0, 5), observer.missed, observer.lost]).toEqual([[], 0, 0]);
    const { inbound } = counted(ns, 'x0');
    const told = observer.sums('x0');
    expect([told.inbound, told.outbound.packets]).toEqual([{ packets: Number(totals.seenPackets), bytes: Number(totals.seenBytes) }, 0]);
    expect(told.inbound.packets + Number(totals.droppedFrames)).toBe(inbound.packets);
    const overflow = observer.records.filter(({ event }) => event === Event.OVERFLOW);
    expect(overflow.length).toBeGreaterThan(0);
    expect(activeMost).toBeLessThanOrEqual(CAP);
    expect(activeMost).toBeGreaterThan(CAP / 2);
    expect(rssMost - rssBefore).toBeLessThan(bound(96, 192) * MIB);
    // At least half as many a second as of flows that are known.
    expect(scan.cpuUs).toBeLessThan(usual.cpuUs * bound(2, 4));

    // And then as if nothing had been.
    const from = observer.records.length;
    await flood.send('single', 500, 1000);
    await settled(agent, 'x0', inbound.packets + 500);
    const later = observer.records.slice(from);
    expect(later.map(({ event }) => event)).not.toContain(Event.OVERFLOW);
    expect(observer.sums('x0', later).inbound).toEqual({ packets: 500, bytes: 500 * 40 });
    expect(new Set(later.map(({ flowId }) => flowId)).size).toBe(1);
  } finally {
    await stopLanes(agent);
  }
});
