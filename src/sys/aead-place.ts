// Where a packet lies and which nonce it has, checked: native code that gets an address checks nothing.

const TAG_BYTES = 16;
const TWO_32 = 2 ** 32;

/** Throws RangeError unless `bytes[start, start + length)` and a tag behind it are all in the buffer. */
export function checkPlace(counter: number, bytes: Uint8Array, start: number, length: number): void {
  if (!(start >>> 0 === start && length >>> 0 === length && start + length + TAG_BYTES <= bytes.length)) {
    throw new RangeError(`${length} bytes from ${start} and a tag are not within ${bytes.length}`);
  }
  if (!(counter >= 0 && Number.isSafeInteger(counter))) throw new RangeError(`${counter} is no counter`);
}

/** Upper half of a counter; its lower half is `counter >>> 0`. */
export function highOf(counter: number): number {
  return Math.floor(counter / TWO_32);
}
