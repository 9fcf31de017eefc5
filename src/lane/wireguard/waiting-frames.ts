// Frames that wait for the session of their peer: few for each, and not many for all peers together. The oldest gives way.

import { packetsOf } from '../link/super-frame.ts';

const FRAMES_MOST = 32;
/** Room for one super-frame of the largest kind. */
const BYTES_MOST = 65_536 + 64;

/** Bytes that wait at all peers of a link. */
export class WaitingRoom {
  readonly most: number;
  bytes = 0;

  constructor(most = 8 * 1024 * 1024) {
    this.most = most;
  }
}

export class WaitingFrames {
  readonly #room: WaitingRoom;
  #frames: Buffer[] = [];
  #bytes = 0;

  constructor(room: WaitingRoom) {
    this.#room = room;
  }

  get size(): number {
    return this.#frames.length;
  }

  /** *Copies* a frame behind its virtio header. Answers how many packets were given up for it, its own among them when there is no room. */
  add(bytes: Buffer, start: number, length: number): number {
    let lost = 0;
    while (this.#frames.length > 0 && (this.#frames.length >= FRAMES_MOST || this.#bytes + length > BYTES_MOST)) {
      const frame = this.#take();
      lost += packetsOf(frame, 0, frame.length);
    }
    if (this.#bytes + length > BYTES_MOST || this.#room.bytes + length > this.#room.most) return lost + packetsOf(bytes, start, length);
    // Not of Node's pool, of which a small one would keep 8 KiB.
    const frame = Buffer.allocUnsafeSlow(length);
    bytes.copy(frame, 0, start, start + length);
    this.#frames.push(frame);
    this.#bytes += length;
    this.#room.bytes += length;
    return lost;
  }

  /** Gives all of them away, in order. */
  drain(): Buffer[] {
    const frames = this.#frames;
    this.#room.bytes -= this.#bytes;
    this.#frames = [];
    this.#bytes = 0;
    return frames;
  }

  #take(): Buffer {
    const frame = this.#frames.shift() as Buffer;
    this.#bytes -= frame.length;
    this.#room.bytes -= frame.length;
    return frame;
  }
}
