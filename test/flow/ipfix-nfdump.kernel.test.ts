// nfdump as a collector: what it stored of random records is what the records say.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { FlowBatch, Traffic } from '../../src/gen/taplane/v1/flow.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { run, runSync } from '../harness/process.ts';
import { random, seed } from '../harness/random.ts';
import { randomBatches } from './flow-records.ts';

const COUNT = 10_000;
const SENDER = join(import.meta.dirname, 'ipfix-sender.ts');

interface Sums {
  flows: number;
  packets: bigint;
  bytes: bigint;
}

it('gives nfdump every flow, packet and byte, in all and by protocol, over IPv4 and IPv6', async () => {
  await using ns = createNamespace();
  for (const [listen, collector] of [
    ['127.0.0.1', '127.0.0.1:4739'],
    ['::1', '[::1]:4739'],
  ] as const) {
    const { stats, stored, gaps } = await collect(ns, listen, collector);
    const wanted = wantedSums(randomBatches(random('ipfix', seed), COUNT));
    expect(stats).toMatchObject({ failedRecords: 0, reason: '', records: wanted.get('all')?.flows });
    expect(gaps).toBe(0);
    expect(Object.fromEntries(stored)).toEqual(Object.fromEntries(wanted));
  }
});

async function collect(ns: Namespace, listen: string, collector: string) {
  const folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-`));
  try {
    await using nfcapd = ns.spawn(['nfcapd', '-w', folder, '-p', '4739', '-b', listen, '-t', '3600', '-B', '1000000']);
    await nfcapd.until(({ stdout, stderr }) => `${stdout}${stderr}`.includes('Startup nfcapd'), 'nfcapd to listen');
    const sender = await ns.exec([process.execPath, SENDER, collector, String(seed), String(COUNT)]);
    expect(sender, sender.stderr).toMatchObject({ code: 0 });
    // What is sent is in its socket; it reads that before it looks at signals no later than this.
    await new Promise((resolve) => setTimeout(resolve, 500));
    nfcapd.kill('SIGTERM');
    const ended = await nfcapd.ended;
    const files = readdirSync(folder).filter((name) => /^nfcapd\.\d+$/.test(name));
    expect(files, `${ended.stdout}${ended.stderr}`).toHaveLength(1);
    const file = join(folder, files[0] as string);
    const gaps = Number(/Sequence (?:failures|errors): (\d+)/i.exec(runSync('nfdump', '-I', '-r', file))?.[1]);
    return { stats: JSON.parse(sender.stdout), stored: await storedSums(file), gaps };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function storedSums(file: string): Promise<Map<string, Sums>> {
  const { stdout, stderr, code } = await run(['nfdump', '-r', file, '-q', '-N', '-o', 'fmt:%pr;%pkt;%byt;%fl']);
  expect(code, stderr).toBe(0);
  const sums = new Map<string, Sums>();
  for (const line of stdout.split('\n')) {
    const [protocol = '', packets = '', bytes = '', flows = ''] = line.split(';').map((part) => part.trim());
    if (flows === '') continue;
    for (const key of ['all', protocol]) add(sums, key, Number(flows), BigInt(packets), BigInt(bytes));
  }
  return sums;
}

function wantedSums(batches: FlowBatch[]): Map<string, Sums> {
  const sums = new Map<string, Sums>();
  for (const flow of batches.flatMap(({ flows }) => flows)) {
    const header = flow.ethernet ? (flow.ethernet.vlan === 0 ? 14n : 18n) : 0n;
    for (const { packets, bytes } of [flow.forward as Traffic, flow.reverse as Traffic]) {
      if (packets === 0n) continue;
      for (const key of ['all', String(flow.protocol)]) add(sums, key, 1, packets, bytes - packets * header);
    }
  }
  return sums;
}

function add(sums: Map<string, Sums>, key: string, flows: number, packets: bigint, bytes: bigint): void {
  const sum = sums.get(key) ?? { flows: 0, packets: 0n, bytes: 0n };
  sums.set(key, { flows: sum.flows + flows, packets: sum.packets + packets, bytes: sum.bytes + bytes });
}
