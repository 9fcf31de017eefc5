// The primitives as WireGuard puts them together, against published vectors and node:crypto; and the handshake as pure functions.

import { createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { blake2s } from '@noble/hashes/blake2.js';
import { describe, expect, it, test } from 'vitest';
import { mac } from '../../../src/lane/wireguard/cookie.ts';
import { INITIATION_BYTES, padded, RESPONSE_BYTES, readCounter, timestamp, writeDataHeader } from '../../../src/lane/wireguard/messages.ts';
import {
  agree,
  hash,
  kdf,
  keyPair,
  openInitiation,
  openResponse,
  openTimestamp,
  publicKeyOf,
  type Remote,
  remote,
  writeInitiation,
  writeResponse,
} from '../../../src/lane/wireguard/noise.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');

describe('primitives', () => {
  test('BLAKE2s of RFC 7693 appendix B, and its self-test of appendix E', () => {
    expect(Buffer.from(hash(Buffer.from('abc'))).toString('hex')).toBe('508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982');
    expect(Buffer.from(hash(Buffer.from('a'), Buffer.from('bc')))).toEqual(Buffer.from(hash(Buffer.from('abc'))));
    const sequence = (length: number, seed: number) => {
      let [a, b] = [Math.imul(0xdead4bad, seed) >>> 0, 1];
      return Buffer.from(
        Array.from({ length }, () => {
          [a, b] = [b, (a + b) >>> 0];
          return b >>> 24;
        }),
      );
    };
    const results: Uint8Array[] = [];
    for (const dkLen of [16, 20, 28, 32]) {
      for (const length of [0, 3, 64, 65, 255, 1024]) {
        const input = sequence(length, length);
        results.push(blake2s(input, { dkLen }), blake2s(input, { dkLen, key: sequence(dkLen, dkLen) }));
      }
    }
    expect(Buffer.from(hash(...results)).toString('hex')).toBe('6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe');
    expect(mac(sequence(16, 16), sequence(3, 3))).toEqual(results[3]);
  });

  test('X25519 of RFC 7748 sections 5.2 and 6.1', () => {
    const alice = keyPair(hex('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a'));
    const bob = keyPair(hex('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb'));
    expect(alice.publicKey.toString('hex')).toBe('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a');
    expect(bob.publicKey.toString('hex')).toBe('de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f');
    const shared = '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742';
    expect(agree(alice.privateKey, publicKeyOf(bob.publicKey))?.toString('hex')).toBe(shared);
    expect(agree(bob.privateKey, publicKeyOf(alice.publicKey))?.toString('hex')).toBe(shared);
    const scalar = keyPair(hex('a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4'));
    const point = publicKeyOf(hex('e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c'));
    expect(agree(scalar.privateKey, point)?.toString('hex')).toBe('c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552');
  });

  test.each([
    '0000000000000000000000000000000000000000000000000000000000000000',
    '0100000000000000000000000000000000000000000000000000000000000000',
    'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
    '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    // The highest bit is ignored.
    '00000000000000000000000000000000000000000000000000000000000000 80',
  ])('the point of low order %s gives no secret', (point) => {
    const own = keyPair(randomBytes(32));
    expect(agree(own.privateKey, publicKeyOf(hex(point)))).toBeUndefined();
    expect(remote(own, hex(point), Buffer.alloc(32))).toBeUndefined();
  });

  test('keys are derived as by HKDF of node:crypto', () => {
    const [chain, input] = [randomBytes(32), randomBytes(32)];
    for (const count of [1, 2, 3] as const) {
      const ours = Buffer.concat(kdf(count, chain, input));
      // Extract and expand by hand: node:crypto has HMAC-BLAKE2s, and its HKDF agrees.
      const secret = createHmac('blake2s256', chain).update(input).digest();
      let block: Buffer = Buffer.alloc(0);
      const blocks = Array.from({ length: count }, (_, index) => {
        block = createHmac('blake2s256', secret)
          .update(Buffer.concat([block, Buffer.of(index + 1)]))
          .digest();
        return block;
      });
      expect(ours).toEqual(Buffer.concat(blocks));
      expect(ours).toEqual(Buffer.from(hkdfSync('blake2s256', input, chain, '', 32 * count)));
    }
  });

  test('XChaCha20-Poly1305 of draft-irtf-cfrg-xchacha appendix A.3.1', () => {
    const key = hex('808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f');
    const nonce = hex('404142434445464748494a4b4c4d4e4f5051525354555657');
    const text = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    const sealed = Buffer.from(xchacha20poly1305(key, nonce, hex('50515253c0c1c2c3c4c5c6c7')).encrypt(Buffer.from(text)));
    expect(sealed.subarray(0, 16).toString('hex')).toBe('bd6d179d3e83d43b9576579493c0e939');
    expect(sealed.subarray(-16).toString('hex')).toBe('c0875924c1c7987947deafd8780acf49');
  });
});

describe('messages', () => {
  test('timestamps grow with count and epoch, beyond a second too', () => {
    const stamps = [timestamp(5n, 0), timestamp(5n, 1), timestamp(5n, 999_999_999), timestamp(5n, 1_000_000_000), timestamp(7n, 0)];
    expect(stamps.map((stamp) => stamp.toString('hex'))).toEqual([
      '400000000000000500000000',
      '400000000000000500000001',
      '40000000000000053b9ac9ff',
      '400000000000000600000000',
      '400000000000000700000000',
    ]);
  });

  test('a data header has its counter in 64 bits, and 2^53 is none', () => {
    const bytes = Buffer.alloc(20);
    for (const counter of [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]) {
      writeDataHeader(bytes, 4, 0x7fffffff, counter);
      expect([bytes.readUInt32LE(4), bytes.readUInt32LE(8), bytes.readBigUInt64LE(12)]).toEqual([4, 0x7fffffff, BigInt(counter)]);
      expect(readCounter(bytes, 4)).toBe(counter);
    }
    for (const counter of [2n ** 53n, 2n ** 64n - 1n]) {
      bytes.writeBigUInt64LE(counter, 12);
      expect(readCounter(bytes, 4)).toBe(-1);
    }
  });

  test('zeros go up to a multiple of 16, and no further than the path', () => {
    expect([0, 1, 16, 17, 1408, 1409, 1420, 1500].map((bytes) => padded(bytes, 1420))).toEqual([0, 16, 16, 32, 1408, 1420, 1420, 1500]);
  });
});

describe('the handshake', () => {
  function parties(preshared = Buffer.alloc(32), otherPreshared = preshared) {
    const [a, b] = [keyPair(randomBytes(32)), keyPair(randomBytes(32))];
    return { a, b, toB: remote(a, b.publicKey, preshared) as Remote, toA: remote(b, a.publicKey, otherPreshared) as Remote };
  }

  function handshake({ a, b, toB, toA }: ReturnType<typeof parties>) {
    const [initiation, response] = [Buffer.alloc(INITIATION_BYTES), Buffer.alloc(RESPONSE_BYTES)];
    const sent = writeInitiation(initiation, a, toB, 7, keyPair(randomBytes(32)), timestamp(1n, 2));
    const opened = openInitiation(initiation, b);
    if (sent === undefined || opened === undefined) throw new Error('no handshake');
    const stamp = openTimestamp(initiation, opened, toA);
    const theirs = writeResponse(response, opened, toA, 9, keyPair(randomBytes(32)));
    return { sent, opened, stamp, theirs, response, ours: openResponse(response, sent, a, toB) };
  }

  it('gives both ends the same two keys, and new ones each time', () => {
    const both = parties(randomBytes(32));
    const first = handshake(both);
    expect([first.opened.publicKey, first.opened.sender, first.stamp]).toEqual([both.a.publicKey, 7, timestamp(1n, 2)]);
    expect(first.ours).toEqual({ send: first.theirs?.receive, receive: first.theirs?.send });
    expect(first.ours?.send).not.toEqual(first.ours?.receive);
    expect(handshake(both).ours?.send).not.toEqual(first.ours?.send);
  });

  it('fails at the response where the preshared keys differ, and the initiation is still good then', () => {
    const both = parties(randomBytes(32), randomBytes(32));
    const { ours, sent, response } = handshake(both);
    expect(ours).toBeUndefined();
    expect(openResponse(response, sent, both.a, both.toB)).toBeUndefined();
    expect(openResponse(response, sent, both.a, { ...both.toB, presharedKey: both.toA.presharedKey })).toBeDefined();
  });

  it('proves who sent it: another key opens nothing', () => {
    const { a, toB, b } = parties();
    const initiation = Buffer.alloc(INITIATION_BYTES);
    writeInitiation(initiation, a, toB, 7, keyPair(randomBytes(32)), timestamp(1n, 2));
    expect(openInitiation(initiation, keyPair(randomBytes(32)))).toBeUndefined();
    const opened = openInitiation(initiation, b);
    const other = remote(b, keyPair(randomBytes(32)).publicKey, Buffer.alloc(32));
    expect(opened && other && openTimestamp(initiation, opened, other)).toBeUndefined();
  });
});
