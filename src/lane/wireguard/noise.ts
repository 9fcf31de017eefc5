// The handshake of WireGuard, Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (whitepaper section 5.4; noiseprotocol.org): messages from keys and keys from
// messages. No clock, no randomness, no addresses: ephemeral keys and timestamps come from the caller. Primitives by node:crypto and @noble.
// What does not authenticate is `undefined`, and then nothing that was given has changed.

import { createCipheriv, createDecipheriv, createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from 'node:crypto';
import { blake2s } from '@noble/hashes/blake2.js';
import { hmac } from '@noble/hashes/hmac.js';
import {
  INITIATION,
  INITIATION_EPHEMERAL_AT,
  INITIATION_STATIC_AT,
  INITIATION_TIMESTAMP_AT,
  KEY_BYTES,
  RESPONSE,
  RESPONSE_EPHEMERAL_AT,
  RESPONSE_NOTHING_AT,
  RESPONSE_RECEIVER_AT,
  SENDER_AT,
  TAG_BYTES,
  TIMESTAMP_BYTES,
} from './messages.ts';

/** A key of X25519 (RFC 7748) with its public half. */
export interface KeyPair {
  readonly privateKey: KeyObject;
  readonly publicKey: Buffer;
}

/** The other end, as handshakes of ours need it. */
export interface Remote {
  readonly publicKey: Buffer;
  readonly key: KeyObject;
  /** X25519 of both static keys. */
  readonly shared: Buffer;
  /** 32 bytes; zeros for none. */
  readonly presharedKey: Uint8Array;
}

/** 32 bytes each. */
export interface TransportKeys {
  send: Uint8Array;
  receive: Uint8Array;
}

/** An initiation of ours that waits for its response. */
export interface SentInitiation {
  readonly transcript: Transcript;
  readonly ephemeral: KeyPair;
}

/** An initiation whose sender is known; whether the sender made it tells only the timestamp. */
export interface OpenedInitiation {
  readonly transcript: Transcript;
  readonly ephemeral: KeyObject;
  readonly publicKey: Buffer;
  /** Index of the sender. */
  readonly sender: number;
}

// RFC 8410: what stands before the 32 bytes in PKCS #8 and in a SubjectPublicKeyInfo.
const PRIVATE_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');
const PUBLIC_PREFIX = Buffer.from('302a300506032b656e032100', 'hex');
const CIPHER = 'chacha20-poly1305';
const NONCE_ZERO = Buffer.alloc(12);
const NOTHING = new Uint8Array(0);
const INITIAL_CHAIN = blake2s(Buffer.from('Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s'));
const INITIAL_HASH = hash(INITIAL_CHAIN, Buffer.from('WireGuard v1 zx2c4 Jason@zx2c4.com'));

/** BLAKE2s (RFC 7693), 32 bytes, of the parts behind one another. */
export function hash(...parts: Uint8Array[]): Uint8Array {
  return blake2s(Buffer.concat(parts));
}

/** HKDF (RFC 5869) with HMAC-BLAKE2s and no info: `count` keys of 32 bytes. */
export function kdf(count: 1 | 2 | 3, chain: Uint8Array, input: Uint8Array): Uint8Array[] {
  const secret = hmac(blake2s, chain, input);
  const keys: Uint8Array[] = [];
  for (let index = 1; index <= count; index++) {
    keys.push(hmac(blake2s, secret, Buffer.concat([keys.at(-1) ?? NOTHING, Buffer.of(index)])));
  }
  return keys;
}

/** `bytes`: 32 bytes, copied. Throws RangeError for another number of them, without saying which they were. */
export function keyPair(bytes: Uint8Array): KeyPair {
  if (bytes.length !== KEY_BYTES) throw new RangeError('import private key: not 32 bytes');
  const privateKey = createPrivateKey({ key: Buffer.concat([PRIVATE_PREFIX, bytes]), format: 'der', type: 'pkcs8' });
  const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(PUBLIC_PREFIX.length);
  return { privateKey, publicKey };
}

/** 32 bytes, copied. */
export function publicKeyOf(bytes: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([PUBLIC_PREFIX, bytes]), format: 'der', type: 'spki' });
}

/** X25519. Undefined when the result is all zeros: the public key is of low order, and the secret none (RFC 7748 section 6.1). */
export function agree(privateKey: KeyObject, publicKey: KeyObject): Buffer | undefined {
  try {
    const secret = diffieHellman({ privateKey, publicKey });
    return secret.every((byte) => byte === 0) ? undefined : secret;
  } catch {
    // OpenSSL refuses the same itself.
    return undefined;
  }
}

/** Undefined for a public key of low order. */
export function remote(own: KeyPair, publicKey: Buffer, presharedKey: Uint8Array): Remote | undefined {
  const key = publicKeyOf(publicKey);
  const shared = agree(own.privateKey, key);
  return shared && { publicKey, key, shared, presharedKey };
}

/** Chaining key and hash of a handshake so far (Noise section 5.2). */
class Transcript {
  #chain: Uint8Array;
  #hash: Uint8Array;

  constructor(chain: Uint8Array, hash: Uint8Array) {
    this.#chain = chain;
    this.#hash = hash;
  }

  /** Of the first message to the holder of this static key. */
  static start(responder: Uint8Array): Transcript {
    return new Transcript(INITIAL_CHAIN, hash(INITIAL_HASH, responder));
  }

  copy(): Transcript {
    return new Transcript(this.#chain, this.#hash);
  }

  mixHash(bytes: Uint8Array): void {
    this.#hash = hash(this.#hash, bytes);
  }

  mixChain(input: Uint8Array): void {
    [this.#chain] = kdf(1, this.#chain, input) as [Uint8Array];
  }

  /** Answers the key for what comes next. */
  mixKey(input: Uint8Array): Uint8Array {
    const [chain, key] = kdf(2, this.#chain, input) as [Uint8Array, Uint8Array];
    this.#chain = chain;
    return key;
  }

  mixPresharedKey(presharedKey: Uint8Array): Uint8Array {
    const [chain, tau, key] = kdf(3, this.#chain, presharedKey) as [Uint8Array, Uint8Array, Uint8Array];
    this.#chain = chain;
    this.mixHash(tau);
    return key;
  }

  seal(key: Uint8Array, plain: Uint8Array): Buffer {
    const cipher = createCipheriv(CIPHER, key, NONCE_ZERO, { authTagLength: TAG_BYTES });
    cipher.setAAD(this.#hash, { plaintextLength: plain.length });
    const sealed = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
    this.mixHash(sealed);
    return sealed;
  }

  open(key: Uint8Array, sealed: Uint8Array): Buffer | undefined {
    const length = sealed.length - TAG_BYTES;
    const cipher = createDecipheriv(CIPHER, key, NONCE_ZERO, { authTagLength: TAG_BYTES });
    cipher.setAAD(this.#hash, { plaintextLength: length });
    cipher.setAuthTag(sealed.subarray(length));
    try {
      const plain = Buffer.concat([cipher.update(sealed.subarray(0, length)), cipher.final()]);
      this.mixHash(sealed);
      return plain;
    } catch {
      return undefined;
    }
  }

  /** The keys that data travels under, first that of the initiator. */
  split(): [initiator: Uint8Array, responder: Uint8Array] {
    return kdf(2, this.#chain, NOTHING) as [Uint8Array, Uint8Array];
  }
}

/** Writes an initiation, without its MACs, into `out`. `ephemeral` is used for this once. */
export function writeInitiation(
  out: Buffer,
  own: KeyPair,
  to: Remote,
  sender: number,
  ephemeral: KeyPair,
  timestamp: Uint8Array,
): SentInitiation | undefined {
  const secret = agree(ephemeral.privateKey, to.key);
  if (secret === undefined) return undefined;
  const transcript = Transcript.start(to.publicKey);
  out.writeUInt32LE(INITIATION, 0);
  out.writeUInt32LE(sender, SENDER_AT);
  out.set(ephemeral.publicKey, INITIATION_EPHEMERAL_AT);
  transcript.mixChain(ephemeral.publicKey);
  transcript.mixHash(ephemeral.publicKey);
  out.set(transcript.seal(transcript.mixKey(secret), own.publicKey), INITIATION_STATIC_AT);
  out.set(transcript.seal(transcript.mixKey(to.shared), timestamp), INITIATION_TIMESTAMP_AT);
  return { transcript, ephemeral };
}

/** Who sent an initiation. Nothing is proven before `openTimestamp`. */
export function openInitiation(message: Buffer, own: KeyPair): OpenedInitiation | undefined {
  const ephemeralBytes = message.subarray(INITIATION_EPHEMERAL_AT, INITIATION_EPHEMERAL_AT + KEY_BYTES);
  const ephemeral = publicKeyOf(ephemeralBytes);
  const secret = agree(own.privateKey, ephemeral);
  if (secret === undefined) return undefined;
  const transcript = Transcript.start(own.publicKey);
  transcript.mixChain(ephemeralBytes);
  transcript.mixHash(ephemeralBytes);
  const sealed = message.subarray(INITIATION_STATIC_AT, INITIATION_STATIC_AT + KEY_BYTES + TAG_BYTES);
  const publicKey = transcript.open(transcript.mixKey(secret), sealed);
  return publicKey && { transcript, ephemeral, publicKey, sender: message.readUInt32LE(SENDER_AT) };
}

/** The timestamp, 12 bytes, which proves that the sender holds the key. */
export function openTimestamp(message: Buffer, opened: OpenedInitiation, from: Remote): Buffer | undefined {
  const sealed = message.subarray(INITIATION_TIMESTAMP_AT, INITIATION_TIMESTAMP_AT + TIMESTAMP_BYTES + TAG_BYTES);
  return opened.transcript.open(opened.transcript.mixKey(from.shared), sealed);
}

/** Writes the response, without its MACs, into `out`, to an initiation whose timestamp was opened. */
export function writeResponse(
  out: Buffer,
  { transcript, ephemeral: theirs, sender: receiver }: OpenedInitiation,
  to: Remote,
  sender: number,
  ephemeral: KeyPair,
): TransportKeys | undefined {
  const ephemeralSecret = agree(ephemeral.privateKey, theirs);
  const staticSecret = agree(ephemeral.privateKey, to.key);
  if (ephemeralSecret === undefined || staticSecret === undefined) return undefined;
  out.writeUInt32LE(RESPONSE, 0);
  out.writeUInt32LE(sender, SENDER_AT);
  out.writeUInt32LE(receiver, RESPONSE_RECEIVER_AT);
  out.set(ephemeral.publicKey, RESPONSE_EPHEMERAL_AT);
  transcript.mixHash(ephemeral.publicKey);
  transcript.mixChain(ephemeral.publicKey);
  transcript.mixChain(ephemeralSecret);
  transcript.mixChain(staticSecret);
  out.set(transcript.seal(transcript.mixPresharedKey(to.presharedKey), NOTHING), RESPONSE_NOTHING_AT);
  const [receive, send] = transcript.split();
  return { send, receive };
}

/** Keys from the response to an initiation of ours, which stays as it is when the response is none. */
export function openResponse(message: Buffer, sent: SentInitiation, own: KeyPair, from: Remote): TransportKeys | undefined {
  const ephemeralBytes = message.subarray(RESPONSE_EPHEMERAL_AT, RESPONSE_EPHEMERAL_AT + KEY_BYTES);
  const theirs = publicKeyOf(ephemeralBytes);
  const ephemeralSecret = agree(sent.ephemeral.privateKey, theirs);
  const staticSecret = agree(own.privateKey, theirs);
  if (ephemeralSecret === undefined || staticSecret === undefined) return undefined;
  const transcript = sent.transcript.copy();
  transcript.mixHash(ephemeralBytes);
  transcript.mixChain(ephemeralBytes);
  transcript.mixChain(ephemeralSecret);
  transcript.mixChain(staticSecret);
  const sealed = message.subarray(RESPONSE_NOTHING_AT, RESPONSE_NOTHING_AT + TAG_BYTES);
  if (transcript.open(transcript.mixPresharedKey(from.presharedKey), sealed) === undefined) return undefined;
  const [send, receive] = transcript.split();
  return { send, receive };
}
