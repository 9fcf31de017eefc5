// The storm limit of a vxlan link: a token bucket of frames. Pure; the clock is passed in.

/** What may come at once after a pause, as a part of a second's worth: bursts of broadcasts are short. */
const BURST_SECONDS = 0.25;
const PRESSED_MS = 2000;

export class StormBucket {
  #perSecond: number;
  #tokens: number;
  #filledMs: number;
  #refusedMs = Number.NEGATIVE_INFINITY;

  /** `perSecond`: frames, 1 or more. Within any t seconds at most `perSecond * (t + 0.25)` frames pass, and at least one a second. */
  constructor(perSecond: number, nowMs: number) {
    this.#perSecond = perSecond;
    this.#tokens = this.#most;
    this.#filledMs = nowMs;
  }

  limit(perSecond: number): void {
    this.#perSecond = perSecond;
    this.#tokens = Math.min(this.#tokens, this.#most);
  }

  /** Whether one more frame may pass now; if so it is counted. */
  take(nowMs: number): boolean {
    const passed = nowMs - this.#filledMs;
    if (passed > 0) {
      this.#tokens = Math.min(this.#most, this.#tokens + (passed * this.#perSecond) / 1000);
      this.#filledMs = nowMs;
    }
    if (this.#tokens < 1) {
      this.#refusedMs = nowMs;
      return false;
    }
    this.#tokens--;
    return true;
  }

  /** Frames were held back not long ago. */
  isPressed(nowMs: number): boolean {
    return nowMs - this.#refusedMs < PRESSED_MS;
  }

  get #most(): number {
    return Math.max(1, this.#perSecond * BURST_SECONDS);
  }
}
