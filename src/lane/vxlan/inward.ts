// From an inner frame that came from a remote to the device: finishes what a sender on the same machine has left undone, joins segments, counts
// what the device did not take.

import { LinkDrops_Reason as Drop } from '../../gen/taplane/v1/link.ts';
import { type Coalescer, coalescer } from '../../packet/coalesce.ts';
import { cut, type PieceSink } from '../../packet/cut.ts';
import { completeChecksum } from '../../packet/segment.ts';
import { readUnfinished } from '../../packet/unfinished.ts';
import { GSO_NONE, plainVnetHeader } from '../../packet/vnet-header.ts';
import type { LinkCounts } from '../link/counts.ts';
import { packetsOf } from '../link/super-frame.ts';
import type { LinkDevice } from '../link/tunnel.ts';

/** Of an IP packet; what pieces of super-frames are held to has been chosen before. */
const IP_MOST = 65_535;
const PIECE_MOST = IP_MOST + 22;

export class Inward {
  readonly #device: LinkDevice;
  readonly #counts: LinkCounts;
  readonly #coalescer: Coalescer;
  readonly #left = plainVnetHeader();
  #sink: PieceSink | undefined;

  constructor(device: LinkDevice, counts: LinkCounts) {
    this.#device = device;
    this.#counts = counts;
    const write = (bytes: Buffer, start: number, length: number): void => this.#write(bytes, start, length);
    this.#coalescer = coalescer({ ethernet: true, offload: device.offload, write });
  }

  /**
   * Gives the frame `bytes[start, start + length)` to the device, maybe together with others at `flush` (*borrows*; may change it). A super-frame is cut
   * into IP packets of `most` bytes, those of UDP into payloads of `pieceBytes`. Answers how many frames it was; 0: it is malformed, and counted.
   */
  add(bytes: Buffer, start: number, length: number, most: number, pieceBytes: number): number {
    const header = this.#left;
    const stated = readUnfinished(bytes, start, length, most, pieceBytes, header);
    if (stated > 0 && header.gsoType !== GSO_NONE) {
      this.#sink ??= sinkInto(this.#coalescer);
      const pieces = cut(bytes, start, stated, header, true, IP_MOST, this.#sink);
      if (typeof pieces === 'number') return pieces;
      this.#counts.drop(Drop.MALFORMED);
      return 0;
    }
    if (stated > 0) completeChecksum(bytes, start, stated, header);
    this.#coalescer.add(bytes, start, length);
    return 1;
  }

  /** Bytes of headers before each piece of what was added last, where it was a super-frame. */
  get headerBytes(): number {
    return this.#left.headerLength;
  }

  flush(): void {
    this.#coalescer.flush();
  }

  #write(bytes: Buffer, start: number, length: number): void {
    if (this.#device.write(bytes, start, length) !== 0) this.#counts.drop(Drop.DEVICE, packetsOf(bytes, start, length));
  }
}

/** Each piece stands there until the next: the coalescer copies. */
function sinkInto(to: Coalescer): PieceSink {
  const buffer = Buffer.allocUnsafeSlow(PIECE_MOST);
  return {
    buffer,
    place: (bytes) => (bytes <= PIECE_MOST ? 0 : -1),
    put: (start, bytes) => to.add(buffer, start, bytes),
  };
}
