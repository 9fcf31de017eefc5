import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { prepare } from '../../src/interface/canonical.ts';
import { decodeRecord, encodeRecord, etagOf, type Record, sameSpec } from '../../src/interface/record.ts';
import { BadRecord } from '../../src/resource/record-kind.ts';
import { address, anySpec, tap } from './specs.ts';

const sample: Record = {
  name: 'tap0',
  uid: '00000000-0000-4000-8000-000000000001',
  phase: 'ready',
  labels: { team: 'net' },
  spec: prepare(tap({ up: true, mtu: 1400, addresses: [address('10.0.0.1/24', { validLifetime: 60 })] })),
  generation: 3,
  createTimeMs: 1_700_000_000_000,
  updateTimeMs: 1_700_000_000_123,
  addressSinceMs: { '10.0.0.1/24': 1_700_000_000_100 },
};

const decode = ({ name, phase }: { name: string; phase: string }, { body, sum }: { body: Uint8Array; sum: Uint8Array }) =>
  decodeRecord(name, phase, body, sum);

describe('a record', () => {
  it('comes back as it went, in every phase, with what to go back to', () => {
    const phases = fc.constantFrom<Record['phase']>('ready', 'creating', 'adopting', 'updating', 'deleting');
    fc.assert(
      fc.property(anySpec('tap'), phases, fc.boolean(), (spec, phase, updating) => {
        const record: Record = { ...sample, spec: prepare(spec), phase };
        const whole: Record = updating ? { ...record, before: { record: { ...sample, generation: 2 }, restore: prepare(spec) } } : record;
        expect(decode(whole, encodeRecord(whole))).toEqual(whole);
      }),
    );
  });

  it('with any one bit flipped, in name, phase, body or sum, is bad', () => {
    const parts = { name: Buffer.from(sample.name), phase: Buffer.from(sample.phase), ...encodeRecord(sample) };
    let flips = 0;
    for (const [part, original] of Object.entries(parts)) {
      for (let bit = 0; bit < original.length * 8; bit++) {
        const flipped = Buffer.from(original);
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        const all = { ...parts, [part]: flipped };
        const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');
        expect(() => decodeRecord(text(all.name), text(all.phase), all.body, all.sum), `${part} bit ${bit}`).toThrow(BadRecord);
        flips++;
      }
    }
    expect(flips).toBeGreaterThan(2000);
  });

  it('that is cut, empty, of another name or with a sum of another length is bad', () => {
    const { body, sum } = encodeRecord(sample);
    for (const length of [0, 1, body.length - 1])
      expect(() => decodeRecord('tap0', 'ready', body.subarray(0, length), sum)).toThrow(BadRecord);
    expect(() => decodeRecord('tap1', 'ready', body, sum)).toThrow(BadRecord);
    expect(() => decodeRecord('tap0', 'deleting', body, sum)).toThrow(BadRecord);
    expect(() => decodeRecord('tap0', 'ready', body, sum.subarray(1))).toThrow(BadRecord);
  });
});

describe('versions', () => {
  it('depend on spec, labels and uid, and on nothing else', () => {
    expect(etagOf({ ...sample, generation: 9, updateTimeMs: 0, phase: 'updating' })).toBe(etagOf(sample));
    expect(etagOf({ ...sample, labels: { b: '1', a: '2' } })).toBe(etagOf({ ...sample, labels: { a: '2', b: '1' } }));
    const others = [
      { labels: {} },
      { uid: 'x' },
      { spec: { ...sample.spec, mtu: 1401 } },
      { spec: { ...sample.spec, mtu: undefined } },
    ].map((change) => etagOf({ ...sample, ...change }));
    expect(new Set([...others, etagOf(sample)]).size).toBe(5);
    expect(etagOf(sample)).toMatch(/^"[0-9a-f]{16}"$/);
  });

  it('of specs are equal for what asks for the same', () => {
    expect(
      sameSpec(
        prepare(tap({ sysctls: { 'ipv4/rp_filter': '1', 'ipv4/arp_filter': '0' } })),
        prepare(tap({ sysctls: { 'ipv4/arp_filter': '0', 'ipv4/rp_filter': '01' } })),
      ),
    ).toBe(true);
    expect(sameSpec(tap(), tap({ mtu: 0 }))).toBe(false);
  });
});
