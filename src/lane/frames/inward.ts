// The way of a frame that came from the peer, whatever carried it: checked, counted, put together with others, written into the device. All
// inner frames pass through `take`, and nowhere else.

import { LinkDrops_Reason as Drop } from '../../gen/taplane/v1/link.ts';
import { type Coalescer, coalescer } from '../../packet/coalesce.ts';
import type { LinkCounts, TrafficCount } from '../link/counts.ts';
import { packetsOf } from '../link/super-frame.ts';
import type { LinkDevice } from '../link/tunnel.ts';

const ETHERNET_BYTES = 14;
const V4_BYTES = 20;
const V6_BYTES = 40;

/** Takes the frame `bytes[start, start + length)`, valid until it returns (*borrows*). */
export type TakeFrame = (bytes: Buffer, start: number, length: number) => void;

export class Inward {
  readonly #ethernet: boolean;
  readonly #counts: LinkCounts;
  readonly #coalescer: Coalescer;
  /** The peer that frames come from now. */
  peer: TrafficCount;
  /** Looks at every frame that is one, before it goes to the device (*borrows*); true: it was for the link itself and goes no further. */
  keep: ((bytes: Buffer, start: number, length: number) => boolean) | undefined;

  constructor(device: LinkDevice, counts: LinkCounts, peer: TrafficCount) {
    this.#ethernet = device.ethernet;
    this.#counts = counts;
    this.peer = peer;
    this.#coalescer = coalescer({
      ethernet: device.ethernet,
      offload: device.offload,
      write: (bytes, start, length) => {
        if (device.write(bytes, start, length) !== 0) counts.drop(Drop.DEVICE, packetsOf(bytes, start, length));
      },
    });
  }

  /** A frame from the peer (*borrows*). What is no frame of this kind of device is counted. */
  take: TakeFrame = (bytes, start, length) => {
    if (!this.#isFrame(bytes, start, length)) {
      this.#counts.drop(Drop.MALFORMED);
      return;
    }
    if (this.keep?.(bytes, start, length) === true) return;
    this.#counts.received(length);
    this.peer.received(length);
    this.#coalescer.add(bytes, start, length);
  };

  /** Nothing more comes at the moment. */
  flush(): void {
    this.#coalescer.flush();
  }

  #isFrame(bytes: Buffer, start: number, length: number): boolean {
    if (this.#ethernet) return length >= ETHERNET_BYTES;
    if (length < V4_BYTES) return false;
    const version = (bytes[start] as number) >> 4;
    return version === 4 || (version === 6 && length >= V6_BYTES);
  }
}
