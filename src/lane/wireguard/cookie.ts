// The two MACs behind every handshake message, and the cookie that the second is made with (whitepaper sections 5.3, 5.4.4 and 5.4.7). The first
// proves that the sender knows whom it speaks to; without it nothing is answered. The second proves, to an end under load, that the sender
// has the address that it says: its key is a cookie that was sent there. Randomness and time come from the caller.

import { timingSafeEqual } from 'node:crypto';
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { blake2s } from '@noble/hashes/blake2.js';
import type { SocketAddress } from '../../sys/socket-address.ts';
import {
  COOKIE_NONCE_AT,
  COOKIE_NONCE_BYTES,
  COOKIE_RECEIVER_AT,
  COOKIE_REPLY,
  COOKIE_REPLY_BYTES,
  COOKIE_SEALED_AT,
  MAC_BYTES,
  SENDER_AT,
} from './messages.ts';
import { hash } from './noise.ts';

/** How long a secret makes cookies, and how long a cookie is used. */
const COOKIE_MS = 120_000;
const MAC1_LABEL = Buffer.from('mac1----');
const COOKIE_LABEL = Buffer.from('cookie--');
const NO_MAC = Buffer.alloc(MAC_BYTES);

/** Keyed BLAKE2s, 16 bytes. */
export function mac(key: Uint8Array, bytes: Uint8Array): Uint8Array {
  return blake2s(bytes, { key, dkLen: MAC_BYTES });
}

function keyOf(label: Buffer, publicKey: Uint8Array): Uint8Array {
  return hash(label, publicKey);
}

/** Puts MACs behind messages to one peer. */
export class MacMaker {
  readonly #mac1Key: Uint8Array;
  readonly #cookieKey: Uint8Array;
  /** Of the last message, as long as no cookie came for it. */
  #lastMac1: Buffer | undefined;
  #cookie: Uint8Array | undefined;
  #cookieAt = 0;

  /** `publicKey` of the peer. */
  constructor(publicKey: Uint8Array) {
    this.#mac1Key = keyOf(MAC1_LABEL, publicKey);
    this.#cookieKey = keyOf(COOKIE_LABEL, publicKey);
  }

  /** Writes the last 32 bytes of `message`, an initiation or response. */
  sign(message: Buffer, now: number): void {
    const mac1At = message.length - 2 * MAC_BYTES;
    const mac1 = Buffer.from(mac(this.#mac1Key, message.subarray(0, mac1At)));
    message.set(mac1, mac1At);
    this.#lastMac1 = mac1;
    const isFresh = this.#cookie !== undefined && now - this.#cookieAt < COOKIE_MS;
    const mac2 = this.#cookie !== undefined && isFresh ? mac(this.#cookie, message.subarray(0, mac1At + MAC_BYTES)) : NO_MAC;
    message.set(mac2, mac1At + MAC_BYTES);
  }

  /** A cookie for the next messages, out of a reply to the last. False when it is not: nothing changes. */
  takeReply(reply: Buffer, now: number): boolean {
    if (this.#lastMac1 === undefined) return false;
    const nonce = reply.subarray(COOKIE_NONCE_AT, COOKIE_NONCE_AT + COOKIE_NONCE_BYTES);
    try {
      this.#cookie = xchacha20poly1305(this.#cookieKey, nonce, this.#lastMac1).decrypt(
        reply.subarray(COOKIE_SEALED_AT, COOKIE_REPLY_BYTES),
      );
    } catch {
      return false;
    }
    this.#cookieAt = now;
    this.#lastMac1 = undefined;
    return true;
  }
}

/** Looks at the MACs of what comes to one static key. */
export class MacChecker {
  readonly #mac1Key: Uint8Array;
  readonly #cookieKey: Uint8Array;
  readonly #randomBytes: (count: number) => Uint8Array;
  #secret: Uint8Array | undefined;
  #secretAt = 0;

  /** `publicKey` of this end. */
  constructor(publicKey: Uint8Array, randomBytes: (count: number) => Uint8Array) {
    this.#mac1Key = keyOf(MAC1_LABEL, publicKey);
    this.#cookieKey = keyOf(COOKIE_LABEL, publicKey);
    this.#randomBytes = randomBytes;
  }

  /** Whether the sender knows whom it speaks to. */
  checkMac1(message: Buffer): boolean {
    const at = message.length - 2 * MAC_BYTES;
    return timingSafeEqual(mac(this.#mac1Key, message.subarray(0, at)), message.subarray(at, at + MAC_BYTES));
  }

  /** Whether the sender was sent a cookie to this address, not longer ago than a secret lives. */
  checkMac2(message: Buffer, from: SocketAddress, now: number): boolean {
    if (this.#secret === undefined || now - this.#secretAt >= COOKIE_MS) return false;
    const at = message.length - MAC_BYTES;
    return timingSafeEqual(mac(this.#cookieFor(this.#secret, from), message.subarray(0, at)), message.subarray(at));
  }

  /** Writes the answer to an initiation or response whose first MAC is right: a cookie for the sender's address. Never longer than what it answers. */
  writeReply(out: Buffer, message: Buffer, from: SocketAddress, now: number): void {
    if (this.#secret === undefined || now - this.#secretAt >= COOKIE_MS) {
      this.#secret = this.#randomBytes(32);
      this.#secretAt = now;
    }
    const mac1At = message.length - 2 * MAC_BYTES;
    const nonce = this.#randomBytes(COOKIE_NONCE_BYTES);
    const mac1 = message.subarray(mac1At, mac1At + MAC_BYTES);
    out.writeUInt32LE(COOKIE_REPLY, 0);
    out.writeUInt32LE(message.readUInt32LE(SENDER_AT), COOKIE_RECEIVER_AT);
    out.set(nonce, COOKIE_NONCE_AT);
    out.set(xchacha20poly1305(this.#cookieKey, nonce, mac1).encrypt(this.#cookieFor(this.#secret, from)), COOKIE_SEALED_AT);
  }

  /** Port and address only: flow label and scope may change. */
  #cookieFor(secret: Uint8Array, from: SocketAddress): Uint8Array {
    return mac(secret, Buffer.concat([from.subarray(2, 4), from.subarray(8, 24)]));
  }
}
