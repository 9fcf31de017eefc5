// Making and removing interfaces over gRPC, against `ip` as processes and as one batch, in turn in the same run.

import { execFileSync } from 'node:child_process';
import { InterfaceSpec_Mode } from '../src/gen/taplane/v1/interface.ts';
import { CreateInterfaceRequest, DeleteInterfaceRequest } from '../src/gen/taplane/v1/interface_service.ts';
import { startAgent } from '../test/harness/agent.ts';
import { createNamespace } from '../test/harness/namespace.ts';
import { summary } from '../test/harness/percentile.ts';

const COUNT = 500;
const ROUNDS = 3;
const name = (index: number): string => `b${index}`;
const cidr = (index: number): string => `10.${100 + (index >> 8)}.${index & 255}.1/24`;

export async function interfacesBench(): Promise<string[]> {
  const ratios: number[] = [];
  const batchRatios: number[] = [];
  const lines: string[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const processes = await byIp((ns) => execFileSync('ip', ['netns', 'exec', ns, 'sh', '-e'], { input: commands('ip ').join('\n') }));
    const batch = await byIp((ns) => execFileSync('ip', ['-n', ns, '-batch', '-'], { input: commands('').join('\n') }));
    const one = await byApi(1);
    const many = await byApi(16);
    ratios.push(processes / many.total);
    batchRatios.push(batch / many.total);
    lines.push(
      `${COUNT}: ip processes ${processes.toFixed(0)} ms, ip -batch ${batch.toFixed(0)} ms; API one at a time ${one.total.toFixed(0)} ms (${summary(one.delays)}), 16 at a time ${many.total.toFixed(0)} ms; delete ${many.removal.toFixed(0)} ms`,
    );
  }
  const median = (values: number[]): string => (values.sort((a, b) => a - b)[ROUNDS >> 1] ?? 0).toFixed(2);
  return [...lines, `ratio to ip processes: ${median(ratios)}; to ip -batch, which writes nothing to disk: ${median(batchRatios)}`];
}

function commands(prefix: string): string[] {
  return Array.from({ length: COUNT }, (_, index) => [
    `tuntap add dev ${name(index)} mode tun`,
    `addr add ${cidr(index)} dev ${name(index)}`,
    `link set ${name(index)} up`,
  ])
    .flat()
    .map((line) => prefix + line);
}

async function byIp(run: (namespace: string) => unknown): Promise<number> {
  await using ns = createNamespace();
  const begun = performance.now();
  run(ns.name);
  return performance.now() - begun;
}

async function byApi(inFlight: number): Promise<{ total: number; removal: number; delays: number[] }> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const { interfaces } = agent.client({ timeoutMs: 60_000 });
  const delays: number[] = [];
  const spread = async (work: (index: number) => Promise<unknown>): Promise<number> => {
    let next = 0;
    const begun = performance.now();
    const worker = async (): Promise<void> => {
      while (next < COUNT) await work(next++);
    };
    await Promise.all(Array.from({ length: inFlight }, worker));
    return performance.now() - begun;
  };
  const total = await spread(async (index) => {
    const begun = performance.now();
    await interfaces.create(
      CreateInterfaceRequest.fromPartial({
        interfaceId: name(index),
        interface: { spec: { mode: InterfaceSpec_Mode.TUN, up: true, addresses: [{ cidr: cidr(index) }] } } as object,
      }),
    );
    delays.push(performance.now() - begun);
  });
  const removal = await spread((index) => interfaces.delete(DeleteInterfaceRequest.fromPartial({ name: `interfaces/${name(index)}` })));
  return { total, removal, delays };
}
