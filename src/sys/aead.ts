// ChaCha20-Poly1305 (RFC 8439) in place and without additional data. Three engines do the same, the first that works here is taken:
// OpenSSL's two primitives, OpenSSL's EVP functions (both of the OpenSSL that Node itself carries, called without a copy and without an
// object for each packet) and `node:crypto`. Each is held against published and own vectors, and against `node:crypto`, before its first key.

import { evpEngine } from './aead-evp.ts';
import { nodeEngine } from './aead-node.ts';
import { primitivesEngine } from './aead-primitives.ts';
import { checkEngine } from './aead-vectors.ts';

/**
 * One key with a context of its own. Bytes outside of a buffer and a counter that is none throw RangeError, a key that is closed throws Error: whoever
 * takes lengths from a network checks them first. While a call runs, up to 15 bytes behind the tag may be used; they are as before when it returns.
 */
export interface AeadKey {
  /**
   * Encrypts `bytes[start, start + length)` in place and writes the tag behind, 16 bytes. The nonce is four zero bytes and `counter`, 64 bits
   * little-endian; `counter` is an integer below 2^53 that the caller never uses twice.
   */
  seal(counter: number, bytes: Buffer, start: number, length: number): void;
  /** Decrypts in place `length` bytes of ciphertext that the tag follows. False when it does not authenticate: the bytes are then worthless. */
  open(counter: number, bytes: Buffer, start: number, length: number): boolean;
  /** Forgets the key. Twice is once. */
  close(): void;
}

/** A way to encrypt. `key` throws where it cannot work in this process. */
export interface AeadEngine {
  readonly name: 'primitives' | 'evp' | 'node';
  key(key: Uint8Array): AeadKey;
}

export const TAG_BYTES = 16;
export const KEY_BYTES = 32;

/** From the fastest to the one that works everywhere. */
export const aeadEngines: readonly AeadEngine[] = [primitivesEngine, evpEngine, nodeEngine];

let chosen: AeadEngine | undefined;

/** The engine that keys of this process have. Throws an Error when not even `node:crypto` passes. */
export function aeadEngine(): AeadEngine {
  chosen ??= aeadEngines.find(works) ?? unusable();
  return chosen;
}

/** `key`: 32 bytes, copied. */
export function aeadKey(key: Uint8Array): AeadKey {
  if (key.length !== KEY_BYTES) throw new RangeError(`make key: ${key.length} bytes are not ${KEY_BYTES}`);
  return aeadEngine().key(key);
}

function works(engine: AeadEngine): boolean {
  try {
    return checkEngine(engine);
  } catch {
    // Its functions are not in this process.
    return false;
  }
}

function unusable(): never {
  throw new Error('make key: no ChaCha20-Poly1305 in this process gives what RFC 8439 says');
}
