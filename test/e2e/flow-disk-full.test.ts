// A full disk under the spool: records stay in the data plane, and what has no room there either is a gap with its exact number.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { RecordLoss_Reason } from '../../src/gen/taplane/v1/flow.ts';
import { runSync } from '../harness/process.ts';
import { natsBinary } from '../nats/real-nats.ts';
import { becomes, shortFlows, startFlowNode } from './flow-node.ts';

it.skipIf(!natsBinary)(
  'a full disk keeps records in the data plane, and what has no room there is a gap with its exact number',
  async () => {
    const disk = `/tmp/tpl-${process.pid}-full-flows`;
    mkdirSync(disk);
    runSync('mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk);
    const ballast = join(disk, 'ballast');
    const fill = (): void => {
      try {
        writeFileSync(ballast, Buffer.alloc(8 * 1024 * 1024));
      } catch {
        // full, as wanted
      }
    };
    try {
      const stateDir = join(disk, 'state');
      mkdirSync(stateDir);
      const env = { TAPLANE_FLOWS_WAITING_BYTES: '524288', TAPLANE_FLOWS_RETAINED_BYTES: '65536' };
      await using node = await startFlowNode({ args: ['--state-dir', stateDir], env });
      let first = 0;
      const flows = async (count: number): Promise<void> => {
        await shortFlows(node.ns, 1500, { most: count, first }).ended;
        first += count;
      };
      const reason = async (): Promise<string> => (await node.stats()).export?.reason ?? '';
      /** Pages that the files have already may take a few more. */
      const untilFull = async (): Promise<void> => {
        fill();
        await becomes(
          async () => {
            await flows(50);
            return reason();
          },
          (text) => /spool.*full/.test(text),
        );
      };
      await flows(300);
      await node.settled();
      // What NATS takes makes room.
      node.signalNats('SIGSTOP');
      await untilFull();
      await flows(300);
      await becomes(async () => (await node.stats()).interfaces[0]?.active, true);
      expect(await reason()).toMatch(/full/);
      rmSync(ballast);
      node.signalNats('SIGCONT');
      const kept = await node.judged();
      console.log(`disk full: ${kept.records} records, all there with room again`);
      expect(kept).toMatchObject({ lost: {}, gaps: 0 });

      node.signalNats('SIGSTOP');
      await untilFull();
      await flows(6000);
      expect(await reason()).toMatch(/full/);
      rmSync(ballast);
      node.signalNats('SIGCONT');
      const judged = await node.judged();
      const { [RecordLoss_Reason.LANE_FULL]: lost = 0 } = judged.lost;
      console.log(`disk full for long: ${judged.records} records and ${lost} lost of ${judged.last}`);
      expect(lost).toBeGreaterThan(0);
      expect(Object.keys(judged.lost)).toEqual([String(RecordLoss_Reason.LANE_FULL)]);
      expect((await node.stats()).lostRecords).toBe(BigInt(lost));
    } finally {
      runSync('umount', '-l', disk);
      rmSync(disk, { recursive: true });
    }
  },
);
