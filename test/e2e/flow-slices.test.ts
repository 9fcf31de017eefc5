// A lane of which a quarter of a million flows end at once: it goes on answering, and tells of every one of them.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { readBatchHead } from '../../src/flow/batch-head.ts';
import { Attachment_Kind, FlowsAck, MeterSetup, StreamSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { openPipe } from '../../src/lane/client.ts';
import { packetSocketOf } from '../../src/lane/place.ts';
import { connectLane } from '../../src/rpc/lane-client.ts';
import { startAgent } from '../harness/agent.ts';
import { bound } from '../harness/bound.ts';
import { stopLanes } from '../harness/lanes.ts';
import { createNamespace } from '../harness/namespace.ts';
import { OwnLane } from '../harness/own-lane.ts';
import { seed } from '../harness/random.ts';
import { creation, TUN } from './specs.ts';

const FLOWS = 200_000;
const PER_SECOND = 100_000;
const TABLE = { tableEntries: 262_144 };
/** Much less than the records of all these flows. */
const LIMITS = { ...TABLE, waitingBytes: 2 * 1024 * 1024, ringBytes: 0 };
/** Longest that an answer may take while flows end. */
const ANSWER_MS = bound(60, 500);

it('answers while very many flows end at once, and tells of every one', async () => {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  try {
    const spec = { mode: TUN, up: true, sysctls: { 'ipv6/disable_ipv6': '1' }, flowMetering: { disabled: true } };
    const { uid } = await agent.client().interfaces.create(creation('x0', spec));
    await using lane = await OwnLane.start(agent, ns);
    const client = connectLane(lane.socket, 5000);
    await client.setAttachments([], true, LIMITS);
    const hold = (idleTimeout: number) =>
      lane.hold({
        kind: Attachment_Kind.METER,
        device: { uid, interface: 'x0' },
        meter: MeterSetup.fromPartial({ idleTimeout, activeTimeout: 600, ...TABLE }),
      });
    await expect
      .poll(
        () =>
          hold(60).then(
            () => true,
            () => false,
          ),
        { timeout: 10_000, interval: 100 },
      )
      .toBe(true);
    const seen = { records: 0, lost: 0n, packets: 0n, active: 0n };
    let batches = 0n;
    const pipe = openPipe(packetSocketOf(lane.socket), StreamSetup.fromPartial({ flows: {} }), {
      batch(bytes, release) {
        const head = readBatchHead(bytes);
        release();
        if ('malformed' in head) throw new Error(head.malformed);
        seen.records += head.records;
        seen.lost += head.lost;
        seen.packets = head.totals?.recordedPackets ?? seen.packets;
        seen.active = head.totals?.activeFlows ?? seen.active;
        pipe.send(Buffer.from(FlowsAck.encode({ batches: ++batches }).finish()));
      },
      end() {},
      failed() {},
      room() {},
    });
    const flood = ns.spawn([process.execPath, join(import.meta.dirname, '..', 'harness', 'frame-flood.ts'), 'x0']);
    await flood.until(({ stdout }) => stdout.includes('held'), 'the queue to be held', 20_000);
    flood.stdin.write(`scan ${FLOWS} ${seed} ${PER_SECOND}\n`);
    await flood.until(({ stdout }) => stdout.includes('sent'), 'the flood', 30_000);
    await sleep(1500);
    const took: number[] = [];
    await hold(1);
    const begun = performance.now();
    while ((seen.active > 0n || seen.packets < 1n || performance.now() - begun < 2000) && performance.now() - begun < 20_000) {
      const from = performance.now();
      await client.getLane();
      took.push(performance.now() - from);
      await sleep(5);
    }
    client.close();
    took.sort((a, b) => b - a);
    console.log(
      `${seen.records} records, ${seen.lost} lost, ${seen.packets} packets; the slowest answers took ${took.slice(0, 5).map(Math.round)} ms`,
    );
    pipe.destroy();
    await flood[Symbol.asyncDispose]();
    expect(seen.lost).toBe(0n);
    expect(seen.packets).toBeGreaterThan(FLOWS * 0.9);
    expect(took[0]).toBeLessThan(ANSWER_MS);
  } finally {
    await stopLanes(agent);
  }
});
