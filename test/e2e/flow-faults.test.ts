// NATS that is away, hangs or refuses, and a disk that is full, cost interfaces and the API nothing, are told of, and cost no record either
// once they are over.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { RecordLoss_Reason } from '../../src/gen/taplane/v1/flow.ts';
import { bound } from '../harness/bound.ts';
import { createCable, createNamespace } from '../harness/namespace.ts';
import { percentile, summary } from '../harness/percentile.ts';
import { untilAnswers } from '../harness/ping.ts';
import { runSync } from '../harness/process.ts';
import { natsBinary } from '../nats/real-nats.ts';
import { becomes, DEVICE, ECHO, type FlowNode, shortFlows, startFlowNode } from './flow-node.ts';

const HERE = '192.0.2.1';
const SERVER = '192.0.2.2';
const CALLS = Number(process.env['TAPLANE_FAULT_CALLS'] ?? 150);
/** Beside 20 %: what the measurement itself is worth. */
const NOISE_MS = bound(5, 40);

interface Fault {
  name: string;
  begin: () => Promise<void>;
  end: () => Promise<void>;
  /** What is then said of the connection and of the export. */
  nats: RegExp;
  export: RegExp;
}

/** How long each of many calls takes, one after the other, milliseconds. */
async function callTimes(node: FlowNode, calls = CALLS): Promise<number[]> {
  const { interfaces } = node.agent.client();
  const times: number[] = [];
  for (let call = 0; call < calls; call++) {
    const begun = performance.now();
    await interfaces.get({ name: `interfaces/${DEVICE}` });
    times.push(performance.now() - begun);
  }
  return times;
}

/** The slowest of a hundred calls may take so long, after what they took without a fault. */
const most = (healthy: number[]): number => 1.2 * percentile(healthy, 99) + NOISE_MS;

/** What `node status` says of NATS and of the export, and `flow stats` of the latter. */
async function said(node: FlowNode): Promise<[nats: string, status: string, stats: string]> {
  const { stdout } = await node.agent.cli(['node', 'status']);
  const line = (name: string): string => new RegExp(`^${name}: +(.*)$`, 'm').exec(stdout)?.[1] ?? '';
  return [line('NATS'), line('Export'), (await node.stats()).export?.reason ?? ''];
}

it.skipIf(!natsBinary)(
  'NATS at its worst costs no packet, no call its time, and no record',
  { timeout: 120_000 + 250 * CALLS },
  async () => {
    const far = createNamespace();
    const ns = createNamespace();
    createCable({ namespace: ns, device: 'up0', address: `${HERE}/24` }, { namespace: far, device: 'up0', address: `${SERVER}/24` });
    try {
      await using node = await startFlowNode({ ns, server: { ns: far, address: SERVER }, nats: `nats://${SERVER}:4222` });
      const again = async (): Promise<void> => {
        await node.stopNats();
        await node.startNats();
      };
      const faults: Fault[] = [
        {
          name: 'killed',
          begin: () => node.stopNats(),
          end: () => node.startNats(),
          nats: /^connecting .*\(.*(ECONNREFUSED|connection)/,
          export: /not connected to NATS/,
        },
        {
          name: 'stopped',
          begin: async () => node.signalNats('SIGSTOP'),
          end: async () => node.signalNats('SIGCONT'),
          nats: /^connect/,
          export: /timeout|time/i,
        },
        {
          name: 'behind a black hole',
          begin: async () => far.ip(`route add blackhole ${HERE}/32`),
          end: async () => far.ip(`route delete blackhole ${HERE}/32`),
          nats: /^connect/,
          export: /timeout|time/i,
        },
        {
          name: 'refusing the login',
          begin: async () => {
            await node.stopNats();
            await node.startNats('--user', 'somebody', '--pass', 'else');
          },
          end: again,
          nats: /^connecting .*\(.*authorization/i,
          export: /not connected to NATS/,
        },
        {
          name: 'without JetStream',
          begin: async () => {
            await node.stopNats();
            await node.startNatsAs(undefined);
          },
          end: again,
          nats: /^connected/,
          export: /jetstream/i,
        },
      ];
      await untilAnswers(ns, ECHO);
      await using ping = ns.spawn(['ping', '-n', '-i', '0.01', ECHO]);
      await using traffic = shortFlows(ns, 100);
      const well = async (): Promise<number> => {
        const before = Number((await node.stats()).export?.publishedMessages ?? 0n);
        const published = async (): Promise<boolean> => Number((await node.stats()).export?.publishedMessages ?? 0n) > before;
        await becomes(published, true);
        await becomes(async () => (await node.stats()).export?.reason, '');
        return before;
      };
      await well();
      // The agent has seen its usual work.
      await callTimes(node, 200);
      const healthy = [await callTimes(node)];
      for (const fault of faults) {
        const begun = performance.now();
        await fault.begin();
        const isTold = ([nats, status, stats]: string[]): boolean =>
          fault.nats.test(nats ?? '') && fault.export.test(status ?? '') && fault.export.test(stats ?? '');
        await becomes(
          () => said(node),
          ([, , stats]) => stats !== '',
        );
        const visibleMs = performance.now() - begun;
        // With all of why; a server that is another one now has to be reached first.
        const now = await becomes(() => said(node), isTold);
        // What else the machine does makes one block slow; a fault that costs something makes all of them slow.
        let times = await callTimes(node);
        for (let more = 0; more < 2 && percentile(times, 99) > most(healthy.flat()); more++) {
          const again = await callTimes(node);
          if (percentile(again, 99) < percentile(times, 99)) times = again;
        }
        const { spooledMessages = 0n, reason } = (await node.stats()).export ?? {};
        expect(reason, fault.name).not.toBe('');
        expect(spooledMessages, fault.name).toBeGreaterThan(0n);
        await fault.end();
        const over = performance.now();
        await well();
        const wellMs = performance.now() - over;
        healthy.push(await callTimes(node));
        const without = healthy.slice(-2).flat();
        console.log(
          `NATS ${fault.name}: ${summary(times)} a call, before and after ${summary(without)}; ` +
            `visible after ${Math.round(visibleMs)} ms, well ${Math.round(wellMs)} ms after it was over: ${now.join('; ')}`,
        );
        expect(visibleMs, fault.name).toBeLessThan(bound(8000, 25_000));
        expect(percentile(times, 99), fault.name).toBeLessThanOrEqual(Math.max(most(without), most(healthy.flat())));
      }
      ping.kill('SIGINT');
      const { stdout } = await ping.ended;
      const answered = new Set([...stdout.matchAll(/ bytes from .* icmp_seq=(\d+) /g)].map((match) => Number(match[1])));
      // All but one that had just left.
      const asked = Number(/^(\d+) packets transmitted/m.exec(stdout)?.[1]);
      expect(asked).toBeGreaterThan(500);
      expect(Array.from({ length: asked - 1 }, (_, index) => index + 1).filter((number) => !answered.has(number))).toEqual([]);
      const sent = await traffic.stop();
      const judged = await node.judged();
      console.log(`NATS at its worst: ${asked} pings, ${sent} short flows, ${judged.records} records exactly once`);
      expect(judged).toMatchObject({ lost: {}, gaps: 0, dropped: 0 });
    } finally {
      ns[Symbol.dispose]();
      far[Symbol.dispose]();
    }
  },
);

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
      await untilFull();
      await flows(300);
      await becomes(async () => (await node.stats()).interfaces[0]?.active, true);
      expect(await reason()).toMatch(/full/);
      rmSync(ballast);
      const kept = await node.judged();
      console.log(`disk full: ${kept.records} records, all there with room again`);
      expect(kept).toMatchObject({ lost: {}, gaps: 0 });

      await untilFull();
      await flows(6000);
      expect(await reason()).toMatch(/full/);
      rmSync(ballast);
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
