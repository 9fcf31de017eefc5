import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type BatchHead, readBatchHead, recordPlaces } from '../../src/flow/batch-head.ts';
import { Flow, FlowBatch } from '../../src/gen/taplane/v1/flow.ts';
import { batch, encoded, someBatch } from './flow-values.ts';

describe('the head of a batch', () => {
  test('agrees with what decoding says', () => {
    fc.assert(
      fc.property(someBatch, (whole) => {
        const bytes = encoded(whole);
        const decoded = FlowBatch.decode(bytes);
        const { flows, lost, exportTime, totals, ...fields } = decoded;
        const expected: Partial<BatchHead> = { ...fields, records: flows.length, lost: lost.reduce((sum, { count }) => sum + count, 0n) };
        if (totals !== undefined) expected.totals = totals;
        if (exportTime !== undefined) expected.exportTime = exportTime;
        expect(readBatchHead(bytes)).toEqual(expected);
        const places = recordPlaces(bytes);
        const records = flows.map((_flow, index) => Flow.decode(bytes.subarray(places[2 * index], places[2 * index + 1])));
        expect(places).toHaveLength(2 * flows.length);
        expect(records).toEqual(flows);
      }),
      { numRuns: 300 },
    );
  });

  test('is read from a view into other bytes, and passes over fields that are not known', () => {
    const bytes = encoded(batch(7, [{}, {}], { node: 'ä' }));
    // Field 99 as number, as 8 bytes, as 4 bytes, as bytes; then field 1 as number, which is not the cluster.
    const unknown = Buffer.from(`9806808001 9906${'00'.repeat(8)} 9d06${'00'.repeat(4)} 9a060141 0805`.replaceAll(' ', ''), 'hex');
    const padded = Buffer.concat([Buffer.from('junk'), unknown, bytes, Buffer.from('junk')]);
    const head = readBatchHead(padded.subarray(4, 4 + unknown.length + bytes.length)) as BatchHead;
    expect(head).toMatchObject({ cluster: 'c1', node: 'ä', interface: 'tap0', labels: { tenant: 'blue' }, firstSequence: 7n, records: 2 });
    expect(head.lost).toBe(0n);
  });

  test('of a field twice, the last counts; losses add up beyond 64 bits', () => {
    const most = 2n ** 64n - 1n;
    const one = encoded(batch(1, [{}], { lost: [{ reason: 1, count: most }] }));
    const two = encoded(batch(9, [{}], { node: 'n2', lost: [{ reason: 2, count: most }] }));
    expect(readBatchHead(Buffer.concat([one, two]))).toMatchObject({ node: 'n2', firstSequence: 9n, records: 2, lost: 2n * most });
  });

  test('a label may have any name', () => {
    const bytes = Buffer.concat([encoded(batch(1, [])), Buffer.from('2a0e0a095f5f70726f746f5f5f120178', 'hex')]);
    const { labels } = readBatchHead(bytes) as BatchHead;
    expect(Object.entries(labels)).toEqual([
      ['tenant', 'blue'],
      ['__proto__', 'x'],
    ]);
  });

  test.each([
    ['field 0', '0000'],
    ['a tag that does not end', 'ffffffff'],
    ['a tag of eleven bytes', 'ffffffffffffffffffff01'],
    ['a tag beyond 32 bits', 'f8ffffff1f00'],
    ['a group', '0b0c'],
    ['the end of a group', '0c'],
    ['a wire type that there is not', '0e00'],
    ['a length beyond the end', '4205'],
    ['a length of 2^63', '42ffffffffffffffff7f'],
    ['a length that does not end', '42ff'],
    ['a number that does not end', '38ff'],
    ['a number of eleven bytes', '38ffffffffffffffffffff01'],
    ['4 bytes of which 3 are there', '0d000000'],
    ['8 bytes of which 7 are there', '0900000000000000'],
    ['totals that are none', '520108'],
    ['a loss that is none', '4a0110'],
    ['a label that is none', '2a020a05'],
    ['a time that is none', '5a0108'],
  ])('%s is malformed', (_, hex) => {
    expect(readBatchHead(Buffer.from(hex, 'hex'))).toEqual({ malformed: expect.stringMatching(/.+/) });
  });

  test('hostile bytes never throw', () => {
    const mutated = fc
      .tuple(someBatch, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 }), fc.nat())
      .map(([whole, changes, cut]) => {
        const bytes = encoded(whole);
        if (bytes.length === 0) return bytes;
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        return bytes.subarray(0, cut % (bytes.length + 1));
      });
    fc.assert(
      fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 64 })), (bytes) => {
        const head = readBatchHead(bytes);
        if ('malformed' in head) return;
        expect(recordPlaces(bytes)).toHaveLength(2 * head.records);
        expect(head.lost >= 0n && head.firstSequence >= 0n && head.firstSequence < 2n ** 64n).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});
