// A batch: frames written, as they come, into one block of memory in the form in which they go out, so that nothing is encoded twice and
// nothing is allocated for a frame. A block holds a whole message of a packet connection:
//
//   | head 5 | first_sequence, time, monotonic_ns | frames, or one piece of pcapng | trailer: totals, lost, injected |
//
// The trailer is written when the batch is sent; fields of a protobuf message may stand in any order.

import { PACKET_INBOUND, PACKET_OUTBOUND, packetBlockBytes, writePacketAt } from '../packet/pcapng.ts';
import { varintBytes, writeVarint, writeVarint4 } from '../packet/varint.ts';
import { HEAD_BYTES } from './framing.ts';

/** Room before the frames and after them: five accounts with ten reasons each fit. */
const PREFIX_MOST = 64;
export const TRAILER_MOST = 640;
const FRAME_HEADER_MOST = 40;

const TAG_FRAME = 0x12;
const TAG_FIRST_SEQUENCE = 0x18;
const TAG_TIME = 0x22;
const TAG_MONOTONIC = 0x28;
const TAG_PCAPNG = 0x32;

/** Direction of the API. */
export const INBOUND = 1;
export const OUTBOUND = 2;

export type BatchFormat = 'frames' | 'pcapng';

/** When frames passed, told by whoever read them. */
export interface FrameClock {
  /** Wall clock, seconds and nanoseconds since 1970. */
  seconds: number;
  nanos: number;
  /** CLOCK_MONOTONIC less the wall clock, nanoseconds. */
  monotonicOffsetNs: bigint;
}

export class Batch {
  readonly bytes: Buffer;
  readonly format: BatchFormat;
  /** Where the next byte goes. */
  length = HEAD_BYTES;
  frames = 0;
  firstSequence = 0;
  /** Bytes of frames, without what stands around them. */
  frameBytes = 0;
  /** Writes of it that have not ended: until then its memory is not used for anything else. */
  writes = 0;
  /** The account of the subscription when the batch was sealed, see `account.ts`. */
  offered = 0;
  filtered = 0;
  sampledOut = 0;
  kernel = 0;
  malformed = 0;
  #seconds = 0;
  #nanos = 0;
  /** Where the length of the piece of pcapng stands. */
  #pieceAt = 0;

  constructor(format: BatchFormat, capacity: number) {
    this.format = format;
    this.bytes = Buffer.allocUnsafeSlow(capacity);
  }

  /** Bytes of a block for about `bytes` bytes of frames. */
  static capacityFor(bytes: number): number {
    return HEAD_BYTES + PREFIX_MOST + bytes + FRAME_HEADER_MOST + TRAILER_MOST;
  }

  /** A finished batch in a block that is no longer than it. */
  tightCopy(): Batch {
    const copy = new Batch(this.format, this.length);
    this.bytes.copy(copy.bytes, 0, 0, this.length);
    copy.length = this.length;
    copy.frames = this.frames;
    copy.firstSequence = this.firstSequence;
    copy.frameBytes = this.frameBytes;
    return copy;
  }

  /** Makes a used block empty again. */
  clear(): void {
    this.length = HEAD_BYTES;
    this.frames = 0;
    this.frameBytes = 0;
    this.writes = 0;
  }

  /** Whether a frame of which `captured` bytes are kept finds room. */
  hasRoom(captured: number): boolean {
    const needed = this.format === 'frames' ? captured + FRAME_HEADER_MOST : packetBlockBytes(captured);
    const prefix = this.frames === 0 ? PREFIX_MOST : 0;
    return this.length + prefix + needed + TRAILER_MOST <= this.bytes.length;
  }

  /** Adds a frame: `captured` bytes are copied. The caller has asked `hasRoom`. */
  add(sequence: number, bytes: Buffer, start: number, captured: number, length: number, direction: number, clock: FrameClock): void {
    if (this.frames === 0) this.#begin(sequence, clock);
    this.frames++;
    this.frameBytes += captured;
    if (this.format === 'pcapng') {
      const flags = direction === INBOUND ? PACKET_INBOUND : PACKET_OUTBOUND;
      this.length += writePacketAt(this.bytes, this.length, 0, clock.seconds, clock.nanos, bytes, start, captured, length, flags);
      return;
    }
    const offset = Math.max(0, (clock.seconds - this.#seconds) * 1_000_000_000 + (clock.nanos - this.#nanos));
    const cut = captured < length;
    const inner =
      (offset === 0 ? 0 : 1 + varintBytes(offset)) + 2 + (cut ? 1 + varintBytes(length) : 0) + 1 + varintBytes(captured) + captured;
    const out = this.bytes;
    let at = this.length;
    out[at++] = TAG_FRAME;
    at = writeVarint(out, at, inner);
    if (offset !== 0) {
      out[at++] = 0x08;
      at = writeVarint(out, at, offset);
    }
    out[at++] = 0x10;
    out[at++] = direction;
    if (cut) {
      out[at++] = 0x18;
      at = writeVarint(out, at, length);
    }
    out[at++] = 0x22;
    at = writeVarint(out, at, captured);
    bytes.copy(out, at, start, start + captured);
    this.length = at + captured;
  }

  /** Adds bytes of a pcapng file as they are; they must find room. */
  addPiece(bytes: Uint8Array): void {
    this.#beginPiece();
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
    writeVarint4(this.bytes, this.#pieceAt, this.length - this.#pieceAt - 4);
  }

  /** Nothing more comes; what depends on the whole is filled in. */
  seal(): void {
    if (this.format === 'pcapng' && this.frames > 0) writeVarint4(this.bytes, this.#pieceAt, this.length - this.#pieceAt - 4);
  }

  #begin(sequence: number, clock: FrameClock): void {
    this.firstSequence = sequence;
    this.#seconds = clock.seconds;
    this.#nanos = clock.nanos;
    const out = this.bytes;
    let at = this.length;
    out[at++] = TAG_FIRST_SEQUENCE;
    at = writeVarint(out, at, sequence);
    out[at++] = TAG_TIME;
    const time = 1 + varintBytes(clock.seconds) + (clock.nanos === 0 ? 0 : 1 + varintBytes(clock.nanos));
    at = writeVarint(out, at, time);
    out[at++] = 0x08;
    at = writeVarint(out, at, clock.seconds);
    if (clock.nanos !== 0) {
      out[at++] = 0x10;
      at = writeVarint(out, at, clock.nanos);
    }
    out[at++] = TAG_MONOTONIC;
    let monotonic = BigInt(clock.seconds) * 1_000_000_000n + BigInt(clock.nanos) + clock.monotonicOffsetNs;
    if (monotonic < 0n) monotonic = 0n;
    for (; monotonic >= 0x80n; monotonic >>= 7n) out[at++] = Number(monotonic & 0x7fn) | 0x80;
    out[at++] = Number(monotonic);
    this.length = at;
    if (this.format === 'pcapng') this.#beginPiece();
  }

  #beginPiece(): void {
    this.bytes[this.length] = TAG_PCAPNG;
    this.#pieceAt = this.length + 1;
    this.length += 5;
  }
}
