// ChaCha20-Poly1305 put together (RFC 8439 section 2.8) of OpenSSL's own two functions for it, which Node exports with the OpenSSL it carries
// (include/crypto/chacha.h and poly1305.h there). They are no public interface: they are only called where Node carries OpenSSL 3 itself.
// They cost half of what EVP does, and a forged packet is not decrypted at all. For the time of a call up to 15 bytes behind the tag are changed.

import type { AeadEngine, AeadKey } from './aead.ts';
import { checkPlace, highOf } from './aead-place.ts';
import { addressNumber, processLibrary } from './libc.ts';

interface Primitives {
  /** XORs with the key stream; `counter` is the block counter and the nonce. */
  chacha20(out: number, bytes: number, length: number, key: number, counter: number): void;
  begin(state: number, key: number): void;
  update(state: number, bytes: number, length: number): void;
  end(state: number, tag: number): void;
  /** Memory for all of this, and where it is. One packet is done at a time. */
  memory: Buffer;
  words: Uint32Array;
  at: number;
}

// What lies where in it.
const ZEROS_AT = 0;
const STREAM_AT = 64;
/** 16 zero bytes for padding, length of the additional data, length of the bytes. */
const TAIL_AT = 128;
const LENGTH_AT = TAIL_AT + 24;
const COUNTER_AT = 160;
const TAG_AT = 176;
/** What lay where the end of the authenticated bytes was put. */
const SAVED_AT = 192;
const STATE_AT = 256;
const BLOCK_BYTES = 64;
const TAG_BYTES = 16;
/** More than any platform has had; Poly1305_ctx_size says it. */
const STATE_MOST = 4096;

let loaded: Primitives | undefined;

function load(): Primitives {
  const variables = process.config.variables as { node_shared_openssl?: boolean };
  if (variables.node_shared_openssl || !process.versions.openssl?.startsWith('3.')) throw new Error('another OpenSSL');
  const declare = (prototype: string) => processLibrary.declare(prototype) as (...values: number[]) => number;
  const stateBytes = declare('size_t Poly1305_ctx_size()')();
  if (!(stateBytes > 0 && stateBytes <= STATE_MOST)) throw new Error('another Poly1305');
  const memory = Buffer.from(new ArrayBuffer(STATE_AT + stateBytes));
  return {
    chacha20: declare('void ChaCha20_ctr32(uint64_t out, uint64_t bytes, size_t length, uint64_t key, uint64_t counter)'),
    begin: declare('void Poly1305_Init(uint64_t state, uint64_t key)'),
    update: declare('void Poly1305_Update(uint64_t state, uint64_t bytes, size_t length)'),
    end: declare('void Poly1305_Final(uint64_t state, uint64_t tag)'),
    memory,
    words: new Uint32Array(memory.buffer, 0, STATE_AT / 4),
    at: addressNumber(memory),
  };
}

class PrimitivesKey implements AeadKey {
  readonly #use: Primitives;
  readonly #key = Buffer.from(new ArrayBuffer(32));
  readonly #keyAt: number;
  #closed = false;

  constructor(use: Primitives, key: Uint8Array) {
    this.#use = use;
    this.#key.set(key);
    this.#keyAt = addressNumber(this.#key);
  }

  seal(counter: number, bytes: Buffer, start: number, length: number): void {
    const at = this.#begin(counter, bytes, start, length);
    const use = this.#use;
    if (length > 0) use.chacha20(at, at, length, this.#keyAt, use.at + COUNTER_AT);
    this.#authenticate(bytes, start, length, TAG_BYTES);
    use.end(use.at + STATE_AT, at + length);
  }

  open(counter: number, bytes: Buffer, start: number, length: number): boolean {
    const at = this.#begin(counter, bytes, start, length);
    const use = this.#use;
    this.#authenticate(bytes, start, length, 0);
    use.end(use.at + STATE_AT, use.at + TAG_AT);
    let different = 0;
    const end = start + length;
    // All sixteen, whatever the first are: the time tells nothing.
    for (let index = 0; index < TAG_BYTES; index++) different |= (use.memory[TAG_AT + index] as number) ^ (bytes[end + index] as number);
    if (different !== 0) return false;
    if (length > 0) use.chacha20(at, at, length, this.#keyAt, use.at + COUNTER_AT);
    return true;
  }

  close(): void {
    this.#closed = true;
    this.#key.fill(0);
    this.#use.memory.fill(0, STREAM_AT, TAIL_AT);
  }

  /** The one-time key of the nonce, and a block counter of 1 for what follows. Answers where the bytes are. */
  #begin(counter: number, bytes: Buffer, start: number, length: number): number {
    if (this.#closed) throw new Error('the key is closed');
    checkPlace(counter, bytes, start, length);
    const use = this.#use;
    const words = use.words;
    words[COUNTER_AT / 4] = 0;
    words[COUNTER_AT / 4 + 2] = counter >>> 0;
    words[COUNTER_AT / 4 + 3] = highOf(counter);
    use.chacha20(use.at + STREAM_AT, use.at + ZEROS_AT, BLOCK_BYTES, this.#keyAt, use.at + COUNTER_AT);
    use.begin(use.at + STATE_AT, use.at + STREAM_AT);
    words[COUNTER_AT / 4] = 1;
    words[LENGTH_AT / 4] = length;
    return addressNumber(bytes) + start;
  }

  /**
   * The ciphertext, padded to 16 bytes, and the two lengths. All of it in one piece is a third faster: padding and lengths are put behind the
   * ciphertext for the moment. What they cover is put back from the byte on that is `kept`.
   */
  #authenticate(bytes: Buffer, start: number, length: number, kept: number): void {
    const { memory, at, update } = this.#use;
    const end = start + length;
    const padding = -length & 15;
    const more = padding + 16;
    const tail = TAIL_AT + 16 - padding;
    if (end + more > bytes.length) {
      update(at + STATE_AT, addressNumber(bytes) + start, length);
      update(at + STATE_AT, at + tail, more);
      return;
    }
    for (let index = kept; index < more; index++) memory[SAVED_AT + index] = bytes[end + index] as number;
    for (let index = 0; index < more; index++) bytes[end + index] = memory[tail + index] as number;
    update(at + STATE_AT, addressNumber(bytes) + start, length + more);
    for (let index = kept; index < more; index++) bytes[end + index] = memory[SAVED_AT + index] as number;
  }
}

export const primitivesEngine: AeadEngine = {
  name: 'primitives',
  key(key) {
    loaded ??= load();
    return new PrimitivesKey(loaded, key);
  },
};
