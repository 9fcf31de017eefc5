// ChaCha20-Poly1305 by `node:crypto`: works everywhere, makes an object for each packet.

import { createCipheriv, createDecipheriv } from 'node:crypto';
import type { AeadEngine, AeadKey } from './aead.ts';
import { checkPlace, highOf } from './aead-place.ts';

const ALGORITHM = 'chacha20-poly1305';
const OPTIONS = { authTagLength: 16 } as const;

class NodeKey implements AeadKey {
  readonly #key: Buffer;
  readonly #nonce = Buffer.alloc(12);
  #closed = false;

  constructor(key: Uint8Array) {
    this.#key = Buffer.from(key);
  }

  seal(counter: number, bytes: Buffer, start: number, length: number): void {
    this.#begin(counter, bytes, start, length);
    const cipher = createCipheriv(ALGORITHM, this.#key, this.#nonce, OPTIONS);
    bytes.set(cipher.update(bytes.subarray(start, start + length)), start);
    cipher.final();
    bytes.set(cipher.getAuthTag(), start + length);
  }

  open(counter: number, bytes: Buffer, start: number, length: number): boolean {
    this.#begin(counter, bytes, start, length);
    const end = start + length;
    const decipher = createDecipheriv(ALGORITHM, this.#key, this.#nonce, OPTIONS);
    decipher.setAuthTag(bytes.subarray(end, end + OPTIONS.authTagLength));
    bytes.set(decipher.update(bytes.subarray(start, end)), start);
    try {
      decipher.final();
      return true;
    } catch {
      return false;
    }
  }

  close(): void {
    this.#closed = true;
    this.#key.fill(0);
  }

  #begin(counter: number, bytes: Buffer, start: number, length: number): void {
    if (this.#closed) throw new Error('the key is closed');
    checkPlace(counter, bytes, start, length);
    this.#nonce.writeUInt32LE(counter >>> 0, 4);
    this.#nonce.writeUInt32LE(highOf(counter), 8);
  }
}

export const nodeEngine: AeadEngine = { name: 'node', key: (key) => new NodeKey(key) };
