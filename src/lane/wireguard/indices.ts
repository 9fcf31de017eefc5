// The numbers that peers call handshakes and sessions of this end by: random, each for one thing at a time, until it is given back.

import type { Peer } from './peer.ts';
import type { Session } from './session.ts';

/** 31 bits: such numbers need no memory of their own. */
const MOST = 2 ** 31;

export class Indices {
  readonly #random: () => number;
  readonly #sessions = new Map<number, Session>();
  /** Of initiations that wait for their response. */
  readonly #initiations = new Map<number, Peer>();

  /** `random`: 0 to 1. */
  constructor(random: () => number) {
    this.#random = random;
  }

  get size(): number {
    return this.#sessions.size + this.#initiations.size;
  }

  session(index: number): Session | undefined {
    return this.#sessions.get(index);
  }

  initiator(index: number): Peer | undefined {
    return this.#initiations.get(index);
  }

  /** A number for an initiation of ours to `peer`. */
  forInitiation(peer: Peer): number {
    const index = this.#draw();
    this.#initiations.set(index, peer);
    return index;
  }

  /** A number that `setSession` follows for. */
  forSession(): number {
    return this.#draw();
  }

  /** `session` has its number from now on; its initiation, if it was ours, no more. */
  setSession(session: Session): void {
    this.#initiations.delete(session.localIndex);
    this.#sessions.set(session.localIndex, session);
  }

  release(index: number): void {
    this.#sessions.delete(index);
    this.#initiations.delete(index);
  }

  #draw(): number {
    for (;;) {
      const index = Math.floor(this.#random() * MOST);
      if (!this.#sessions.has(index) && !this.#initiations.has(index)) return index;
    }
  }
}
