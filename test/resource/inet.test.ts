import { isIP } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatIp, formatMac, formatPrefix, networkOf, parseIp, parseMac, parsePrefix, rangeOf } from '../../src/resource/inet.ts';

const bytesOfIp = fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }));
const sparse = fc.tuple(fc.constantFrom(4, 16), fc.array(fc.tuple(fc.nat(15), fc.nat(255)), { maxLength: 3 })).map(([length, set]) => {
  const bytes = new Uint8Array(length);
  for (const [at, value] of set) bytes[at % length] = value;
  return bytes;
});

describe('addresses', () => {
  it('go from bytes to text and back, and the text is its own canonical form', () => {
    fc.assert(
      fc.property(fc.oneof(bytesOfIp, sparse), (bytes) => {
        const text = formatIp(bytes);
        expect(isIP(text)).toBe(bytes.length === 4 ? 4 : 6);
        expect(text).toBe(text.toLowerCase());
        expect(parseIp(text)).toEqual({ family: bytes.length === 4 ? 2 : 10, bytes: Buffer.from(bytes) });
      }),
      { numRuns: 2000 },
    );
  });

  it('are taken exactly where Node takes them, zones aside', () => {
    const piece = fc.constantFrom(
      '0',
      '1',
      '01',
      '255',
      '256',
      'ffff',
      '12345',
      'g',
      '.',
      ':',
      '::',
      '1.2.3.4',
      '/',
      '%',
      ' ',
      '0x7f',
      '-1',
      '',
      'é',
      '٣',
    );
    const texts = fc.oneof(
      fc.string(),
      fc.array(piece, { maxLength: 12 }).map((parts) => parts.join('')),
      fc.array(piece, { minLength: 2, maxLength: 9 }).map((parts) => parts.join(':')),
      fc.array(piece, { minLength: 4, maxLength: 4 }).map((parts) => parts.join('.')),
    );
    fc.assert(
      fc.property(texts, (text) => {
        expect(parseIp(text) !== undefined, text).toBe(isIP(text) !== 0 && !text.includes('%'));
      }),
      { numRuns: 20_000 },
    );
  });

  it.each([
    ['FD00:0:0::1', 'fd00::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['1:0:0:0:0:0:0:0', '1::'],
    ['10.0.0.1', '10.0.0.1'],
  ])('%s is written %s', (text, canonical) => {
    expect(formatIp(parseIp(text)?.bytes ?? Buffer.alloc(4))).toBe(canonical);
  });

  it.each([
    '127.1',
    '0x7f.1',
    '010.0.0.1',
    '1.2.3',
    '1.2.3.4.5',
    '256.0.0.1',
    'fe80::1%eth0',
    '::1::',
    ':',
    '',
    ' 1.2.3.4',
    '1.2.3.4 ',
    '1.2.3.4\n',
  ])('%j is none', (text) => {
    expect(parseIp(text)).toBeUndefined();
  });
});

describe('prefixes', () => {
  it('round trip with every length', () => {
    fc.assert(
      fc.property(bytesOfIp, fc.nat(128), (bytes, length) => {
        const prefixLength = Math.min(length, bytes.length * 8);
        expect(parsePrefix(formatPrefix(bytes, prefixLength))).toEqual({
          family: bytes.length === 4 ? 2 : 10,
          bytes: Buffer.from(bytes),
          prefixLength,
        });
      }),
    );
  });

  it.each([
    '10.0.0.1/33',
    '10.0.0.1/-1',
    '10.0.0.1/',
    '10.0.0.1/ 8',
    '10.0.0.1/8/8',
    '10.0.0.1/1e1',
    'fd00::/129',
    'fd00::/0x40',
    '/8',
    '10.0.0.1/0008',
    'junk',
  ])('%j is none', (text) => {
    expect(parsePrefix(text)).toBeUndefined();
  });

  it('without a length are the whole address', () => {
    expect(parsePrefix('10.0.0.1')?.prefixLength).toBe(32);
    expect(parsePrefix('fd00::1')?.prefixLength).toBe(128);
  });

  it('have a network that keeps the first bits and none of the others', () => {
    fc.assert(
      fc.property(bytesOfIp, fc.nat(128), (bytes, length) => {
        const prefixLength = Math.min(length, bytes.length * 8);
        const bits = (of: Uint8Array) => [...of].map((byte) => byte.toString(2).padStart(8, '0')).join('');
        const network = networkOf({ family: 2, bytes: Buffer.from(bytes), prefixLength });
        expect(bits(network)).toBe(
          bits(bytes)
            .slice(0, prefixLength)
            .padEnd(bytes.length * 8, '0'),
        );
      }),
    );
  });

  it.each([
    ['224.0.0.1', 'multicast'],
    ['ff02::1', 'multicast'],
    ['127.0.0.1', 'loopback'],
    ['::1', 'loopback'],
    ['::ffff:1.2.3.4', 'ipv4Mapped'],
    ['0.0.0.0', 'unspecified'],
    ['::', 'unspecified'],
    ['255.255.255.255', 'broadcast'],
  ])('%s is %s', (text, range) => {
    const ip = parseIp(text);
    expect(ip && rangeOf(ip)).toBe(range);
  });
});

describe('MAC addresses', () => {
  it('round trip, in lower case', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (bytes) => {
        expect(parseMac(formatMac(bytes).toUpperCase())).toEqual(Buffer.from(bytes));
      }),
    );
    expect(formatMac(Buffer.alloc(0))).toBe('');
  });

  it.each(['', '02:00:00:00:00', '02:00:00:00:00:00:01', '2:0:0:0:0:1', '02-00-00-00-00-01', '020000000001', '02:00:00:00:00:0g'])(
    '%j is none',
    (text) => {
      expect(parseMac(text)).toBeUndefined();
    },
  );
});
