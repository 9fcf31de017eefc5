// What must hold of flow records on their way to NATS, whoever dies: each is in the stream exactly once, and what is not is told of exactly.
// TAPLANE_OUTAGE_S, TAPLANE_AGENT_KILLS and TAPLANE_NATS_RESTARTS make it last. The tests run side by side, each on a node of its own:
// most of the time they wait.

import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { RecordLoss_Reason } from '../../src/gen/taplane/v1/flow.ts';
import { random } from '../harness/random.ts';
import { jetStreamCall } from '../harness/raw-nats.ts';
import { natsBinary } from '../nats/real-nats.ts';
import { becomes, type FlowNode, shortFlows, startFlowNode } from './flow-node.ts';

const outageS = Number(process.env['TAPLANE_OUTAGE_S'] ?? 6);
const kills = Number(process.env['TAPLANE_AGENT_KILLS'] ?? 5);
const restarts = Number(process.env['TAPLANE_NATS_RESTARTS'] ?? 4);
/** Short flows a second. */
const RATE = 400;
const chance = random('flow export');

function tell(what: string, { records, packets, dropped, gaps }: Awaited<ReturnType<FlowNode['judged']>>): void {
  console.log(
    `${what}: ${records} records exactly once, ${packets} packets as on the device, ${dropped} dropped by the ring, ${gaps} gaps`,
  );
}

/** Waits until NATS has acknowledged more than before; answers how many records it has. */
async function moreIsPublished(node: FlowNode, before = 0): Promise<number> {
  const published = async (): Promise<number> => Number((await node.stats()).export?.publishedRecords ?? 0n);
  return becomes(published, (count) => count > before);
}

it.skipIf(!natsBinary).concurrent(
  `every record is in the stream once when NATS is killed ${restarts} times, and is away for ${outageS} s`,
  { timeout: 120_000 + 2000 * outageS + 25_000 * restarts },
  async () => {
    await using node = await startFlowNode();
    await using traffic = shortFlows(node.ns, RATE);
    for (let round = 0, had = 0; round < restarts; round++) {
      // Also while it takes what waited.
      had = await moreIsPublished(node, had);
      await sleep(chance.uniform(0, 300));
      // With messages on their way, which a server that hangs does not read any more.
      if (round % 2 === 0) {
        node.signalNats('SIGSTOP');
        await sleep(700);
      }
      await node.stopNats();
      await node.startNats();
    }
    const had = await moreIsPublished(node);
    await node.stopNats();
    await sleep(outageS * 1000);
    const { spooledMessages = 0n, reason } = (await node.stats()).export ?? {};
    expect(Number(spooledMessages)).toBeGreaterThan(outageS / 2);
    expect(reason).toBe('not connected to NATS');
    await node.startNats();
    await moreIsPublished(node, had);
    const sent = await traffic.stop();
    const judged = await node.judged();
    tell(`NATS killed ${restarts} times and away for ${outageS} s`, judged);
    expect(judged).toMatchObject({ lost: {}, gaps: 0 });
    expect(judged.records).toBeGreaterThanOrEqual(sent);
    expect((await node.stats()).export?.lost).toEqual([]);
  },
);

it.skipIf(!natsBinary).concurrent(
  `every record is in the stream once when the agent is killed ${kills} times while it spools and publishes`,
  { timeout: 120_000 + 8000 * kills },
  async () => {
    await using node = await startFlowNode();
    await using traffic = shortFlows(node.ns, RATE);
    await moreIsPublished(node);
    let mid = 0;
    for (let kill = 0; kill < kills; kill++) {
      await sleep(chance.uniform(0, 500));
      // What was sent and not acknowledged is stored all the same, by a server that was only slow.
      const isHeld = kill % 2 === 1;
      if (isHeld) {
        node.signalNats('SIGSTOP');
        await becomes(async () => ((await node.stats()).export?.spooledMessages ?? 0n) > 0n, true);
        mid += 1;
      }
      await node.agent.kill9();
      if (isHeld) node.signalNats('SIGCONT');
      await node.agent.restart();
    }
    const sent = await traffic.stop();
    const judged = await node.judged();
    tell(`agent killed ${kills} times, ${mid} of them with messages on their way`, judged);
    expect(judged).toMatchObject({ lost: {}, gaps: 0 });
    expect(judged.records).toBeGreaterThanOrEqual(sent);
    if (kills > 1) expect(mid).toBe(Math.floor(kills / 2));
  },
);

it.skipIf(!natsBinary).concurrent('what the spool has no room for is a gap with its exact number', async () => {
  await using node = await startFlowNode({ env: { TAPLANE_FLOWS_SPOOL_BYTES: '65536', TAPLANE_FLOWS_RETAINED_BYTES: '0' } });
  await becomes(async () => (await node.stats()).export?.reason, '');
  await node.stopNats();
  await shortFlows(node.ns, 1500, { most: 4000 }).ended;
  const full = async (): Promise<boolean> => ((await node.stats()).export?.lost ?? []).some(({ count }) => count > 0n);
  await becomes(full, true);
  await becomes(async () => (await node.meter())?.totals?.activeFlows, 0n);
  await node.startNats();
  await shortFlows(node.ns, RATE, { most: 100, first: 4000 }).ended;
  const judged = await node.judged();
  const { [RecordLoss_Reason.SPOOL_FULL]: lost = 0 } = judged.lost;
  tell(`spool full: ${lost} records lost`, judged);
  expect(lost).toBeGreaterThan(1000);
  expect(Object.keys(judged.lost)).toEqual([String(RecordLoss_Reason.SPOOL_FULL)]);
  expect(judged.records + lost).toBe(judged.last);
  expect((await node.stats()).export?.lost).toEqual([{ reason: RecordLoss_Reason.SPOOL_FULL, count: BigInt(lost) }]);
});

it.skipIf(!natsBinary).concurrent(
  'what NATS had acknowledged and has no more is published again: an old store put back, a stream deleted',
  async () => {
    await using node = await startFlowNode();
    const run = async (first: number): Promise<void> => {
      await shortFlows(node.ns, RATE, { most: 400, first }).ended;
      await node.settled();
    };
    await run(0);
    await node.stopNats('SIGTERM');
    const copy = join(node.folder, 'copy');
    cpSync(node.store, copy, { recursive: true });
    await node.startNats();
    await run(1000);
    const before = await node.judged();
    await node.stopNats('SIGTERM');
    rmSync(node.store, { recursive: true });
    cpSync(copy, node.store, { recursive: true });
    await node.startNats();
    // Without a new record: it is looked for when the connection is made.
    const inStream = async (): Promise<number> => (await node.stream()).length;
    await becomes(
      async () => (await node.stats()).export?.republishedMessages ?? 0n,
      (count) => count > 0n,
    );
    const afterCopy = await node.judged();
    tell('old store put back', afterCopy);
    expect(afterCopy).toMatchObject({ records: before.records, lost: {}, gaps: 0 });

    const had = await inStream();
    expect(await jetStreamCall(node.ns, 'STREAM.DELETE.TAPLANE_FLOWS')).toMatchObject({ success: true });
    await run(2000);
    const afterDelete = await node.judged();
    tell('stream deleted', afterDelete);
    expect(afterDelete).toMatchObject({ lost: {}, gaps: 0 });
    expect(afterDelete.records).toBeGreaterThanOrEqual(before.records + 400);
    expect(await inStream()).toBeGreaterThan(had);
  },
);
