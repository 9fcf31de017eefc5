import fc from 'fast-check';
import { expect, it } from 'vitest';
import { finish, fold, pseudoHeaderSum, sumBytes } from '../../src/packet/checksum.ts';
import { slowChecksum } from './frames.ts';

it('is that of the example in RFC 1071, section 3', () => {
  expect(fold(sumBytes(Buffer.from('0001f203f4f5f6f7', 'hex'), 0, 8))).toBe(0xddf2);
});

it('is that of a published IPv4 header', () => {
  const header = Buffer.from('45000073000040004011b861c0a80001c0a800c7', 'hex');
  expect(finish(sumBytes(header, 0, 20))).toBe(0);
  header.writeUInt16BE(0, 10);
  expect(finish(sumBytes(header, 0, 20))).toBe(0xb861);
});

it('equals slow arithmetic for any bytes, whole or in parts at even places', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000 }), fc.nat(), (bytes, cut) => {
      const at = bytes.length === 0 ? 0 : (cut % bytes.length) & ~1;
      expect(finish(sumBytes(bytes, 0, bytes.length))).toBe(slowChecksum(bytes));
      expect(finish(sumBytes(bytes, at, bytes.length - at, sumBytes(bytes, 0, at)))).toBe(slowChecksum(bytes));
    }),
  );
});

it('equals slow arithmetic wherever the bytes lie in memory', () => {
  const memory = new Uint8Array(4096).map((_, index) => (index * 7919) >>> 3);
  for (const buffer of [memory, new Uint8Array(memory), new Uint8Array(memory)])
    for (let offset = 0; offset < 9; offset++)
      for (const length of [63, 64, 65, 66, 67, 68, 127, 1400, 1401, 1402, 1403, 2047]) {
        const bytes = buffer.subarray(offset, offset + 2100);
        for (const start of [0, 1, 2, 3])
          expect(finish(sumBytes(bytes, start, length))).toBe(slowChecksum(bytes.subarray(start, start + length)));
      }
});

it('folds the largest sums', () => {
  expect(fold(sumBytes(new Uint8Array(1 << 20).fill(0xff), 0, 1 << 20))).toBe(0xffff);
  expect(fold(2 ** 48 + 5)).toBe(6);
});

it('takes the pseudo-header in', () => {
  const bytes = Buffer.from('0a0000010a000002', 'hex');
  const rest = Buffer.from('0000000800000011', 'hex');
  expect(fold(pseudoHeaderSum(bytes, 0, 4, 17, 8))).toBe(~slowChecksum(Buffer.concat([bytes, rest])) & 0xffff);
});
