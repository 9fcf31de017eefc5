// ChaCha20-Poly1305 (RFC 8439) in place and without additional data, by the OpenSSL that Node itself carries (EVP functions); `node:crypto` where
// that cannot be had. Both are checked against the vectors of the RFC before the first key is made.

/** One key with a context of its own. */
export interface AeadKey {
  /**
   * Encrypts `bytes[start, start + length)` in place and writes the tag behind, 16 bytes. The nonce is four zero bytes and `counter`, 64 bits
   * little-endian; `counter` is an integer below 2^53 that the caller never uses twice.
   */
  seal(counter: number, bytes: Buffer, start: number, length: number): void;
  /** Decrypts in place `length` bytes of ciphertext that the tag follows. False when it does not authenticate: the bytes are then worthless. */
  open(counter: number, bytes: Buffer, start: number, length: number): boolean;
  /** Forgets the key. */
  close(): void;
}

export const TAG_BYTES = 16;

/** `key`: 32 bytes, copied. */
export function aeadKey(key: Uint8Array): AeadKey {
  throw new Error(`not built yet: ${key.length}`);
}
