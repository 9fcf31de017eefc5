import { createPublicKey, diffieHellman, generateKeyPairSync } from 'node:crypto';
import { expect, it } from 'vitest';
import { clamp, isWeakKey, makePrivateKey, publicKeyOf } from '../../src/link/keys.ts';

const hex = (text: string): Buffer => Buffer.from(text, 'hex');

it('public keys are those of RFC 7748, section 6.1', () => {
  const bob = '5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb';
  expect(publicKeyOf(hex(bob)).toString('hex')).toBe('de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f');
});

it('public keys are those of node:crypto, clamped before or not', () => {
  for (let round = 0; round < 20; round++) {
    const { privateKey, publicKey } = generateKeyPairSync('x25519');
    const raw = Buffer.from(String(privateKey.export({ format: 'jwk' }).d), 'base64url');
    const x = Buffer.from(String(publicKey.export({ format: 'jwk' }).x), 'base64url');
    expect(publicKeyOf(raw)).toEqual(x);
    expect(publicKeyOf(clamp(raw))).toEqual(x);
  }
});

it('new private keys are clamped and differ', () => {
  const keys = Array.from({ length: 50 }, makePrivateKey);
  expect(new Set(keys.map(String)).size).toBe(50);
  for (const key of keys) {
    expect(key).toHaveLength(32);
    expect(clamp(key)).toEqual(key);
    expect(((key[0] as number) & 7) | ((key[31] as number) & 0xc0)).toBe(0x40);
  }
});

it('weak keys are those with which OpenSSL agrees on nothing', () => {
  const { privateKey } = generateKeyPairSync('x25519');
  const agrees = (key: Buffer): boolean => {
    const publicKey = createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: key.toString('base64url') }, format: 'jwk' });
    try {
      diffieHellman({ privateKey, publicKey });
      return true;
    } catch {
      return false;
    }
  };
  const weak = [
    '00'.repeat(32),
    `01${'00'.repeat(31)}`,
    'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
    '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
    `ec${'ff'.repeat(30)}7f`,
    `ed${'ff'.repeat(30)}7f`,
    `ee${'ff'.repeat(30)}7f`,
  ].map(hex);
  for (const key of weak) {
    // The top bit means nothing.
    const topped = Buffer.from(key);
    topped[31] = (topped[31] as number) | 0x80;
    for (const form of [key, topped]) expect([isWeakKey(form), agrees(form)], form.toString('hex')).toEqual([true, false]);
  }
  for (let round = 0; round < 20; round++) {
    const sound = publicKeyOf(makePrivateKey());
    expect([isWeakKey(sound), agrees(sound)]).toEqual([false, true]);
  }
});
