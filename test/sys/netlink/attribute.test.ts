import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attribute,
  MAX_VALUE,
  nestedAttribute,
  readAttributes,
  readString,
  readU8,
  readU32,
  stringAttribute,
  u8Attribute,
  u32Attribute,
} from '../../../src/sys/netlink/attribute.ts';
import { bytes } from './hex.ts';

const asObject = (found: Map<number, Buffer>) => Object.fromEntries([...found].map(([type, value]) => [type, value.toString('hex')]));

describe('writing attributes', () => {
  it('pads the value, not the length', () => {
    expect(stringAttribute(3, 'tap0')).toEqual(
      bytes(`
        0900           // length: header and value, without the pad
        0300           // IFLA_IFNAME
        74617030 00    // "tap0" and its NUL
        000000         // pad
      `),
    );
    expect(u8Attribute(11, 76)).toEqual(bytes('0500 0b00 4c 000000'));
    expect(u32Attribute(4, 1400)).toEqual(bytes('0800 0400 78050000'));
    expect(u32Attribute(1, 0xffffffff)).toEqual(bytes('0800 0100 ffffffff'));
    expect(attribute(1, Buffer.alloc(0))).toEqual(bytes('0400 0100'));
  });

  it('marks what holds attributes as nested', () => {
    expect(nestedAttribute(8, [u32Attribute(2, 1300)])).toEqual(
      bytes(`
        0c00 0880            // RTA_METRICS | NLA_F_NESTED
          0800 0200 14050000 // RTAX_MTU 1300
      `),
    );
  });

  it('refuses what 16 bits cannot hold, before anything is sent', () => {
    expect(attribute(1, Buffer.alloc(MAX_VALUE)).readUInt16LE(0)).toBe(65_535);
    const sizes = fc.oneof(fc.constant(MAX_VALUE + 1), fc.integer({ min: MAX_VALUE + 1, max: 200_000 }));
    fc.assert(
      fc.property(sizes, (size) => {
        expect(() => attribute(20, Buffer.alloc(size))).toThrow(/encode netlink attribute 20: EMSGSIZE: \d+ bytes, at most 65531/);
      }),
      { numRuns: 50 },
    );
    const half = attribute(1, Buffer.alloc(40_000));
    expect(() => nestedAttribute(8, [half, half])).toThrow('EMSGSIZE');
  });
});

describe('reading attributes', () => {
  it('reads back what was written, whatever it was', () => {
    const values = fc.uniqueArray(fc.tuple(fc.integer({ min: 0, max: 0x3fff }), fc.uint8Array({ maxLength: 300 })), {
      selector: ([type]) => type,
    });
    fc.assert(
      fc.property(values, (pairs) => {
        const written = Buffer.concat(pairs.map(([type, value]) => attribute(type, value)));
        expect(asObject(readAttributes(written))).toEqual(
          Object.fromEntries(pairs.map(([type, value]) => [type, Buffer.from(value).toString('hex')])),
        );
      }),
    );
  });

  it.each([
    ['length 0 ends the walk, and does not turn in a circle', '0500 0100 07 000000  0000 0200 09000000', { 1: '07' }],
    ['length 3 is less than a header', '0300 0100 07000000', {}],
    ['a length beyond the end is not read', '0500 0100 07 000000  0900 0200 09000000', { 1: '07' }],
    ['a header that is cut', '0500 0100 07 000000  0800 02', { 1: '07' }],
    ['the last value may lack its pad', '0500 0100 07', { 1: '07' }],
    ['nested and byte-order marks are not part of the type', '0800 0280 01000000  0800 0340 02000000', { 2: '01000000', 3: '02000000' }],
    ['the last of a type wins', '0500 0100 07 000000  0500 0100 08 000000', { 1: '08' }],
    ['nothing', '', {}],
  ])('%s', (_, text, expected) => {
    expect(asObject(readAttributes(bytes(text)))).toEqual(expected);
  });

  it('takes short values as missing, and strings up to their NUL', () => {
    expect(readU32(bytes('010203'), 7)).toBe(7);
    expect(readU32(undefined, 7)).toBe(7);
    expect(readU32(bytes('ffffffff'))).toBe(0xffffffff);
    expect(readU8(bytes(''), 3)).toBe(3);
    expect(readString(bytes('746170 00 ff'))).toBe('tap');
    expect(readString(bytes('746170'))).toBe('tap');
    expect(readString(undefined)).toBe('');
  });
});
