// Reads `StreamPacketsRequest` as it lies in memory, frame by frame, without making objects of frames. Pure. Field numbers are those of
// proto/taplane/v1/packet_service.proto; unknown fields are passed over.

import { type Cursor, readVarint } from '../packet/varint.ts';

const OPEN = 1;
const FRAMES = 2;
const INJECT_ID = 3;
const ACKNOWLEDGE = 4;
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** A request under work. */
export class RequestReader {
  readonly bytes: Buffer;
  readonly #first: boolean;
  readonly #cursor: Cursor = { at: 0 };
  injectId = 0;
  acknowledge = 0;
  /** The frame that `next` found. */
  start = 0;
  length = 0;

  /** `first` of its connection: then it may open. */
  constructor(bytes: Buffer, first = true) {
    this.bytes = bytes;
    this.#first = first;
  }

  /** Moves on to the next frame: 'frame', 'end' after the last, 'open' when it must not open, 'bad' when the bytes are no message. */
  next(): 'frame' | 'end' | 'open' | 'bad' {
    const { bytes } = this;
    const cursor = this.#cursor;
    const end = bytes.length;
    while (cursor.at < end) {
      const tag = readVarint(bytes, cursor, end);
      if (tag < 8) return 'bad';
      const wire = tag & 7;
      const field = Math.floor(tag / 8);
      if (wire === VARINT) {
        const value = readVarint(bytes, cursor, end);
        if (value < 0) return 'bad';
        if (field === INJECT_ID) this.injectId = value;
        else if (field === ACKNOWLEDGE) this.acknowledge = value;
        continue;
      }
      const length = wire === BYTES ? readVarint(bytes, cursor, end) : wire === FIXED64 ? 8 : wire === FIXED32 ? 4 : -1;
      if (length < 0 || cursor.at + length > end) return 'bad';
      const start = cursor.at;
      cursor.at += length;
      if (field === OPEN && !this.#first) return 'open';
      if (field !== FRAMES || wire !== BYTES) continue;
      this.start = start;
      this.length = length;
      return 'frame';
    }
    return 'end';
  }
}
