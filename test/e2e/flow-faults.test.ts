// NATS that is away, hangs or refuses costs interfaces and the API nothing, is told of, and costs no record either once it is over.

import { expect, it } from 'vitest';
import { bound } from '../harness/bound.ts';
import { createCable, createNamespace } from '../harness/namespace.ts';
import { percentile, summary } from '../harness/percentile.ts';
import { untilAnswers } from '../harness/ping.ts';
import { natsBinary } from '../nats/real-nats.ts';
import { becomes, DEVICE, ECHO, type FlowNode, shortFlows, startFlowNode } from './flow-node.ts';

const HERE = '192.0.2.1';
const SERVER = '192.0.2.2';
const CALLS = Number(process.env['TAPLANE_FAULT_CALLS'] ?? 150);
/** Beside 20 %: what the measurement itself is worth. */
const NOISE_MS = bound(5, 50);

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
