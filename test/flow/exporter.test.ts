// The exporter against a real nats-server: what it publishes and how, streams made and found, every kind of no, and what putting costs meanwhile.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Exporter } from '../../src/flow/contract.ts';
import { type ExporterOptions, openExporter } from '../../src/flow/exporter.ts';
import { RecordLoss_Reason as Reason } from '../../src/gen/taplane/v1/flow.ts';
import { connectNats, type NatsLink } from '../../src/nats/connection.ts';
import { bound } from '../harness/bound.ts';
import { percentile, summary } from '../harness/percentile.ts';
import { eventually, freePort, natsBinary, type RealNats, startNats } from '../nats/real-nats.ts';
import { EXPORTING, eventMessage, flowMessage, meter } from './batches.ts';
import { jetStreamCall, judge, readStream } from './stream-reader.ts';

const MIB = 1024 * 1024;
const EPOCH = '0123456789abcdef';
const silent = { debug() {}, info() {}, warn() {} };
let folder: string;
let port: number;
let nats: RealNats | undefined;
let link: NatsLink;
let exporter: Exporter;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'taplane-exporter-'));
  port = await freePort();
});
afterEach(async () => {
  await exporter.close(0);
  await link.close();
  await nats?.stop();
  nats = undefined;
  rmSync(folder, { recursive: true, force: true });
});

const start = async (...args: string[]) => {
  nats = await startNats(port, '-js', '-sd', join(folder, 'store'), ...args);
};
function open(more: Partial<ExporterOptions> = {}, address = `nats://127.0.0.1:${port}`): Exporter {
  link = connectNats({ mode: address, name: 'taplane/test', stateDir: folder, log: silent, random: () => 0 });
  const times = { ackMs: 1_000, checkMs: 500 };
  const file = join(folder, 'spool', 'spool.db');
  exporter = openExporter({
    ...EXPORTING,
    file,
    cluster: 'c',
    node: 'n',
    mode: 'jetstream',
    connection: () => link.connection(),
    log: silent,
    times,
    ...more,
  });
  return exporter;
}
const idle = () => eventually(() => exporter.stats().spooledMessages === 0n && exporter.stats().reason === '', 'all is published');
const reason = (what: RegExp) => eventually(() => what.test(exporter.stats().reason), `reason ${what}, last: ${exporter.stats().reason}`);

test('without a server: put stays quick, and the reason is told', () => {
  open();
  const times: number[] = [];
  const lane = meter('t0', EPOCH, 20);
  for (let index = 0; index < 300; index += 1) {
    const startedAt = performance.now();
    exporter.put([lane.batch(index)]);
    times.push(performance.now() - startedAt);
  }
  expect(percentile(times, 90)).toBeLessThan(bound(2, 20));
  expect(exporter.stats()).toMatchObject({ spooledMessages: 300n, reason: 'not connected to NATS' });
});

describe.skipIf(!natsBinary)('with a real nats-server (needs one in the PATH)', () => {
  test('makes the streams, and publishes batches and events with their headers, each once', async () => {
    await start();
    open();
    const lanes = ['eth0.5', 't1'].map((name, number) => meter(name, `${number}`.repeat(16), 20));
    for (let index = 0; index < 40; index += 1) exporter.put(lanes.map((lane) => lane.batch(index)));
    exporter.put([eventMessage('agent-started', EPOCH, 1), lanes[0]?.batch(39) as never]);
    await idle();
    const messages = await readStream(port, 'TAPLANE_FLOWS');
    const last = lanes.map((lane) => Number(lane.batch(40).firstSequence));
    expect(judge(messages)).toMatchObject({ gaps: 0, next: { [`${'0'.repeat(16)}`]: last[0], [`${'1'.repeat(16)}`]: last[1] } });
    expect(messages).toHaveLength(80);
    expect(messages.find(({ headers }) => headers['Nats-Msg-Id'] === `${'0'.repeat(16)}:1`)).toMatchObject({
      subject: 'taplane.v1.c.n.flow.eth0=2E5',
      headers: { 'Content-Type': 'application/protobuf; messageType=taplane.v1.FlowBatch', 'Taplane-Schema': 'v1', 'Taplane-Records': '1' },
    });
    const [event] = await readStream(port, 'TAPLANE_EVENTS');
    expect(event).toMatchObject({ subject: 'taplane.v1.c.n.event.agent-started' });
    expect(event?.headers['Content-Type']).toBe('application/protobuf; messageType=taplane.v1.Event');
    const { config } = await jetStreamCall(port, 'STREAM.INFO.TAPLANE_FLOWS');
    expect(config).toMatchObject({
      subjects: ['taplane.v1.*.*.flow.>'],
      storage: 'file',
      retention: 'limits',
      discard: 'old',
      max_bytes: 512 * MIB,
      max_age: 24 * 3_600e9,
      duplicate_window: 120e9,
      num_replicas: 1,
    });
    expect(exporter.stats()).toMatchObject({
      publishedMessages: 81n,
      retainedMessages: 81n,
      retriedMessages: 0n,
      republishedMessages: 0n,
      lost: [],
    });
  });

  test('what waits goes out when the server comes, in slices, while put stays quick', async () => {
    open();
    const lanes = Array.from({ length: 8 }, (_, number) => meter(`t${number}`, `${number}`.repeat(16), 300));
    for (let index = 0; index < 40; index += 1) exporter.put(lanes.map((lane) => lane.batch(index)));
    await start();
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const times: number[] = [];
    const startedAt = performance.now();
    let index = 40;
    await eventually(() => {
      const message = lanes[0]?.batch(index) as never;
      const putAt = performance.now();
      exporter.put([message]);
      times.push(performance.now() - putAt);
      index += 1;
      return exporter.stats().publishedMessages >= 330n;
    }, 'published');
    delay.disable();
    console.log(
      `backlog of 320 batches in ${Math.round(performance.now() - startedAt)} ms; put ${summary(times)}; event loop p99 ${(delay.percentile(99) / 1e6).toFixed(1)} ms`,
    );
    expect(percentile(times, 50)).toBeLessThan(bound(1, 10));
    await idle();
    expect(judge(await readStream(port, 'TAPLANE_FLOWS')).gaps).toBe(0);
  });

  test('beyond the limit: one gap for each epoch, and records and losses are all', async () => {
    open({ limits: { spoolBytes: 2 * MIB, retainedBytes: MIB } });
    const lanes = ['a', 'b'].map((name, number) => meter(name, `${number}`.repeat(16), 300));
    let records = 0;
    for (let index = 0; index < 120; index += 1) {
      const messages = lanes.map((lane) => lane.batch(index));
      records += messages.reduce((sum, message) => sum + message.records, 0);
      exporter.put(messages);
    }
    await start();
    await idle();
    const judged = judge(await readStream(port, 'TAPLANE_FLOWS'));
    expect(judged.gaps).toBe(2);
    expect(judged.lost[Reason.SPOOL_FULL]).toBeGreaterThan(0);
    expect(judged.records + (judged.lost[Reason.SPOOL_FULL] ?? 0)).toBe(records);
    expect(exporter.stats().lost).toEqual([{ reason: Reason.SPOOL_FULL, count: BigInt(judged.lost[Reason.SPOOL_FULL] ?? 0) }]);
  });

  test('a message that is too large is told as lost, exactly, and those behind it go on', async () => {
    writeFileSync(join(folder, 'nats.conf'), 'max_payload: 20000');
    await start('-c', join(folder, 'nats.conf'));
    open();
    exporter.put([flowMessage('t0', EPOCH, 1, 10), flowMessage('t0', EPOCH, 11, 1000), flowMessage('t0', EPOCH, 1011, 10)]);
    await idle();
    expect(judge(await readStream(port, 'TAPLANE_FLOWS'))).toMatchObject({ records: 20, lost: { [Reason.TOO_LARGE]: 1000 }, gaps: 1 });
  });

  test('a stream that is full and discards the new: waits, says why, and goes on when there is room', async () => {
    await start();
    const mine = { name: 'MINE', subjects: ['taplane.v1.>'], storage: 'file', retention: 'limits', max_msgs: 10, discard: 'new' };
    await jetStreamCall(port, 'STREAM.CREATE.MINE', mine);
    open();
    const lane = meter('t0', EPOCH, 20);
    for (let index = 0; index < 30; index += 1) exporter.put([lane.batch(index)]);
    await reason(/maximum messages exceeded/);
    expect(exporter.stats().publishedMessages).toBe(10n);
    // It is used as it is, also under another name.
    expect((await jetStreamCall(port, 'STREAM.NAMES'))['streams']).toEqual(['MINE']);
    await jetStreamCall(port, 'STREAM.UPDATE.MINE', { ...mine, max_msgs: 1000 });
    await idle();
    expect(judge(await readStream(port, 'MINE'))).toMatchObject({ gaps: 0, next: { [EPOCH]: Number(lane.batch(30).firstSequence) } });
  });

  test.each<[string, () => Promise<void>, Partial<ExporterOptions>, string, RegExp]>([
    ['wrong password', () => start('--user', 'u', '--pass', 'p'), {}, 'u:wrong@', /not connected/],
    [
      'no JetStream',
      async () => {
        nats = await startNats(port);
      },
      {},
      '',
      /jetstream/i,
    ],
    ['no stream, and none to be made', () => start(), { streams: { ...EXPORTING.streams, create: false } }, '', /no stream takes/],
    ['no replicas to be had', () => start(), { streams: { ...EXPORTING.streams, replicas: 3 } }, '', /replicas/],
    [
      'no right to ask for streams',
      () => {
        const user = '{user: u, password: p, permissions: {publish: ["taplane.>"], subscribe: ["_INBOX.>"]}}';
        writeFileSync(join(folder, 'nats.conf'), `authorization { users = [${user}] }`);
        return start('-c', join(folder, 'nats.conf'));
      },
      {},
      'u:p@',
      /permission/i,
    ],
  ])('%s: put stays quick, nothing is thrown, the reason is told', async (_, begin, options, login, told) => {
    await begin();
    open(options, `nats://${login}127.0.0.1:${port}`);
    const times: number[] = [];
    const lane = meter('t0', EPOCH, 20);
    const until = performance.now() + 500;
    for (let index = 0; performance.now() < until; index += 1) {
      const startedAt = performance.now();
      exporter.put([lane.batch(index)]);
      times.push(performance.now() - startedAt);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await reason(told);
    expect(percentile(times, 90)).toBeLessThan(bound(2, 20));
    expect(exporter.stats()).toMatchObject({ publishedMessages: 0n, lost: [] });
  });

  test('core NATS: in order, and nothing is kept', async () => {
    await start();
    await jetStreamCall(port, 'STREAM.CREATE.ALL', { name: 'ALL', subjects: ['taplane.v1.>'], storage: 'memory', retention: 'limits' });
    open({ mode: 'core' });
    const lane = meter('t0', EPOCH, 300);
    for (let index = 0; index < 100; index += 1) exporter.put([lane.batch(index)]);
    await idle();
    expect(judge(await readStream(port, 'ALL'))).toMatchObject({ gaps: 0, next: { [EPOCH]: Number(lane.batch(100).firstSequence) } });
    expect(exporter.stats()).toMatchObject({ retainedMessages: 0n, publishedMessages: 100n });
  });

  test('another way of writing, and closing with and without grace', async () => {
    await start();
    open({ encode: ({ id }) => ({ payload: Buffer.from(JSON.stringify({ id })), contentType: 'application/json' }) });
    exporter.put([flowMessage('t0', EPOCH, 1, 10)]);
    await eventually(() => link.connection() !== undefined, 'the connection');
    await exporter.close(10_000);
    expect((await readStream(port, 'TAPLANE_FLOWS')).map(({ payload }) => payload.toString())).toEqual([`{"id":"${EPOCH}:1"}`]);
    expect(() => exporter.put([flowMessage('t0', EPOCH, 11, 10)])).toThrow(/closed/);
    await link.close();
    open();
    exporter.put([flowMessage('t0', EPOCH, 11, 10)]);
    await exporter.close(0);
    await link.close();
    open();
    await idle();
    expect((await readStream(port, 'TAPLANE_FLOWS')).map(({ headers }) => headers['Nats-Msg-Id'])).toEqual([`${EPOCH}:1`, `${EPOCH}:11`]);
  });
});
