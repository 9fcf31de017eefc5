// What the audit log costs: making and removing interfaces over gRPC with it and without, in turn in the same run.

import { InterfaceSpec_Mode } from '../src/gen/taplane/v1/interface.ts';
import { CreateInterfaceRequest, DeleteInterfaceRequest } from '../src/gen/taplane/v1/interface_service.ts';
import { startAgent } from '../test/harness/agent.ts';
import { createNamespace } from '../test/harness/namespace.ts';
import { percentile } from '../test/harness/percentile.ts';

const COUNT = Number(process.env['TAPLANE_AUDIT_COUNT'] ?? 200);
const ROUNDS = Number(process.env['TAPLANE_AUDIT_ROUNDS'] ?? 5);
const name = (index: number): string => `b${index}`;

interface Cost {
  oneMs: number;
  many: number;
  removals: number;
}

export async function auditBench(): Promise<string[]> {
  const costs: { on: Cost[]; off: Cost[] } = { on: [], off: [] };
  for (let round = 0; round < ROUNDS; round++) {
    costs.off.push(await measure('false'));
    costs.on.push(await measure('true'));
  }
  const median = (of: Cost[], what: keyof Cost): number => of.map((cost) => cost[what]).sort((a, b) => a - b)[ROUNDS >> 1] ?? Number.NaN;
  const line = (what: keyof Cost, words: string): string => {
    const [on, off] = [median(costs.on, what), median(costs.off, what)];
    return `${words}: with ${on.toFixed(1)}, without ${off.toFixed(1)}, ratio ${(on / off).toFixed(2)}`;
  };
  return [
    line('oneMs', 'create one at a time, median ms'),
    line('many', 'create 16 at a time, a second'),
    line('removals', 'delete 16 at a time, a second'),
  ];
}

async function measure(enabled: string): Promise<Cost> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns, args: ['--no-flows'], env: { TAPLANE_AUDIT_ENABLED: enabled } });
  const { interfaces } = agent.client({ timeoutMs: 60_000 });
  const create = (index: number) =>
    interfaces.create(
      CreateInterfaceRequest.fromPartial({ interfaceId: name(index), interface: { spec: { mode: InterfaceSpec_Mode.TUN } } as object }),
    );
  const delays: number[] = [];
  for (let index = 0; index < COUNT >> 2; index++) {
    const begun = performance.now();
    await create(index);
    delays.push(performance.now() - begun);
  }
  const rate = async (from: number, work: (index: number) => Promise<unknown>): Promise<number> => {
    let next = from;
    const begun = performance.now();
    const worker = async (): Promise<void> => {
      while (next < COUNT) await work(next++);
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    return (COUNT - from) / ((performance.now() - begun) / 1000);
  };
  const many = await rate(COUNT >> 2, create);
  const removals = await rate(0, (index) => interfaces.delete(DeleteInterfaceRequest.fromPartial({ name: `interfaces/${name(index)}` })));
  return { oneMs: percentile(delays, 50), many, removals };
}
