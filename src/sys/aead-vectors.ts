// What an engine must answer before it gets a key of anybody: the message of RFC 8439 section 2.4.2, whose nonce begins with four zero bytes
// (the tag without additional data is not in the RFC: Node and Python's `cryptography` agree on it), nothing at all, and `node:crypto`'s answers
// at the lengths where block functions change their way. Some hundred microseconds.

import { createCipheriv } from 'node:crypto';
import type { AeadEngine, AeadKey } from './aead.ts';

const TAG_BYTES = 16;
const MESSAGE = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";

interface Vector {
  key: Uint8Array;
  counter: number;
  plain: Buffer;
  /** Ciphertext and tag. */
  sealed: Buffer;
}

const published: Vector[] = [
  {
    key: Uint8Array.from({ length: 32 }, (_, index) => index),
    counter: 0x4a000000,
    plain: Buffer.from(MESSAGE),
    sealed: Buffer.from(
      '6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b3571639d624e65152ab' +
        '8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab77937365af90bbf74a35be6b40b8eedf2785e42874d' +
        '81db63fcb189a03121ae0ac72a3f1f36',
      'hex',
    ),
  },
  { key: new Uint8Array(32), counter: 0, plain: Buffer.alloc(0), sealed: Buffer.from('4eb972c9a8fb3a1b382bb4d36f5ffad1', 'hex') },
];

/** Around the blocks of both halves, and where vector code takes 4, 8 and 16 blocks at once. */
const LENGTHS = [1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 511, 513, 1023, 1024, 1025, 1420, 1472, 4099];
const COUNTERS = [0, 1, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER];

/** Whether it seals and opens as it must, and opens nothing that was changed. Throws what it throws. */
export function checkEngine(engine: AeadEngine): boolean {
  return published.every((vector) => agrees(engine, vector)) && LENGTHS.every((length, index) => agrees(engine, nodeVector(length, index)));
}

/** By `node:crypto`. */
function nodeVector(length: number, index: number): Vector {
  const key = Uint8Array.from({ length: 32 }, (_, at) => (at * 7 + index) & 0xff);
  const counter = COUNTERS[index % COUNTERS.length] ?? 0;
  const plain = Buffer.from(Uint8Array.from({ length }, (_, at) => (at * 31 + index) & 0xff));
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64LE(BigInt(counter), 4);
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_BYTES });
  const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
  return { key, counter, plain, sealed: Buffer.concat([sealed, cipher.getAuthTag()]) };
}

function agrees(engine: AeadEngine, vector: Vector): boolean {
  const key = engine.key(vector.key);
  try {
    return sealsAs(key, vector) && opensOnly(key, vector);
  } finally {
    key.close();
  }
}

function sealsAs(key: AeadKey, { counter, plain, sealed }: Vector): boolean {
  const bytes = Buffer.alloc(sealed.length);
  plain.copy(bytes);
  key.seal(counter, bytes, 0, plain.length);
  return bytes.equals(sealed);
}

function opensOnly(key: AeadKey, { counter, plain, sealed }: Vector): boolean {
  for (const flipped of [sealed.length - 1, 0]) {
    const forged = Buffer.from(sealed);
    forged[flipped] = (forged[flipped] ?? 0) ^ 0x80;
    if (key.open(counter, forged, 0, plain.length)) return false;
  }
  const bytes = Buffer.from(sealed);
  return key.open(counter, bytes, 0, plain.length) && bytes.subarray(0, plain.length).equals(plain);
}
