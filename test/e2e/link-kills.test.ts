// What becomes of traffic through a link when a process dies, and of memory when links come and go.

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bound, SOON, whenStrict } from '../harness/bound.ts';
import { numbered, Probe } from '../harness/passage.ts';
import { untilAnswers } from '../harness/ping.ts';
import { createUnderlay, type Underlay } from '../harness/underlay.ts';
import { linking, unlinking } from '../link/links.ts';
import { type LinkNode, openNodes } from './link-nodes.ts';

let net: Underlay;
let near: LinkNode;
let far: LinkNode;

beforeAll(async () => {
  net = createUnderlay({ hosts: 2 });
  [near, far] = await openNodes(net, 'wireguard');
});

afterAll(async () => {
  await near?.[Symbol.asyncDispose]();
  await far?.[Symbol.asyncDispose]();
  await net?.[Symbol.asyncDispose]();
});

describe('traffic', () => {
  it('goes on without a loss while agents are killed and started again', async () => {
    const lanes = [await near.lanePid(), await far.lanePid()];
    const count = bound(60_000, 5000);
    const passing = numbered(near.namespace, far.namespace, far.inner4, count, { perSecond: bound(3000, 1000), bytes: 1200 });
    await sleep(500);
    await near.agent.kill9();
    await far.agent.kill9();
    await sleep(500);
    await near.agent.start();
    await far.agent.start();
    const passed = await passing;
    const drops = [await near.status(), await far.status()].flatMap((status) =>
      status.drops.map(({ reason, packets }) => `${reason}: ${packets}`),
    );
    expect(passed, drops.join(', ')).toEqual({ sent: count, received: count, duplicates: 0, corrupted: 0, reordered: 0 });
    expect([await near.lanePid(), await far.lanePid()]).toEqual(lanes);
    await expect.poll(async () => (await near.status()).peers[0]?.up, SOON).toBe(true);
    expect(await numbered(far.namespace, near.namespace, near.inner6, 500)).toMatchObject({ received: 500 });
  });

  whenStrict('of iperf3 loses nothing while agents are killed', async () => {
    await using server = far.namespace.spawn(['iperf3', '-s', '-1', '--forceflush']);
    await server.until(({ stdout }) => stdout.includes('Server listening'), 'iperf3 -s');
    const client = near.namespace.exec(['iperf3', '-J', '-u', '-b', '30M', '-l', '1200', '-t', '6', '-c', far.inner4]);
    await sleep(1000);
    await near.agent.kill9();
    await far.agent.kill9();
    await sleep(1000);
    await near.agent.start();
    await far.agent.start();
    const { end } = JSON.parse((await client).stdout) as {
      end: { sum: { packets: number; lost_packets: number; bits_per_second: number } };
    };
    console.log(`iperf3: ${end.sum.lost_packets} of ${end.sum.packets} lost at ${Math.round(end.sum.bits_per_second / 1e6)} Mbit/s`);
    expect(end.sum.packets).toBeGreaterThan(15_000);
    expect(end.sum.lost_packets).toBe(0);
  });

  it('stands still for less than a second when the lane is killed', async () => {
    const before = await near.lanePid();
    await using probe = new Probe(near.namespace, far.inner4);
    await sleep(300);
    process.kill(before, 'SIGKILL');
    await sleep(100);
    await untilAnswers(near.namespace, far.inner4);
    await sleep(200);
    const { longestGapMs, sent, received, duplicates } = await probe.stop();
    console.log(`lane killed: gap ${Math.round(longestGapMs)} ms, ${sent - received} of ${sent} lost`);
    expect(await near.lanePid()).not.toBe(before);
    expect(duplicates).toBe(0);
    expect(longestGapMs).toBeLessThan(bound(1000, 8000));
    await untilAnswers(far.namespace, near.inner6);
  });
});

describe('links that come and go', () => {
  it('leave nothing behind', { timeout: 900_000 }, async () => {
    const rounds = bound(1000, 30);
    const { links } = near.agent.client();
    const took = { deleteMs: 0, createMs: 0 };
    const round = async () => {
      const begun = performance.now();
      await links.delete(unlinking(near.name));
      const deleted = performance.now();
      await links.create(linking(near.name, near.spec));
      took.deleteMs += deleted - begun;
      took.createMs += performance.now() - deleted;
    };
    for (let warm = 0; warm < rounds / 2; warm++) await round();
    const pids = [near.agent.pid, await near.lanePid()];
    const before = pids.map(held);
    for (let count = 0; count < rounds; count++) await round();
    await untilAnswers(near.namespace, far.inner4);
    expect([near.agent.pid, await near.lanePid()]).toEqual(pids);
    await expect.poll(() => pids.map((pid) => held(pid).fds), SOON).toEqual(before.map(({ fds }) => fds));
    const grown = pids.map((pid, index) => (held(pid).rss - (before[index]?.rss ?? 0)) / 2 ** 20);
    const all = Math.ceil(rounds / 2) + rounds;
    console.log(`delete ${(took.deleteMs / all).toFixed(1)} ms, create ${(took.createMs / all).toFixed(1)} ms in the mean`);
    console.log(`${rounds} times: agent and lane ${grown.map((mebibytes) => `${mebibytes.toFixed(1)} MiB`).join(', ')} more`);
    for (const mebibytes of grown) expect(mebibytes).toBeLessThan(24);
  });
});

function held(pid: number): { fds: number; rss: number } {
  const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return { fds: readdirSync(`/proc/${pid}/fd`).length, rss: Number(rss) * 1024 };
}
