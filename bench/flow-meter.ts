// What metering costs: CPU of the lane for a packet against that of softflowd (Debian) on the same device with the same traffic, in turn in
// the same run; whether the ring lost any at the highest rate that the sender makes; and the memory of a table of a million flows.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FlowMetering, InterfaceSpec_Carrier } from '../src/gen/taplane/v1/interface.ts';
import { creation, TUN, updating } from '../test/e2e/specs.ts';
import { type Agent, startAgent } from '../test/harness/agent.ts';
import { lanesOf, stopLanes } from '../test/harness/lanes.ts';
import { createNamespace, type Namespace } from '../test/harness/namespace.ts';
import { Child } from '../test/harness/process.ts';

const ROUNDS = Number(process.env['TAPLANE_ROUNDS'] ?? 3);
const SECONDS = 5;
const DEVICE = 'm0';
const TO = '10.90.0.9';
const RATE = 150_000;
const CLOCK_TICKS = 100;

interface Run {
  packets: number;
  perSecond: number;
  cpuNs: number;
}

export async function flowMeterBench(): Promise<string[]> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  try {
    const client = agent.client();
    // Parked: every packet passes the taps and is dropped behind them, which costs nobody anything.
    const spec = {
      mode: TUN,
      up: true,
      carrier: InterfaceSpec_Carrier.KEEP,
      addresses: [{ cidr: '10.90.0.1/24' }],
      sysctls: { 'ipv6/disable_ipv6': '1' },
    };
    await client.interfaces.create(creation(DEVICE, spec));
    await sleep(2000);
    const lines: string[] = [];
    const ratios: number[] = [];
    const meter = async (disabled: boolean) => {
      await client.interfaces.update(updating(DEVICE, { ...spec, flowMetering: FlowMetering.fromPartial({ disabled }) }));
      await sleep(1500);
    };
    for (const flows of [1, 64, 4096]) {
      for (let round = 0; round < ROUNDS; round++) {
        await meter(false);
        const [lane = 0] = await lanesOf(agent);
        const ours = await load(ns, lane, RATE, flows);
        await meter(true);
        const idle = await load(ns, lane, RATE, flows);
        const theirs = await softflowd(ns, flows);
        const ratio = ours.cpuNs / theirs.cpuNs;
        ratios.push(ratio);
        lines.push(
          `${flows} flows, ${ours.perSecond.toFixed(0)} packets/s: meter ${ours.cpuNs.toFixed(0)} ns a packet (lane without it ${idle.cpuNs.toFixed(0)}), softflowd ${theirs.cpuNs.toFixed(0)} ns; ratio ${ratio.toFixed(2)}`,
        );
      }
    }
    await meter(false);
    const before = await dropped(agent);
    const most = await load(ns, (await lanesOf(agent))[0] ?? 0, 0, 1024);
    await sleep(1500);
    lines.push(
      `as fast as the sender goes, ${most.perSecond.toFixed(0)} packets/s: ${(await dropped(agent)) - before} frames lost by the ring, ${most.cpuNs.toFixed(0)} ns a packet`,
    );
    ratios.sort((a, b) => a - b);
    return [...lines, `median ratio to softflowd: ${(ratios[ratios.length >> 1] ?? 0).toFixed(2)}`];
  } finally {
    await stopLanes(agent);
  }
}

/** Sends for some seconds and reads what the process `pid` took of the CPU for it. */
async function load(ns: Namespace, pid: number, rate: number, flows: number): Promise<Run> {
  const before = { cpu: cpuMs(pid), packets: passed(ns) };
  const begun = performance.now();
  const sender = new Child([
    'ip',
    'netns',
    'exec',
    ns.name,
    process.execPath,
    join(import.meta.dirname, 'udp-flood.ts'),
    TO,
    String(SECONDS),
    '100',
    String(rate),
    '0',
    String(flows),
  ]);
  const { code, stderr } = await sender.ended;
  if (code !== 0) throw new Error(`sender: ${stderr}`);
  const seconds = (performance.now() - begun) / 1000;
  await sleep(500);
  const packets = passed(ns) - before.packets;
  return { packets, perSecond: packets / seconds, cpuNs: ((cpuMs(pid) - before.cpu) * 1e6) / packets };
}

async function softflowd(ns: Namespace, flows: number): Promise<Run> {
  // It removes its pid file in the end, whatever that is.
  const folder = mkdtempSync(join(tmpdir(), 'softflowd-'));
  const files = ['-p', join(folder, 'pid'), '-c', join(folder, 'ctl')];
  const other = new Child(['ip', 'netns', 'exec', ns.name, 'softflowd', '-d', '-i', DEVICE, '-n', '127.0.0.1:9', '-v', '9', ...files]);
  try {
    await sleep(1000);
    return await load(ns, other.pid, RATE, flows);
  } finally {
    other.kill('SIGKILL');
    await other.ended;
    rmSync(folder, { recursive: true, force: true });
  }
}

function passed(ns: Namespace): number {
  const [link] = JSON.parse(ns.run('ip', '-j', '-s', 'link', 'show', DEVICE)) as {
    stats64: { tx: { packets: number; dropped: number } };
  }[];
  return (link?.stats64.tx.packets ?? 0) + (link?.stats64.tx.dropped ?? 0);
}

function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / CLOCK_TICKS;
}

async function dropped(agent: Agent): Promise<number> {
  const { interfaces } = await agent.client().flows.stats();
  return Number(interfaces[0]?.totals?.droppedFrames ?? 0);
}
