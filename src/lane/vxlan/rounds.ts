// Frames that come again and again exactly as they are: only a loop makes many of them within a second, and while there is one, known addresses
// go round in it as unknown ones do. Looked at only during a storm. Bounded: a table of hashes, where one that collides counts for another. Pure.

const SLOTS = 1024;
const WINDOW_MS = 1000;
/** As often within a second it is no station's doing. */
const TIMES = 16;
const HASHED_BYTES = 128;

export class Rounds {
  readonly #hashes = new Uint32Array(SLOTS);
  readonly #times = new Uint8Array(SLOTS);
  #since = Number.NEGATIVE_INFINITY;

  /** Notes the frame `bytes[at, at + length)`; whether it has come so often lately that it goes round. */
  isRound(bytes: Uint8Array, at: number, length: number, nowMs: number): boolean {
    if (nowMs - this.#since >= WINDOW_MS) {
      this.#times.fill(0);
      this.#since = nowMs;
    }
    let hash = length;
    const end = at + Math.min(length, HASHED_BYTES);
    for (let index = at; index < end; index++) hash = Math.imul(hash ^ (bytes[index] as number), 0x01000193);
    const slot = ((hash >>> 22) ^ hash) & (SLOTS - 1);
    if (this.#hashes[slot] !== hash >>> 0) {
      this.#hashes[slot] = hash;
      this.#times[slot] = 1;
      return false;
    }
    const times = Math.min(255, (this.#times[slot] as number) + 1);
    this.#times[slot] = times;
    return times >= TIMES;
  }
}
