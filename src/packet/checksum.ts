// The Internet checksum (RFC 1071) over bytes that are somebody else's (*borrows*). Pure, no allocation.
//
// A sum is the ones' complement sum of big-endian 16-bit words, kept unfolded in a number: up to 2^53 there is room for 2^37 words.

/** Sum of `length` bytes from `start`; an odd last byte counts as the high half of a word. */
export function sumBytes(bytes: Uint8Array, start: number, length: number, initial = 0): number {
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
