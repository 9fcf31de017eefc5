// Which frames were sent, so that it can be said how many a broken connection swallowed: the last `LOGGED` batches by their numbers. Pure.

const LOGGED = 8192;

export class SentLog {
  readonly #first = new Float64Array(LOGGED);
  /** Frames sent before the batch. */
  readonly #before = new Float64Array(LOGGED);
  #batches = 0;
  #frames = 0;
  /** One past the number of the last frame that was sent. */
  nextSequence = 1;
  /** The client has said that it has every frame below. */
  acknowledged = 1;

  /** A batch of `frames` frames, numbered from `first` on, was sent. */
  sent(first: number, frames: number): void {
    if (frames === 0) return;
    const slot = this.#batches++ % LOGGED;
    this.#first[slot] = first;
    this.#before[slot] = this.#frames;
    this.#frames += frames;
    this.nextSequence = first + frames;
  }

  acknowledge(sequence: number): void {
    if (sequence > this.acknowledged) this.acknowledged = Math.min(sequence, this.nextSequence);
  }

  /** Whether `framesFrom` can tell. */
  knows(sequence: number): boolean {
    if (sequence >= this.nextSequence || this.#batches <= LOGGED) return true;
    return sequence >= (this.#first[this.#batches % LOGGED] as number);
  }

  /** How many frames with this number or a higher one were sent. */
  framesFrom(sequence: number): number {
    if (sequence >= this.nextSequence) return 0;
    let low = Math.max(0, this.#batches - LOGGED);
    let high = this.#batches - 1;
    // The last batch that begins at or before the number.
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#first[middle % LOGGED] as number) <= sequence) low = middle;
      else high = middle - 1;
    }
    const slot = low % LOGGED;
    const first = this.#first[slot] as number;
    const before = this.#before[slot] as number;
    const upTo = low + 1 < this.#batches ? (this.#before[(low + 1) % LOGGED] as number) : this.#frames;
    // Within the batch numbers have no gap; a number in the gap after it means the next batch.
    return this.#frames - Math.min(upTo, before + Math.max(0, sequence - first));
  }
}
