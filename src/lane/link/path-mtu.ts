// The largest packet that the path to one peer takes, found inside the link (RFC 8899): nothing depends on ICMP, which is often filtered. Pure: time
// is passed in, probes go out by a function.
//
//   trusting --CONFIRM_MS, while something is sent: a probe of the size in use; MISSES_MOST in a row unanswered--> searching
//   searching: sizes between what passes and what does not, several at once, ROUND_MS a round, until they are GAP bytes apart--> trusting
//   trusting below the most: now and then a probe of the most; answered--> trusting the most
//
//   silent: not even the smallest was answered; while something is sent, one of it each SILENT_MS --answered--> searching
//
// A size that passed once is believed until it fails; a peer that does not answer even the smallest probe is left alone: it may be down, or no
// host that answers. So loss alone, and silence alone, change nothing for long.

const CONFIRM_MS = 1000;
const ANSWER_MS = 1000;
const MISSES_MOST = 3;
const SILENT_MS = 5000;
const ROUND_MS = 600;
const ROUNDS_MOST = 5;
/** Sizes of one round, and how often each is sent: one lost probe must not cost a path its size. */
const SIZES = 8;
const REPEATS = 3;
const GAP = 8;
const RAISE_FIRST_MS = 5000;
const RAISE_MOST_MS = 60_000;

export interface PathMtuNeeds {
  /** Bytes of the largest inner packet that the link sends at all. */
  most: number;
  /** Bytes below which it is not searched; may change. */
  readonly least: number;
  /** Sends a probe of so many bytes; false when it could not even be sent. */
  probe(bytes: number): boolean;
  /** What is in use now. */
  changed(bytes: number): void;
}

export class PathMtu {
  readonly #needs: PathMtuNeeds;
  #inUse: number;
  #confirmed = 0;
  #misses = 0;
  /** When the probe that waits for its answer was sent. */
  #askedAt: number | undefined;
  #nextConfirm = 0;
  #raiseAfterMs = RAISE_FIRST_MS;
  #nextRaise = Number.POSITIVE_INFINITY;
  /** The last search was not answered at all, and nothing since. */
  #isSilent = false;
  /** And now something was. */
  #isWoken = false;
  #search: { from: number; passed: number; failed: number; until: number; rounds: number } | undefined;

  constructor(needs: PathMtuNeeds) {
    this.#needs = needs;
    this.#inUse = needs.most;
  }

  /** Bytes that may be sent. */
  get inUse(): number {
    return this.#inUse;
  }

  /** Bytes that are known to pass; 0 while nothing is. */
  get known(): number {
    return Math.min(this.#confirmed, this.#inUse);
  }

  get searching(): boolean {
    return this.#search !== undefined;
  }

  /** Another most: begins anew. */
  reset(most: number): void {
    this.#needs.most = most;
    this.#search = undefined;
    this.#misses = 0;
    this.#confirmed = 0;
    this.#askedAt = undefined;
    this.#isSilent = false;
    this.#isWoken = false;
    this.#use(most);
  }

  /** Searches now, whether or not anything fails. */
  search(now: number): void {
    const { most } = this.#needs;
    if (this.#search === undefined) this.#begin(now, most + 1);
  }

  /** To be called some times a second. `isSending`: something was sent to the peer lately. */
  tick(now: number, isSending: boolean): void {
    if (this.#search !== undefined) {
      if (now >= this.#search.until) this.#endRound(now);
      return;
    }
    if (this.#isWoken) {
      this.#begin(now, this.#inUse + 1);
      return;
    }
    if (this.#isSilent) {
      if (!isSending || now < this.#nextConfirm) return;
      this.#nextConfirm = now + SILENT_MS;
      this.#needs.probe(this.#needs.least);
      return;
    }
    if (this.#askedAt !== undefined && now - this.#askedAt >= ANSWER_MS) {
      this.#askedAt = undefined;
      if (++this.#misses >= MISSES_MOST) {
        this.#misses = 0;
        // The size in use is among those that are asked: it may be loss alone.
        this.#begin(now, this.#inUse + 1);
        return;
      }
    }
    if (!isSending) return;
    if (this.#inUse < this.#needs.most && now >= this.#nextRaise) {
      this.#raiseAfterMs = Math.min(RAISE_MOST_MS, this.#raiseAfterMs * 2);
      this.#nextRaise = now + this.#raiseAfterMs;
      this.#needs.probe(this.#needs.most);
    }
    if (this.#askedAt !== undefined || now < this.#nextConfirm) return;
    this.#nextConfirm = now + CONFIRM_MS;
    this.#askedAt = now;
    this.#needs.probe(this.#inUse);
  }

  /** A probe of `bytes` was answered. */
  answered(bytes: number): void {
    if (bytes > this.#needs.most) return;
    this.#confirmed = Math.max(this.#confirmed, bytes);
    this.#isWoken ||= this.#isSilent;
    this.#isSilent = false;
    const search = this.#search;
    if (search !== undefined) search.passed = Math.max(search.passed, bytes);
    else if (bytes > this.#inUse) {
      this.#use(bytes);
      this.#misses = 0;
    } else if (bytes === this.#inUse) {
      this.#misses = 0;
      this.#askedAt = undefined;
    }
  }

  #use(bytes: number): void {
    if (bytes === this.#inUse) return;
    this.#inUse = bytes;
    this.#needs.changed(bytes);
  }

  #begin(now: number, failed: number): void {
    this.#askedAt = undefined;
    this.#isSilent = false;
    this.#isWoken = false;
    this.#confirmed = 0;
    const from = this.#needs.least;
    this.#search = { from, passed: 0, failed, until: now + ROUND_MS, rounds: 0 };
    this.#send(from, failed);
  }

  /** Probes of sizes from `from` to below `to`, both ends among them. */
  #send(from: number, to: number): void {
    const step = Math.max(1, (to - 1 - from) / (SIZES - 1));
    for (let repeat = 0; repeat < REPEATS; repeat++) {
      let last = 0;
      for (let index = 0; index < SIZES; index++) {
        const bytes = Math.min(to - 1, Math.round(from + index * step));
        if (bytes !== last) this.#needs.probe(bytes);
        last = bytes;
      }
    }
  }

  #endRound(now: number): void {
    const search = this.#search;
    if (search === undefined) return;
    search.rounds++;
    // Not even the smallest: it is not the size that is wrong.
    if (search.passed > 0) {
      // What was asked above what passed did not: the next of the sizes is the bound.
      search.failed = above(search.passed, search.from, search.failed);
      this.#use(search.passed);
    }
    if (search.passed === 0 || search.failed - search.passed <= GAP || search.rounds >= ROUNDS_MOST) {
      this.#end(now);
      return;
    }
    search.until = now + ROUND_MS;
    search.from = search.passed + 1;
    this.#send(search.from, search.failed);
  }

  #end(now: number): void {
    this.#isSilent = this.#search?.passed === 0;
    this.#search = undefined;
    this.#nextConfirm = now + CONFIRM_MS;
    this.#raiseAfterMs = RAISE_FIRST_MS;
    this.#nextRaise = this.#inUse < this.#needs.most ? now + RAISE_FIRST_MS : Number.POSITIVE_INFINITY;
  }
}

/** The least of the sizes of a round from `from` to below `to` that is above `passed`; `to` for none. */
function above(passed: number, from: number, to: number): number {
  const step = Math.max(1, (to - 1 - from) / (SIZES - 1));
  for (let index = 0; index < SIZES; index++) {
    const bytes = Math.min(to - 1, Math.round(from + index * step));
    if (bytes > passed) return bytes;
  }
  return to;
}
