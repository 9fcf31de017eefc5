// The exporter, a real nats-server, and what befalls them: servers killed under load, agents killed while they put, a store that is put back
// from a copy, a stream that is deleted. At the end the stream is read from its beginning by other means, and every record must be there once,
// in order. TAPLANE_FAULTS=7 kills more than a hundred agents.

import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Exporter } from '../../src/flow/contract.ts';
import { openExporter } from '../../src/flow/exporter.ts';
import { RecordLoss_Reason as Reason } from '../../src/gen/taplane/v1/flow.ts';
import { connectNats, type NatsLink } from '../../src/nats/connection.ts';
import { Child } from '../harness/process.ts';
import { random, seed } from '../harness/random.ts';
import { eventually, freePort, natsBinary, type RealNats, startNats } from '../nats/real-nats.ts';
import { EXPORTING, meter } from './batches.ts';
import { jetStreamCall, judge, readStream } from './stream-reader.ts';

const MORE = Number(process.env['TAPLANE_FAULTS'] ?? 1);
const MIB = 1024 * 1024;
const silent = { debug() {}, info() {}, warn() {} };
let folder: string;
let port: number;
let nats: RealNats;
let link: NatsLink | undefined;
let exporter: Exporter | undefined;

const store = () => join(folder, 'store');
const start = async () => {
  nats = await startNats(port, '-js', '-sd', store());
};

describe.skipIf(!natsBinary)('with a real nats-server (needs one in the PATH)', () => {
  beforeEach(async () => {
    console.log(`seed ${seed}`);
    folder = mkdtempSync(join(tmpdir(), 'taplane-faults-'));
    port = await freePort();
    await start();
  });
  afterEach(async () => {
    await exporter?.close(0);
    await link?.close();
    exporter = link = undefined;
    await nats.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  function open(retainedBytes = 16 * MIB): Exporter {
    link = connectNats({ mode: `nats://127.0.0.1:${port}`, name: 'taplane/test', stateDir: folder, log: silent, random: () => 0 });
    exporter = openExporter({
      ...EXPORTING,
      file: join(folder, 'spool', 'spool.db'),
      cluster: 'c',
      node: 'n',
      mode: 'jetstream',
      limits: { spoolBytes: 64 * MIB, retainedBytes },
      connection: () => link?.connection(),
      log: silent,
      times: { ackMs: 1_000, checkMs: 300 },
    });
    return exporter;
  }
  const idle = (of: Exporter) =>
    eventually(() => of.stats().spooledMessages === 0n && of.stats().reason === '', `all is published: ${of.stats().reason}`, 60_000);
  const feeder = (...args: number[]) => new Child([process.execPath, join(import.meta.dirname, 'feeder.ts'), folder, ...args.map(String)]);
  const lanes = (count: number) => Array.from({ length: count }, (_, number) => meter(`t${number}`, `e${number}`.padEnd(16, '0'), 20));
  const wanted = (count: number, batches: number) =>
    Object.fromEntries(lanes(count).map((lane) => [lane.epoch, Number(lane.batch(batches).firstSequence)]));

  test('the server is killed again and again under load: every record is there once', async () => {
    const batches = 600 * MORE;
    const dice = random('servers');
    await using child = feeder(port, 3, batches, 20, 12);
    await child.until(({ stdout }) => stdout.includes('ready'), 'the feeder');
    for (let round = 0; round < 20 * MORE; round += 1) {
      await sleep(dice.integer(50, 350));
      await nats.stop('SIGKILL');
      await sleep(dice.integer(0, 120));
      await start();
    }
    await child.until(({ stdout }) => stdout.includes('done'), 'all is published', 120_000);
    expect(judge(await readStream(port, 'TAPLANE_FLOWS'))).toMatchObject({ gaps: 0, next: wanted(3, batches) });
  }, 600_000);

  test('the agent is killed again and again while it puts: every record is there once', async () => {
    const batches = 100_000;
    const dice = random('agents');
    for (let round = 0; round < 16 * MORE; round += 1) {
      // Most lives only spool, which is what this is about; each is over before the next begins.
      await using child = feeder(round % 4 === 0 ? port : 0, 3, batches, 20, 0);
      await child.until(({ stdout }) => stdout.includes('ready'), 'the feeder');
      await sleep(dice.integer(0, 150));
      child.kill('SIGKILL');
      await child.ended;
    }
    await using last = feeder(port, 3, 1, 20, 0);
    await last.until(({ stdout }) => stdout.includes('done'), 'all is published', 60_000);
    const judged = judge(await readStream(port, 'TAPLANE_FLOWS'));
    console.log(`${judged.records} records over ${16 * MORE} lives`);
    expect(judged).toMatchObject({ gaps: 0, lost: {} });
    for (const lane of lanes(3)) {
      const { firstSequence } = lane.batch(Number(readFileSync(join(folder, `lane-${lane.interfaceName.slice(1)}`), 'utf8')));
      // One more than the lane knows of may have been put before the agent was killed.
      expect(judged.next[lane.epoch]).toBeGreaterThanOrEqual(Number(firstSequence));
      expect(judged.next[lane.epoch]).toBeLessThanOrEqual(Number(firstSequence) + 20);
    }
  }, 600_000);

  test.each([
    ['all of it is kept', 16 * MIB],
    ['some of it is kept', 60_000],
  ])(
    'a store put back from an old copy, without new traffic; %s',
    async (_, retainedBytes) => {
      const out = open(retainedBytes);
      const all = lanes(3);
      const put = (from: number, to: number): void => {
        for (let index = from; index < to; index += 1) out.put(all.map((lane) => lane.batch(index)));
      };
      put(0, 50);
      await idle(out);
      await nats.stop('SIGTERM');
      cpSync(store(), join(folder, 'copy'), { recursive: true });
      await start();
      put(50, 150);
      await eventually(() => out.stats().publishedMessages === 450n, 'all is published');
      await nats.stop('SIGTERM');
      rmSync(store(), { recursive: true });
      cpSync(join(folder, 'copy'), store(), { recursive: true });
      await start();
      await eventually(() => out.stats().republishedMessages > 0n, 'it is seen');
      await idle(out);
      const judged = judge(await readStream(port, 'TAPLANE_FLOWS'));
      expect(judged.next).toEqual(wanted(3, 150));
      if (retainedBytes > MIB) {
        expect(judged.lost).toEqual({});
        expect(out.stats().republishedMessages).toBe(300n);
      } else {
        expect(judged.lost[Reason.SERVER_LOST]).toBeGreaterThan(0);
        expect(out.stats().lost).toEqual([{ reason: Reason.SERVER_LOST, count: BigInt(judged.lost[Reason.SERVER_LOST] ?? 0) }]);
      }
    },
    120_000,
  );

  test('a stream deleted while it is idle, and purged while it is idle', async () => {
    const out = open();
    const all = lanes(3);
    for (let index = 0; index < 50; index += 1) out.put(all.map((lane) => lane.batch(index)));
    await idle(out);
    await jetStreamCall(port, 'STREAM.DELETE.TAPLANE_FLOWS');
    await eventually(() => out.stats().republishedMessages === 150n, 'it is seen');
    await idle(out);
    expect(judge(await readStream(port, 'TAPLANE_FLOWS'))).toMatchObject({ gaps: 0, next: wanted(3, 50) });
    // Whoever purges does not want them back.
    await jetStreamCall(port, 'STREAM.PURGE.TAPLANE_FLOWS');
    await sleep(700);
    out.put(all.map((lane) => lane.batch(50)));
    await idle(out);
    expect(await readStream(port, 'TAPLANE_FLOWS')).toHaveLength(3);
    expect(out.stats().republishedMessages).toBe(150n);
  }, 120_000);

  test('a stream deleted under load', async () => {
    const out = open();
    const all = lanes(3);
    for (let index = 0; index < 300; index += 1) {
      out.put(all.map((lane) => lane.batch(index)));
      if (index % 60 === 30) await jetStreamCall(port, 'STREAM.DELETE.TAPLANE_FLOWS');
      await sleep(2);
    }
    await sleep(1_000);
    await idle(out);
    expect(judge(await readStream(port, 'TAPLANE_FLOWS'))).toMatchObject({ gaps: 0, next: wanted(3, 300) });
  }, 120_000);

  test('messages that leave the stream by its limits are not missed', async () => {
    const out = open();
    await idle(out);
    const limits = { name: 'TAPLANE_FLOWS', subjects: ['taplane.v1.*.*.flow.>'], storage: 'file', retention: 'limits', max_msgs: 5 };
    await jetStreamCall(port, 'STREAM.UPDATE.TAPLANE_FLOWS', { ...limits, duplicate_window: 120e9 });
    const [first, second] = lanes(2);
    for (let index = 0; index < 10; index += 1) out.put([first?.batch(index) as never]);
    for (let index = 0; index < 20; index += 1) out.put([second?.batch(index) as never]);
    await idle(out);
    await nats.stop('SIGTERM');
    await start();
    await eventually(() => link?.status().disconnects === 1n && link.connection() !== undefined, 'it is back');
    await sleep(500);
    out.put([first?.batch(10) as never]);
    await idle(out);
    expect(out.stats()).toMatchObject({ republishedMessages: 0n, lost: [], publishedMessages: 31n });
  }, 120_000);
});
