// Cuts a super-frame (TCP over IPv4 or IPv6, UDP with USO) into the frames that would have gone on the wire, and completes checksums
// that were left to hardware. What the header claims is checked against the frame: nothing is read or written beyond it. Pure; the
// only memory is the caller's.

import { finish, sumBytes } from './checksum.ts';
import { cutPieces, type PieceSink, type Refusal, readSuperFrame, superFrame } from './pieces.ts';
import { GSO_ECN, GSO_NONE, NEEDS_CHECKSUM, type VnetHeader } from './vnet-header.ts';

export type { Refusal } from './pieces.ts';

/** Receives one frame: `bytes[start, start + length)`, valid until it returns (*borrows*). */
export type Emit = (bytes: Buffer, start: number, length: number) => void;

/** Every piece at the same place, given away before the next one. */
class Scratch implements PieceSink {
  buffer: Buffer = Buffer.alloc(0);
  emit: Emit = () => {};

  place(): number {
    return 0;
  }

  put(start: number, bytes: number): void {
    this.emit(this.buffer, start, bytes);
  }
}

const parts = superFrame();
const sink = new Scratch();

/**
 * Emits the wire frames of `frame[start, start + length)`: itself, with its checksum completed in place, or its pieces, each built in
 * `scratch`, which must hold the headers and one piece. `ethernet` tells a TAP frame from a TUN packet. Answers how many were
 * emitted, or why none was. `emit` does not call it again.
 */
export function segment(
  frame: Buffer,
  start: number,
  length: number,
  header: VnetHeader,
  ethernet: boolean,
  scratch: Buffer,
  emit: Emit,
): number | Refusal {
  if ((header.gsoType & ~GSO_ECN) === GSO_NONE) {
    if ((header.flags & NEEDS_CHECKSUM) !== 0 && !completeChecksum(frame, start, length, header)) return 'bad-header';
    emit(frame, start, length);
    return 1;
  }
  const refusal = readSuperFrame(frame, start, length, header, ethernet, parts);
  if (refusal !== undefined) return refusal;
  if (parts.payload - start + header.gsoSize > scratch.length) return 'bad-header';
  sink.buffer = scratch;
  sink.emit = emit;
  return cutPieces(frame, parts, header.gsoSize, sink);
}

/** Puts the checksum that the header asks for into the frame; false when it points outside. */
export function completeChecksum(frame: Buffer, start: number, length: number, header: VnetHeader): boolean {
  const from = header.checksumStart;
  const field = from + header.checksumOffset;
  if (from >= length || field + 2 > length) return false;
  // The field holds the sum of the pseudo-header, which is thereby part of the sum.
  const checksum = finish(sumBytes(frame, start + from, length - from));
  frame.writeUInt16BE(checksum === 0 ? 0xffff : checksum, start + field);
  return true;
}
