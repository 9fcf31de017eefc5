import { createCipheriv } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { type AeadEngine, aeadEngine, aeadEngines, aeadKey, TAG_BYTES } from '../../src/sys/aead.ts';
import { checkEngine } from '../../src/sys/aead-vectors.ts';
import { random, seed } from '../harness/random.ts';

const COUNTERS = [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1];
/** What lies around the packet, and must stay. */
const AROUND = 0xa5;

/** Ciphertext and tag as `node:crypto` has them: written a second time, on purpose. */
function reference(key: Uint8Array, counter: number, plain: Uint8Array): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64LE(BigInt(counter), 4);
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_BYTES });
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

/** In the middle of a larger buffer. */
function framed(content: Uint8Array, before: number, after: number): Buffer {
  const bytes = Buffer.alloc(before + content.length + after, AROUND);
  bytes.set(content, before);
  return bytes;
}

function mustOpen(engine: AeadEngine, keyBytes: Uint8Array, counter: number, plain: Buffer, before: number): void {
  const key = engine.key(keyBytes);
  const sealed = reference(keyBytes, counter, plain);
  // With and without room behind, which engines use.
  const after = [0, 5, 40][plain.length % 3] ?? 0;
  const bytes = framed(Buffer.concat([plain, Buffer.alloc(TAG_BYTES)]), before, after);
  key.seal(counter, bytes, before, plain.length);
  expect(bytes.equals(framed(sealed, before, after)), `seal ${plain.length} with ${counter} at ${before}`).toBe(true);
  expect(key.open(counter, bytes, before, plain.length), `open ${plain.length} with ${counter} at ${before}`).toBe(true);
  expect(bytes.subarray(before, before + plain.length).equals(plain)).toBe(true);
  expect(bytes.subarray(0, before).every((byte) => byte === AROUND)).toBe(true);
  expect(bytes.subarray(bytes.length - after).every((byte) => byte === AROUND)).toBe(true);
  key.close();
}

it('takes the fastest engine here: Node carries its OpenSSL', () => {
  expect(aeadEngine().name).toBe('primitives');
});

describe.each(aeadEngines)('$name', (engine) => {
  it('gives the ciphertext of RFC 8439 section 2.4.2', () => {
    const plain = Buffer.from(
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
    );
    const key = engine.key(Uint8Array.from({ length: 32 }, (_, index) => index));
    const bytes = Buffer.concat([plain, Buffer.alloc(TAG_BYTES)]);
    // The nonce of the RFC is 000000000000004a00000000, and encryption of data starts at block 1 as there.
    key.seal(0x4a000000, bytes, 0, plain.length);
    expect(bytes.toString('hex', 0, 114)).toBe(
      '6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c' +
        '359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab77937365af90bbf74a35be6b40b8eedf2785e42874d',
    );
    expect(checkEngine(engine)).toBe(true);
  });

  it('seals and opens as node:crypto at every short length', () => {
    const keyBytes = random('short', 1).bytes(32);
    for (let length = 0; length <= 320; length++) {
      mustOpen(engine, keyBytes, COUNTERS[length % COUNTERS.length] ?? 0, Buffer.alloc(length, length), length % 17);
    }
  });

  it(`and at any length, key, counter and place (seed ${seed})`, () => {
    const from = random('any');
    const lengths = [65_535, 65_520, 65_519, 16_384, ...Array.from({ length: 40 }, () => from.integer(321, 9000))];
    const content = Buffer.from(from.bytes(65_535));
    for (const length of lengths) {
      const counter = from.next() < 0.5 ? from.pick(COUNTERS) : from.integer(0, 2 ** 53 - 2);
      mustOpen(engine, from.bytes(32), counter, content.subarray(0, length), from.integer(0, 70));
    }
  });

  it('opens nothing that was changed', () => {
    const keyBytes = random('changed', 2).bytes(32);
    const plain = Buffer.from('a'.repeat(37));
    const sealed = reference(keyBytes, 7, plain);
    const key = engine.key(keyBytes);
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const forged = Buffer.from(sealed);
      forged[bit >> 3] = (forged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(key.open(7, forged, 0, plain.length), `bit ${bit}`).toBe(false);
    }
    for (const counter of [0, 6, 8, 7 + 2 ** 32, 2 ** 53 - 1]) expect(key.open(counter, Buffer.from(sealed), 0, plain.length)).toBe(false);
    // Shorter, longer, elsewhere.
    expect(key.open(7, Buffer.from(sealed), 0, plain.length - 1)).toBe(false);
    expect(key.open(7, framed(sealed, 0, 1), 0, plain.length + 1)).toBe(false);
    expect(key.open(7, Buffer.from(sealed), 1, plain.length - 1)).toBe(false);
    const other = engine.key(keyBytes.map((byte, index) => (index === 31 ? byte ^ 1 : byte)));
    expect(other.open(7, Buffer.from(sealed), 0, plain.length)).toBe(false);
    // And the key is none the worse for it.
    expect(key.open(7, Buffer.from(sealed), 0, plain.length)).toBe(true);
  });

  it('keeps keys apart that work in turns, in one buffer', () => {
    const keys = [1, 2, 3].map((fill) => ({ bytes: new Uint8Array(32).fill(fill), key: engine.key(new Uint8Array(32).fill(fill)) }));
    const bytes = Buffer.alloc(4096);
    for (let round = 0; round < 60; round++) {
      const { key, bytes: keyBytes } = keys[round % 3] as (typeof keys)[number];
      const { key: other } = keys[(round + 1) % 3] as (typeof keys)[number];
      const plain = Buffer.alloc(100 + round, round);
      bytes.set(plain, round);
      key.seal(round, bytes, round, plain.length);
      expect(bytes.subarray(round, round + plain.length + TAG_BYTES).equals(reference(keyBytes, round, plain))).toBe(true);
      other.seal(round, bytes, 2048, 64);
      expect(key.open(round, bytes, round, plain.length)).toBe(true);
      expect(other.open(round, bytes, 2048, 64)).toBe(true);
    }
  });

  it('has copied the key', () => {
    const mine = new Uint8Array(32).fill(4);
    const key = engine.key(mine);
    mine.fill(9);
    const bytes = Buffer.alloc(TAG_BYTES + 3);
    key.seal(1, bytes, 0, 3);
    expect(bytes.equals(reference(new Uint8Array(32).fill(4), 1, new Uint8Array(3)))).toBe(true);
  });

  it('finds small buffers again after they were moved', () => {
    const gc = garbageCollector();
    const keyBytes = new Uint8Array(32).fill(5);
    const key = engine.key(keyBytes);
    const buffers = Array.from({ length: 200 }, (_, index) => Buffer.from(new Uint8Array(20 + (index % 40)).buffer));
    const arrays = Array.from({ length: 200 }, (_, index) => Buffer.alloc(20 + (index % 40), 0));
    for (let round = 0; round < 4; round++) {
      for (const bytes of [...buffers, ...arrays]) {
        const plain = Buffer.from(bytes.subarray(0, bytes.length - TAG_BYTES));
        key.seal(round, bytes, 0, plain.length);
        expect(bytes.equals(reference(keyBytes, round, plain))).toBe(true);
      }
      gc();
    }
  });

  it('throws for places and counters that are none, and writes nothing', () => {
    const key = engine.key(new Uint8Array(32));
    const bytes = Buffer.alloc(100, AROUND);
    const wrong: [number, number, number][] = [
      [0, 0, 85],
      [0, 85, 0],
      [0, 84, 1],
      [0, -1, 10],
      [0, 0, -1],
      [0, 0.5, 10],
      [0, 0, 1.5],
      [0, Number.NaN, 10],
      [0, 0, Number.NaN],
      [0, 2 ** 32, 0],
      [0, 0, 2 ** 32],
      [-1, 0, 10],
      [2 ** 53, 0, 10],
      [0.5, 0, 10],
      [Number.NaN, 0, 10],
      [Number.POSITIVE_INFINITY, 0, 10],
    ];
    for (const [counter, start, length] of wrong) {
      expect(() => key.seal(counter, bytes, start, length), `${counter} ${start} ${length}`).toThrow(RangeError);
      expect(() => key.open(counter, bytes, start, length), `${counter} ${start} ${length}`).toThrow(RangeError);
    }
    expect(bytes.every((byte) => byte === AROUND)).toBe(true);
    key.seal(0, bytes, 0, 84);
    key.close();
    key.close();
    expect(() => key.seal(0, bytes, 0, 84)).toThrow('closed');
    expect(() => key.open(0, bytes, 0, 84)).toThrow('closed');
  });

  it('refuses memory that was given away', () => {
    const key = engine.key(new Uint8Array(32));
    const bytes = Buffer.from(new ArrayBuffer(200));
    key.seal(0, bytes, 0, 100);
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    expect(() => key.seal(1, bytes, 0, 100)).toThrow(RangeError);
  });
});

it.each(aeadEngines.filter(({ name }) => name !== 'node'))('$name makes no object for a packet', (engine) => {
  const gc = garbageCollector();
  const key = engine.key(new Uint8Array(32));
  const arena = Buffer.alloc(64 * 1500);
  const packets = (count: number): void => {
    for (let packet = 0; packet < count; packet++) {
      key.seal(packet, arena, (packet & 63) * 1500, 1420);
      if (!key.open(packet, arena, (packet & 63) * 1500, 1420)) throw new Error('not authentic');
    }
  };
  packets(5000);
  gc();
  const before = process.memoryUsage().heapUsed;
  packets(5000);
  // Numbers that are addresses may be kept on the heap while they are passed; a view of the buffer would take more than all of them.
  expect((process.memoryUsage().heapUsed - before) / 5000).toBeLessThan(200);
});

it('takes no key of another length', () => {
  for (const length of [0, 16, 31, 33, 64]) expect(() => aeadKey(new Uint8Array(length))).toThrow(RangeError);
  const key = aeadKey(new Uint8Array(32));
  key.close();
});

describe('the check before the first key', () => {
  const [good] = aeadEngines.filter((engine) => engine.name === 'node') as [AeadEngine];
  /** `good`, changed. */
  const engineWith = (change: (key: ReturnType<AeadEngine['key']>) => Partial<ReturnType<AeadEngine['key']>>): AeadEngine => ({
    name: 'node',
    key(bytes) {
      const key = good.key(bytes);
      return {
        seal: (...values) => key.seal(...values),
        open: (...values) => key.open(...values),
        close: () => key.close(),
        ...change(key),
      };
    },
  });

  it('passes one that is right', () => expect(checkEngine(engineWith(() => ({})))).toBe(true));

  it('sees one that opens everything', () => {
    const engine = engineWith((key) => ({ open: (...values) => key.open(...values) || true }));
    expect(checkEngine(engine)).toBe(false);
  });

  it('sees one that opens nothing', () => expect(checkEngine(engineWith(() => ({ open: () => false })))).toBe(false));

  it('sees one that forgets the upper half of the counter', () => {
    const engine = engineWith((key) => ({ seal: (counter, ...rest) => key.seal(counter >>> 0, ...rest) }));
    expect(checkEngine(engine)).toBe(false);
  });

  it('sees one that is wrong at some length only', () => {
    const engine = engineWith((key) => ({
      seal(counter, bytes, start, length) {
        key.seal(counter, bytes, start, length);
        if (length > 4096) bytes[start] = (bytes[start] ?? 0) ^ 1;
      },
    }));
    expect(checkEngine(engine)).toBe(false);
  });
});
