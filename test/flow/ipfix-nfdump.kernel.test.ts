// nfdump as a collector: what it stored of random records is what the records say.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { FlowBatch, Traffic } from '../../src/gen/taplane/v1/flow.ts';
import { Direction } from '../../src/gen/taplane/v1/packet.ts';
import { SOON } from '../harness/bound.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { run, runSync } from '../harness/process.ts';
import { random, seed } from '../harness/random.ts';
import { addressText, INTERFACES, randomBatches } from './flow-records.ts';

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
    const { stats, stored, flows, gaps } = await collect(ns, listen, collector);
    const batches = randomBatches(random('ipfix', seed), COUNT);
    const wanted = wantedSums(batches);
    expect(stats).toMatchObject({ failedRecords: 0, reason: '', records: wanted.get('all')?.flows });
    expect(gaps).toBe(0);
    expect(Object.fromEntries(stored)).toEqual(Object.fromEntries(wanted));
    expect(flows).toEqual(wantedFlows(batches));
  }
});

async function collect(ns: Namespace, listen: string, collector: string) {
  const folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-`));
  try {
    await using nfcapd = ns.spawn(['nfcapd', '-w', folder, '-p', '4739', '-b', listen, '-t', '3600', '-B', '1000000']);
    await nfcapd.until(({ stdout, stderr }) => `${stdout}${stderr}`.includes('Startup nfcapd'), 'nfcapd to listen');
    const sender = await ns.exec([process.execPath, SENDER, collector, String(seed), String(COUNT)]);
    expect(sender, sender.stderr).toMatchObject({ code: 0 });
    // It does not look at its socket again after the signal.
    await expect.poll(() => socketOf(ns), SOON).toMatchObject({ waiting: 0 });
    expect(socketOf(ns).drops).toBe(0);
    nfcapd.kill('SIGTERM');
    const ended = await nfcapd.ended;
    const files = readdirSync(folder).filter((name) => /^nfcapd\.\d+$/.test(name));
    expect(files, `${ended.stdout}${ended.stderr}`).toHaveLength(1);
    const file = join(folder, files[0] as string);
    const gaps = Number(/Sequence (?:failures|errors): (\d+)/i.exec(runSync('nfdump', '-I', '-r', file))?.[1]);
    return { stats: JSON.parse(sender.stdout), stored: await storedSums(file), flows: await storedFlows(file), gaps };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Bytes that wait to be read at port 4739, and datagrams that found no room there (proc_net_udp(5)). */
function socketOf(ns: Namespace): { waiting: number; drops: number } {
  const line = ns
    .run('cat', '/proc/net/udp', '/proc/net/udp6')
    .split('\n')
    .map((text) => text.trim().split(/\s+/))
    .find(([, local]) => local?.endsWith(`:${(4739).toString(16).toUpperCase()}`));
  if (!line) throw new Error('nobody listens on port 4739');
  return { waiting: Number.parseInt(line[4]?.split(':')[1] ?? '', 16), drops: Number(line.at(-1)) };
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

const FIELDS = [
  'first',
  'last',
  'in_packets',
  'in_bytes',
  'proto',
  'src_port',
  'dst_port',
  'src_tos',
  'input_snmp',
  'output_snmp',
  'direction',
];

type NfdumpFlow = Record<string, unknown>;

/** Flows in the order in which they came; of ICMP without what nfdump has instead of ports. */
async function storedFlows(file: string): Promise<NfdumpFlow[]> {
  const { stdout, stderr, code } = await run(['nfdump', '-r', file, '-o', 'json'], { env: { TZ: 'UTC' } });
  expect(code, stderr).toBe(0);
  return (JSON.parse(stdout) as NfdumpFlow[]).map((flow) => ({
    ...Object.fromEntries(FIELDS.map((name) => [name, isIcmp(flow['proto']) && name.endsWith('port') ? 0 : (flow[name] ?? 0)])),
    source: flow['src4_addr'] ?? flow['src6_addr'],
    destination: flow['dst4_addr'] ?? flow['dst6_addr'],
    mac: flow['in_src_mac'],
  }));
}

function wantedFlows(batches: FlowBatch[]): NfdumpFlow[] {
  const time = ({ seconds, nanos }: { seconds: bigint; nanos: number }) =>
    new Date(Number(seconds) * 1000 + Math.floor(nanos / 1e6)).toISOString().slice(0, -1);
  const wanted: NfdumpFlow[] = [];
  for (const batch of batches) {
    for (const flow of batch.flows) {
      const header = flow.ethernet ? (flow.ethernet.vlan === 0 ? 14n : 18n) : 0n;
      for (const [i, { packets, bytes }] of [flow.forward as Traffic, flow.reverse as Traffic].entries()) {
        if (packets === 0n) continue;
        const isOut = (flow.direction === Direction.OUTBOUND) !== (i === 1);
        const index = INTERFACES[batch.interface];
        const hasIp = flow.sourceAddress.length > 0;
        const addresses = hasIp ? [addressText(flow.sourceAddress), addressText(flow.destinationAddress)] : [];
        const macs = [flow.ethernet?.source, flow.ethernet?.destination].map((mac) => mac?.toString('hex').replace(/..(?=.)/g, '$&:'));
        const ports = [flow.sourcePort, flow.destinationPort];
        wanted.push({
          first: time(flow.startTime as { seconds: bigint; nanos: number }),
          last: time(flow.endTime as { seconds: bigint; nanos: number }),
          in_packets: Number(packets),
          in_bytes: Number(bytes - packets * header),
          proto: flow.protocol,
          src_port: ports[i],
          dst_port: ports[1 - i],
          src_tos: i === 0 ? flow.dscp << 2 : 0,
          input_snmp: isOut ? 0 : index,
          output_snmp: isOut ? index : 0,
          direction: isOut ? 1 : 0,
          source: addresses[i],
          destination: addresses[1 - i],
          mac: macs[i],
        });
      }
    }
  }
  return wanted;
}

function isIcmp(protocol: unknown): boolean {
  return protocol === 1 || protocol === 58;
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
