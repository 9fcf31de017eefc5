// Which counters of a session have come (RFC 6479): a ring of bits behind the greatest. Counters are integers below 2^53. Pure.

export interface ReplayWindow {
  /** Whether `counter` is new and not too old, without noting it: asked before decrypting, which is dear. */
  isNew(counter: number): boolean;
  /** Notes a counter whose packet has authenticated; false when it is not new. */
  accept(counter: number): boolean;
}

const WORD_BITS = 32;

/**
 * Tells exactly the `size` counters up to the greatest apart; the default is 8,192. What is older, and what is no integer from 0 up to 2^53 - 1, is
 * not new. Throws RangeError for a size that is no integer from 1 to 2^24.
 */
export function replayWindow(size = 8192): ReplayWindow {
  if (!Number.isInteger(size) || size < 1 || size > 2 ** 24) throw new RangeError(`make replay window: ${size} counters`);
  // One word more than the window has: the newest one is in part ahead of it. A power of two, so that a place is a mask away.
  const words = new Int32Array(2 ** Math.ceil(Math.log2(Math.ceil(size / WORD_BITS) + 1)));
  const wordMask = words.length - 1;
  let greatest = -1;

  function isNew(counter: number): boolean {
    if (counter > greatest) return counter <= Number.MAX_SAFE_INTEGER && Number.isInteger(counter);
    if (counter <= greatest - size || !(counter >= 0) || !Number.isInteger(counter)) return false;
    return ((words[wordAt(counter)] as number) & (1 << (counter % WORD_BITS))) === 0;
  }

  function wordAt(counter: number): number {
    // Not a shift: counters have more than 32 bits.
    return Math.floor(counter / WORD_BITS) & wordMask;
  }

  return {
    isNew,
    accept(counter) {
      if (!isNew(counter)) return false;
      if (counter > greatest) {
        const last = Math.floor(greatest / WORD_BITS);
        const steps = Math.min(Math.floor(counter / WORD_BITS) - last, words.length);
        // What these words said was of counters that are out of the window now.
        for (let step = 1; step <= steps; step++) words[(last + step) & wordMask] = 0;
        greatest = counter;
      }
      const at = wordAt(counter);
      words[at] = (words[at] as number) | (1 << (counter % WORD_BITS));
      return true;
    },
  };
}
