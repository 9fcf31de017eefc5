// Connections that misuse HTTP/2, hundreds of them: each costs itself only. Another client is served as ever, and the memory comes back.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { bound } from '../harness/bound.ts';
import { percentile } from '../harness/percentile.ts';
import { eventually, type Served, served } from './served.ts';

const PEER = fileURLToPath(new URL('hostile-peer.ts', import.meta.url));
/** Of each kind one, at least. */
const WARM_UP = bound(280, 14);
const CONNECTIONS = bound(10_000, 14);
const AT_ONCE = 14;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

async function attack(agent: Served, connections: number): Promise<Record<string, number>> {
  const peer = spawn(process.execPath, [PEER, agent.path, String(connections), String(AT_ONCE)], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  peer.stdout.on('data', (chunk) => (said += chunk));
  await once(peer, 'close');
  return JSON.parse(said) as Record<string, number>;
}

async function latencies(agent: Served, goOn: () => boolean, most = Number.POSITIVE_INFINITY): Promise<number[]> {
  const times: number[] = [];
  while (goOn() && times.length < most) {
    const begun = performance.now();
    expect((await agent.client.node.getNode()).name).toBe('node-a');
    times.push(performance.now() - begun);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return times;
}

async function settledRssMb(agent: Served): Promise<number> {
  await eventually(() => agent.server.connections().open.unix === 1 && agent.interfaces.watching() === 0);
  await new Promise((resolve) => setTimeout(resolve, 200));
  collect();
  return process.memoryUsage().rss / 1e6;
}

test('hostile connections cost only themselves', { timeout: bound(1_800_000, 120_000) }, async () => {
  const unhandled: unknown[] = [];
  const surprise = (error: unknown) => void unhandled.push(error);
  process.on('unhandledRejection', surprise);
  await using agent = await served();
  const quiet = percentile(await latencies(agent, () => true, bound(1000, 100)), 99);

  const first = await attack(agent, WARM_UP);
  const before = await settledRssMb(agent);
  let over = false;
  const second = attack(agent, CONNECTIONS).finally(() => (over = true));
  const during = await latencies(agent, () => !over);
  await second;
  const after = await settledRssMb(agent);
  process.off('unhandledRejection', surprise);

  const p99 = percentile(during, 99);
  const told = `quiet p99 ${quiet.toFixed(1)} ms, under attack ${p99.toFixed(1)} ms of ${during.length}; ${before.toFixed(0)} MB, then ${after.toFixed(0)} MB`;
  // On a machine that does other things beside, that it is served at all.
  expect(p99, told).toBeLessThan(bound(Math.max(quiet, 2) * 3, 20_000));
  // After a few connections the heap still grows to its working size.
  expect(after, told).toBeLessThan(bound(before * 1.1, before + 250));
  // The floods that have a limit end with the connection.
  for (const kind of ['rapid reset', 'continuation flood', 'empty continuations', 'noise']) expect(first[kind], kind).toBeGreaterThan(0);
  expect(unhandled).toEqual([]);
  expect(agent.logged).toEqual([]);
});
