// How many handshakes of each source address are looked at: tokens that come back with time. Bounded in memory; time is passed in. Pure.

import type { SocketAddress } from '../../sys/socket-address.ts';

/** A source that was silent for so long has all its tokens, or for as long as it takes to get them. */
const FORGET_MS = 1000;
const SOURCES_MOST = 4096;

export interface Rate {
  /** Tokens that come back in a second. */
  aSecond: number;
  /** Tokens at most. */
  burst: number;
}

export class RateLimiter {
  readonly #rate: Rate;
  readonly #forgetMs: number;
  readonly #sources = new Map<string, { tokens: number; at: number }>();
  #sweptAt = 0;

  constructor(rate: Rate) {
    this.#rate = rate;
    this.#forgetMs = Math.max(FORGET_MS, (rate.burst / rate.aSecond) * 1000);
  }

  /** Of the source with this key, see `sourceOf`; `now` in milliseconds. False: too many, of it or of sources. */
  allow(key: string, now: number): boolean {
    if (!this.wouldAllow(key, now)) return false;
    this.#sources.set(key, { tokens: this.#tokens(key, now) - 1, at: now });
    return true;
  }

  /** As `allow`, and nothing is taken. */
  wouldAllow(key: string, now: number): boolean {
    this.#sweep(now);
    return this.#tokens(key, now) >= 1;
  }

  #tokens(key: string, now: number): number {
    const { aSecond, burst } = this.#rate;
    const source = this.#sources.get(key);
    if (source === undefined) return this.#sources.size < SOURCES_MOST ? burst : 0;
    return Math.min(burst, source.tokens + ((now - source.at) * aSecond) / 1000);
  }

  #sweep(now: number): void {
    if (now - this.#sweptAt < this.#forgetMs) return;
    this.#sweptAt = now;
    for (const [key, { at }] of this.#sources) if (now - at >= this.#forgetMs) this.#sources.delete(key);
  }
}

/** Who is one source: an IPv4 address, or the first 64 bits of an IPv6 one, of which everybody has all the others. */
export function sourceOf(from: SocketAddress): string {
  // In struct sockaddr_in6 the address stands at 8; ::ffff:0:0/96 is IPv4.
  const isIpv4 = from.readUInt32BE(8) === 0 && from.readUInt32BE(12) === 0 && from.readUInt32BE(16) === 0xffff;
  return isIpv4 ? from.toString('latin1', 20, 24) : from.toString('latin1', 8, 16);
}
