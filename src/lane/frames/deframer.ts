// From a byte stream to frames: each stands behind its length, 2 bytes, big-endian. What came whole is given where it stands; only a frame that
// two chunks share is copied. Holds at most one frame that is not whole yet. Pure.

import type { TakeFrame } from './inward.ts';

const LENGTH_BYTES = 2;
const FRAME_MOST = 65_535;

export class Deframer {
  readonly #take: TakeFrame;
  /** The beginning of a frame whose rest has not come: length and frame. Made when first needed. */
  #part: Buffer | undefined;
  #partBytes = 0;
  #stopped = false;

  /** `take` gets every frame, of 0 to 65535 bytes, valid until it returns (*borrows*). */
  constructor(take: TakeFrame) {
    this.#take = take;
  }

  /** Bytes that wait for the rest of their frame. */
  get waiting(): number {
    return this.#partBytes;
  }

  /** The next bytes of the stream, `chunk[0, end)` (*borrows*). */
  add(chunk: Buffer, end: number): void {
    let at = this.#partBytes > 0 ? this.#complete(chunk, end) : 0;
    while (!this.#stopped && end - at >= LENGTH_BYTES) {
      const next = at + LENGTH_BYTES + (((chunk[at] as number) << 8) | (chunk[at + 1] as number));
      if (next > end) break;
      this.#take(chunk, at + LENGTH_BYTES, next - at - LENGTH_BYTES);
      at = next;
    }
    if (at < end && !this.#stopped) {
      this.#part ??= Buffer.allocUnsafeSlow(LENGTH_BYTES + FRAME_MOST);
      this.#partBytes = chunk.copy(this.#part, 0, at, end);
    }
  }

  /** Gives nothing more, whatever is added: `take` may call it. */
  stop(): void {
    this.#stopped = true;
    this.#partBytes = 0;
    this.#part = undefined;
  }

  /** Adds to the frame that is not whole. Answers where in `chunk` the next begins. */
  #complete(chunk: Buffer, end: number): number {
    const part = this.#part as Buffer;
    let at = 0;
    if (this.#partBytes < LENGTH_BYTES && end > 0) part[this.#partBytes++] = chunk[at++] as number;
    if (this.#partBytes < LENGTH_BYTES) return at;
    const whole = LENGTH_BYTES + part.readUInt16BE(0);
    const copied = chunk.copy(part, this.#partBytes, at, Math.min(end, at + whole - this.#partBytes));
    this.#partBytes += copied;
    if (this.#partBytes === whole) {
      this.#partBytes = 0;
      this.#take(part, LENGTH_BYTES, whole - LENGTH_BYTES);
    }
    return at + copied;
  }
}
