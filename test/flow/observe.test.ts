import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openFlows } from '../../src/flow/flows.ts';
import { FlowRing } from '../../src/flow/ring.ts';
import type { Flow, FlowBatch } from '../../src/gen/taplane/v1/flow.ts';
import { ObserveFlowsRequest, ObserveFlowsResponse } from '../../src/gen/taplane/v1/flow_service.ts';
import { bound } from '../harness/bound.ts';
import { batch, collected, encoded, T0 } from './flow-values.ts';

const never = new AbortController().signal;
const flowsOf = (ring: FlowRing) => openFlows({ ring, interfaces: () => [] });
const ask = (partial: Partial<ObserveFlowsRequest>) => ObserveFlowsRequest.fromPartial(partial);
/** Batches of these sizes, records numbered from 1. */
function filled(sizes: number[], ring = new FlowRing(), partial: Partial<Flow> = {}): FlowRing {
  let first = 1 + ring.totals.records;
  for (const size of sizes) {
    ring.put(encoded(batch(first, Array<Partial<Flow>>(size).fill(partial))));
    first += size;
  }
  return ring;
}
async function all(ring: FlowRing, partial: Partial<ObserveFlowsRequest>): Promise<ObserveFlowsResponse[]> {
  return collected(flowsOf(ring).observe(ask(partial), never));
}
const sequences = (answers: readonly ObserveFlowsResponse[]) =>
  answers.flatMap((answer) => answer.batch?.flows.map(({ sequence }) => Number(sequence)) ?? []);
const upTo = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

describe('what is in memory', () => {
  test('comes oldest first, as batches that say whose they are and leave numbers out', async () => {
    const answers = await all(filled([2, 0, 3]), {});
    expect(sequences(answers)).toEqual([1, 2, 3, 4, 5]);
    const { flows, ...rest } = (answers[0] as ObserveFlowsResponse).batch as FlowBatch;
    expect(rest).toEqual({ ...batch(0, []), flows: undefined, firstSequence: 0n, lost: [], totals: undefined });
    expect(flows[0]).toEqual(batch(1, [{}]).flows[0]);
    expect(answers.map(({ following, missed, lost }) => [following, missed, lost])).toEqual([
      [false, 0n, 0n],
      [false, 0n, 0n],
    ]);
  });

  test('first and last take that many of those that match', async () => {
    const ring = new FlowRing();
    for (let first = 1; first <= 91; first += 10)
      ring.put(
        encoded(
          batch(
            first,
            upTo(first, first + 9).map((number) => ({ destinationPort: number % 3 === 0 ? 80 : 443 })),
          ),
        ),
      );
    const allow = [{ ...emptyFilter, port: [80] }];
    expect(sequences(await all(ring, { allow, first: 5n }))).toEqual([3, 6, 9, 12, 15]);
    expect(sequences(await all(ring, { allow, last: 5n }))).toEqual([87, 90, 93, 96, 99]);
    expect(sequences(await all(ring, { last: 3n }))).toEqual([98, 99, 100]);
    expect(sequences(await all(ring, { last: 1000n }))).toEqual(upTo(1, 100));
    expect(sequences(await all(ring, { last: 2n ** 64n - 1n }))).toEqual(upTo(1, 100));
    expect(sequences(await all(ring, { first: 1n }))).toEqual([1]);
    expect(sequences(await all(ring, { allow: [{ ...emptyFilter, port: [81] }], last: 3n }))).toEqual([]);
  });

  test('last is the end of all, whatever batches, filter and number', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.constantFrom(80, 443), { maxLength: 6 }), { maxLength: 8 }),
        fc.integer({ min: 1, max: 50 }),
        async (sizes, last) => {
          const ring = new FlowRing();
          let first = 1;
          for (const ports of sizes) {
            ring.put(
              encoded(
                batch(
                  first,
                  ports.map((destinationPort) => ({ destinationPort })),
                ),
              ),
            );
            first += ports.length;
          }
          const allow = [{ ...emptyFilter, port: [80] }];
          expect(sequences(await all(ring, { allow, last: BigInt(last) }))).toEqual(sequences(await all(ring, { allow })).slice(-last));
        },
      ),
    );
  });

  test('since and until go by the packets of a record', async () => {
    const at = (second: bigint, nanos = 0) => ({ seconds: T0 + second, nanos });
    const ring = new FlowRing();
    // Records of the seconds 0 to 1, 1 to 2, ...
    ring.put(
      encoded(
        batch(
          1,
          [0n, 1n, 2n, 3n].map((second) => ({ startTime: at(second), endTime: at(second + 1n) })),
        ),
      ),
    );
    expect(sequences(await all(ring, { since: at(2n) }))).toEqual([2, 3, 4]);
    expect(sequences(await all(ring, { since: at(2n, 1) }))).toEqual([3, 4]);
    expect(sequences(await all(ring, { until: at(2n) }))).toEqual([1, 2]);
    expect(sequences(await all(ring, { until: at(2n, 1) }))).toEqual([1, 2, 3]);
    expect(sequences(await all(ring, { since: at(2n), until: at(3n) }))).toEqual([2, 3]);
  });

  test('a mask leaves fields out, never the number', async () => {
    const ring = filled([1]);
    const [answer] = await all(ring, { fieldMask: ['source_address', 'forward.bytes', 'start_time'] });
    expect(answer?.batch?.flows).toMatchObject([
      {
        sequence: 1n,
        sourceAddress: Buffer.from([10, 0, 0, 1]),
        destinationPort: 0,
        flowId: '',
        forward: { bytes: 180n, packets: 0n },
        endTime: undefined,
      },
    ]);
    expect(answer?.batch?.flows[0]?.startTime).toBeDefined();
    expect(answer?.batch?.interface).toBe('tap0');
  });

  test('answers are at most about 64 KiB, however large the batch', async () => {
    const ring = filled([3000]);
    const answers = await all(ring, {});
    expect(sequences(answers)).toEqual(upTo(1, 3000));
    const sizes = answers.map((answer) => ObserveFlowsResponse.encode(answer).finish().length);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(64 * 1024);
    expect(sizes.length).toBeLessThan(15);
  });

  test('losses are told once, behind the records that they followed, and not of other interfaces', async () => {
    const ring = new FlowRing();
    ring.put(encoded(batch(1, [{}], { lost: [{ reason: 1, count: 5n }] })));
    ring.put(encoded(batch(1, [], { interface: 'tap1', lost: [{ reason: 1, count: 70n }] })));
    ring.put(encoded(batch(7, [{}, {}])));
    ring.put(
      encoded(
        batch(9, [], {
          lost: [
            { reason: 2, count: 2n },
            { reason: 1, count: 1n },
          ],
        }),
      ),
    );
    const told = (answers: ObserveFlowsResponse[]) => answers.map((answer) => [sequences([answer]), Number(answer.lost)]);
    expect(told(await all(ring, {}))).toEqual([
      [[1], 5],
      [[7, 8], 70],
      [[], 3],
    ]);
    expect(told(await all(ring, { allow: [{ ...emptyFilter, interface: ['tap0'] }] }))).toEqual([
      [[1], 5],
      [[7, 8], 0],
      [[], 3],
    ]);
  });

  test('a record that does not decode is missed, the others are not', async () => {
    const ring = new FlowRing();
    const good = encoded(batch(1, [{}, {}]));
    // Field 8, three bytes: a number that does not end.
    ring.put(Buffer.concat([good, Buffer.from('420308ffff', 'hex')]));
    expect(await all(ring, {})).toMatchObject([{ missed: 1n, batch: { flows: [{ sequence: 1n }, { sequence: 2n }] } }]);
  });
});

const emptyFilter = ObserveFlowsRequest.fromPartial({ allow: [{}] }).allow[0] as ObserveFlowsRequest['allow'][number];

describe('bad requests', () => {
  test.each<[string, Partial<ObserveFlowsRequest>, string[]]>([
    ['first and last', { first: 1n, last: 1n }, ['first']],
    ['first and follow', { first: 1n, follow: true }, ['first']],
    ['no time', { since: { seconds: 0n, nanos: 1_000_000_000 }, until: { seconds: 2n ** 62n, nanos: 0 } }, ['since', 'until']],
    ['until before since', { since: { seconds: 5n, nanos: 0 }, until: { seconds: 5n, nanos: 0 } }, ['until']],
    [
      'mask and filters together',
      { fieldMask: ['flow_id', 'flowId', 'forward.color', ''], allow: [{ ...emptyFilter, ip: ['x'] }] },
      ['field_mask.paths[1]', 'field_mask.paths[2]', 'field_mask.paths[3]', 'allow[0].ip[0]'],
    ],
  ])('%s', async (_, request, fields) => {
    const error = await all(filled([1]), request).catch((cause) => cause);
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELDS' });
    expect(error.fields.map(({ field }: { field: string }) => field)).toEqual(fields);
  });
});

describe('following', () => {
  test('begins with what is new, says so at once, and wakes for each batch', async () => {
    const ring = filled([3]);
    const stream = flowsOf(ring)
      .observe(ask({ follow: true }), never)
      [Symbol.asyncIterator]();
    expect((await stream.next()).value).toEqual({ batch: undefined, missed: 0n, lost: 0n, following: true });
    for (let round = 0; round < 3; round++) {
      const next = stream.next();
      await nextTurn();
      const began = performance.now();
      filled([2], ring);
      expect(sequences([(await next).value])).toEqual([4 + 2 * round, 5 + 2 * round]);
      expect(performance.now() - began).toBeLessThan(bound(50, 1000));
    }
    await stream.return?.();
  });

  test('tells of memory first where last asks for it', async () => {
    const ring = filled([3, 3]);
    const stream = flowsOf(ring)
      .observe(ask({ follow: true, last: 4n }), never)
      [Symbol.asyncIterator]();
    const answers = [await stream.next(), await stream.next(), await stream.next()].map(({ value }) => value as ObserveFlowsResponse);
    expect(answers.map((answer) => [sequences([answer]), answer.following])).toEqual([
      [[3], false],
      [[4, 5, 6], false],
      [[], true],
    ]);
    filled([1], ring);
    expect(sequences([(await stream.next()).value])).toEqual([7]);
    await stream.return?.();
  });

  test('what is put while an answer is with the client is not waited for', async () => {
    const ring = new FlowRing();
    const stream = flowsOf(ring)
      .observe(ask({ follow: true }), never)
      [Symbol.asyncIterator]();
    await stream.next();
    filled([1], ring);
    await stream.next();
    filled([1], ring);
    expect(sequences([(await stream.next()).value])).toEqual([2]);
    await stream.return?.();
  });

  test('ends on the signal, with until, and when all is ended', async () => {
    const ring = filled([1]);
    const flows = flowsOf(ring);
    const stop = new AbortController();
    const first = collected(flows.observe(ask({ follow: true }), stop.signal));
    const until = Date.now() + 150;
    const second = collected(
      flows.observe(
        ask({ follow: true, last: 9n, until: { seconds: BigInt(Math.floor(until / 1000)), nanos: (until % 1000) * 1e6 } }),
        never,
      ),
    );
    const third = collected(flows.observe(ask({ follow: true }), never));
    const past = collected(flows.observe(ask({ follow: true, until: { seconds: T0, nanos: 0 } }), never));
    await nextTurn();
    stop.abort();
    expect(await first).toHaveLength(1);
    expect(await past).toHaveLength(1);
    expect(await second).toHaveLength(2);
    expect(Date.now()).toBeGreaterThanOrEqual(until);
    flows.end();
    expect(await third).toHaveLength(1);
    expect(await collected(flows.observe(ask({ follow: true }), never))).toEqual([]);
  });

  test('there is room for so many observers, and again when one goes', async () => {
    const flows = openFlows({ ring: filled([1]), interfaces: () => [], maxObservers: 2 });
    const open = async () => {
      const stream = flows.observe(ask({ follow: true }), never)[Symbol.asyncIterator]();
      await stream.next();
      return stream;
    };
    const [one] = [await open(), await open()];
    await expect(open()).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'TOO_MANY_OBSERVERS' });
    await one?.return?.();
    await open();
  });
});

describe('a follower that is slow', () => {
  test('misses records, exactly as many as it is told', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.integer({ min: 1, max: 30 }), fc.constant('read' as const)), { maxLength: 120 }),
        fc.integer({ min: 2_000, max: 20_000 }),
        async (steps, maxBytes) => {
          const ring = new FlowRing({ maxBytes });
          const stop = new AbortController();
          const stream = flowsOf(ring)
            .observe(ask({ follow: true }), stop.signal)
            [Symbol.asyncIterator]();
          await stream.next();
          let [sent, missed, put] = [0, 0, 0];
          const read = async (): Promise<void> => {
            const { value, done } = await stream.next();
            if (done) return;
            sent += sequences([value]).length;
            missed += Number(value.missed);
          };
          for (const step of steps) {
            if (step !== 'read') {
              filled([step], ring);
              put += step;
            } else if (sent + missed < put) await read();
          }
          while (sent + missed < put) await read();
          expect(sent + missed).toBe(put);
          const after = stream.next();
          stop.abort();
          expect((await after).done).toBe(true);
        },
      ),
    );
  });

  test('holds one batch and costs no other', async () => {
    const ring = new FlowRing({ maxBytes: 1024 * 1024 });
    const flows = flowsOf(ring);
    const stop = new AbortController();
    const slow = flows.observe(ask({ follow: true }), stop.signal)[Symbol.asyncIterator]();
    await slow.next();
    let quick = 0;
    const reading = (async () => {
      for await (const answer of flows.observe(ask({ follow: true }), stop.signal))
        quick += sequences([answer]).length + Number(answer.missed);
    })();
    await nextTurn();
    filled([100], ring);
    expect(sequences([(await slow.next()).value])).toHaveLength(100);
    let put = 100;
    for (let round = 0; round < 200; round++) {
      filled([100], ring);
      put += 100;
      expect(ring.bytes).toBeLessThanOrEqual(1024 * 1024);
      if (round % 10 === 0) await nextTurn();
    }
    let slowTotal = 100;
    while (slowTotal < put) {
      const { value } = await slow.next();
      slowTotal += sequences([value]).length + Number(value.missed);
    }
    expect(slowTotal).toBe(put);
    while (quick < put) await sleep(5);
    expect(quick).toBe(put);
    stop.abort();
    await reading;
  });

  test('an observer of many records lets the process run', async () => {
    const ring = filled(Array<number>(20).fill(3000), new FlowRing({ maxBytes: 64 * 1024 * 1024 }));
    let turns = 0;
    const ticking = setInterval(() => turns++, 1);
    const answers = await all(ring, { last: 50_000n, allow: [{ ...emptyFilter, port: [80] }] });
    clearInterval(ticking);
    expect(sequences(answers)).toHaveLength(50_000);
    // It takes some hundred milliseconds; without pauses there would be no turn at all.
    expect(turns).toBeGreaterThan(10);
  });

  test('of many observers one works in each turn of the event loop', async () => {
    const ring = new FlowRing();
    const flows = flowsOf(ring);
    const stop = new AbortController();
    const followers = Array.from({ length: 20 }, () => flows.observe(ask({ follow: true }), stop.signal)[Symbol.asyncIterator]());
    for (const follower of followers) expect((await follower.next()).value.following).toBe(true);
    let told = 0;
    const answers = followers.map((follower) => follower.next().then(() => told++));
    await nextTurn();
    filled([100], ring);
    for (let before = 0; told < followers.length; before = told) {
      await nextTurn();
      expect(told - before).toBeLessThanOrEqual(2);
    }
    await Promise.all(answers);
    stop.abort();
  });
});

test('stats say what the ring holds and what the others say', () => {
  const ring = new FlowRing({ maxBytes: 2000 });
  ring.put(encoded(batch(1, [], { lost: [{ reason: 1, count: 4n }] })));
  filled([3], ring, { startTime: { seconds: T0 + 7n, nanos: 5 } });
  const flows = openFlows({
    ring,
    interfaces: () => [{ interface: 'interfaces/tap0', active: true, reason: '', epoch: 'e', totals: undefined, records: 3n }],
    ipfix: () => ({ collector: 'c:4739', messages: 1n, records: 2n, failedRecords: 0n, reason: '' }),
  });
  expect(flows.stats()).toEqual({
    interfaces: [{ interface: 'interfaces/tap0', active: true, reason: '', epoch: 'e', totals: undefined, records: 3n }],
    ringRecords: 3n,
    ringBytes: BigInt(ring.bytes),
    oldestTime: { seconds: T0 + 7n, nanos: 5 },
    export: undefined,
    records: 3n,
    lostRecords: 4n,
    ipfix: { collector: 'c:4739', messages: 1n, records: 2n, failedRecords: 0n, reason: '' },
  });
});
