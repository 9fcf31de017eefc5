// The greatest segment that a TCP end says it takes (RFC 9293, section 3.7.1: option 2 of SYN), brought down to what the path takes. Pure.

import { finish, swap } from './checksum.ts';
import { half, putHalf } from './pieces.ts';

const SYN = 0x02;
const [OPTION_END, OPTION_NOP, OPTION_MSS] = [0, 1, 2] as const;
const TCP_BYTES = 20;

/**
 * Lowers the option of the TCP header at `l4`, whose segment ends at `end`, to `most`, in place. The checksum is kept right (RFC 1624), unless it is
 * `partial`: of the pseudo-header only. Whatever is no SYN, has no such option, or a lower one, stays as it is.
 */
export function clampMss(bytes: Buffer, l4: number, end: number, most: number, partial: boolean): void {
  if (most <= 0 || l4 + TCP_BYTES > end || ((bytes[l4 + 13] as number) & SYN) === 0) return;
  const optionsEnd = l4 + ((bytes[l4 + 12] as number) >> 4) * 4;
  if (optionsEnd > end) return;
  for (let at = l4 + TCP_BYTES; at + 4 <= optionsEnd; ) {
    const kind = bytes[at] as number;
    if (kind === OPTION_END) return;
    const size = kind === OPTION_NOP ? 1 : (bytes[at + 1] as number);
    if (size === 0 || (kind !== OPTION_NOP && size < 2)) return;
    if (kind === OPTION_MSS && size === 4) {
      lower(bytes, l4, at + 2, most, partial);
      return;
    }
    at += size;
  }
}

function lower(bytes: Buffer, l4: number, at: number, most: number, partial: boolean): void {
  const mss = half(bytes, at);
  if (mss <= most) return;
  putHalf(bytes, at, most);
  if (partial) return;
  // At an odd place both bytes are of other words: the halves change roles.
  const odd = ((at - l4) & 1) === 1;
  const before = odd ? swap(mss) : mss;
  const after = odd ? swap(most) : most;
  putHalf(bytes, l4 + 16, finish((half(bytes, l4 + 16) ^ 0xffff) + (before ^ 0xffff) + after));
}
