// Fragments of IPv4 (RFC 791, section 3.2), for packets that are larger than their path and that may be fragmented: as the routers of a path do,
// and as nobody else would tell their sender to. Pure, no allocation; the only memory is the sink's.

import { finish, sumBytes } from './checksum.ts';
import type { IpPacket } from './ip-packet.ts';
import { half, type PieceSink, putHalf } from './pieces.ts';
import { NEEDS_CHECKSUM, type VnetHeader } from './vnet-header.ts';

const HEADER_LEAST = 20;
const DONT_FRAGMENT = 0x4000;
const MORE = 0x2000;
const OFFSET = 0x1fff;
const [OPTION_END, OPTION_NOP] = [0, 1] as const;
/** Of an option: every fragment has it. */
const COPIED = 0x80;

/**
 * Puts the packet `ip` of `frame`, which `header` describes, into `sink` as fragments of at most `most` bytes (*borrows*). Answers how many; -1 when
 * it must not be fragmented, or there is no room for 8 bytes of it. A fragment is fragmented further.
 */
export function fragment(frame: Buffer, ip: IpPacket, header: VnetHeader, most: number, sink: PieceSink): number {
  const { at, payloadAt, end } = ip;
  const flags = half(frame, at + 6);
  const headerBytes = payloadAt - at;
  const pieceBytes = (most - headerBytes) & ~7;
  const first = flags & OFFSET;
  if ((flags & DONT_FRAGMENT) !== 0 || pieceBytes < 8 || first + ((end - payloadAt - 1) >> 3) > OFFSET) return -1;
  const field = header.checksumStart + header.checksumOffset;
  const isPartial = (header.flags & NEEDS_CHECKSUM) !== 0;
  // The field has to be in the first one, and what it sums in the packet.
  if (isPartial && (header.checksumStart < headerBytes || field + 2 > headerBytes + pieceBytes || at + field + 2 > end)) return -1;
  const { buffer } = sink;
  let count = 0;
  for (let offset = payloadAt; offset < end; offset += pieceBytes) {
    const size = Math.min(pieceBytes, end - offset);
    const to = sink.place(headerBytes + size);
    if (to < 0 || to + headerBytes + size > buffer.length) return count;
    frame.copy(buffer, to, at, payloadAt);
    frame.copy(buffer, to + headerBytes, offset, offset + size);
    if (count > 0) leaveOptions(buffer, to + HEADER_LEAST, to + headerBytes);
    const isLast = offset + size === end && (flags & MORE) === 0;
    putHalf(buffer, to + 2, headerBytes + size);
    putHalf(buffer, to + 6, (flags & ~(MORE | OFFSET)) | (isLast ? 0 : MORE) | (first + ((offset - payloadAt) >> 3)));
    putHalf(buffer, to + 10, 0);
    putHalf(buffer, to + 10, finish(sumBytes(buffer, to, headerBytes)));
    if (count === 0 && isPartial) {
      const from = at + header.checksumStart;
      putHalf(buffer, to + field, finish(sumBytes(frame, from, end - from)) || 0xffff);
    }
    sink.put(to, headerBytes + size);
    count++;
  }
  return count;
}

/** In place of options that belong to the first fragment only there is nothing. */
function leaveOptions(bytes: Buffer, from: number, end: number): void {
  for (let at = from; at < end; ) {
    const kind = bytes[at] as number;
    if (kind === OPTION_END) return;
    const size = kind === OPTION_NOP ? 1 : (bytes[at + 1] as number);
    if (at + size > end || (kind !== OPTION_NOP && size < 2)) return;
    if ((kind & COPIED) === 0) bytes.fill(OPTION_NOP, at, at + size);
    at += size;
  }
}
