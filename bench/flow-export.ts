// Flow records from `put` to JetStream: records a second with batches of about 300 records (45 KB), on one subject and on eight, against what
// the client library alone publishes in the same way (one message in flight for each subject, with ids and acknowledgements, no spool).

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { jetstream } from '@nats-io/jetstream';
import type { Outgoing } from '../src/flow/contract.ts';
import { openExporter } from '../src/flow/exporter.ts';
import { connectNats } from '../src/nats/connection.ts';
import { EXPORTING, flowMessage } from '../test/flow/batches.ts';
import { percentile } from '../test/harness/percentile.ts';
import { freePort, natsBinary, startNats } from '../test/nats/real-nats.ts';

const RECORDS = 300;
const BATCHES = Number(process.env['TAPLANE_BATCHES'] ?? 1600);
const ROUNDS = Number(process.env['TAPLANE_ROUNDS'] ?? 3);
const silent = { debug() {}, info() {}, warn() {} };
const turn = () => new Promise((resolve) => setImmediate(resolve));

export async function flowExportBench(): Promise<string[]> {
  if (!natsBinary) return ['skipped: no nats-server on the PATH'];
  const lines: string[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const subjects of [1, 8]) {
      const ours = await once(subjects);
      lines.push(
        `${subjects} subject${subjects > 1 ? 's' : ''}: ${ours.perSecond.toFixed(0)} records/s (backlog ${ours.backlogPerSecond.toFixed(0)}), library alone ${ours.alone.toFixed(0)}, ratio ${(ours.perSecond / ours.alone).toFixed(2)}; ` +
          `put p50 ${ours.putMs.toFixed(2)} ms, p99 ${ours.putWorstMs.toFixed(2)}; event loop p99 ${ours.loopMs.toFixed(1)} ms, most ${ours.loopMostMs.toFixed(1)}; ${ours.cpuUs.toFixed(0)} us CPU a batch`,
      );
    }
  }
  return lines;
}

async function once(subjects: number) {
  const folder = mkdtempSync(join(tmpdir(), 'taplane-bench-'));
  const port = await freePort();
  const nats = await startNats(port, '-js', '-sd', join(folder, 'store'));
  let isOpen = true;
  const link = connectNats({ mode: `nats://127.0.0.1:${port}`, name: 'bench', stateDir: folder, log: silent });
  while (link.connection() === undefined) await turn();
  const exporter = openExporter({
    ...EXPORTING,
    file: join(folder, 'spool', 'spool.db'),
    cluster: 'c',
    node: 'n',
    mode: 'jetstream',
    connection: () => (isOpen ? link.connection() : undefined),
    log: silent,
  });
  try {
    const { payload } = flowMessage('t0', '0'.repeat(16), 1, RECORDS);
    const message = (index: number): Outgoing => {
      const lane = index % subjects;
      const first = Math.floor(index / subjects) * RECORDS + 1;
      const epoch = String(lane).padStart(16, '0');
      return { kind: 'flow', name: `t${lane}`, id: `${epoch}:${first}`, epoch, firstSequence: BigInt(first), records: RECORDS, payload };
    };
    const puts: number[] = [];
    const put = (index: number): void => {
      const startedAt = performance.now();
      exporter.put([message(index)]);
      puts.push(performance.now() - startedAt);
    };
    put(0);
    while (exporter.stats().publishedMessages < 1n) await turn();

    // As it comes: a put a turn, at most 64 ahead of what is published.
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    let startedAt = performance.now();
    const cpu = process.cpuUsage();
    let index = 1;
    while (exporter.stats().publishedMessages < BigInt(BATCHES)) {
      if (index < BATCHES && exporter.stats().spooledMessages < 64n) put(index++);
      await turn();
    }
    const perSecond = (BATCHES * RECORDS) / ((performance.now() - startedAt) / 1000);
    const { user, system } = process.cpuUsage(cpu);
    delay.disable();

    // As it waited: the connection comes when all of it is there.
    isOpen = false;
    await new Promise((resolve) => setTimeout(resolve, 250));
    for (; index < 2 * BATCHES; index += 1) put(index);
    isOpen = true;
    startedAt = performance.now();
    while (exporter.stats().publishedMessages < BigInt(2 * BATCHES)) await new Promise((resolve) => setTimeout(resolve, 5));
    const backlogPerSecond = (BATCHES * RECORDS) / ((performance.now() - startedAt) / 1000);

    const client = jetstream(link.connection() as never);
    startedAt = performance.now();
    const alone = async (lane: number): Promise<void> => {
      for (let number = lane; number < BATCHES; number += subjects) {
        await client.publish(`taplane.v1.c.n.flow.alone-${lane}`, payload, { msgID: `alone-${lane}-${number}` });
      }
    };
    await Promise.all(Array.from({ length: subjects }, (_, lane) => alone(lane)));
    return {
      perSecond,
      backlogPerSecond,
      alone: (BATCHES * RECORDS) / ((performance.now() - startedAt) / 1000),
      putMs: percentile(puts, 50),
      putWorstMs: percentile(puts, 99),
      loopMs: delay.percentile(99) / 1e6,
      loopMostMs: delay.max / 1e6,
      cpuUs: (user + system) / BATCHES,
    };
  } finally {
    await exporter.close(0);
    await link.close();
    await nats.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
