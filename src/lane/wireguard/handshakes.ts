// Handshake messages that come: what is neither for us nor worth its cost is let go of, silently, before anything dear is computed.
//
//   length --> first MAC --> response: its initiation --> under load: second MAC (else a cookie is sent), messages of this source
//          --> who is it --> peer
//
// As the protocol has it, the second MAC is not looked at as long as there is no load.

import { randomBytes } from 'node:crypto';
import { LinkDrops_Reason as Drop } from '../../gen/taplane/v1/link.ts';
import type { SocketAddress } from '../../sys/socket-address.ts';
import { RateLimiter, sourceOf } from '../link/rate-limiter.ts';
import { MacChecker } from './cookie.ts';
import type { Indices } from './indices.ts';
import { COOKIE_RECEIVER_AT, COOKIE_REPLY_BYTES, RESPONSE_RECEIVER_AT, SENDER_AT } from './messages.ts';
import { type KeyPair, openInitiation } from './noise.ts';
import type { Peers } from './peers.ts';

/** More handshake messages than this within LOAD_MS are load: a quarter of our time, about. */
export const LOAD_MESSAGES = 500;
const LOAD_MS = 1000;
/** Of each source under load (whitepaper section 5.3); only of those that have shown a cookie, so that nobody fills the table in another's name. */
export const RATE = { aSecond: 20, burst: 5 };

export interface HandshakeNeeds {
  peers: Peers;
  indices: Indices;
  send(to: SocketAddress, message: Buffer): void;
}

/** What is answered by each: 0, or why the message was dropped. */
export class Handshakes {
  readonly #needs: HandshakeNeeds;
  readonly #limiter = new RateLimiter(RATE);
  #own: KeyPair;
  #checker: MacChecker;
  #windowAt = Number.NEGATIVE_INFINITY;
  #windowMessages = 0;
  #loadedUntil = Number.NEGATIVE_INFINITY;

  constructor(needs: HandshakeNeeds, own: KeyPair) {
    this.#needs = needs;
    this.#own = own;
    this.#checker = new MacChecker(own.publicKey, randomBytes);
  }

  /** This end has another key. */
  setOwn(own: KeyPair): void {
    this.#own = own;
    this.#checker = new MacChecker(own.publicKey, randomBytes);
  }

  /** `message` has the length of an initiation (*borrows*). */
  takeInitiation(message: Buffer, from: SocketAddress, now: number): Drop {
    if (!this.#checker.checkMac1(message)) return Drop.UNAUTHENTICATED;
    if (!this.#admits(message, from, now)) return Drop.RATE_LIMITED;
    const opened = openInitiation(message, this.#own);
    if (opened === undefined) return Drop.UNAUTHENTICATED;
    return this.#needs.peers.find(opened.publicKey)?.takeInitiation(message, opened, from, now) ?? Drop.STRANGER;
  }

  /** `message` has the length of a response (*borrows*). */
  takeResponse(message: Buffer, from: SocketAddress, now: number): Drop {
    if (!this.#checker.checkMac1(message)) return Drop.UNAUTHENTICATED;
    const index = message.readUInt32LE(RESPONSE_RECEIVER_AT);
    const peer = this.#needs.indices.initiator(index);
    if (peer === undefined) return Drop.UNAUTHENTICATED;
    if (!this.#admits(message, from, now)) return Drop.RATE_LIMITED;
    return peer.takeResponse(message, index, message.readUInt32LE(SENDER_AT), from, now);
  }

  /** `message` has the length of a cookie reply (*borrows*). */
  takeCookie(message: Buffer, now: number): Drop {
    const index = message.readUInt32LE(COOKIE_RECEIVER_AT);
    const { indices } = this.#needs;
    const peer = indices.initiator(index) ?? indices.session(index)?.peer;
    return peer?.takeCookie(message, now) === true ? Drop.UNSPECIFIED : Drop.UNAUTHENTICATED;
  }

  /** Whether a message whose first MAC is right is worth looking at now. */
  #admits(message: Buffer, from: SocketAddress, now: number): boolean {
    if (!this.#isLoaded(now)) return true;
    if (this.#checker.checkMac2(message, from, now)) return this.#limiter.allow(sourceOf(from), now);
    const reply = Buffer.alloc(COOKIE_REPLY_BYTES);
    this.#checker.writeReply(reply, message, from, now);
    this.#needs.send(from, reply);
    return false;
  }

  #isLoaded(now: number): boolean {
    if (now - this.#windowAt >= LOAD_MS) {
      this.#windowAt = now;
      this.#windowMessages = 0;
    }
    if (++this.#windowMessages > LOAD_MESSAGES) this.#loadedUntil = now + LOAD_MS;
    return now < this.#loadedUntil;
  }
}
