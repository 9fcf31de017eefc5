// Work of many that is done piece by piece, in slices of a few milliseconds, so that packets and streams get their turn between them however
// much there is; one piece of each in turn, so that nobody waits for another's end.

/** Longest that work goes on without a break. */
export const SLICE_MS = 4;
const PRESSED_MS = 10;

/** Who has work. */
export interface Swept {
  /** Does a piece; answers whether more is left. */
  sweep(): boolean;
}

export class Sweeps {
  readonly #isPressed: () => boolean;
  readonly #behind = new Set<Swept>();
  #more: NodeJS.Immediate | undefined;
  #later: NodeJS.Timeout | undefined;

  /** While `isPressed` nothing is done, and it is asked again soon. */
  constructor(isPressed: () => boolean) {
    this.#isPressed = isPressed;
  }

  /** There is work of this one; twice is once. */
  add(one: Swept): void {
    this.#behind.add(one);
  }

  remove(one: Swept): void {
    this.#behind.delete(one);
  }

  /** Does a slice now, and goes on by itself while work is left. */
  run(): void {
    this.stop();
    const until = performance.now() + SLICE_MS;
    for (const one of this.#behind) {
      if (this.#isPressed()) {
        this.#later = setTimeout(() => this.run(), PRESSED_MS);
        return;
      }
      this.#behind.delete(one);
      if (one.sweep()) this.#behind.add(one);
      if (performance.now() < until) continue;
      if (this.#behind.size > 0) this.#more = setImmediate(() => this.run());
      return;
    }
  }

  /** Does nothing more until it is told to run. */
  stop(): void {
    clearImmediate(this.#more);
    clearTimeout(this.#later);
  }
}
