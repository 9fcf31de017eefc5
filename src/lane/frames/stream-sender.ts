// From pieces of frames to writes of a stream: each is cut straight to where it is written from, behind its length, and some 64 KiB or all of a
// round go with one call.
//
// What the far end does not take is bounded: beyond WAITING_MOST frames are given up, as by a full queue of a network device. The device is read
// on all the same. Left unread, frames would wait in the kernel's ring of 500, which counts super-frames, not bytes: up to 32 MiB, and a
// ping behind them. The TCP inside sees a loss and slows down; where it is read, and how late, is then known.
//
// node:net keeps what it is given until the kernel has it, so a chunk that waits belongs to it. One that the kernel took at once is used again.

import type { PieceSink } from '../../packet/cut.ts';
import type { TrafficCount } from '../link/counts.ts';

/** The part of a socket that is used: net.Socket and tls.TLSSocket have it. */
export interface ByteStream {
  /** Bytes given and not yet taken by the kernel. */
  readonly writableLength: number;
  write(bytes: Uint8Array, written: () => void): boolean;
}

/** As much goes in one call. */
const WRITE_BYTES = 64 * 1024;
/** Beyond `WRITE_BYTES` there is room for one more super-frame in the smallest pieces that are usual. */
const CHUNK_BYTES = 3 * WRITE_BYTES;
const LENGTH_BYTES = 2;
const FRAME_MOST = 65_535;
/** Bytes that wait for the kernel before frames are given up: 8 ms at 1 Gbit/s. */
export const WAITING_MOST = 1024 * 1024;
/** A write holds WRITE_BYTES or more, unless nothing waits. */
const CHUNKS_MOST = WAITING_MOST / WRITE_BYTES + 3;

interface Waiting {
  chunk: Buffer;
  /** Number of its write. */
  write: number;
}

export class StreamSender implements PieceSink {
  readonly #stream: ByteStream;
  readonly #counts: readonly TrafficCount[];
  readonly #free: Buffer[] = [];
  readonly #waiting: Waiting[] = [];
  readonly #written: () => void;
  #chunk: Buffer;
  #chunks = 1;
  #fill = 0;
  #writes = 0;
  #done = 0;
  #closed = false;
  /** Pieces that found no place. */
  refused = 0;

  /** Counts what it sends in all of `counts`. */
  constructor(stream: ByteStream, counts: readonly TrafficCount[]) {
    this.#stream = stream;
    this.#counts = counts;
    this.#chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    this.#written = () => this.#release();
  }

  get buffer(): Buffer {
    return this.#chunk;
  }

  /** Whether another frame is taken now; if not, it is to be given up. Asked before each frame. */
  hasRoom(): boolean {
    if (this.#closed) return false;
    if (this.#fill < WRITE_BYTES) return true;
    if (this.#stream.writableLength >= WAITING_MOST) return false;
    this.#write();
    return this.#fill === 0;
  }

  place(bytes: number): number {
    const at = this.#fill + LENGTH_BYTES;
    if (bytes <= FRAME_MOST && at + bytes <= CHUNK_BYTES) return at;
    this.refused++;
    return -1;
  }

  put(start: number, bytes: number): void {
    this.#chunk.writeUInt16BE(bytes, start - LENGTH_BYTES);
    this.#fill = start + bytes;
    for (let index = 0; index < this.#counts.length; index++) (this.#counts[index] as TrafficCount).sent(bytes);
  }

  /** Sends what is there, unless earlier bytes still wait: it then goes after them, together with what comes meanwhile. */
  flush(): void {
    if (this.#fill === 0 || this.#closed) return;
    const waiting = this.#stream.writableLength;
    if (waiting === 0 || (this.#fill >= WRITE_BYTES && waiting < WAITING_MOST)) this.#write();
  }

  /** Writes nothing more. */
  close(): void {
    this.#closed = true;
    this.#fill = 0;
  }

  /** Without another chunk to go on with, the frames stay where they are. */
  #write(): void {
    const next = this.#free.pop() ?? (this.#chunks < CHUNKS_MOST ? undefined : null);
    if (next === null) return;
    const chunk = this.#chunk;
    const length = this.#fill;
    this.#fill = 0;
    this.#writes++;
    this.#stream.write(chunk.subarray(0, length), this.#written);
    if (this.#stream.writableLength === 0) {
      // All of it is in the kernel; only the call back is yet to come.
      if (next !== undefined) this.#free.push(next);
      return;
    }
    this.#waiting.push({ chunk, write: this.#writes });
    if (next === undefined) this.#chunks++;
    this.#chunk = next ?? Buffer.allocUnsafeSlow(CHUNK_BYTES);
  }

  /** Calls back come in the order of the writes. */
  #release(): void {
    this.#done++;
    for (let first = this.#waiting[0]; first !== undefined && first.write <= this.#done; first = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free.push(first.chunk);
    }
    this.flush();
  }
}
