// ChaCha20-Poly1305 by the EVP functions of the OpenSSL in this process (EVP_EncryptInit(3)): public interface, one context for each direction.
// The key is set once; a packet costs the nonce, the bytes, the end and, to seal, the tag: four calls, three to open.

import type { AeadEngine, AeadKey } from './aead.ts';
import { checkPlace, highOf } from './aead-place.ts';
import { addressNumber, processLibrary } from './libc.ts';

interface Evp {
  cipher: number;
  makeContext(): number;
  freeContext(context: number): void;
  beginSeal(context: number, cipher: number, key: number, nonce: number, params: number): number;
  beginOpen(context: number, cipher: number, key: number, nonce: number, params: number): number;
  seal(context: number, out: number, outLength: number, bytes: number, length: number): number;
  open(context: number, out: number, outLength: number, bytes: number, length: number): number;
  endSeal(context: number, out: number, outLength: number): number;
  endOpen(context: number, out: number, outLength: number): number;
  getParams(context: number, params: number): number;
}

let loaded: Evp | undefined;

function load(): Evp {
  const declare = (prototype: string) => processLibrary.declare(prototype) as (...values: number[]) => number;
  const ex2 = 'uint64_t context, uint64_t cipher, uint64_t key, uint64_t nonce, uint64_t params';
  const update = 'uint64_t context, uint64_t out, uint64_t outLength, uint64_t bytes, int length';
  const final = 'uint64_t context, uint64_t out, uint64_t outLength';
  return {
    cipher: declare('uint64_t EVP_chacha20_poly1305()')(),
    makeContext: declare('uint64_t EVP_CIPHER_CTX_new()'),
    freeContext: declare('void EVP_CIPHER_CTX_free(uint64_t context)'),
    beginSeal: declare(`int EVP_EncryptInit_ex2(${ex2})`),
    beginOpen: declare(`int EVP_DecryptInit_ex2(${ex2})`),
    seal: declare(`int EVP_EncryptUpdate(${update})`),
    open: declare(`int EVP_DecryptUpdate(${update})`),
    endSeal: declare(`int EVP_EncryptFinal_ex(${final})`),
    endOpen: declare(`int EVP_DecryptFinal_ex(${final})`),
    getParams: declare('int EVP_CIPHER_CTX_get_params(uint64_t context, uint64_t params)'),
  };
}

// What lies where in the memory of a key, which OpenSSL is given addresses of.
const NONCE_AT = 0;
const LENGTH_AT = 16;
const KEY_AT = 32;
/** OSSL_PARAM(3): { "tag", octet string, where, 16 bytes }, and the end of the list. */
const PARAMS_AT = 64;
const PARAM_DATA_AT = PARAMS_AT + 16;
const NAME_AT = PARAMS_AT + 2 * 40;
const MEMORY_BYTES = NAME_AT + 8;
const OCTET_STRING = 5;
const TWO_32 = 2 ** 32;

class EvpKey implements AeadKey {
  readonly #evp: Evp;
  /** In a field of its own: addresses keep nothing alive. */
  readonly #memory = Buffer.from(new ArrayBuffer(MEMORY_BYTES));
  readonly #words: Uint32Array;
  readonly #at: number;
  #sealing: number;
  #opening: number;

  constructor(evp: Evp, key: Uint8Array) {
    this.#evp = evp;
    this.#words = new Uint32Array(this.#memory.buffer);
    this.#at = addressNumber(this.#memory);
    this.#memory.set(key, KEY_AT);
    this.#memory.write('tag', NAME_AT);
    this.#memory.writeBigUInt64LE(BigInt(this.#at + NAME_AT), PARAMS_AT);
    this.#memory.writeUInt32LE(OCTET_STRING, PARAMS_AT + 8);
    this.#memory.writeUInt32LE(16, PARAM_DATA_AT + 8);
    this.#sealing = evp.makeContext();
    this.#opening = evp.makeContext();
    const ready =
      evp.beginSeal(this.#sealing, evp.cipher, this.#at + KEY_AT, this.#at + NONCE_AT, 0) === 1 &&
      evp.beginOpen(this.#opening, evp.cipher, this.#at + KEY_AT, this.#at + NONCE_AT, 0) === 1;
    this.#memory.fill(0, KEY_AT, KEY_AT + key.length);
    if (ready) return;
    this.close();
    throw new Error('make key: OpenSSL does not take it');
  }

  seal(counter: number, bytes: Buffer, start: number, length: number): void {
    const at = this.#place(counter, bytes, start, length);
    const evp = this.#evp;
    const context = this.#sealing;
    const done =
      evp.beginSeal(context, 0, 0, this.#at + NONCE_AT, 0) === 1 &&
      // OpenSSL takes no bytes for no call at all.
      (length === 0 || evp.seal(context, at, this.#at + LENGTH_AT, at, length) === 1) &&
      evp.endSeal(context, at, this.#at + LENGTH_AT) === 1 &&
      evp.getParams(context, this.#at + PARAMS_AT) === 1;
    // What was to be secret must not leave as it was.
    if (!done) throw new Error('seal: OpenSSL fails');
  }

  open(counter: number, bytes: Buffer, start: number, length: number): boolean {
    const at = this.#place(counter, bytes, start, length);
    const evp = this.#evp;
    const context = this.#opening;
    return (
      evp.beginOpen(context, 0, 0, this.#at + NONCE_AT, this.#at + PARAMS_AT) === 1 &&
      (length === 0 || evp.open(context, at, this.#at + LENGTH_AT, at, length) === 1) &&
      evp.endOpen(context, at, this.#at + LENGTH_AT) === 1
    );
  }

  close(): void {
    // OpenSSL clears what it frees.
    if (this.#sealing !== 0) this.#evp.freeContext(this.#sealing);
    if (this.#opening !== 0) this.#evp.freeContext(this.#opening);
    this.#sealing = 0;
    this.#opening = 0;
  }

  /** Writes the nonce and where the tag is; answers where the bytes are. */
  #place(counter: number, bytes: Buffer, start: number, length: number): number {
    if (this.#sealing === 0) throw new Error('the key is closed');
    checkPlace(counter, bytes, start, length);
    const at = addressNumber(bytes) + start;
    const tag = at + length;
    const words = this.#words;
    words[NONCE_AT / 4 + 1] = counter >>> 0;
    words[NONCE_AT / 4 + 2] = highOf(counter);
    words[PARAM_DATA_AT / 4] = tag % TWO_32;
    words[PARAM_DATA_AT / 4 + 1] = Math.floor(tag / TWO_32);
    return at;
  }
}

export const evpEngine: AeadEngine = {
  name: 'evp',
  key(key) {
    loaded ??= load();
    return new EvpKey(loaded, key);
  },
};
