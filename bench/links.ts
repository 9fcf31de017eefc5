// Links against what Debian ships, in one run: one TCP stream of iperf3 between two namespaces that a veth pair joins, MTU 1500, through each
// tunnel in turn, some rounds; round trips of ping, idle and beside the stream; processor time of all processes of a tunnel for a gigabyte.
// The bare veth is the limit. TAPLANE_ROUNDS, TAPLANE_SECONDS, TAPLANE_TUNNELS (names, comma) change what is run.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createCable, createNamespace, type Namespace } from '../test/harness/namespace.ts';
import { percentile } from '../test/harness/percentile.ts';
import { untilAnswers } from '../test/harness/ping.ts';
import { OURS } from './link-ours.ts';
import { RIVALS, type Rival, type Site } from './link-rivals.ts';

const ROUNDS = Number(process.env['TAPLANE_ROUNDS'] ?? 3);
const SECONDS = Number(process.env['TAPLANE_SECONDS'] ?? 3);
const ONLY = process.env['TAPLANE_TUNNELS']?.split(',');
const CLOCK_TICKS = 100;
const PINGS = 400;
const VETH = 'bare veth';

interface Measured {
  gigabits: number[];
  cpuPerGigabyte: number[];
  idleMs: number[];
  loadedMs: number[];
}

export async function linksBench(): Promise<string[]> {
  await using a = createNamespace();
  await using b = createNamespace();
  createCable({ namespace: a, device: 'u0', address: '192.0.2.1/24' }, { namespace: b, device: 'u0', address: '192.0.2.2/24' });
  const folder = mkdtempSync(join(tmpdir(), 'links-'));
  const site: Site = { a, b, addressA: '192.0.2.1', addressB: '192.0.2.2', folder };
  const tunnels: Rival[] = [{ name: VETH, address: site.addressB, pids: () => [], [Symbol.asyncDispose]: async () => {} }];
  const server = b.spawn(['iperf3', '-s']);
  const lines: string[] = [];
  try {
    for (const [index, [name, start]] of Object.entries({ ...RIVALS, ...OURS }).entries()) {
      if (ONLY !== undefined && !ONLY.includes(name)) continue;
      const tunnel = await start(site, `10.200.${index + 1}.`);
      if (tunnel === undefined) lines.push(`${name}: not installed`);
      else tunnels.push(tunnel);
    }
    const measured = new Map(tunnels.map(({ name }) => [name, { gigabits: [], cpuPerGigabyte: [], idleMs: [], loadedMs: [] } as Measured]));
    for (const { address } of tunnels) {
      await untilAnswers(a, address);
      // What is compiled while it runs is compiled now.
      await a.exec(['iperf3', '-c', address, '-t', '1']);
    }
    for (let round = 0; round < ROUNDS; round++) {
      for (const tunnel of tunnels) await measure(a, tunnel, measured.get(tunnel.name) as Measured);
    }
    return [...lines, ...table(measured), ...ratios(measured)];
  } finally {
    for (const tunnel of tunnels) await tunnel[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One round of one tunnel. */
async function measure(from: Namespace, { name, address, pids }: Rival, into: Measured): Promise<void> {
  into.idleMs.push(...(await roundTrips(from, address)));
  const before = cpuSeconds(pids());
  const streaming = from.exec(['iperf3', '-J', '-c', address, '-t', String(SECONDS)]);
  const { stdout, stderr } = await streaming;
  const result = JSON.parse(stdout) as { end?: { sum_received?: { bytes: number; bits_per_second: number } }; error?: string };
  const received = result.end?.sum_received;
  if (received === undefined) throw new Error(`iperf3 through ${name}: ${result.error ?? stderr}`);
  into.gigabits.push(received.bits_per_second / 1e9);
  into.cpuPerGigabyte.push((cpuSeconds(pids()) - before) / (received.bytes / 1e9));
  const loading = from.spawn(['iperf3', '--forceflush', '-c', address, '-t', '30']);
  try {
    await loading.until(({ stdout: text }) => / sec .*bits\/sec/.test(text), 'iperf3');
    into.loadedMs.push(...(await roundTrips(from, address)));
  } finally {
    loading.kill('SIGINT');
    await loading.ended;
  }
}

async function roundTrips(from: Namespace, address: string): Promise<number[]> {
  const { stdout } = await from.exec(['ping', '-n', '-c', String(PINGS), '-i', '0.004', '-W', '2', address]);
  return [...stdout.matchAll(/time=([\d.]+) ms/g)].map(([, ms]) => Number(ms));
}

/** Of user and kernel, of all their threads. */
function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / CLOCK_TICKS;
}

function table(measured: ReadonlyMap<string, Measured>): string[] {
  const head = ['tunnel', 'Gbit/s', 'of veth', 'CPU s/GB', 'RTT p50', 'p99', 'loaded p50', 'p99'];
  const veth = median(measured.get(VETH)?.gigabits ?? [Number.NaN]);
  const rows = [...measured].map(([name, { gigabits, cpuPerGigabyte, idleMs, loadedMs }]) => [
    name,
    `${median(gigabits).toFixed(2)} (${Math.min(...gigabits).toFixed(2)} to ${Math.max(...gigabits).toFixed(2)})`,
    (median(gigabits) / veth).toFixed(3),
    median(cpuPerGigabyte).toFixed(1),
    ...[idleMs, loadedMs].flatMap((times) => [50, 99].map((percent) => `${percentile(times, percent).toFixed(2)} ms`)),
  ]);
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => (row[column] ?? '').length)));
  return [head, ...rows].map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

/** Ours over theirs. */
function ratios(measured: ReadonlyMap<string, Measured>): string[] {
  const of = (name: string, what: keyof Measured): number => median(measured.get(name)?.[what] ?? [Number.NaN]);
  const compared: [string, string[]][] = [
    ['frames over TCP', ['C copy loop']],
    ['wireguard', ['wireguard-go', 'openvpn', 'tinc', 'nebula']],
  ];
  return compared.flatMap(([ours, others]) =>
    others
      .filter((theirs) => measured.has(ours) && measured.has(theirs))
      .map((theirs) => {
        const [speed, cpu, rtt] = (['gigabits', 'cpuPerGigabyte', 'idleMs'] as const).map((what) => of(ours, what) / of(theirs, what));
        return `${ours} over ${theirs}: speed ${speed?.toFixed(2)}, CPU ${cpu?.toFixed(2)}, idle RTT ${rtt?.toFixed(2)}`;
      }),
  );
}

function median(values: readonly number[]): number {
  return percentile(values, 50);
}
