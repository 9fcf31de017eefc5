// One timer of the system for all peers of a link: it rings when the first of those who wait for something is due. Waiting costs a packet nothing
// but a comparison; a moment that was moved on since is looked at when it comes, and waited for again.

/** After so long the others have to wait for the next time: handshakes take a while, and packets want their turn. */
const TURN_MS = 10;
/** It is not woken more often than this: many peers share one waking. */
const LEAST_MS = 20;
/** No timer of Node is longer; what is later is waited for again. */
const MOST_MS = 2 ** 31 - 1;

export interface Sleeper {
  /** When it wants to be woken; Infinity: not at all. May move on while it sleeps. */
  readonly wakeAt: number;
  /** Kept here: it is among those who wait. */
  isWaiting: boolean;
  wake(now: number): void;
}

export class Alarm {
  readonly #now: () => number;
  readonly #waiting = new Set<Sleeper>();
  #timer: NodeJS.Timeout | undefined;
  #at = Number.POSITIVE_INFINITY;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** To be called when the moment of `sleeper` may have come nearer. */
  watch(sleeper: Sleeper): void {
    const at = sleeper.wakeAt;
    if (at === Number.POSITIVE_INFINITY) return;
    if (!sleeper.isWaiting) {
      sleeper.isWaiting = true;
      this.#waiting.add(sleeper);
    }
    if (at < this.#at) this.#set(at);
  }

  forget(sleeper: Sleeper): void {
    sleeper.isWaiting = false;
    this.#waiting.delete(sleeper);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waiting.clear();
    this.#at = Number.NEGATIVE_INFINITY;
  }

  #set(at: number): void {
    clearTimeout(this.#timer);
    this.#at = at;
    this.#timer = setTimeout(this.#ring, Math.min(MOST_MS, Math.max(LEAST_MS, at - this.#now())));
    this.#timer.unref();
  }

  #ring = (): void => {
    const now = this.#now();
    this.#at = Number.POSITIVE_INFINITY;
    let next = Number.POSITIVE_INFINITY;
    for (const sleeper of this.#waiting) {
      if (sleeper.wakeAt <= now) {
        if (this.#now() - now > TURN_MS) {
          next = now;
          break;
        }
        sleeper.wake(now);
      }
      if (sleeper.wakeAt === Number.POSITIVE_INFINITY) this.forget(sleeper);
      else next = Math.min(next, sleeper.wakeAt);
    }
    if (next < this.#at) this.#set(next);
  };
}
