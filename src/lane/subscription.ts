// What a stream or capture wants of the frames of a device: direction, filter, sampling, length, limits. Every frame that is offered is
// counted once, see `account.ts`, and what is wanted goes into batches. Takes frames from a port (consuming) or from a tap (observing).

import { type BpfProgram, runBpf } from '../packet/bpf.ts';
import { Account } from './account.ts';
import { type FrameClock, OUTBOUND } from './batch.ts';
import { BatchQueue, type BatchQueueOptions } from './batch-queue.ts';
import type { Consumer } from './consumer.ts';

/** Longest frame: 64 KiB of IP behind an Ethernet header, with a virtio header before. */
export const FRAME_MOST = 65_535 + 14 + 10;

export interface SubscriptionOptions extends BatchQueueOptions {
  /** Direction of the API that is wanted, 0 for both. */
  direction: number;
  filter: BpfProgram | undefined;
  /** Bytes of a frame that are kept. */
  snapLength: number;
  /** One matching frame in this many; at least 1. */
  sampling: number;
  /** End after so many frames, or before so many kept bytes. */
  maxFrames: number;
  maxBytes: number;
  /** Frames come with their virtio header and are not cut. */
  superFrames: boolean;
}

export class Subscription implements Consumer {
  readonly account = new Account();
  readonly queue: BatchQueue;
  readonly superFrames: boolean;
  readonly #options: SubscriptionOptions;
  readonly #skipped: number;
  readonly #clock: FrameClock;
  #matches = 0;
  #frames = 0;
  #bytes = 0;
  #full = false;
  /** Called when there may be something to send. */
  onBatch: () => void = () => {};
  /** Called once, when a limit is reached. */
  onLimit: () => void = () => {};

  /** `clock` tells when frames that are consumed passed. */
  constructor(options: SubscriptionOptions, clock: FrameClock) {
    this.#options = options;
    this.superFrames = options.superFrames;
    // A filter sees the frame, not what the device puts before it.
    this.#skipped = options.superFrames ? 10 : 0;
    this.#clock = clock;
    this.queue = new BatchQueue(this.account, options);
  }

  take(bytes: Buffer, start: number, length: number): void {
    this.offer(bytes, start, length, length, OUTBOUND, this.#clock);
  }

  /** Offers a frame of `length` bytes of which `captured` are there. */
  offer(bytes: Buffer, start: number, captured: number, length: number, direction: number, clock: FrameClock): void {
    const { account } = this;
    const { direction: wanted, filter, sampling, snapLength, maxFrames, maxBytes } = this.#options;
    if (this.#full || (wanted !== 0 && wanted !== direction)) return;
    const skipped = this.#skipped;
    if (filter !== undefined && runBpf(filter, bytes, start + skipped, captured - skipped, length - skipped) === 0) {
      account.offered++;
      account.filtered++;
      return;
    }
    if (sampling > 1 && this.#matches++ % sampling !== 0) {
      account.offered++;
      account.sampledOut++;
      return;
    }
    const kept = Math.min(captured, snapLength);
    if (this.#bytes + kept > maxBytes) {
      // Not one of those that were asked for.
      this.#limit();
      return;
    }
    // A full batch is sealed with the account as it is before this frame.
    this.queue.makeRoom(kept);
    account.offered++;
    this.queue.add(bytes, start, kept, length, direction, clock);
    this.#bytes += kept;
    if (++this.#frames >= maxFrames) this.#limit();
  }

  /** Frames were lost before they could be offered. */
  lose(reason: 'kernel' | 'malformed', count: number): void {
    if (this.#full || count === 0) return;
    this.account.offered += count;
    this.account[reason] += count;
  }

  flush(): void {
    this.onBatch();
  }

  #limit(): void {
    this.#full = true;
    this.queue.seal();
    this.onLimit();
  }
}
