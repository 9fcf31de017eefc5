// When a peer has to do something by itself (whitepaper section 6). Only notes moments; whoever owns it asks what is due. Milliseconds of one
// monotonic clock. Packets move moments on without any allocation.
//
//   initiation sent                        --> again after REKEY_TIMEOUT and a jitter, until REKEY_ATTEMPT_TIME is over
//   data received, nothing sent since      --> keepalive after KEEPALIVE_TIMEOUT
//   data sent, nothing received since      --> initiation after KEEPALIVE_TIMEOUT + REKEY_TIMEOUT and a jitter
//   no new session for 3 x REJECT_AFTER    --> keys are forgotten
//   nothing at all for the keepalive of the peer --> keepalive

export const REKEY_AFTER_MS = 120_000;
export const REJECT_AFTER_MS = 180_000;
const REKEY_ATTEMPT_MS = 90_000;
export const REKEY_TIMEOUT_MS = 5000;
export const KEEPALIVE_TIMEOUT_MS = 10_000;
const JITTER_MS = 334;
const NEVER = Number.POSITIVE_INFINITY;

/** What is due; any of them may come with the others. */
export interface TimerActions {
  /** The initiation was not answered: once more. */
  retry(now: number): void;
  /** Nor were any of the others: no more. */
  giveUp(): void;
  renew(now: number): void;
  keepalive(now: number): void;
  forgetKeys(): void;
}

export class PeerTimers {
  /** 0 to 1, for jitter. */
  readonly #random: () => number;
  #retryAt = NEVER;
  #keepaliveAt = NEVER;
  #keepaliveAgain = false;
  #renewAt = NEVER;
  #forgetAt = NEVER;
  #persistentAt = NEVER;
  #persistentMs = 0;
  /** When the first of these initiations was sent; NaN: none is waited for. */
  #attemptsSince = Number.NaN;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** The earliest of all; Infinity for none. May be earlier than anything that is due when it comes. */
  get next(): number {
    return Math.min(this.#retryAt, this.#keepaliveAt, this.#renewAt, this.#forgetAt, this.#persistentAt);
  }

  /** An initiation is on its way. */
  get isWaiting(): boolean {
    return this.#retryAt !== NEVER;
  }

  setPersistentKeepalive(ms: number, now: number): void {
    if (ms === this.#persistentMs) return;
    this.#persistentMs = ms;
    // The first at once: it makes the session.
    this.#persistentAt = ms === 0 ? NEVER : now;
  }

  initiated(now: number): void {
    if (Number.isNaN(this.#attemptsSince)) this.#attemptsSince = now;
    this.#retryAt = now + REKEY_TIMEOUT_MS + this.#jitter();
  }

  /** Another is wanted, too soon after what was sent at `sentAt`: it is tried when it may be. */
  retryFrom(sentAt: number): void {
    if (this.#retryAt === NEVER) this.#retryAt = sentAt + REKEY_TIMEOUT_MS + this.#jitter();
  }

  /** Something new wants the handshake: it is tried for the whole time again. */
  restartAttempts(): void {
    this.#attemptsSince = Number.NaN;
  }

  /** A session was made; what is waited for besides is its confirmation. */
  derived(now: number): void {
    this.#forgetAt = now + 3 * REJECT_AFTER_MS;
  }

  /** A session is current from now on. */
  completed(): void {
    this.#retryAt = NEVER;
    this.#attemptsSince = Number.NaN;
  }

  /** Anything that authenticates was sent: data (not empty), keepalive, handshake. */
  sent(now: number, isData: boolean): void {
    this.#keepaliveAt = NEVER;
    if (isData && this.#renewAt === NEVER) this.#renewAt = now + KEEPALIVE_TIMEOUT_MS + REKEY_TIMEOUT_MS + this.#jitter();
    if (this.#persistentMs > 0) this.#persistentAt = now + this.#persistentMs;
  }

  /** Anything that authenticates has come. */
  received(now: number, isData: boolean): void {
    this.#renewAt = NEVER;
    if (isData) {
      if (this.#keepaliveAt === NEVER) this.#keepaliveAt = now + KEEPALIVE_TIMEOUT_MS;
      else this.#keepaliveAgain = true;
    }
    if (this.#persistentMs > 0) this.#persistentAt = now + this.#persistentMs;
  }

  run(now: number, actions: TimerActions): void {
    if (now >= this.#forgetAt) {
      this.#forgetAt = NEVER;
      actions.forgetKeys();
    }
    if (now >= this.#retryAt) {
      this.#retryAt = NEVER;
      if (now - this.#attemptsSince >= REKEY_ATTEMPT_MS) this.#stopTrying(now, actions);
      else actions.retry(now);
    }
    if (now >= this.#renewAt) {
      this.#renewAt = NEVER;
      actions.renew(now);
    }
    if (now >= this.#keepaliveAt) {
      this.#keepaliveAt = NEVER;
      actions.keepalive(now);
      if (this.#keepaliveAgain) {
        this.#keepaliveAgain = false;
        this.#keepaliveAt = now + KEEPALIVE_TIMEOUT_MS;
      }
    }
    if (now >= this.#persistentAt) {
      this.#persistentAt = now + this.#persistentMs;
      actions.keepalive(now);
    }
  }

  /** As new, but for the persistent keepalive. */
  clear(): void {
    this.#retryAt = NEVER;
    this.#keepaliveAt = NEVER;
    this.#keepaliveAgain = false;
    this.#renewAt = NEVER;
    this.#forgetAt = NEVER;
    this.#attemptsSince = Number.NaN;
  }

  #stopTrying(now: number, actions: TimerActions): void {
    this.#attemptsSince = Number.NaN;
    this.#keepaliveAt = NEVER;
    if (this.#forgetAt === NEVER) this.#forgetAt = now + 3 * REJECT_AFTER_MS;
    actions.giveUp();
  }

  #jitter(): number {
    return this.#random() * JITTER_MS;
  }
}
