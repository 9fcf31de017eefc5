// The outbox against an agent that comes and goes: every number of every epoch comes exactly once, as a record or as lost, in order.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import { FlowBatch, RecordLoss_Reason } from '../../src/gen/taplane/v1/flow.ts';
import { FlowOutbox, type OutgoingBatch } from '../../src/lane/flow-outbox.ts';
import { type Random, random, seed } from '../harness/random.ts';

console.log(`seed ${seed}`);

const headOf = (epoch: string, labelBytes = 10): Uint8Array =>
  FlowBatch.encode(
    FlowBatch.fromPartial({ cluster: 'c', node: 'n', interface: epoch, epoch, labels: { filler: 'x'.repeat(labelBytes) } }),
  ).finish();

function batchOf(epoch: string, head: Uint8Array, first: number, records: number, padding: number): OutgoingBatch {
  const flows = Array.from({ length: records }, (_, index) => ({
    sequence: BigInt(first + index),
    link: 'x'.repeat(index === 0 ? padding : 0),
  }));
  const rest = FlowBatch.encode(FlowBatch.fromPartial({ firstSequence: BigInt(first), flows })).finish();
  return { epoch, firstSequence: first, records, bytes: Buffer.concat([head, rest]), head, wasSent: false };
}

/** Keeps what it stores for ever; tells what came twice by the id of a batch alone, as an exporter does. */
class Store {
  readonly #ids = new Set<string>();
  readonly #next = new Map<string, number>();
  records = 0;
  lost = 0;
  twice = 0;

  take(bytes: Buffer): void {
    const batch = FlowBatch.decode(bytes);
    const id = `${batch.epoch}:${batch.firstSequence}`;
    expect([batch.cluster, batch.interface]).toEqual(['c', batch.epoch]);
    if (this.#ids.has(id)) {
      this.twice++;
      return;
    }
    this.#ids.add(id);
    let next = this.#next.get(batch.epoch) ?? 1;
    expect(Number(batch.firstSequence), `first of a batch of ${batch.epoch}`).toBe(next);
    for (const flow of batch.flows) expect(Number(flow.sequence)).toBe(next++);
    for (const { reason, count } of batch.lost) {
      expect(reason).toBe(RecordLoss_Reason.LANE_FULL);
      next += Number(count);
      this.lost += Number(count);
    }
    this.records += batch.flows.length;
    this.#next.set(batch.epoch, next);
  }

  nextOf(epoch: string): number {
    return this.#next.get(epoch) ?? 1;
  }
}

function trial(any: Random): { records: number; lost: number; twice: number } {
  const limit = any.pick([20_000, 60_000, 300_000]);
  const outbox = new FlowOutbox(limit);
  const store = new Store();
  const epochs = Array.from({ length: any.integer(1, 5) }, (_, index) => ({
    name: `epoch${index}`,
    next: 1,
    head: headOf(`epoch${index}`),
  }));
  /** What is on the way, and what was stored and not yet acknowledged. */
  let [wire, stored]: [Buffer[] | undefined, number] = [undefined, 0];
  let put = 0;
  const steps = 600;
  for (let step = 0; step < steps; step++) {
    const away = Math.floor(step / 60) % 3 === 1;
    const choice = any.integer(0, 9);
    if (choice < 5) {
      const epoch = any.pick(epochs);
      const records = any.pick([1, 1, any.integer(1, 30)]);
      outbox.put(batchOf(epoch.name, epoch.head, epoch.next, records, any.pick([0, 100, any.integer(0, 4000)])));
      epoch.next += records;
      put += records;
    } else if (choice === 5 && !away) {
      // Also on one that is there: a new agent.
      const fresh: Buffer[] = [];
      wire = fresh;
      stored = 0;
      outbox.connect((bytes) => void fresh.push(bytes));
    } else if (choice === 6 && any.integer(0, 2) === 0) {
      // What is on the way is gone, and so are acknowledgements.
      wire = undefined;
      stored = 0;
      outbox.disconnect();
    } else if (wire !== undefined && !away) {
      for (const bytes of wire.splice(0, any.integer(0, 10))) {
        store.take(bytes);
        stored++;
      }
      if (any.integer(0, 1) === 0) {
        const count = any.integer(0, stored);
        expect(outbox.acknowledge(count)).toBe(true);
        stored -= count;
      }
      const before = outbox.bytes;
      expect(outbox.acknowledge(stored + wire.length + any.integer(1, 3))).toBe(false);
      expect(outbox.bytes).toBe(before);
    }
    expect(outbox.bytes).toBeLessThanOrEqual(limit);
  }
  const rest: Buffer[] = [];
  outbox.connect((bytes) => void rest.push(bytes));
  for (let round = 0; !outbox.isEmpty; round++) {
    expect(round).toBeLessThan(10_000);
    const some = rest.splice(0);
    for (const bytes of some) store.take(bytes);
    expect(outbox.acknowledge(some.length)).toBe(true);
  }
  expect([outbox.bytes, outbox.acknowledge(1)]).toEqual([0, false]);
  for (const { name, next } of epochs) expect(store.nextOf(name)).toBe(next);
  expect(store.records + store.lost).toBe(put);
  expect(store.lost).toBeLessThanOrEqual(outbox.lost);
  return store;
}

it('every record comes once, or is told of as lost once, in order, whatever breaks', () => {
  const any = random('outbox');
  const sum = { records: 0, lost: 0, twice: 0 };
  for (let count = 0; count < 60; count++) {
    const { records, lost, twice } = trial(any);
    sum.records += records;
    sum.lost += lost;
    sum.twice += twice;
  }
  console.log(`${sum.records} records came, ${sum.lost} were told of as lost, ${sum.twice} batches came again`);
  for (const value of Object.values(sum)) expect(value).toBeGreaterThan(1000);
});

it('puts losses together unless they were sent as they are', () => {
  const outbox = new FlowOutbox(10_000);
  const head = headOf('e');
  const first: Buffer[] = [];
  outbox.connect((bytes) => void first.push(bytes));
  // One is on the way; the window is a quarter of the bound.
  outbox.put(batchOf('e', head, 1, 2, 3000));
  for (let next = 3; next < 23; next += 2) outbox.put(batchOf('e', head, next, 2, 1000));
  expect(first).toHaveLength(1);
  outbox.disconnect();
  outbox.limit(1000);
  const again: Buffer[] = [];
  outbox.connect((bytes) => void again.push(bytes));
  for (let acknowledged = 0; acknowledged < again.length; acknowledged++) outbox.acknowledge(1);
  expect(
    again.map((bytes) => FlowBatch.decode(bytes)).map(({ firstSequence, lost }) => [firstSequence, lost.map(({ count }) => count)]),
  ).toEqual([
    [1n, [2n]],
    [3n, [20n]],
  ]);
  expect([outbox.lost, outbox.bytes]).toEqual([22, 0]);
});

it('is bounded also by what meters that are gone have lost', () => {
  const outbox = new FlowOutbox(1_000_000);
  for (let epoch = 0; epoch < 20_000; epoch++) {
    const name = epoch.toString(16).padStart(16, '0');
    outbox.put(batchOf(name, headOf(name, 200), 1, 1, 300));
    if (outbox.bytes > 1_000_000) expect.fail(`${outbox.bytes} bytes after ${epoch} epochs`);
  }
  const store = new Store();
  const wire: Buffer[] = [];
  outbox.connect((bytes) => void wire.push(bytes));
  while (!outbox.isEmpty) {
    const some = wire.splice(0);
    for (const bytes of some) store.take(bytes);
    outbox.acknowledge(some.length);
  }
  expect(store.records).toBeGreaterThan(500);
  expect(store.nextOf((19_999).toString(16).padStart(16, '0'))).toBe(2);
});

it('lets go of what was acknowledged', async () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const outbox = new FlowOutbox(64 * 1024 * 1024);
  outbox.connect(() => {});
  const head = headOf('e');
  const held: WeakRef<Buffer>[] = [];
  for (let count = 0; count < 200; count++) {
    const batch = batchOf('e', head, 1 + count, 1, 10_000);
    held.push(new WeakRef(batch.bytes as Buffer));
    outbox.put(batch);
    outbox.acknowledge(1);
  }
  expect(outbox.bytes).toBe(0);
  // References are kept to the end of a turn.
  await new Promise((resolve) => setTimeout(resolve, 10));
  gc();
  expect(held.filter((each) => each.deref() !== undefined).length).toBeLessThan(5);
});
