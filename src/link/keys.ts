// Keys of Curve25519 (RFC 7748), by node:crypto.

import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';

export const KEY_BYTES = 32;

/** PKCS #8 of a private key of X25519 (RFC 8410) up to the key itself, which ends it; SPKI ends with the public key. */
const PKCS8_HEAD = Buffer.from('302e020100300506032b656e04220420', 'hex');

/** A new private key, clamped. */
export function makePrivateKey(): Buffer {
  return clamp(randomBytes(KEY_BYTES));
}

/** The key with the bits set and cleared that RFC 7748, section 5, asks for (*copies*). */
export function clamp(key: Uint8Array): Buffer {
  const clamped = Buffer.from(key);
  clamped[0] = (clamped[0] as number) & 248;
  clamped[31] = ((clamped[31] as number) & 127) | 64;
  return clamped;
}

/** The public key of 32 bytes of private key. */
export function publicKeyOf(privateKey: Uint8Array): Buffer {
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, privateKey]), format: 'der', type: 'pkcs8' });
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
  return Buffer.from(spki.subarray(spki.length - KEY_BYTES));
}

/** u of the points of small order: with them every secret that is agreed on is zero (RFC 7748, section 6.1). Little-endian, top bit clear. */
const WEAK = new Set([
  '00'.repeat(32),
  `01${'00'.repeat(31)}`,
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  `ec${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(30)}7f`,
  `ee${'ff'.repeat(30)}7f`,
]);

/** Whether a public key of 32 bytes is one with which nothing can be kept secret. */
export function isWeakKey(publicKey: Uint8Array): boolean {
  const u = Buffer.from(publicKey);
  u[31] = (u[31] as number) & 0x7f;
  return WEAK.has(u.toString('hex'));
}

export function isZero(key: Uint8Array): boolean {
  return key.every((byte) => byte === 0);
}
