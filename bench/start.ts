// From the start of the process to a ready agent, against a Node.js that starts and does nothing.

import { execFileSync } from 'node:child_process';
import { startAgent } from '../test/harness/agent.ts';
import { createNamespace } from '../test/harness/namespace.ts';
import { summary } from '../test/harness/percentile.ts';

const ROUNDS = 15;

export async function startBench(): Promise<string[]> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const ready: number[] = [];
  const bare: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await agent.restart();
    ready.push(agent.readyMs);
    const begun = performance.now();
    execFileSync(process.execPath, ['-e', '0']);
    bare.push(performance.now() - begun);
  }
  const version: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const begun = performance.now();
    await agent.cli(['interface', 'list']);
    version.push(performance.now() - begun);
  }
  return [
    `agent ready: ${summary(ready)}`,
    `bare node: ${summary(bare)}`,
    `taplane interface list: ${summary(version)}`,
    `idle memory: ${(agent.rss() / 2 ** 20).toFixed(0)} MiB`,
  ];
}
