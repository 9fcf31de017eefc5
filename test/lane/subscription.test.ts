// The law, against a model: whatever is offered, filtered, sampled, dropped, acknowledged, broken and resumed, at every message
// offered = delivered + filtered + sampled out + dropped, numbers have gaps exactly where frames were dropped, and a window loses nothing.

import { expect, it } from 'vitest';
import { PacketBatch } from '../../src/gen/taplane/v1/packet.ts';
import { InjectAccount } from '../../src/lane/account.ts';
import { OUTBOUND } from '../../src/lane/batch.ts';
import { Delivery, type Outlet } from '../../src/lane/delivery.ts';
import { HEAD_BYTES } from '../../src/lane/framing.ts';
import { Subscription, type SubscriptionOptions } from '../../src/lane/subscription.ts';
import { loadBpf } from '../../src/packet/bpf.ts';
import { random, seed } from '../harness/random.ts';

const clock = { seconds: 1_700_000_000, nanos: 0, monotonicOffsetNs: 0n };
/** Accepts frames whose first byte is above 63: ldb [0]; jgt #63; ret -1; ret 0. */
const filter = loadBpf(Buffer.from('3000000000000000 250000013f000000 06000000ffffffff 0600000000000000'.replaceAll(' ', ''), 'hex'));
const usual: SubscriptionOptions = {
  format: 'frames',
  direction: 0,
  filter: undefined,
  snapLength: 65_549,
  sampling: 1,
  queueBytes: 65_536,
  batchBytes: 4096,
  maxFrames: Number.POSITIVE_INFINITY,
  maxBytes: Number.POSITIVE_INFINITY,
  superFrames: false,
};

interface Told {
  totals: PacketBatch['totals'];
  sequences: number[];
  first: number[];
}

/** A client that checks each message as it comes. */
class Client implements Outlet {
  readonly told: Told[] = [];
  readonly opened: PacketBatch['opened'][] = [];
  expected = 1;
  received: number[] = [];
  lost = 0;
  messages = 0;
  #done: (() => void)[] = [];

  write(bytes: Buffer, done: () => void): void {
    this.#done.push(done);
    this.messages++;
    const batch = PacketBatch.decode(Buffer.from(bytes.subarray(HEAD_BYTES)));
    expect(bytes.readUInt32LE(0)).toBe(bytes.length - HEAD_BYTES);
    if (batch.opened) this.opened.push(batch.opened);
    const sequences = batch.frames.map((_, index) => Number(batch.firstSequence) + index);
    for (const sequence of sequences) {
      this.received.push(sequence);
      this.expected = sequence + 1;
    }
    for (const { count } of batch.lost) this.lost += Number(count);
    if (batch.totals) {
      const { offered, delivered, filtered, sampledOut, dropped } = batch.totals;
      const sum = dropped.reduce((total, { count }) => total + count, 0n);
      expect(offered, 'the law').toBe(delivered + filtered + sampledOut + sum);
    }
    this.told.push({ totals: batch.totals, sequences, first: batch.frames.map(({ data }) => data[0] as number) });
  }

  /** The connection has taken some of what was written. */
  ack(count: number): void {
    for (const done of this.#done.splice(0, count)) done();
  }

  drain(): void {
    while (this.#done.length > 0) this.ack(this.#done.length);
  }

  break(): void {
    this.#done = [];
  }

  get last(): NonNullable<PacketBatch['totals']> {
    return this.told.findLast(({ totals }) => totals !== undefined)?.totals as NonNullable<PacketBatch['totals']>;
  }
}

function setUp(options: Partial<SubscriptionOptions> = {}, windowBytes = 0) {
  const subscription = new Subscription({ ...usual, ...options }, clock);
  const delivery = new Delivery(subscription, new InjectAccount(), windowBytes);
  const opened = {
    resumeToken: '',
    linkType: 101,
    snapLength: 0,
    queueBytes: 0,
    maxBatchBytes: 0,
    resumed: false,
    nextSequence: 1n,
  } as const;
  return { subscription, delivery, opened };
}

it('keeps the law and the numbers through everything, in 300 random lives', async () => {
  console.log(`TAPLANE_SEED=${seed}`);
  const next = random('subscription');
  for (let life = 0; life < 300; life++) {
    const sampling = next.pick([1, 1, 2, 7]);
    const { subscription, delivery, opened } = setUp({ filter: next.next() < 0.5 ? filter : undefined, sampling });
    const client = new Client();
    delivery.attach(client, opened);
    let offered = 0;
    for (let step = 0; step < 60; step++) {
      const act = next.integer(0, 9);
      if (act < 5) {
        const frames = next.integer(1, 40);
        for (let count = 0; count < frames; count++) {
          const frame = Buffer.alloc(next.pick([20, 60, 1400, 9000]), next.integer(0, 255));
          subscription.take(frame, 0, frame.length);
        }
        offered += frames;
        subscription.flush();
      } else if (act < 7) client.ack(next.integer(1, 3));
      else if (act === 7) {
        const lost = next.integer(1, 5);
        subscription.lose(next.pick(['kernel', 'malformed']), lost);
        offered += lost;
      } else if (act === 8) delivery.tellAccounts();
      else {
        client.break();
        delivery.detach();
        // The client may have got less than was written.
        const got = next.integer(Math.max(1, client.expected - 60), client.expected);
        expect(delivery.canResume(got)).toBe(true);
        delivery.resumeAt(got);
        delivery.attach(client, opened);
      }
    }
    const finishing = delivery.finish();
    client.drain();
    await finishing;
    expect(Number(client.last.offered)).toBe(offered);
    const dropped = client.last.dropped.reduce((sum, { count }) => sum + Number(count), 0);
    expect(client.lost).toBe(dropped);
    // Gaps are what was dropped for want of room.
    const queueFull = Number(client.last.dropped.find(({ reason }) => reason === 1)?.count ?? 0);
    const unique = [...new Set(client.received)];
    expect(unique).toEqual([...unique].sort((a, b) => a - b));
    expect(subscription.queue.nextSequence - 1 - unique.length).toBe(queueFull);
    delivery.close();
  }
});

it('with a window loses nothing over breaks, and sends no more than the window', () => {
  const next = random('window');
  for (let life = 0; life < 200; life++) {
    const { subscription, delivery, opened } = setUp({ queueBytes: 64 * 1024 * 1024 }, 65_536);
    let client = new Client();
    delivery.attach(client, opened);
    const got: number[] = [];
    let offered = 0;
    for (let step = 0; step < 80; step++) {
      const act = next.integer(0, 9);
      if (act < 5) {
        for (let count = next.integer(1, 30); count > 0; count--) {
          subscription.take(Buffer.alloc(1000, offered & 255), 0, 1000);
          offered++;
        }
        subscription.flush();
      } else if (act < 7) client.ack(next.integer(1, 5));
      else if (act < 9) {
        // The client takes what has come, and says so.
        for (const sequence of client.received) if (sequence === (got.at(-1) ?? 0) + 1) got.push(sequence);
        delivery.acknowledge((got.at(-1) ?? 0) + 1);
      } else {
        delivery.detach();
        client = new Client();
        expect(delivery.canResume((got.at(-1) ?? 0) + 1)).toBe(true);
        delivery.resumeAt((got.at(-1) ?? 0) + 1);
        delivery.attach(client, opened);
      }
    }
    for (let round = 0; round < 10_000 && got.length < offered; round++) {
      client.drain();
      for (const sequence of client.received) if (sequence === (got.at(-1) ?? 0) + 1) got.push(sequence);
      client.received = client.received.filter((sequence) => sequence > got.length);
      delivery.acknowledge(got.length + 1);
    }
    expect(got.length).toBe(offered);
    delivery.close();
  }
});

it('stops at the window until something is acknowledged', () => {
  const { subscription, delivery, opened } = setUp({ queueBytes: 8 * 1024 * 1024 }, 16_384);
  const client = new Client();
  delivery.attach(client, opened);
  for (let count = 0; count < 1000; count++) subscription.take(Buffer.alloc(1000), 0, 1000);
  subscription.flush();
  client.drain();
  const before = client.received.length;
  expect(before).toBeGreaterThan(3);
  expect(before * 1000).toBeLessThanOrEqual(16_384 + 8192);
  delivery.acknowledge(before + 1);
  client.drain();
  expect(client.received.length).toBeGreaterThan(before);
});

it('counts a window in bytes of batches, however small they are', () => {
  const { subscription, delivery, opened } = setUp({}, 16_384);
  const client = new Client();
  delivery.attach(client, opened);
  for (let count = 0; count < 100; count++) {
    client.drain();
    subscription.take(Buffer.alloc(60), 0, 60);
    subscription.flush();
  }
  client.drain();
  expect(client.received.length).toBe(100);
});

it('still sends all that waits when the client half-closes, also behind a full window', async () => {
  const { subscription, delivery, opened } = setUp({ queueBytes: 8 * 1024 * 1024 }, 16_384);
  const client = new Client();
  delivery.attach(client, opened);
  for (let count = 0; count < 1000; count++) subscription.take(Buffer.alloc(1000), 0, 1000);
  subscription.flush();
  client.drain();
  expect(client.received.length).toBeLessThan(100);
  const finishing = delivery.finish();
  client.drain();
  await finishing;
  expect(client.received.length).toBe(1000);
  expect(client.last.delivered).toBe(1000n);
});

it('sends nothing again to a client that says it has everything, also after a break in the middle of a resume', () => {
  const { subscription, delivery, opened } = setUp({ queueBytes: 8 * 1024 * 1024 }, 1024 * 1024);
  const first = new Client();
  delivery.attach(first, opened);
  for (let count = 0; count < 700; count++) subscription.take(Buffer.alloc(1000), 0, 1000);
  subscription.flush();
  first.drain();
  expect(first.received.length).toBe(700);
  delivery.detach();
  delivery.resumeAt(1);
  const second = new Client();
  delivery.attach(second, opened);
  expect(second.received.length).toBeLessThan(700);
  delivery.detach();
  delivery.resumeAt(0);
  const third = new Client();
  delivery.attach(third, opened);
  third.drain();
  expect(third.received).toEqual([]);
});

it('writes no accounts without end to a client that does not read', () => {
  const { subscription, delivery, opened } = setUp({ filter });
  const client = new Client();
  delivery.attach(client, opened);
  for (let count = 0; count < 100_000; count++) {
    subscription.take(Buffer.alloc(60), 0, 60);
    delivery.tellAccounts();
  }
  expect(client.messages).toBeLessThan(20_000);
});

it('refuses to go on from a number that was never sent', () => {
  const { subscription, delivery, opened } = setUp();
  const client = new Client();
  delivery.attach(client, opened);
  client.drain();
  subscription.take(Buffer.alloc(100), 0, 100);
  subscription.flush();
  expect(delivery.canResume(2)).toBe(true);
  expect(delivery.canResume(3)).toBe(false);
});

it('ends at its limits: frames, and bytes before they are exceeded', () => {
  const { subscription } = setUp({ maxFrames: 3 });
  let limited = 0;
  subscription.onLimit = () => limited++;
  for (let count = 0; count < 5; count++) subscription.take(Buffer.alloc(100), 0, 100);
  expect([subscription.account.offered, limited]).toEqual([3, 1]);
  const bytes = setUp({ maxBytes: 250, snapLength: 100 }).subscription;
  for (let count = 0; count < 5; count++) bytes.take(Buffer.alloc(1000), 0, 1000);
  expect([bytes.account.offered, bytes.queue.nextSequence]).toEqual([2, 3]);
});

it('takes one direction when one is asked for', () => {
  const { subscription } = setUp({ direction: OUTBOUND });
  subscription.offer(Buffer.alloc(60), 0, 60, 60, 1, clock);
  subscription.offer(Buffer.alloc(60), 0, 60, 60, 2, clock);
  expect(subscription.account.offered).toBe(1);
});
