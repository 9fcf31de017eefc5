import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BadCapture, type CapturedPacket, CaptureReader } from '../../src/packet/capture-reader.ts';
import { interfaceDescription, LINKTYPE_RAW, packetBlockBytes, sectionHeader, writePacket } from '../../src/packet/pcapng.ts';
import { random } from '../harness/random.ts';
import {
  BOTH_ORDERS,
  type ByteOrder,
  block,
  describeInterface,
  enhancedPacket,
  halves,
  MICRO,
  NANO,
  oldPacket,
  option,
  pcapHeader,
  pcapRecord,
  section,
  simplePacket,
  words,
} from './capture-files.ts';
import { hex } from './requests.ts';

const LE: ByteOrder = { little: true };

interface Outcome {
  packets: CapturedPacket[];
  error: BadCapture | undefined;
}

/** Reads a file in pieces that end at `cuts`. */
function read(file: Buffer, cuts: readonly number[] = []): Outcome {
  const reader = new CaptureReader();
  const packets: CapturedPacket[] = [];
  let from = 0;
  try {
    for (const to of [...cuts, file.length]) {
      // Changed afterwards: what was given is the reader's no more.
      const piece = Buffer.from(file.subarray(from, to));
      packets.push(...reader.push(piece));
      piece.fill(0xee);
      from = to;
    }
    reader.end();
  } catch (error) {
    if (!(error instanceof BadCapture)) throw error;
    return { packets, error };
  }
  return { packets, error: undefined };
}

const whole = (...parts: Buffer[]): CapturedPacket[] => {
  const { packets, error } = read(Buffer.concat(parts));
  if (error !== undefined) throw error;
  return packets;
};
const errorOf = (...parts: Buffer[]) => read(Buffer.concat(parts)).error;
const BYTES = hex('0102030405');
const packet = (seconds: number, nanos: number, fields: Partial<CapturedPacket> = {}): CapturedPacket => ({
  linkType: 1,
  seconds,
  nanos,
  originalLength: 5,
  bytes: BYTES,
  ...fields,
});

describe.each(BOTH_ORDERS)('pcap, %s', (_, order) => {
  it.each<[string, number, number, number]>([
    ['microseconds', MICRO, 123_456, 123_456_000],
    ['nanoseconds', NANO, 123_456_789, 123_456_789],
  ])('with %s', (_name, magic, fraction, nanos) => {
    expect(whole(pcapHeader(order, magic), pcapRecord(order, 0xf0000000, fraction, BYTES), pcapRecord(order, 7, 0, hex(''), 1500))).toEqual(
      [packet(0xf0000000, nanos), packet(7, 0, { originalLength: 1500, bytes: hex('') })],
    );
  });

  it('with a length of frame check sequences beside the link type, and too many microseconds', () => {
    const packets = whole(pcapHeader(order, MICRO, 0x24000065), pcapRecord(order, 7, 2_000_001, BYTES));
    expect(packets).toEqual([packet(9, 1000, { linkType: 101 })]);
  });

  it('without packets', () => expect(whole(pcapHeader(order, NANO))).toEqual([]));
});

describe.each(BOTH_ORDERS)('pcapng, %s', (_, order) => {
  const head = [section(order), describeInterface(order, 1, 0)];
  const tsresol = (value: number) => option(order, 9, Buffer.from([value]));

  it('packets of all three kinds, and blocks that are skipped', () => {
    const file = [
      ...head,
      describeInterface(order, 101, 3, option(order, 2, Buffer.from('tun0')), tsresol(9), option(order, 0, hex(''))),
      block(order, 4, words(order, 0)),
      enhancedPacket(order, 0, 1_790_000_000_123_456n, BYTES, 60, option(order, 2, words(order, 1)), option(order, 0, hex(''))),
      enhancedPacket(order, 1, 1_790_000_000_123_456_789n, BYTES),
      block(order, 0x0bad, Buffer.alloc(400, 1)),
      oldPacket(order, 1, 9, 5_000_000_001n, BYTES, 77),
      simplePacket(order, 5, BYTES),
      block(order, 0x80000001),
    ];
    expect(whole(...file)).toEqual([
      packet(1_790_000_000, 123_456_000, { originalLength: 60 }),
      packet(1_790_000_000, 123_456_789, { linkType: 101 }),
      packet(5, 1, { linkType: 101, originalLength: 77 }),
      // A simple packet has no time: that of the one before.
      packet(5, 1),
    ]);
  });

  it('a simple packet is as long as its interface keeps', () => {
    const file = [section(order), describeInterface(order, 1, 3)];
    expect(whole(...file, simplePacket(order, 5, hex('010203')), simplePacket(order, 2, hex('0405')))).toEqual([
      packet(0, 0, { bytes: hex('010203') }),
      packet(0, 0, { originalLength: 2, bytes: hex('0405') }),
    ]);
  });

  it.each<[string, Buffer[], bigint, number, number]>([
    ['seconds', [tsresol(0)], 7n, 7, 0],
    ['milliseconds', [tsresol(3)], 7_089n, 7, 89_000_000],
    ['picoseconds', [tsresol(12)], 7_089_000_000_999n, 7, 89_000_000],
    ['2^-10 seconds', [tsresol(0x8a)], 7n * 1024n + 512n, 7, 500_000_000],
    ['2^-32 seconds', [tsresol(0xa0)], (7n << 32n) + 1n, 7, 0],
    ['2^-127 seconds', [tsresol(0xff)], 2n ** 64n - 1n, 0, 0],
    ['10^-127 seconds', [tsresol(0x7f)], 2n ** 64n - 1n, 0, 0],
    ['the most microseconds', [], 2n ** 64n - 1n, 18_446_744_073_709, 551_615_000],
    ['an offset', [option(order, 14, offsetOf(order, 1_000_000n))], 7_000_001n, 1_000_007, 1000],
    ['an offset before 1970', [tsresol(9), option(order, 14, offsetOf(order, -9n))], 7_000_000_001n, -2, 1],
    ['options after the last', [option(order, 0, hex('')), tsresol(0)], 7_000_001n, 7, 1000],
    ['a resolution of two bytes, which is none', [option(order, 9, hex('0909'))], 7_000_001n, 7, 1000],
  ])('time in %s', (_name, options, ticks, seconds, nanos) => {
    const file = [section(order), describeInterface(order, 1, 0, ...options), enhancedPacket(order, 0, ticks, BYTES)];
    expect(whole(...file)).toEqual([packet(seconds, nanos)]);
  });

  it('a section has its own byte order and interfaces', () => {
    const other = { little: !order.little };
    const second = [section(other, [1, 2]), describeInterface(other, 147, 0), enhancedPacket(other, 0, 2_000_000n, BYTES)];
    expect(whole(...head, enhancedPacket(order, 0, 1_000_000n, BYTES), ...second, ...head)).toEqual([
      packet(1, 0),
      packet(2, 0, { linkType: 147 }),
    ]);
    expect(errorOf(...head, section(other), enhancedPacket(other, 0, 1n, BYTES))?.message).toContain('interface 0, of 0');
  });
});

function offsetOf({ little }: ByteOrder, seconds: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  if (little) bytes.writeBigInt64LE(seconds);
  else bytes.writeBigInt64BE(seconds);
  return bytes;
}

it('what we write ourselves', () => {
  const out = Buffer.alloc(packetBlockBytes(5));
  writePacket(out, 0, 0, 1_790_000_000_123_456_789n, BYTES, 0, 5, 60, 'inbound');
  const described = interfaceDescription({ name: 'tun0', linkType: LINKTYPE_RAW, snapLength: 5, filter: 'tcp' });
  expect(whole(sectionHeader({ application: 'taplane' }), described, out)).toEqual([
    packet(1_790_000_000, 123_456_789, { linkType: 101, originalLength: 60 }),
  ]);
});

describe('a bad file is refused, at its place', () => {
  const pcap = pcapHeader(LE, MICRO);
  const ng = [section(LE), describeInterface(LE, 1, 0)];
  const AFTER = 28 + 20;
  const record = (captured: number) => words(LE, 1, 2, captured, captured);
  const changed = (bytes: Buffer, at: number, value: Buffer) => {
    const copy = Buffer.from(bytes);
    value.copy(copy, at);
    return copy;
  };
  it.each<[string, Buffer[], number, string]>([
    ['text', [Buffer.from('hello, world')], 0, 'begins with 68656c6c, which is neither pcap nor pcapng'],
    ['gzip', [hex('1f8b0800')], 0, 'unpack it first'],
    ['nothing', [], 0, 'it is empty'],
    ['three bytes', [pcap.subarray(0, 3)], 0, 'cut off: 3 bytes'],
    ['a header that is cut off', [pcap.subarray(0, 23)], 0, 'cut off: 23 bytes'],
    ['pcap of another version', [pcapHeader(LE, MICRO, 1, [2, 3])], 0, 'pcap of version 2.3'],
    ['a record header that is cut off', [pcap, record(4).subarray(0, 15)], 24, 'cut off: 15 bytes'],
    ['a record that is cut off', [pcap, record(4), hex('010203')], 24, 'cut off: 19 bytes'],
    ['a record of more than 262,144 bytes', [pcap, record(262_145)], 24, 'a packet of 262145 bytes'],
    ['a record of 2^32 - 1 bytes', [pcap, record(0xffffffff)], 24, 'a packet of 4294967295 bytes'],
    ['a section that is cut off', [section(LE).subarray(0, 27)], 0, 'cut off: 27 bytes'],
    ['a section of no byte order', [changed(section(LE), 8, hex('1a2b3c4e'))], 0, 'no known byte order'],
    ['a section of version 2', [section(LE, [2, 0])], 0, 'version 2.0'],
    ['a section of version 1.1', [section(LE, [1, 1])], 0, 'version 1.1'],
    ['a short section', [block(LE, 0x0a0d0d0a, words(LE, 0x1a2b3c4d))], 0, 'with 16 bytes'],
    ['a block of 8 bytes', [...ng, words(LE, 5, 8, 8)], AFTER, 'a block of 8 bytes'],
    ['a block of 13 bytes', [...ng, words(LE, 5, 13, 0)], AFTER, 'a block of 13 bytes'],
    ['a block of more than 16 MiB', [...ng, words(LE, 5, 16 * 1024 * 1024 + 4, 0)], AFTER, 'a block of 16777220 bytes'],
    ['a block that ends with another length', [...ng, words(LE, 5, 16, 0, 12)], AFTER, 'ends as one of 12'],
    ['a block that is cut off', [...ng, words(LE, 5, 16, 0)], AFTER, 'cut off: 12 bytes'],
    ['a packet of no interface', [...ng, enhancedPacket(LE, 1, 0n, BYTES)], AFTER, 'interface 1, of 1'],
    ['an old packet of no interface', [...ng, oldPacket(LE, 3, 0, 0n, BYTES)], AFTER, 'interface 3, of 1'],
    ['a simple packet of no interface', [section(LE), simplePacket(LE, 5, BYTES)], 28, 'interface 0, of 0'],
    [
      'a packet longer than its block',
      [...ng, block(LE, 6, words(LE, 0, 0, 0, 9, 9), BYTES)],
      AFTER,
      'a packet of 9 bytes in a block with 8',
    ],
    [
      'an old packet longer than its block',
      [...ng, block(LE, 2, words(LE, 0, 0, 0, 9, 9), BYTES)],
      AFTER,
      'a packet of 9 bytes in a block with 8',
    ],
    ['a simple packet longer than its block', [...ng, simplePacket(LE, 9, BYTES)], AFTER, 'a packet of 9 bytes in a block with 8'],
    ['a packet of more than 262,144 bytes', [...ng, enhancedPacket(LE, 0, 0n, Buffer.alloc(262_145))], AFTER, 'a packet of 262145 bytes'],
    ['a short packet block', [...ng, block(LE, 6, words(LE, 0, 0, 0, 0))], AFTER, 'type 6 with 28 bytes'],
    ['a short old packet', [...ng, block(LE, 2, words(LE, 0, 0, 0, 0))], AFTER, 'type 2 with 28 bytes'],
    ['a short simple packet', [...ng, block(LE, 3)], AFTER, 'type 3 with 12 bytes'],
    ['a short interface', [section(LE), block(LE, 1, words(LE, 1))], 28, 'type 1 with 16 bytes'],
    ['an option that is cut off', [section(LE), describeInterface(LE, 1, 0, halves(LE, 2, 9), words(LE, 0))], 28, 'option 2'],
    [
      'a time beyond all measure',
      [section(LE), describeInterface(LE, 1, 0, option(LE, 14, offsetOf(LE, 2n ** 62n))), enhancedPacket(LE, 0, 0n, BYTES)],
      60,
      'a time of',
    ],
  ])('%s', (_, parts, offset, cause) => {
    const error = errorOf(...parts);
    expect([error?.name, error?.offset]).toEqual(['BadCapture', offset]);
    expect(error?.message).toMatch(new RegExp(`^read capture: byte ${offset}: .*${cause.replaceAll('.', '\\.')}`));
  });

  it('more than 65,536 interfaces', () => {
    const one = describeInterface(LE, 1, 0);
    const most = Buffer.concat([section(LE), ...Array.from({ length: 65_536 }, () => one)]);
    expect(read(most).error).toBeUndefined();
    expect(read(Buffer.concat([most, one])).error?.message).toContain('more than 65536 interfaces');
  });
});

it('the largest packet and the largest block are taken', () => {
  const bytes = Buffer.alloc(262_144, 7);
  expect(whole(pcapHeader(LE, MICRO), pcapRecord(LE, 1, 0, bytes))[0]?.bytes.equals(bytes)).toBe(true);
  const large = block(LE, 5, Buffer.alloc(16 * 1024 * 1024 - 12));
  expect(whole(section(LE), describeInterface(LE, 1, 0), large, enhancedPacket(LE, 0, 0n, bytes))[0]?.bytes.equals(bytes)).toBe(true);
});

it('packets before the damage are given, then the damage is thrown, and thrown again', () => {
  const good = Buffer.concat([pcapHeader(LE, MICRO), pcapRecord(LE, 1, 0, BYTES), pcapRecord(LE, 2, 0, BYTES)]);
  const reader = new CaptureReader();
  expect(reader.push(Buffer.concat([good, words(LE, 1, 2, 300_000, 5)]))).toEqual([packet(1, 0), packet(2, 0)]);
  expect(() => reader.push(BYTES)).toThrow('a packet of 300000 bytes');
  expect(() => reader.push(Buffer.alloc(0))).toThrow(BadCapture);
  expect(() => reader.end()).toThrow(BadCapture);
  const atOnce = new CaptureReader();
  expect(atOnce.push(good)).toHaveLength(2);
  expect(() => atOnce.push(words(LE, 1, 2, 300_000, 5))).toThrow(BadCapture);
});

/** A file with a bit of everything. */
function sample(nanos: boolean): Buffer {
  const dice = random('sample');
  const bytes = (n: number) => Buffer.from(dice.bytes((n * 37) % 200));
  const numbers = Array.from({ length: 30 }, (_, n) => n);
  const BE = { little: false };
  return nanos
    ? Buffer.concat([pcapHeader(BE, NANO), ...numbers.map((n) => pcapRecord(BE, n, n, bytes(n)))])
    : Buffer.concat([
        section(LE),
        describeInterface(LE, 1, 0, option(LE, 9, Buffer.from([9]))),
        ...numbers.map((n) => (n % 3 === 0 ? block(LE, 77, bytes(n)) : enhancedPacket(LE, 0, BigInt(n) * 1_000_000_007n, bytes(n)))),
        section(BE),
        describeInterface(BE, 101, 64),
        ...numbers.map((n) =>
          n % 3 === 0 ? simplePacket(BE, Math.min(64, bytes(n).length), bytes(n)) : oldPacket(BE, 0, n, BigInt(n), bytes(n)),
        ),
      ]);
}

describe.each([true, false])('of nanosecond pcap: %s', (nanos) => {
  const file = sample(nanos);
  const all = read(file);

  it('packets are the same however the file is cut', () => {
    expect(all.error).toBeUndefined();
    expect(all.packets).toHaveLength(nanos ? 30 : 50);
    const every = Array.from({ length: file.length }, (_, at) => at);
    expect(read(file, every)).toEqual(all);
    fc.assert(
      fc.property(fc.array(fc.nat(file.length), { maxLength: 20 }), (cuts) => {
        const sorted = cuts.sort((a, b) => a - b);
        expect(read(file, sorted)).toEqual(all);
      }),
      { numRuns: 50 },
    );
  });

  it('a file that ends early gives what was whole, and says so', () => {
    const ends = new Map<number, number>();
    for (let length = 0; length < file.length; length++) {
      const { packets, error } = read(file.subarray(0, length));
      expect(packets.at(-1)).toEqual(all.packets[packets.length - 1]);
      // Between two blocks nobody can tell that more was to come.
      if (error === undefined) ends.set(length, packets.length);
      else expect(error.offset).toBeLessThanOrEqual(length);
    }
    expect(ends.size).toBe(nanos ? 30 : 63);
  });

  it('damage anywhere throws nothing but BadCapture, the same however the file is cut', () => {
    const dice = random(`damage ${nanos}`);
    let bad = 0;
    for (let round = 0; round < 1000; round++) {
      const copy = Buffer.from(file);
      for (let n = dice.integer(1, 4); n > 0; n--) copy[dice.integer(0, copy.length - 1)] = dice.pick([0, 255, dice.integer(0, 255)]);
      const first = read(copy);
      const second = read(copy, [dice.integer(0, 100), dice.integer(100, file.length)]);
      expect(second.packets.length).toBe(first.packets.length);
      expect([second.error?.offset, second.error?.message]).toEqual([first.error?.offset, first.error?.message]);
      if (first.error !== undefined) bad++;
    }
    expect(bad).toBeGreaterThan(10);
    expect(bad).toBeLessThan(1000);
  });
});

it('a length that is claimed takes no memory', () => {
  const reader = new CaptureReader();
  reader.push(Buffer.concat([section(LE), words(LE, 5, 16 * 1024 * 1024, 0)]));
  const before = process.memoryUsage().arrayBuffers;
  for (let n = 0; n < 100; n++) reader.push(new Uint8Array(2000));
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * 1024 * 1024);
});
