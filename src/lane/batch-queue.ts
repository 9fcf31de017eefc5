// The batches of one subscription on their way out: one that is being filled, sealed ones that wait, and blocks that are used again.
// Bounded in bytes of memory: when a new block does not fit, the oldest waiting batch goes, and its frames are counted.
//
//   add --> open --(full, or asked for)--> sealed, sealed, ... --take--> sender --give back--> free
//                                             '--(no room)--> dropped

import type { Account } from './account.ts';
import { Batch, type BatchFormat, type FrameClock } from './batch.ts';

export interface BatchQueueOptions {
  format: BatchFormat;
  /** Memory of the batches that wait, bytes. */
  queueBytes: number;
  /** Bytes of a batch that are aimed at. */
  batchBytes: number;
}

export class BatchQueue {
  readonly #account: Account;
  readonly #options: BatchQueueOptions;
  readonly #blockBytes: number;
  #open: Batch | undefined;
  /** Sealed batches from #first on; what is before has gone. */
  #sealed: (Batch | undefined)[] = [];
  #first = 0;
  #bytes = 0;
  readonly #free: Batch[] = [];
  /** Number of the next frame. */
  nextSequence = 1;

  constructor(account: Account, options: BatchQueueOptions) {
    this.#account = account;
    this.#options = options;
    this.#blockBytes = Batch.capacityFor(options.batchBytes);
  }

  /** Whether a sealed batch waits. */
  get waiting(): boolean {
    return this.#first < this.#sealed.length;
  }

  /** Whether the open batch has frames. */
  get filling(): boolean {
    return this.#open !== undefined && this.#open.frames > 0;
  }

  /** Memory of what waits, bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Seals the open batch when a frame of which `captured` bytes are kept does not fit it. */
  makeRoom(captured: number): void {
    const open = this.#open;
    if (open === undefined || open.frames === 0) return;
    if (open.frameBytes + captured > this.#options.batchBytes || !open.hasRoom(captured)) this.seal();
  }

  /** Adds a frame; room was made for it. */
  add(bytes: Buffer, start: number, captured: number, length: number, direction: number, clock: FrameClock): void {
    this.#roomFor(captured).add(this.nextSequence++, bytes, start, captured, length, direction, clock);
  }

  /** Adds a piece of a file that is no packet, whether the bound has room for it or not. */
  addPiece(bytes: Uint8Array): void {
    this.seal();
    const piece = this.#roomFor(bytes.length, true);
    piece.addPiece(bytes);
    this.#close(piece);
  }

  /** Closes the open batch, if it has frames. */
  seal(): void {
    const open = this.#open;
    if (open === undefined || open.frames === 0) return;
    open.seal();
    this.#close(open);
  }

  /** The oldest sealed batch without taking it. */
  peek(): Batch | undefined {
    return this.#sealed[this.#first];
  }

  /** Takes the oldest sealed batch. Its memory is the caller's until it gives it back. */
  take(): Batch | undefined {
    const batch = this.#sealed[this.#first];
    if (batch === undefined) return undefined;
    this.#sealed[this.#first++] = undefined;
    if (this.#first > 64 && this.#first * 2 > this.#sealed.length) {
      this.#sealed = this.#sealed.slice(this.#first);
      this.#first = 0;
    }
    this.#bytes -= batch.bytes.length;
    return batch;
  }

  /** A block is used no more, by nobody. */
  giveBack(batch: Batch): void {
    if (batch.bytes.length !== this.#blockBytes || this.#free.length >= 8) return;
    batch.clear();
    this.#free.push(batch);
  }

  clear(): void {
    this.#open = undefined;
    this.#sealed = [];
    this.#first = 0;
    this.#bytes = 0;
    this.#free.length = 0;
  }

  #close(batch: Batch): void {
    this.#account.stamp(batch);
    this.#sealed.push(batch);
    this.#open = undefined;
  }

  /** The open batch, with room for a frame: a new one when there is none or it is too small. */
  #roomFor(captured: number, always = false): Batch {
    const open = this.#open;
    if (open?.hasRoom(captured)) return open;
    if (open !== undefined) {
      // Empty, and too small for this one.
      this.#bytes -= open.bytes.length;
      this.giveBack(open);
      this.#open = undefined;
    }
    const capacity = Math.max(this.#blockBytes, Batch.capacityFor(captured));
    while (!always && this.#bytes + capacity > this.#options.queueBytes && this.waiting) this.#dropOldest();
    const batch = (capacity === this.#blockBytes ? this.#free.pop() : undefined) ?? new Batch(this.#options.format, capacity);
    this.#bytes += capacity;
    this.#open = batch;
    return batch;
  }

  #dropOldest(): void {
    const batch = this.take();
    if (batch === undefined) return;
    this.#account.queueFull += batch.frames;
    this.giveBack(batch);
  }
}
