import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FlowRing } from '../../src/flow/ring.ts';
import { batch, encoded } from './flow-values.ts';

const batchOf = (records: number, lost = 0n) =>
  encoded(
    batch(
      1,
      Array.from({ length: records }, () => ({})),
      { lost: lost > 0n ? [{ reason: 1, count: lost }] : [] },
    ),
  );
const never = new AbortController().signal;

describe('the ring', () => {
  test('holds as many bytes as it may, and lets the oldest batches go', () => {
    const one = batchOf(10);
    const ring = new FlowRing({ maxBytes: 5 * (one.length + 256) });
    for (let index = 0; index < 5; index++) ring.put(batchOf(10));
    expect([ring.oldest, ring.next, ring.records, ring.bytes]).toEqual([0, 5, 50, 5 * one.length]);
    ring.put(batchOf(9, 7n));
    expect([ring.oldest, ring.next, ring.records]).toEqual([1, 6, 49]);
    expect(ring.bytes).toBe(4 * one.length + batchOf(9, 7n).length);
    expect(ring.at(0)).toBeUndefined();
    expect(ring.at(5)).toMatchObject({ number: 5, records: 9, lost: 7n, before: 50 });
    expect(ring.at(6)).toBeUndefined();
    expect(ring.totals).toEqual({ records: 59, lost: 7n });
  });

  test('bounds tiny batches too, and takes none that is larger than all', () => {
    const ring = new FlowRing({ maxBytes: 10_000 });
    for (let index = 0; index < 50_000; index++) ring.put(Buffer.alloc(0));
    expect(ring.next - ring.oldest).toBe(39);
    const cursor = ring.cursor(0);
    const large = batchOf(100);
    expect(large.length).toBeGreaterThan(10_000);
    ring.put(large);
    expect([ring.next - ring.oldest, ring.bytes, ring.records]).toEqual([0, 0, 0]);
    expect([cursor.take(), cursor.missed(), cursor.isAtEnd()]).toEqual([undefined, 100, true]);
  });

  test('a small view does not hold the large memory that it looks into', () => {
    const large = Buffer.alloc(1024 * 1024);
    const small = batchOf(1);
    small.copy(large, 1000);
    const ring = new FlowRing();
    ring.put(large.subarray(1000, 1000 + small.length));
    expect(ring.at(0)?.bytes).toEqual(small);
    expect(ring.at(0)?.bytes.buffer.byteLength).toBeLessThan(2 * small.length + 256);
  });

  test('what is no batch is not taken', () => {
    const ring = new FlowRing();
    expect(ring.put(Buffer.from([0x42, 0x05]))).toEqual({ malformed: expect.any(String) });
    expect(ring.put(batchOf(3))).toMatchObject({ records: 3, interface: 'tap0' });
    expect([ring.next, ring.totals.records]).toEqual([1, 3]);
  });

  test('a cursor counts what it missed, exactly, whatever the order of puts and takes', () => {
    const steps = fc.array(fc.oneof(fc.nat(20), fc.constant('take' as const), fc.constant('count' as const)), { maxLength: 200 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 500, max: 20_000 }), (list, maxBytes) => {
        const ring = new FlowRing({ maxBytes });
        ring.put(batchOf(5));
        const cursor = ring.cursor(ring.next);
        let put = 0;
        let [taken, missed, last] = [0, 0, 0];
        const take = (): boolean => {
          const found = cursor.take();
          if (found === undefined) return false;
          expect(found.number).toBeGreaterThan(last);
          last = found.number;
          taken += found.records;
          return true;
        };
        for (const step of list) {
          if (step === 'take') take();
          else if (step === 'count') missed += cursor.missed();
          else {
            ring.put(batchOf(step));
            put += step;
          }
          let [bytes, records] = [0, 0];
          for (let number = ring.oldest; number < ring.next; number++) {
            bytes += ring.at(number)?.bytes.length ?? Number.NaN;
            records += ring.at(number)?.records ?? Number.NaN;
          }
          expect([ring.bytes, ring.records]).toEqual([bytes, records]);
          expect(bytes).toBeLessThanOrEqual(maxBytes);
        }
        while (take());
        expect(taken + missed + cursor.missed()).toBe(put);
        expect(cursor.isAtEnd()).toBe(true);
      }),
    );
  });

  test('a cursor that goes to a mark misses only what came before it', () => {
    const ring = new FlowRing({ maxBytes: 4 * (batchOf(10).length + 256) });
    for (let index = 0; index < 3; index++) ring.put(batchOf(10));
    const cursor = ring.cursor(0);
    const end = ring.end();
    expect(cursor.take(end)?.number).toBe(0);
    for (let index = 0; index < 20; index++) ring.put(batchOf(10));
    expect([cursor.take(end), cursor.missed(end)]).toEqual([undefined, 20]);
    expect([cursor.take()?.number, cursor.missed()]).toEqual([ring.oldest, 16 * 10]);
  });

  test('wakes everyone who waits, once, and nobody who does not any more', async () => {
    const ring = new FlowRing();
    const gone = new AbortController();
    let woken = 0;
    const waits = [never, never, gone.signal].map((signal) => ring.changed(signal).then(() => woken++));
    gone.abort();
    await waits[2];
    expect(woken).toBe(1);
    ring.put(batchOf(1));
    await Promise.all(waits);
    expect(woken).toBe(3);
    await ring.changed(gone.signal);
  });
});
