// A session: the two keys of one handshake, what was sent and what has come under them (whitepaper section 5.4.6), and the few that a peer has
// at most. One that is replaced is closed; its memory goes with it.

import { type ReplayWindow, replayWindow } from '../../packet/replay-window.ts';
import { type AeadKey, aeadKey } from '../../sys/aead.ts';
import type { TransportKeys } from './noise.ts';
import type { Peer } from './peer.ts';
import { REJECT_AFTER_MS, REKEY_AFTER_MS } from './timers.ts';

/** Below the limits of the whitepaper, 2^60 and 2^64 - 2^13 - 1: counters are exact integers here. */
const REKEY_AFTER_MESSAGES = 2 ** 52;
const REJECT_AFTER_MESSAGES = 2 ** 53 - 2 ** 13 - 1;

export class Session {
  readonly peer: Peer;
  readonly localIndex: number;
  readonly remoteIndex: number;
  /** This end sent the initiation; it is the one that renews by time. */
  readonly isInitiator: boolean;
  /** Monotonic milliseconds. */
  readonly bornAt: number;
  readonly sending: AeadKey;
  readonly receiving: AeadKey;
  readonly window: ReplayWindow;
  /** Counter of the next packet. */
  #next = 0;

  constructor(peer: Peer, localIndex: number, remoteIndex: number, isInitiator: boolean, bornAt: number, keys: TransportKeys) {
    this.peer = peer;
    this.localIndex = localIndex;
    this.remoteIndex = remoteIndex;
    this.isInitiator = isInitiator;
    this.bornAt = bornAt;
    this.sending = aeadKey(keys.send);
    this.receiving = aeadKey(keys.receive);
    this.window = replayWindow();
    keys.send.fill(0);
    keys.receive.fill(0);
  }

  /** The counter of a packet that is sealed now; each is given once. */
  nextCounter(): number {
    return this.#next++;
  }

  /** Something was sent under it. */
  get isUsed(): boolean {
    return this.#next > 0;
  }

  maySend(now: number): boolean {
    return now - this.bornAt < REJECT_AFTER_MS && this.#next < REJECT_AFTER_MESSAGES;
  }

  mayReceive(now: number): boolean {
    return now - this.bornAt < REJECT_AFTER_MS;
  }

  /** It is still good, and another should be made. */
  isDue(now: number): boolean {
    return this.#next >= REKEY_AFTER_MESSAGES || (this.isInitiator && now - this.bornAt >= REKEY_AFTER_MS);
  }

  close(): void {
    this.sending.close();
    this.receiving.close();
  }
}

/** When both ends begin at once, again and again: that of the other's handshake, and the two before, of which one is still sent under. */
const PREVIOUS_MOST = 3;

/**
 *   initiator:  response came          --> current, the one before --> previous
 *   responder:  initiation came        --> next, until something comes under it: then current, the one before --> previous
 *
 * Packets are sent under the current one, and taken under all of them: when both ends began at once, each sends under the session that it began.
 */
export class Sessions {
  readonly #forget: (session: Session) => void;
  /** The newest first. */
  readonly #previous: Session[] = [];
  #current: Session | undefined;
  #next: Session | undefined;

  /** `forget` gives its index back; called once for each. */
  constructor(forget: (session: Session) => void) {
    this.#forget = forget;
  }

  get current(): Session | undefined {
    return this.#current;
  }

  /** A handshake is complete on this side. */
  add(session: Session): void {
    // What is older than its life is good for nothing.
    while (this.#previous.at(-1)?.mayReceive(session.bornAt) === false) this.#drop(this.#previous.pop());
    if (!session.isInitiator) {
      this.#drop(this.#next);
      this.#next = session;
      return;
    }
    this.#retire(this.#current);
    this.#retire(this.#next);
    this.#next = undefined;
    this.#current = session;
  }

  /** Something has come under `session`: true when that makes it the current one. */
  confirm(session: Session): boolean {
    if (session !== this.#next) return false;
    this.#retire(this.#current);
    this.#current = session;
    this.#next = undefined;
    return true;
  }

  clear(): void {
    for (const session of [...this.#previous.splice(0), this.#current, this.#next]) this.#drop(session);
    this.#current = undefined;
    this.#next = undefined;
  }

  #retire(session: Session | undefined): void {
    if (session === undefined) return;
    this.#previous.unshift(session);
    if (this.#previous.length > PREVIOUS_MOST) this.#drop(this.#previous.pop());
  }

  #drop(session: Session | undefined): void {
    if (session === undefined) return;
    this.#forget(session);
    session.close();
  }
}
