// Reads `StreamPacketsRequest` as it lies in memory, frame by frame, without making objects of frames. Pure. Field numbers are those of
// proto/taplane/v1/packet_service.proto; unknown fields are passed over.

import { type Cursor, NO_VARINT, readVarint, TOO_GREAT } from '../packet/varint.ts';

const OPEN = 1;
const FRAMES = 2;
const INJECT_ID = 3;
const ACKNOWLEDGE = 4;
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
const GROUP_START = 3;
const GROUP_END = 4;
const GROUPS_MOST = 100;
const MAX_TAG = 2 ** 32 - 1;

/** A request under work. */
export class RequestReader {
  readonly bytes: Buffer;
  readonly #first: boolean;
  readonly #cursor: Cursor = { at: 0 };
  #groups = 0;
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

  /**
   * Moves on: 'frame' with the next one, 'end' after the last, 'open' when it opens and must not, 'great' when a number is 2^53 or more,
   * 'bad' when the bytes are no message.
   */
  next(): 'frame' | 'end' | 'open' | 'great' | 'bad' {
    const { bytes } = this;
    const cursor = this.#cursor;
    const end = bytes.length;
    while (cursor.at < end) {
      const tag = readVarint(bytes, cursor, end);
      if (tag < 8 || tag > MAX_TAG) return 'bad';
      const wire = tag & 7;
      const field = Math.floor(tag / 8);
      if (wire === VARINT) {
        const value = readVarint(bytes, cursor, end);
        if (value === NO_VARINT) return 'bad';
        if (this.#groups > 0 || (field !== INJECT_ID && field !== ACKNOWLEDGE)) continue;
        if (value === TOO_GREAT) return 'great';
        if (field === INJECT_ID) this.injectId = value;
        else this.acknowledge = value;
        continue;
      }
      if (wire === GROUP_START || wire === GROUP_END) {
        // Groups hold fields, which are passed over one by one; only that they are closed is looked at.
        this.#groups += wire === GROUP_START ? 1 : -1;
        if (this.#groups < 0 || this.#groups > GROUPS_MOST) return 'bad';
        continue;
      }
      const length = wire === BYTES ? readVarint(bytes, cursor, end) : wire === FIXED64 ? 8 : wire === FIXED32 ? 4 : -1;
      if (length < 0 || cursor.at + length > end) return 'bad';
      const start = cursor.at;
      cursor.at += length;
      if (this.#groups > 0) continue;
      if (field === OPEN && !this.#first) return 'open';
      if (field !== FRAMES || wire !== BYTES) continue;
      this.start = start;
      this.length = length;
      return 'frame';
    }
    return this.#groups === 0 ? 'end' : 'bad';
  }
}
