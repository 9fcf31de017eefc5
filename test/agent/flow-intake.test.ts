// Records from a lane's outbox over its real socket into the agent: what is acknowledged, what comes again, what is told once.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, expect, it } from 'vitest';
import { type FlowIntake, type FlowIntakeNeeds, flowIntake } from '../../src/agent/flow-intake.ts';
import type { LaneProcess } from '../../src/agent/lanes/process.ts';
import type { TaplaneError } from '../../src/errors.ts';
import type { Exporter, Outgoing } from '../../src/flow/contract.ts';
import { FlowRing } from '../../src/flow/ring.ts';
import { FlowsAck, LaneState, StreamSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { FlowBatch } from '../../src/gen/taplane/v1/flow.ts';
import { openPipe } from '../../src/lane/client.ts';
import { Devices } from '../../src/lane/devices.ts';
import { FlowConnections } from '../../src/lane/flow-connection.ts';
import { FlowOutbox } from '../../src/lane/flow-outbox.ts';
import { type PacketServer, startPacketServer } from '../../src/lane/packet-server.ts';
import { Streams } from '../../src/lane/streams.ts';
import { SOON } from '../harness/bound.ts';

const folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-intake-`));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, 'lane-0.packets.sock');
const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
  rmSync(path, { force: true });
});

const EPOCH = '00112233445566aa';
const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** The lane's end. */
class Lane {
  readonly outbox = new FlowOutbox(16 * 1024 * 1024);
  readonly #connections = new FlowConnections(this.outbox);
  readonly #head = FlowBatch.encode(FlowBatch.fromPartial({ interface: 'tap0', interfaceUid: 'uid-0', epoch: EPOCH })).finish();
  #server: PacketServer | undefined;
  #next = 1;

  async start(): Promise<void> {
    this.#server = await startPacketServer(path, new Streams(new Devices()), this.#connections, silent);
  }

  /** Breaks all connections at once. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    await server?.close();
  }

  /** Tells of some records; answers the number of the first. */
  tell(records: number, padding = 0, totals = true): number {
    const first = this.#next;
    const flows = Array.from({ length: records }, (_, index) => ({ sequence: BigInt(first + index), link: 'x'.repeat(padding) }));
    const rest = FlowBatch.fromPartial({
      firstSequence: BigInt(first),
      flows,
      ...(totals ? { totals: { seenPackets: BigInt(first) } } : {}),
    });
    const bytes = Buffer.concat([this.#head, FlowBatch.encode(rest).finish()]);
    this.outbox.put({ epoch: EPOCH, firstSequence: first, records, bytes, head: this.#head, wasSent: false });
    this.#next += records;
    return first;
  }

  /** Bytes that are no batch, as one record. */
  tellRubbish(bytes: Buffer): void {
    this.outbox.put({ epoch: EPOCH, firstSequence: this.#next++, records: 1, bytes, head: this.#head, wasSent: false });
  }
}

/** Keeps what is put; `before` may throw. */
class Collector implements Exporter {
  readonly got: Outgoing[] = [];
  before: (messages: readonly Outgoing[]) => void = () => {};
  after: () => void = () => {};

  put(messages: readonly Outgoing[]): void {
    this.before(messages);
    this.got.push(...messages);
    this.after();
  }
  stats(): never {
    throw new Error('not asked');
  }
  async close(): Promise<void> {}
}

interface Agent {
  intake: FlowIntake;
  ring: FlowRing;
  errors: string[];
}

function agent(more: Partial<FlowIntakeNeeds>): Agent {
  const [ring, errors] = [new FlowRing(), [] as string[]];
  const lane = { name: 'lane-0', packetSocket: path, state: LaneState.fromPartial({ pid: 1 }) } as unknown as LaneProcess;
  const log = { ...silent, error: (_: object, message: string) => void errors.push(message) };
  const intake = flowIntake({ lanes: { processes: () => [lane] }, ring, exporter: undefined, log, ...more });
  undo.push(() => intake.stop(0));
  return { intake, ring, errors };
}

async function lane(): Promise<Lane> {
  const made = new Lane();
  await made.start();
  undo.push(() => made.stop());
  return made;
}

/** Numbers of the records in the ring. */
const inRing = (ring: FlowRing): number[] => {
  const cursor = ring.cursor(0);
  const numbers: number[] = [];
  for (let batch = cursor.take(); batch !== undefined; batch = cursor.take())
    numbers.push(...FlowBatch.decode(batch.bytes).flows.map(({ sequence }) => Number(sequence)));
  return numbers;
};
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

it('acknowledges only what was put', async () => {
  const from = await lane();
  const exporter = new Collector();
  let seen = 0;
  exporter.before = (messages) => {
    // All of these are still with the lane, none is in the ring.
    const bytes = messages.reduce((sum, { payload }) => sum + payload.length, 0);
    expect(from.outbox.bytes).toBeGreaterThanOrEqual(bytes);
    expect(to.ring.totals.records).toBe(seen);
    seen += messages.reduce((sum, { records }) => sum + records, 0);
  };
  const to = agent({ exporter });
  for (let count = 0; count < 300; count++) {
    from.tell(3, 1000);
    if (count % 50 === 0) await sleep(20);
  }
  await expect.poll(() => from.outbox.isEmpty, SOON).toBe(true);
  expect(inRing(to.ring)).toEqual(upTo(900));
  expect(exporter.got).toHaveLength(300);
  for (const [index, message] of exporter.got.entries()) {
    const { payload: _, ...rest } = message;
    const first = index * 3 + 1;
    expect(rest).toEqual({ kind: 'flow', name: 'tap0', id: `${EPOCH}:${first}`, epoch: EPOCH, firstSequence: BigInt(first), records: 3 });
  }
  expect(to.intake.said('uid-0')).toMatchObject({ epoch: EPOCH, records: 900n, totals: { seenPackets: 898n } });
  expect(to.errors).toEqual([]);
});

it('leaves with the lane what could not be put, asks again, and complains once', async () => {
  const from = await lane();
  const exporter = new Collector();
  let failures = 0;
  exporter.before = () => {
    failures++;
    throw new Error('ENOSPC');
  };
  const to = agent({ exporter });
  for (let count = 0; count < 20; count++) from.tell(2);
  await expect.poll(() => failures, SOON).toBeGreaterThanOrEqual(2);
  const { bytes } = from.outbox;
  expect(bytes).toBeGreaterThan(0);
  expect([to.ring.totals.records, to.intake.said('uid-0')]).toEqual([0, undefined]);
  from.tell(2);
  expect(from.outbox.bytes).toBeGreaterThan(bytes);
  exporter.before = () => {};
  await expect.poll(() => from.outbox.isEmpty, SOON).toBe(true);
  expect(exporter.got.map(({ firstSequence }) => Number(firstSequence))).toEqual(Array.from({ length: 21 }, (_, index) => 1 + index * 2));
  expect(inRing(to.ring)).toEqual(upTo(42));
  expect(to.errors).toEqual(['flow records not stored; tried again']);
  // Not more than about once a second.
  expect(failures).toBeLessThan(10);
});

it('puts again what it could not acknowledge, and shows it once', async () => {
  const from = await lane();
  const exporter = new Collector();
  const shown: number[] = [];
  let breaks = 0;
  exporter.after = () => {
    if (breaks++ >= 3) return;
    // Before the acknowledgement is read.
    void from.stop().then(() => from.start());
  };
  const to = agent({ exporter, show: ({ firstSequence }) => void shown.push(Number(firstSequence)) });
  for (let count = 0; count < 30; count++) {
    from.tell(1);
    await sleep(10);
  }
  await expect.poll(() => from.outbox.isEmpty, SOON).toBe(true);
  const firsts = exporter.got.map(({ firstSequence }) => Number(firstSequence));
  expect(firsts.length).toBeGreaterThan(30);
  expect([...new Set(firsts)]).toEqual(upTo(30));
  expect(inRing(to.ring)).toEqual(upTo(30));
  expect(shown).toEqual(upTo(30));
  expect(to.intake.said('uid-0')?.records).toBe(30n);
});

it('tells on what the lane has lost, and keeps the last account', async () => {
  const from = await lane();
  const exporter = new Collector();
  // Less than one batch, more than two words about losses.
  from.outbox.limit(600);
  for (let count = 0; count < 5; count++) from.tell(5, 100);
  from.outbox.limit(16 * 1024 * 1024);
  from.tell(2);
  from.tell(1, 0, false);
  const to = agent({ exporter });
  await expect.poll(() => from.outbox.isEmpty, SOON).toBe(true);
  expect(exporter.got.map(({ id, records }) => [id, records])).toEqual([
    [`${EPOCH}:1`, 25],
    [`${EPOCH}:26`, 2],
    [`${EPOCH}:28`, 1],
  ]);
  expect([to.ring.totals.records, to.ring.totals.lost]).toEqual([3, 25n]);
  // The last batch had none.
  expect(to.intake.said('uid-0')).toMatchObject({ records: 28n, totals: { seenPackets: 26n } });
});

it('goes on after what is no batch, or has records that are none', async () => {
  const from = await lane();
  const exporter = new Collector();
  const to = agent({ exporter, show: () => {} });
  from.tell(1);
  from.tellRubbish(Buffer.from('no batch at all'));
  // A record whose first field ends beyond it.
  const head = FlowBatch.encode(FlowBatch.fromPartial({ interfaceUid: 'uid-0', epoch: EPOCH, firstSequence: 3n })).finish();
  from.tellRubbish(Buffer.concat([head, Buffer.from([(8 << 3) | 2, 2, (2 << 3) | 2, 99])]));
  from.tell(1);
  await expect.poll(() => from.outbox.isEmpty, SOON).toBe(true);
  expect(exporter.got.map(({ firstSequence }) => Number(firstSequence))).toEqual([1, 3, 4]);
  expect(to.errors).toEqual(['batch of flow records not understood', 'batch of flow records not shown']);
});

it('fetches what the lane has before it stops, within its time', async () => {
  const from = await lane();
  const exporter = new Collector();
  // More than may be on the way at once.
  for (let count = 0; count < 100; count++) from.tell(10, 5000);
  const to = agent({ exporter });
  await expect.poll(() => exporter.got.length, { interval: 1 }).toBeGreaterThan(0);
  await to.intake.stop(20_000);
  expect(exporter.got).toHaveLength(100);
  await expect.poll(() => from.outbox.isEmpty, SOON).toBe(true);
  // What comes later stays.
  from.tell(1);
  await sleep(300);
  expect([exporter.got.length, from.outbox.isEmpty]).toEqual([100, false]);
  // The next agent gets it.
  const next = agent({});
  await expect.poll(() => from.outbox.isEmpty, SOON).toBe(true);
  expect(inRing(next.ring)).toEqual([1001]);
});

/** A connection that acknowledges as it is told to. */
function rawAgent(): { got: FlowBatch[]; ended: Promise<string>; acknowledge(batches: bigint): void; destroy(): void } {
  const got: FlowBatch[] = [];
  const { promise, resolve } = Promise.withResolvers<string>();
  const pipe = openPipe(path, StreamSetup.fromPartial({ flows: {} }), {
    batch: (bytes, release) => {
      got.push(FlowBatch.decode(bytes));
      release();
    },
    end: () => resolve('end'),
    failed: (error: TaplaneError) => resolve(error.code),
    room: () => {},
  });
  undo.push(() => pipe.destroy());
  const acknowledge = (batches: bigint) => void pipe.send(Buffer.from(FlowsAck.encode({ batches }).finish()));
  return { got, ended: promise, acknowledge, destroy: () => pipe.destroy() };
}

it('the lane ends a connection that acknowledges what was not sent, and forgets nothing for it', async () => {
  const from = await lane();
  for (let count = 0; count < 3; count++) from.tell(1);
  const { bytes } = from.outbox;
  for (const acks of [[4n], [2n ** 63n], [2n, 1n]]) {
    const bad = rawAgent();
    await expect.poll(() => bad.got.length, SOON).toBeGreaterThan(0);
    for (const ack of acks) bad.acknowledge(ack);
    expect(['INTERNAL', 'UNAVAILABLE']).toContain(await bad.ended);
    if (acks.length === 1) expect(from.outbox.bytes).toBe(bytes);
  }
  // Two were acknowledged in their turn.
  const good = rawAgent();
  await expect.poll(() => good.got.map(({ firstSequence }) => Number(firstSequence)), SOON).toEqual([3]);
});

it('a new agent takes the place of the one before, and gets all that was not acknowledged', async () => {
  const from = await lane();
  for (let count = 0; count < 5; count++) from.tell(1);
  const first = rawAgent();
  await expect.poll(() => first.got.length, SOON).toBe(5);
  first.acknowledge(2n);
  await expect.poll(() => from.outbox.bytes, SOON).toBeLessThan(5 * 128 * 2);
  const second = rawAgent();
  expect(await first.ended).toBe('UNAVAILABLE');
  await expect.poll(() => second.got.map(({ firstSequence }) => Number(firstSequence)), SOON).toEqual([3, 4, 5]);
  // Counted anew.
  second.acknowledge(3n);
  await expect.poll(() => from.outbox.isEmpty, SOON).toBe(true);
  from.tell(1);
  await expect.poll(() => second.got.length, SOON).toBe(4);
  // When it is gone, what it was sent waits again, and can give way.
  second.destroy();
  from.tell(10, 5000);
  const bytesWithin = (limit: number) => {
    from.outbox.limit(limit);
    return from.outbox.bytes;
  };
  await expect.poll(() => bytesWithin(600), SOON).toBeLessThanOrEqual(600);
});
