// From a super-frame to the frames of the wire, each written once, straight to where it is to be sent from. As `segment.ts`, for those who put
// something of their own around every piece, and for a path that takes less than the device thinks: TCP is cut smaller than asked, since
// its receiver cannot tell. MSS options of SYN are brought down to what the path takes. Pure; the only memory is the caller's.

import type { VnetHeader } from './vnet-header.ts';

/** Where pieces go. */
export interface PieceSink {
  /** All pieces are written into this. */
  readonly buffer: Buffer;
  /** Where the next piece, of `bytes`, is to start in `buffer`; negative: nowhere, and the rest of the frame is given up. */
  place(bytes: number): number;
  /** The piece stands at `start`, whole. */
  put(start: number, bytes: number): void;
}

/** Pieces that were put, or why none was: `too-big` is larger than `most` and cannot be cut smaller. */
export type CutOutcome = number | 'bad-header' | 'unsupported' | 'too-big';

/**
 * Cuts `frame[start, start + length)`, which `header` describes, into pieces whose IP packet (behind Ethernet and VLAN tags, with `ethernet`)
 * is at most `most` bytes. The frame may be changed in place. Frames that are not IP pass whole when they are not longer than `most` and 22.
 */
export function cut(
  frame: Buffer,
  start: number,
  length: number,
  header: VnetHeader,
  ethernet: boolean,
  most: number,
  sink: PieceSink,
): CutOutcome {
  throw new Error(`not built yet: ${frame.length} ${start} ${length} ${header.gsoType} ${ethernet} ${most} ${sink.buffer.length}`);
}
