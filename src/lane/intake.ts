// From what a queue or ring gives to whole frames: takes packet information and virtio header off, cuts super-frames and completes
// checksums that were left to hardware, and offers the result to consumers. One lives as long as its device is attached.

import { type Refusal, segment } from '../packet/segment.ts';
import { plainVnetHeader, readVnetHeader, VNET_HEADER_BYTES } from '../packet/vnet-header.ts';

/** Receives whole frames. `bytes[start, start + length)` is valid until it returns (*borrows*). */
export type TakeFrame = (bytes: Buffer, start: number, length: number) => void;

const PIECE_MOST = 65_549;

export class Intake {
  readonly #ethernet: boolean;
  readonly #take: TakeFrame;
  readonly #header = plainVnetHeader();
  readonly #scratch = Buffer.allocUnsafeSlow(PIECE_MOST);

  constructor(ethernet: boolean, take: TakeFrame) {
    this.#ethernet = ethernet;
    this.#take = take;
  }

  /**
   * Offers the wire frames of a frame that has its virtio header right before `start`. The frame itself may be changed: its checksum is
   * completed in place. Answers false when the header does not fit it.
   */
  withHeader(bytes: Buffer, start: number, length: number): boolean {
    const header = this.#header;
    if (!readVnetHeader(bytes, start - VNET_HEADER_BYTES, header)) return false;
    if (header.gsoType === 0 && header.flags === 0) {
      this.#take(bytes, start, length);
      return true;
    }
    const outcome: number | Refusal = segment(bytes, start, length, header, this.#ethernet, this.#scratch, this.#take);
    return typeof outcome === 'number';
  }
}
