// Connections that misuse HTTP/2, many of them: each costs itself only. Another client is served as ever, and the memory comes back.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { type Agent, startAgent } from '../harness/agent.ts';
import { bound } from '../harness/bound.ts';
import { percentile } from '../harness/percentile.ts';

const PEER = fileURLToPath(new URL('hostile-peer.ts', import.meta.url));
/** Of each kind one, at least; what lasts longer lets the heap grow to its working size first. */
const WARM_UP = bound(1_400, 14);
const CONNECTIONS = bound(10_000, 14);
/** Some eighty new ones a second. */
const AT_ONCE = bound(8, 14);
/** The agent gives memory back when it rests, and not more often than once a minute. */
const REST_MS = 80_000;

async function attack(agent: Agent, connections: number): Promise<Record<string, number>> {
  const peer = spawn(process.execPath, [PEER, agent.socket, String(connections), String(AT_ONCE)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  peer.stdout.on('data', (chunk) => (said += chunk));
  await once(peer, 'close');
  return JSON.parse(said) as Record<string, number>;
}

async function latencies(client: ReturnType<Agent['client']>, goOn: () => boolean, most = Number.POSITIVE_INFINITY): Promise<number[]> {
  const times: number[] = [];
  while (goOn() && times.length < most) {
    const begun = performance.now();
    expect((await client.node.getNode()).name).not.toBe('');
    times.push(performance.now() - begun);
    await sleep(1);
  }
  return times;
}

/** Bytes, as low as they come while nobody calls. */
async function settledRss(agent: Agent, fds: number): Promise<number> {
  const deadline = Date.now() + bound(REST_MS, 5_000);
  let least = Number.POSITIVE_INFINITY;
  do {
    await sleep(200);
    least = Math.min(least, agent.rss());
  } while (agent.fds() > fds || (bound(1, 0) === 1 && Date.now() < deadline));
  return least;
}

test('hostile connections cost only themselves', { timeout: bound(1_800_000, 120_000) }, async () => {
  await using agent = await startAgent();
  const client = agent.client();
  await latencies(client, () => true, bound(1000, 20));
  const fds = agent.fds();
  const quiet = percentile(await latencies(client, () => true, bound(1000, 100)), 99);

  const first = await attack(agent, WARM_UP);
  const before = await settledRss(agent, fds);
  let over = false;
  const second = attack(agent, CONNECTIONS).finally(() => (over = true));
  const during = await latencies(client, () => !over);
  await second;
  const after = await settledRss(agent, fds);

  const p99 = percentile(during, 99);
  const mb = (bytes: number) => (bytes / 1e6).toFixed(0);
  const told = `${CONNECTIONS} hostile connections: p99 of another client ${quiet.toFixed(1)} ms, under attack ${p99.toFixed(1)} ms of ${during.length} calls; ${mb(before)} MB, then ${mb(after)} MB`;
  console.log(told);
  // On a machine that does other things beside, that it is served at all.
  expect(p99, told).toBeLessThan(bound(Math.max(quiet, 2) * 3, 20_000));
  expect(after, told).toBeLessThan(bound(before * 1.1, before + 250e6));
  // The floods that have a limit end with the connection.
  for (const kind of ['rapid reset', 'continuation flood', 'empty continuations', 'one byte at a time', 'noise'])
    expect(first[kind], kind).toBeGreaterThan(0);
  // Nothing that it did not expect, and no end.
  expect(agent.log.split('\n').filter((line) => /"level":"(error|fatal)"|"level":[56]0/.test(line))).toEqual([]);
});
