// Which counters of a session have come (RFC 6479): a ring of bits behind the greatest. Counters are integers below 2^53. Pure.

export interface ReplayWindow {
  /** Whether `counter` is new and not too old, without noting it: asked before decrypting, which is dear. */
  isNew(counter: number): boolean;
  /** Notes a counter whose packet has authenticated; false when it is not new. */
  accept(counter: number): boolean;
}

/** Tells at least `size` counters behind the greatest apart; the default is 8,192. */
export function replayWindow(size = 8192): ReplayWindow {
  throw new Error(`not built yet: ${size}`);
}
