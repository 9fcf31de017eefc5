// Throughput of a path, measured at both ends: the sender keeps as many probes under way as the receiver has room for, as a congestion window that
// grows while nothing is lost (after RFC 5681), the receiver counts and says so. Nothing is sent to a peer that does not say anything.

const WINDOW_FIRST = 32;
/** Of a train that somebody asked for, who has yet to show that it hears us. */
const WINDOW_ASKED = 2;
const WINDOW_MOST = 4096;
const WINDOW_LEAST = 8;
const BURST_MOST = 256;
/** Without a word for so long the sender sends one now and then; for three times as long it ends. */
const SILENCE_MS = 500;
const ALONE_MS = 100;
const STEP_MS = 1;
/** Probes after which the receiver says what it has. */
const ACK_EVERY = 8;
const DRAIN_MS = 300;
/** So many times a train is asked for, half a second apart, as long as nothing of it comes. */
const QUESTIONS_MOST = 3;

export interface TrainNeeds {
  /** Monotonic milliseconds. */
  now(): number;
  /** Sends the probe with this number; false when it could not go now. */
  send(sequence: number): boolean;
}

export class Train {
  readonly #needs: TrainNeeds;
  readonly #bytes: number;
  #window: number;
  #slowStart = true;
  #sent = 0;
  #acknowledged = 0;
  #received = 0;
  #lost = 0;
  #heardAt = 0;
  #firstAt = 0;
  #cutAt = 0;
  #filledAt = Number.NEGATIVE_INFINITY;
  isRunning = false;

  /** `isAsked`: by the other end, not by somebody here. */
  constructor(needs: TrainNeeds, bytes: number, isAsked: boolean) {
    this.#needs = needs;
    this.#bytes = bytes;
    this.#window = isAsked ? WINDOW_ASKED : WINDOW_FIRST;
  }

  /** Runs for so long; bits a second as the receiver counted, and the share that it did not get. Rejects when aborted. */
  async run(durationMs: number, signal: AbortSignal): Promise<{ bitsPerSecond: number; loss: number }> {
    const { now } = this.#needs;
    this.isRunning = true;
    this.#firstAt = now();
    this.#heardAt = this.#firstAt;
    const until = this.#firstAt + durationMs;
    try {
      while (this.isRunning && now() < until && now() - this.#heardAt < 3 * SILENCE_MS) {
        signal.throwIfAborted();
        this.#fill(now());
        await new Promise((resolve) => setTimeout(resolve, STEP_MS));
      }
      const elapsedMs = Math.max(1, now() - this.#firstAt);
      await new Promise((resolve) => setTimeout(resolve, DRAIN_MS));
      const bitsPerSecond = (this.#received * this.#bytes * 8 * 1000) / elapsedMs;
      return { bitsPerSecond, loss: this.#acknowledged === 0 ? 0 : Math.max(0, 1 - this.#received / this.#acknowledged) };
    } finally {
      this.isRunning = false;
    }
  }

  end(): void {
    this.isRunning = false;
  }

  /** The receiver says: the probe `sequence` is the newest that has come, and `received` have come in all. */
  acknowledged(sequence: number, received: number): void {
    if (sequence > this.#sent) return;
    const now = this.#needs.now();
    this.#heardAt = now;
    if (this.#acknowledged === 0) this.#window = Math.max(this.#window, WINDOW_FIRST);
    const news = Math.max(0, sequence - this.#acknowledged);
    this.#acknowledged = Math.max(this.#acknowledged, sequence);
    // A path that doubles what it carries counts too much.
    this.#received = Math.min(this.#sent, Math.max(this.#received, received));
    const lost = this.#acknowledged - this.#received;
    if (lost > this.#lost && now - this.#cutAt > 20) {
      this.#slowStart = false;
      this.#cutAt = now;
      this.#window = Math.max(WINDOW_LEAST, this.#window * 0.7);
    } else this.#window = Math.min(WINDOW_MOST, this.#window + (this.#slowStart ? news : news / this.#window));
    this.#lost = lost;
    if (this.isRunning) this.#fill(now);
  }

  #fill(now: number): void {
    // Everything that was under way may have been lost, and the words of the receiver too.
    const isSilent = now - this.#heardAt > SILENCE_MS;
    if (isSilent && now - this.#filledAt < ALONE_MS) return;
    this.#filledAt = now;
    const room = isSilent ? 1 : this.#window - (this.#sent - this.#acknowledged);
    for (let count = Math.min(BURST_MOST, room); count >= 1; count--) if (!this.#needs.send(++this.#sent)) break;
  }
}

/** The other end: counts, and says what it has after every few. */
export class TrainReceiver {
  readonly #say: (received: number, sequence: number, sentAt: number) => void;
  #received = 0;
  #newest = 0;
  #bytes = 0;
  #firstAt = 0;
  #lastAt = 0;
  /** Nobody waits for this train any more: without a word of ours it ends soon. */
  #isRefused = false;
  #hasEnded = false;

  constructor(say: (received: number, sequence: number, sentAt: number) => void) {
    this.#say = say;
  }

  begin(): void {
    this.#received = 0;
    this.#newest = 0;
    this.#bytes = 0;
    this.#isRefused = false;
  }

  /** Nothing comes any more: whoever waits is told what came. */
  end(): void {
    this.#hasEnded = true;
  }

  take(sequence: number, sentAt: number, bytes: number, now: number): void {
    // A new train.
    if (sequence === 1 || now - this.#lastAt > (this.#isRefused ? 2 * SILENCE_MS : 5000)) this.begin();
    if (this.#isRefused) {
      this.#lastAt = now;
      return;
    }
    if (this.#received === 0) this.#firstAt = now;
    this.#received++;
    this.#newest = Math.max(this.#newest, sequence);
    this.#bytes += bytes;
    this.#lastAt = now;
    if (this.#received % ACK_EVERY === 0 || this.#received <= ACK_EVERY) this.#say(this.#received, this.#newest, sentAt);
  }

  /** Asks for a train of `durationMs` and waits for its end; what came of it. Rejects when aborted: the train is refused then. */
  async result(
    durationMs: number,
    now: () => number,
    signal: AbortSignal,
    ask: () => void,
  ): Promise<{ bitsPerSecond: number; loss: number }> {
    this.begin();
    const until = now() + durationMs + 2 * DRAIN_MS;
    let asked = 0;
    let nextAsk = now();
    while (now() < until && !this.#hasEnded) {
      this.#isRefused = signal.aborted;
      signal.throwIfAborted();
      if (this.#received === 0 && asked < QUESTIONS_MOST && now() >= nextAsk) {
        asked++;
        nextAsk = now() + SILENCE_MS;
        ask();
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const elapsedMs = this.#lastAt - this.#firstAt;
    if (this.#received === 0 || elapsedMs <= 0) return { bitsPerSecond: 0, loss: 0 };
    return { bitsPerSecond: (this.#bytes * 8 * 1000) / elapsedMs, loss: Math.max(0, 1 - this.#received / this.#newest) };
  }
}
