// Thousands of small disasters in one process: acknowledgements that get lost, agents that die, a server that is put back from a copy or
// loses its stream, too little room. What is in the stream at the end must count every record of every epoch exactly once, as there or lost.
// The server is a small one in memory with the rules of JetStream (ids, fence, sequences); test/flow/exporter-faults.test.ts has the real one.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { isUnproven, reconcile } from '../../src/flow/exporter-reconcile.ts';
import { gapBatch } from '../../src/flow/gap.ts';
import { Spool, type Subject } from '../../src/flow/spool.ts';
import { rowId } from '../../src/flow/spool-rows.ts';
import type { RecordLoss_Reason as Reason } from '../../src/gen/taplane/v1/flow.ts';
import type { JetStream, Published, Sending, StoredMessage } from '../../src/nats/jetstream.ts';
import { random, seed } from '../harness/random.ts';
import { meter } from './batches.ts';
import { judge, type Stored } from './stream-reader.ts';

const SEEDS = Number(process.env['TAPLANE_ORDER_SEEDS'] ?? 3);
const STEPS = 1000;
const OTHERS = 'flow.of-others';

interface State {
  incarnation: string;
  sequence: number;
  messages: (Stored & { sequence: number })[];
}

/** One stream. `window`: how many of the last ids it remembers. */
class MemoryServer implements JetStream {
  state: State = { incarnation: 'first', sequence: 0, messages: [] };
  readonly #window: number;

  constructor(window: number) {
    this.#window = window;
  }

  copy(): State {
    return { ...this.state, messages: [...this.state.messages] };
  }

  /** Others go on in the same stream: what they store has the numbers that ours had. */
  others(count: number): void {
    for (let more = 0; more < count; more += 1) {
      this.state.sequence += 1;
      this.state.messages.push({ subject: OTHERS, payload: Buffer.alloc(0), headers: {}, sequence: this.state.sequence });
    }
  }

  async stream() {
    return { name: 'S', incarnation: this.state.incarnation, lastSequence: this.state.sequence };
  }

  async last(_: string, subject: string): Promise<StoredMessage | undefined> {
    return this.#told(this.state.messages.findLast((message) => message.subject === subject));
  }

  async at(_: string, sequence: number): Promise<StoredMessage | undefined> {
    return this.#told(this.state.messages.find((message) => message.sequence === sequence));
  }

  async publish({ subject, payload, id, records }: Sending, expected: number): Promise<Published> {
    const known = this.state.messages.slice(-this.#window).find(({ headers }) => headers['Nats-Msg-Id'] === id);
    if (known) return { is: 'stored', sequence: known.sequence };
    if (((await this.last('', subject))?.sequence ?? 0) !== expected) return { is: 'fenced' };
    this.state.sequence += 1;
    const headers = { 'Nats-Msg-Id': id, 'Taplane-Records': String(records) };
    this.state.messages.push({ subject, payload: Buffer.from(payload), headers, sequence: this.state.sequence });
    return { is: 'stored', sequence: this.state.sequence };
  }

  #told(message: (Stored & { sequence: number }) | undefined): StoredMessage | undefined {
    if (message === undefined) return undefined;
    const { sequence, headers } = message;
    return { sequence, id: headers['Nats-Msg-Id'] ?? '', records: Number(headers['Taplane-Records']) };
  }
}

test.each(Array.from({ length: SEEDS }, (_, index) => seed + index))('all are counted once, seed %i', async (from) => {
  const dice = random('order', from);
  const folder = mkdtempSync(join(tmpdir(), 'taplane-order-'));
  const limits = { spoolBytes: dice.pick([60_000, 200_000, 2_000_000]), retainedBytes: dice.pick([0, 60_000, 2_000_000]) };
  const open = (): Spool => new Spool({ file: join(folder, 'spool.db'), limits, now: () => 1_700_000_000_000 });
  const server = new MemoryServer(dice.pick([0, 3, 1000]));
  const breathe = async (): Promise<void> => {};
  let spool = open();
  let verify = new Set<number>();
  let stream = await server.stream();

  const reconnect = async (): Promise<void> => {
    stream = await server.stream();
    verify = new Set([...spool.account.subjects.values()].filter(({ acked }) => acked > 0).map(({ id }) => id));
  };
  /** One message of a subject; false when there is none. */
  const step = async (subject: Subject, acknowledged: boolean): Promise<boolean> => {
    const path = `flow.${subject.name}`;
    if (verify.delete(subject.id) || isUnproven(subject, stream))
      await reconcile({ spool, jetStream: server, stream, subject, path, breathe });
    const next = spool.next(subject);
    const stored = next && spool.payload(next);
    if (next === undefined || stored === undefined) return false;
    const payload = next.reason === 0 ? stored : gapBatch(stored, next.epoch, next.first, next.records, next.reason as Reason, 0);
    const sending = { subject: path, payload, id: rowId(next), records: next.records, contentType: '' };
    // Records may be put, and dropped, while it is on its way.
    if (busy && dice.next() < 0.3) feed(dice.integer(1, 8));
    const published = await server.publish(sending, subject.sequence);
    if (!acknowledged) return true;
    if (published.is === 'stored') spool.acked(next, published.sequence, stream.incarnation);
    else verify.add(subject.id);
    return true;
  };

  let busy = true;
  let epochs = 0;
  const lanes = ['a', 'b', 'c'].map((name) => ({ name, meter: meter(name, String(epochs++).padStart(16, '0'), 40), index: 0 }));
  const fed = new Map<string, number>();
  const feed = (batches: number): void => {
    const lane = dice.pick(lanes);
    for (let more = 0; more < batches; more += 1) {
      const message = lane.meter.batch(lane.index);
      spool.put([message]);
      fed.set(message.epoch, Number(message.firstSequence) + message.records);
      if (dice.next() < 0.9) lane.index += 1;
    }
  };

  try {
    let copy = server.copy();
    for (let round = 0; round < STEPS; round += 1) {
      const fate = dice.next();
      const subjects = [...spool.account.subjects.values()];
      if (fate < 0.35) feed(dice.integer(1, 5));
      else if (fate < 0.9 && subjects.length > 0) await step(dice.pick(subjects), dice.next() < 0.8);
      else if (fate < 0.93) {
        spool.close();
        spool = open();
        await reconnect();
      } else if (fate < 0.95) await reconnect();
      else if (fate < 0.965) copy = server.copy();
      else if (fate < 0.975) {
        server.state = { ...copy, messages: [...copy.messages] };
        server.others(dice.integer(0, 3));
        await reconnect();
      } else if (fate < 0.978) {
        server.state = { incarnation: `made in round ${round}`, sequence: 0, messages: [] };
        await reconnect();
      } else if (fate < 0.985) {
        const lane = dice.pick(lanes);
        Object.assign(lane, { meter: meter(lane.name, String(epochs++).padStart(16, '0'), 40), index: 0 });
      }
    }
    busy = false;
    // An epoch that is wholly lost has nothing that could tell of it; the last ones have.
    for (const lane of lanes) {
      lane.index += 1;
      const message = lane.meter.batch(lane.index);
      spool.put([lane.meter.batch(lane.index - 1), message]);
      fed.set(message.epoch, Number(message.firstSequence) + message.records);
    }
    await reconnect();
    for (const subject of spool.account.subjects.values())
      while ((await step(subject, true)) || subject.waiting > 0 || verify.has(subject.id));
    const judged = judge(server.state.messages.filter(({ subject }) => subject !== OTHERS));
    for (const { meter: last } of lanes) expect(judged.next[last.epoch], last.epoch).toBe(fed.get(last.epoch));
    for (const [epoch, next] of Object.entries(judged.next)) expect(next, epoch).toBeLessThanOrEqual(fed.get(epoch) ?? 0);
  } finally {
    spool.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
