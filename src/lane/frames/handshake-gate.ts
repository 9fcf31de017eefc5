// Which connections may begin to show who they are, which costs this end 1 to 5 ms each: so many a second of one source, and of all together. A source that has
// shown it before has tokens of its own: however many strangers come, it is not kept out. Bounded in memory; time is passed in. Pure.

import type { SocketAddress } from '../../sys/socket-address.ts';
import { type Rate, RateLimiter, sourceOf } from '../link/rate-limiter.ts';

/** A client that fails tries again after 100 ms, 200 ms and so on: five times in three seconds. */
export const OF_SOURCE: Rate = { aSecond: 2, burst: 6 };
export const OF_ALL: Rate = { aSecond: 10, burst: 20 };
const KNOWN_MOST = 64;

export class HandshakeGate {
  readonly #ofStranger = new RateLimiter(OF_SOURCE);
  readonly #ofKnown = new RateLimiter(OF_SOURCE);
  readonly #ofAll = new RateLimiter(OF_ALL);
  /** Sources that have shown who they are, the latest last. */
  readonly #known = new Set<string>();

  /** Whether one from there may begin now, at `now` milliseconds. */
  admits(from: SocketAddress, now: number): boolean {
    const source = sourceOf(from);
    if (this.#known.has(source)) return this.#ofKnown.allow(source, now);
    // Nobody is remembered who could not begin anyway: no crowd fills the table.
    if (!this.#ofAll.wouldAllow('', now) || !this.#ofStranger.allow(source, now)) return false;
    return this.#ofAll.allow('', now);
  }

  /** Somebody there has shown who it is. */
  know(from: SocketAddress): void {
    const source = sourceOf(from);
    this.#known.delete(source);
    this.#known.add(source);
    for (const oldest of this.#known) {
      if (this.#known.size <= KNOWN_MOST) break;
      this.#known.delete(oldest);
    }
  }
}
