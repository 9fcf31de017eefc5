// Handshake messages from each source address that are looked at while this end is under load (whitepaper section 5.3): tokens that come back with
// time. Only for sources that have shown a cookie, so that nobody fills the table in another's name.

import type { SocketAddress } from '../../sys/socket-address.ts';

const A_SECOND = 20;
const BURST = 5;
/** A source that was silent for so long has all its tokens. */
const FORGET_MS = 1000;
const SOURCES_MOST = 4096;

export class RateLimiter {
  readonly #sources = new Map<string, { tokens: number; at: number }>();
  #sweptAt = 0;

  /** Of the source, an IPv4 address or the first 64 bits of an IPv6 one. False: too many, of it or of sources. */
  allow(from: SocketAddress, now: number): boolean {
    this.#sweep(now);
    const key = sourceOf(from);
    let source = this.#sources.get(key);
    if (source === undefined) {
      if (this.#sources.size >= SOURCES_MOST) return false;
      source = { tokens: BURST, at: now };
      this.#sources.set(key, source);
    }
    source.tokens = Math.min(BURST, source.tokens + ((now - source.at) * A_SECOND) / 1000);
    source.at = now;
    if (source.tokens < 1) return false;
    source.tokens--;
    return true;
  }

  #sweep(now: number): void {
    if (now - this.#sweptAt < FORGET_MS) return;
    this.#sweptAt = now;
    for (const [key, { at }] of this.#sources) if (now - at >= FORGET_MS) this.#sources.delete(key);
  }
}

/** In struct sockaddr_in6 the address stands at 8; ::ffff:0:0/96 is IPv4. */
function sourceOf(from: SocketAddress): string {
  const isIpv4 = from.readUInt32BE(8) === 0 && from.readUInt32BE(12) === 0 && from.readUInt32BE(16) === 0xffff;
  return isIpv4 ? from.toString('latin1', 20, 24) : from.toString('latin1', 8, 16);
}
