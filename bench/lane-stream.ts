// From a TUN to a gRPC client: bytes and frames a second through lane and agent, against what grpc-js carries at most with messages of the
// same size, in turn in the same run. Frames come from a sender whose rate is searched: the best rate that is delivered counts.

import { join } from 'node:path';
import { Client, credentials } from '@grpc/grpc-js';
import { PacketBatch } from '../src/gen/taplane/v1/packet.ts';
import { PacketServiceService as methods, StreamPacketsRequest } from '../src/gen/taplane/v1/packet_service.ts';
import { creation, TUN } from '../test/e2e/specs.ts';
import { type Agent, startAgent } from '../test/harness/agent.ts';
import { stopLanes } from '../test/harness/lanes.ts';
import { createNamespace, type Namespace } from '../test/harness/namespace.ts';
import { Child } from '../test/harness/process.ts';
import { type Counted, countMessages, gigabits, openCeiling } from './grpc-ceiling.ts';

const ROUNDS = Number(process.env['TAPLANE_ROUNDS'] ?? 5);
const BENCH = import.meta.dirname;
const UDP_HEADERS = 28;
const BATCH_BYTES = Number(process.env['TAPLANE_BATCH_BYTES'] ?? 32_768);
const same = (bytes: Buffer): Buffer => bytes;

export async function laneStreamBench(): Promise<string[]> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  try {
    const spec = { mode: TUN, up: true, vnetHeader: true, txQueueLength: 2000, mtu: 1500 };
    await agent.client().interfaces.create(creation('t0', { ...spec, addresses: [{ cidr: '10.90.0.1/24' }] }));
    await agent.client().interfaces.create(creation('t1', { ...spec, vnetHeader: false, addresses: [{ cidr: '10.91.0.1/24' }] }));
    const lines: string[] = [];
    const ratios: { gso: number[]; plain: number[] } = { gso: [], plain: [] };
    for (let round = 0; round < ROUNDS; round++) {
      const gso = await best(ns, agent, 't0', '10.90.0.9', 1400 - UDP_HEADERS, [160_000, 220_000, 280_000], 44);
      const plain = await best(ns, agent, 't1', '10.91.0.9', 1400 - UDP_HEADERS, [120_000, 160_000, 200_000], 0);
      const size = Math.round(gso.bytes / gso.messages);
      const most = gigabits(await ceiling(agent, size));
      ratios.gso.push(gigabits(gso) / most);
      ratios.plain.push(gigabits(plain) / most);
      lines.push(
        `1400 B: super-frames ${gigabits(gso).toFixed(2)} Gbit/s, one by one ${gigabits(plain).toFixed(2)}; grpc-js alone ${most.toFixed(2)} with messages of ${size} B; ratios ${(gigabits(gso) / most).toFixed(2)}, ${(gigabits(plain) / most).toFixed(2)}`,
      );
    }
    const small = await best(ns, agent, 't0', '10.90.0.9', 100 - UDP_HEADERS, [200_000, 300_000, 450_000, 600_000], 60);
    const single = await best(ns, agent, 't1', '10.91.0.9', 100 - UDP_HEADERS, [100_000, 150_000, 200_000, 300_000], 0);
    const perSecond = (counted: Counted & { frames: number }): string => (counted.frames / counted.seconds).toFixed(0);
    lines.push(`100 B: super-frames ${perSecond(small)} frames/s, one by one ${perSecond(single)} frames/s`);
    const median = (values: number[]): string => (values.sort((a, b) => a - b)[values.length >> 1] ?? 0).toFixed(2);
    return [...lines, `median ratio to grpc-js alone: super-frames ${median(ratios.gso)}, one by one ${median(ratios.plain)}`];
  } finally {
    await stopLanes(agent);
  }
}

/** The most that was delivered at one of these rates of datagrams a second. */
async function best(ns: Namespace, agent: Agent, device: string, to: string, payload: number, rates: number[], gso: number) {
  let most: (Counted & { frames: number }) | undefined;
  for (const rate of rates) {
    const counted = await delivered(ns, agent, device, to, payload, rate, gso);
    if (most === undefined || counted.bytes / counted.seconds > most.bytes / most.seconds) most = counted;
  }
  return most as Counted & { frames: number };
}

async function delivered(ns: Namespace, agent: Agent, device: string, to: string, payload: number, rate: number, gso: number) {
  const client = new Client(agent.server, credentials.createInsecure(), { 'grpc.default_authority': 'bench' });
  try {
    const { path, requestSerialize } = methods.streamPackets;
    const call = client.makeBidiStreamRequest(path, requestSerialize, same);
    let totals = 0;
    let last: Buffer | undefined;
    call.on('data', (bytes: Buffer) => {
      last = bytes;
    });
    call.write(StreamPacketsRequest.fromPartial({ open: { interface: `interfaces/${device}`, maxBatchBytes: BATCH_BYTES } }));
    const framesNow = (): number => {
      if (last === undefined) return totals;
      totals = Number(PacketBatch.decode(last).totals?.delivered ?? totals);
      return totals;
    };
    while (last === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
    const sender = new Child([
      'ip',
      'netns',
      'exec',
      ns.name,
      process.execPath,
      join(BENCH, 'udp-flood.ts'),
      to,
      '4',
      String(payload),
      String(rate),
      String(gso),
    ]);
    let before = 0;
    setTimeout(() => {
      before = framesNow();
    }, 1000);
    const counted = await countMessages(call, 1000, 2000);
    const frames = framesNow() - before;
    call.cancel();
    sender.kill();
    await sender.ended;
    return { ...counted, frames };
  } finally {
    client.close();
  }
}

async function ceiling(agent: Agent, size: number): Promise<Counted> {
  const path = join(agent.folder, 'ceiling.sock');
  await using server = new Child([
    process.execPath,
    '--max-semi-space-size=4',
    join(BENCH, 'grpc-ceiling.ts'),
    'serve',
    path,
    String(size),
  ]);
  await server.until((child) => child.stdout.includes('ready'), 'the server');
  const { call, close } = openCeiling(path);
  try {
    return await countMessages(call, 1000, 2000);
  } finally {
    call.cancel();
    close();
  }
}
