// The Internet checksum (RFC 1071) over bytes that are somebody else's (*borrows*). Pure, no allocation.
//
// A sum is the ones' complement sum of big-endian 16-bit words, kept unfolded in a number: up to 2^53 there is room for 2^37 words.

/** Below this the longer way is not worth its beginning and end. */
const WORDS_LEAST = 64;
/** Memory as words, for the two buffers that were last summed: a frame and the scratch that it is cut in. */
const memory: [ArrayBufferLike, ArrayBufferLike] = [new ArrayBuffer(0), new ArrayBuffer(0)];
const views: [Uint32Array, Uint32Array] = [new Uint32Array(0), new Uint32Array(0)];
const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

function wordsOf(buffer: ArrayBufferLike): Uint32Array {
  if (memory[0] === buffer) return views[0];
  if (memory[1] === buffer) return views[1];
  memory[1] = memory[0];
  views[1] = views[0];
  memory[0] = buffer;
  views[0] = new Uint32Array(buffer, 0, buffer.byteLength >>> 2);
  return views[0];
}

/** Sum of `length` bytes from `start`; an odd last byte counts as the high half of a word. */
export function sumBytes(bytes: Uint8Array, start: number, length: number, initial = 0): number {
  const address = bytes.byteOffset + start;
  if (length >= WORDS_LEAST && (address & 1) === 0 && littleEndian) return sumWords(bytes, address, start, length, initial);
  return sumPairs(bytes, start, length, initial);
}

/** Words of 32 bits as the machine has them: the sum of swapped words is the swapped sum (RFC 1071, section 2 B). */
function sumWords(bytes: Uint8Array, address: number, start: number, length: number, initial: number): number {
  const head = address & 2;
  const words = wordsOf(bytes.buffer);
  const first = (address + head) >>> 2;
  const count = (length - head) >>> 2;
  const end = first + (count & ~1);
  let a = 0;
  let b = 0;
  for (let at = first; at < end; at += 2) {
    a += words[at] as number;
    b += words[at + 1] as number;
  }
  const swapped = fold(a + b);
  const sum = initial + (((swapped & 0xff) << 8) | (swapped >>> 8));
  const done = head + (count & ~1) * 4;
  return sumPairs(bytes, start + done, length - done, head === 0 ? sum : sumPairs(bytes, start, 2, sum));
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
