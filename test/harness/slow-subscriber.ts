// One subscriber that stops reading while traffic goes on: what it costs the others, and in memory. Used at different lengths by a test and
// by a benchmark.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ResponderSpec_Kind } from '../../src/gen/taplane/v1/interface.ts';
import { creation, TUN } from '../e2e/specs.ts';
import { startAgent } from './agent.ts';
import { lanesOf, stopLanes } from './lanes.ts';
import { createNamespace, type Namespace } from './namespace.ts';
import { PacketClient } from './packet-stream.ts';
import { percentile } from './percentile.ts';
import { Child } from './process.ts';

const FLOOD = join(import.meta.dirname, '..', '..', 'bench', 'udp-flood.ts');
const IFACE = 'interfaces/w0';

export interface SlowSubscriber {
  perSecond: number;
  /** Resident memory of agent and lane together, by how much it grew while one did not read, bytes. */
  grownBytes: number;
  /** Round-trip times through the same device, milliseconds. */
  pingBeforeMs: number;
  pingMeanwhileMs: number;
  pingsLost: number;
  /** The one that read. */
  readerLost: number;
  readerReceived: number;
  /** The one that did not, once it read again. */
  offered: number;
  delivered: number;
  filtered: number;
  dropped: number;
  problems: string[];
}

export async function slowSubscriber(seconds: number, perSecond: number): Promise<SlowSubscriber> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  try {
    const responders = [{ id: 'echo', kind: ResponderSpec_Kind.ICMP_ECHO, addresses: [], macAddress: '' }];
    await agent
      .client()
      .interfaces.create(creation('w0', { mode: TUN, up: true, txQueueLength: 10_000, responders, addresses: [{ cidr: '10.93.0.1/24' }] }));
    const open = { interface: IFACE, filter: 'udp' };
    using reader = await PacketClient.stream(agent.server, open, { keep: false }).ready();
    using stalled = await PacketClient.stream(agent.server, open, { keep: false }).ready();
    await expectPing(ns);
    const [lane = 0] = await lanesOf(agent);
    const memory = (): number => rss(agent.pid) + rss(lane);

    // Under the same load with both reading, so that what the load itself costs is in both figures.
    const warm = flood(ns, 3, perSecond);
    const before = await ping(ns, 2);
    await warm.ended;
    const memoryBefore = memory();

    stalled.pause();
    const load = flood(ns, seconds, perSecond);
    const samples: number[] = [];
    const sampling = setInterval(() => samples.push(memory()), 500);
    const meanwhile = await ping(ns, Math.max(1, seconds - 1));
    const { stdout } = await load.ended;
    clearInterval(sampling);
    const sent = JSON.parse(stdout) as { perSecond: number };
    stalled.resume();
    stalled.end();
    reader.end();
    await Promise.all([
      stalled.until(() => stalled.ended, 'the end of the stalled', 60_000),
      reader.until(() => reader.ended, 'the end of the reader', 60_000),
    ]);
    return {
      perSecond: sent.perSecond,
      grownBytes: Math.max(...samples) - memoryBefore,
      pingBeforeMs: percentile(before.times, 50),
      pingMeanwhileMs: percentile(meanwhile.times, 50),
      pingsLost: before.lost + meanwhile.lost,
      readerLost: reader.lostFrames,
      readerReceived: reader.received,
      offered: Number(stalled.totals?.offered),
      delivered: Number(stalled.totals?.delivered),
      filtered: Number(stalled.totals?.filtered),
      dropped: stalled.totals?.dropped.reduce((sum, { count }) => sum + Number(count), 0) ?? 0,
      problems: [...reader.problems, ...stalled.problems],
    };
  } finally {
    await stopLanes(agent);
  }
}

function flood(ns: Namespace, seconds: number, perSecond: number): Child {
  return new Child(['ip', 'netns', 'exec', ns.name, process.execPath, FLOOD, '10.93.0.9', String(seconds), '72', String(perSecond), '0']);
}

/** The kernel may need a moment after the carrier has come. */
async function expectPing(ns: Namespace): Promise<void> {
  for (let tries = 0; tries < 50; tries++) {
    const { code } = await ns.exec(['ping', '-c', '1', '-W', '0.2', '10.93.0.7']);
    if (code === 0) return;
  }
  throw new Error('the responder does not answer');
}

async function ping(ns: Namespace, seconds: number): Promise<{ times: number[]; lost: number }> {
  const count = seconds * 50;
  const { stdout } = await ns.exec(['ping', '-n', '-i', '0.02', '-c', String(count), '-W', '2', '10.93.0.7'], {
    timeoutMs: (seconds + 30) * 1000,
  });
  const times = [...stdout.matchAll(/time=([\d.]+) ms/g)].map((match) => Number(match[1]));
  return { times, lost: count - times.length };
}

function rss(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
}
