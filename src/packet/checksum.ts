// The Internet checksum (RFC 1071) over bytes that are somebody else's (*borrows*). Pure, no allocation.
//
// A sum is the ones' complement sum of big-endian 16-bit words, kept unfolded in a number: up to 2^53 there is room for 2^37 words.

/** Below this the longer way is not worth its beginning and end. */
const WORDS_LEAST = 64;
const CHUNK_WORDS = 16_384;
/** Memory as words, for the two buffers that were last summed: a frame and the scratch that it is cut in. */
const memory: [ArrayBufferLike, ArrayBufferLike] = [new ArrayBuffer(0), new ArrayBuffer(0)];
const views: [Int32Array, Int32Array] = [new Int32Array(0), new Int32Array(0)];
const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

function wordsOf(buffer: ArrayBufferLike): Int32Array {
  if (memory[0] === buffer) return views[0];
  if (memory[1] === buffer) return views[1];
  memory[1] = memory[0];
  views[1] = views[0];
  memory[0] = buffer;
  views[0] = new Int32Array(buffer, 0, buffer.byteLength >>> 2);
  return views[0];
}

/** Sum of `length` bytes from `start`; an odd last byte counts as the high half of a word. */
export function sumBytes(bytes: Uint8Array, start: number, length: number, initial = 0): number {
  if (length < WORDS_LEAST || !littleEndian) return sumPairs(bytes, start, length, initial);
  const address = bytes.byteOffset + start;
  if ((address & 1) === 0) return sumWords(bytes, address, start, length, initial);
  // From the next byte on every word is turned round, and so is the sum.
  const rest = swap(fold(sumWords(bytes, address + 1, start + 1, length - 1, 0)));
  return initial + ((bytes[start] as number) << 8) + rest;
}

/** Words of 32 bits as the machine has them: the sum of swapped words is the swapped sum (RFC 1071, section 2 B). */
function sumWords(bytes: Uint8Array, address: number, start: number, length: number, initial: number): number {
  const head = address & 2;
  const words = wordsOf(bytes.buffer);
  const first = (address + head) >>> 2;
  const end = first + ((length - head) >>> 4) * 4;
  let sum = head === 0 ? initial : sumPairs(bytes, start, 2, initial);
  for (let at = first; at < end; at += CHUNK_WORDS) sum += swap(fold(sumChunk(words, at, Math.min(end, at + CHUNK_WORDS))));
  const done = head + (end - first) * 4;
  return sumPairs(bytes, start + done, length - done, sum);
}

/**
 * Sums of the upper halves, and of whole words, the latter as far as 32 bits go: the sum of the lower halves, which a chunk keeps below 2^32, is what
 * is left. Integers all the way, and three operations a word.
 */
function sumChunk(words: Int32Array, first: number, end: number): number {
  let whole = 0;
  let upper = 0;
  for (let at = first; at < end; at += 4) {
    const w = words[at] as number;
    const x = words[at + 1] as number;
    const y = words[at + 2] as number;
    const z = words[at + 3] as number;
    whole = (whole + w + x + y + z) | 0;
    upper = (upper + (w >>> 16) + (x >>> 16) + (y >>> 16) + (z >>> 16)) | 0;
  }
  return ((whole - (upper << 16)) >>> 0) + upper;
}

/** Of 16 bits. */
export function swap(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
}

function sumPairs(bytes: Uint8Array, start: number, length: number, initial: number): number {
  let sum = initial;
  const even = start + (length & ~1);
  for (let at = start; at < even; at += 2) sum += ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
  if ((length & 1) === 1) sum += (bytes[even] as number) << 8;
  return sum;
}

/** A sum folded to 16 bits. */
export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return folded;
}

/** The checksum field for a sum over everything else. */
export function finish(sum: number): number {
  return ~fold(sum) & 0xffff;
}

/** Sum of the pseudo-header of TCP, UDP or ICMPv6 (RFC 9293, 8200): both addresses, `addressBytes` each from `addressesAt`, length and protocol. */
export function pseudoHeaderSum(bytes: Uint8Array, addressesAt: number, addressBytes: 4 | 16, protocol: number, length: number): number {
  return sumBytes(bytes, addressesAt, 2 * addressBytes, protocol + (length >>> 16) + (length & 0xffff));
}
