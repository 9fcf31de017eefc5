import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { describe, expect, it } from 'vitest';
import { PrefixSet } from '../../src/packet/prefix-set.ts';
import { random } from '../harness/random.ts';

const bytesOf = (text: string) => Uint8Array.from(ipaddr.parse(text).toByteArray());
const prefix = (text: string) => {
  const [address = '', length] = text.split('/');
  const bytes = bytesOf(address);
  return { bytes, length: length === undefined ? bytes.length * 8 : Number(length) };
};
const has = (set: PrefixSet, text: string) => {
  const bytes = bytesOf(text);
  return set.has(Buffer.concat([Buffer.alloc(3, 0xff), bytes, Buffer.alloc(3, 0xff)]), 3, bytes.length as 4 | 16);
};

describe('an address is in the set', () => {
  const set = new PrefixSet(
    ['10.0.0.0/8', '192.0.2.1', '192.0.2.128/25', '255.255.255.255', 'fd00::1', '2001:db8::/32', '2001:db9:0:8000::/49'].map(prefix),
  );
  it.each<[string, boolean]>([
    ['10.0.0.0', true],
    ['10.255.255.255', true],
    ['9.255.255.255', false],
    ['11.0.0.0', false],
    ['192.0.2.1', true],
    ['192.0.2.0', false],
    ['192.0.2.127', false],
    ['192.0.2.128', true],
    ['255.255.255.255', true],
    ['255.255.255.254', false],
    ['0.0.0.0', false],
    ['fd00::1', true],
    ['fd00::2', false],
    ['fd00::1:0:0:1', false],
    ['2001:db8:ffff:ffff:ffff:ffff:ffff:ffff', true],
    ['2001:db9::', false],
    ['2001:db9:0:8000::', true],
    ['2001:db9:0:7fff:ffff:ffff:ffff:ffff', false],
    ['::ffff:10.0.0.1', false],
    ['::', false],
  ])('%s: %s', (address, expected) => expect(has(set, address)).toBe(expected));
});

it('holds nothing, or everything of a family, with host bits or not', () => {
  expect(has(new PrefixSet([]), '0.0.0.0')).toBe(false);
  expect(has(new PrefixSet([]), '::')).toBe(false);
  const v4 = new PrefixSet([prefix('192.0.2.1/0')]);
  expect([has(v4, '255.1.2.3'), has(v4, '::')]).toEqual([true, false]);
  const v6 = new PrefixSet([prefix('fd00::1/0')]);
  expect([has(v6, 'ff02::1'), has(v6, '1.2.3.4')]).toEqual([true, false]);
  const hostBits = new PrefixSet([prefix('10.1.2.3/16'), prefix('10.1.9.9/16')]);
  expect([has(hostBits, '10.1.0.0'), has(hostBits, '10.2.0.0')]).toEqual([true, false]);
});

it('does not look beyond the bytes', () => {
  const set = new PrefixSet([prefix('0.0.0.0/0'), prefix('::/0')]);
  const bytes = new Uint8Array(16);
  expect([set.has(bytes, 12, 4), set.has(bytes, 0, 16)]).toEqual([true, true]);
  expect([set.has(bytes, 13, 4), set.has(bytes, 1, 16), set.has(bytes, -1, 4)]).toEqual([false, false, false]);
});

it.each([
  { bytes: new Uint8Array(5), length: 8 },
  { bytes: new Uint8Array(4), length: 33 },
  { bytes: new Uint8Array(16), length: 129 },
  { bytes: new Uint8Array(4), length: -1 },
  { bytes: new Uint8Array(4), length: 1.5 },
])('is not built of $bytes.length bytes and $length bits', (item) => expect(() => new PrefixSet([item])).toThrow(RangeError));

it('copies what it is built of', () => {
  const item = prefix('10.0.0.1');
  const set = new PrefixSet([item]);
  item.bytes[3] = 9;
  expect([has(set, '10.0.0.1'), has(set, '10.0.0.9')]).toEqual([true, false]);
});

it('answers as comparing bit by bit does', () => {
  const slow = (items: { bytes: Uint8Array; length: number }[], bytes: Uint8Array) =>
    items.some(
      (item) =>
        item.bytes.length === bytes.length &&
        Array.from({ length: item.length }, (_, bit) => bit).every(
          (bit) => (((item.bytes[bit >> 3] ?? 0) ^ (bytes[bit >> 3] ?? 0)) & (0x80 >> (bit & 7))) === 0,
        ),
    );
  fc.assert(
    fc.property(fc.constantFrom<4 | 16>(4, 16), fc.integer({ min: 0, max: 256 }), fc.nat(), (size, count, salt) => {
      const dice = random('prefixes', salt);
      // Few values, so that addresses often share long beginnings.
      const address = () => Uint8Array.from({ length: size }, () => dice.pick([0, 0, 0, 1, 128, 255]));
      const items = Array.from({ length: count }, () => ({
        bytes: address(),
        length: dice.integer(0, 3) === 0 ? dice.integer(1, size * 8) : size * 8,
      }));
      const set = new PrefixSet(items);
      for (let n = 0; n < 20; n++) {
        const bytes = count > 0 && n % 2 === 0 ? Uint8Array.from(dice.pick(items).bytes) : address();
        if (n % 4 === 0) bytes[size - 1] = (bytes[size - 1] ?? 0) ^ 1;
        expect(set.has(bytes, 0, size)).toBe(slow(items, bytes));
      }
    }),
    { numRuns: 60 },
  );
});
