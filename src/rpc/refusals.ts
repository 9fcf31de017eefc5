// Connections that were not let in, or not kept: counted by reason, and told in the log, though not faster than somebody can read who connects in a
// loop for that purpose.

/** Reasons, as metrics have them. */
export const REFUSALS = [
  // Limits: of all connections, of one caller, of TLS handshakes in progress, of those from one address.
  'connections',
  'client_connections',
  'handshakes',
  'address_handshakes',
  // A unix socket whose other end the kernel does not name.
  'no_credentials',
  // TLS handshakes that failed.
  'no_certificate',
  'untrusted_certificate',
  'expired_certificate',
  'no_identity',
  'tls_version',
  'not_tls',
  'handshake_timeout',
  'handshake_failed',
  // Let in, and then no call came.
  'no_call',
  'stopping',
] as const;

export type Refusal = (typeof REFUSALS)[number];

/** What is needed of a logger; pino fits. */
export interface ListenLog {
  info?(fields: object, message: string): void;
  warn?(fields: object, message: string): void;
}

/** Of one reason at most one line in this time. */
const TELL_EVERY_MS = 10_000;

export class RefusalLog {
  readonly #log: ListenLog;
  readonly #counts = new Map<Refusal, { total: number; untold: number; toldAtMs: number }>();

  constructor(log: ListenLog) {
    this.#log = log;
  }

  refused(why: Refusal, address: string, error?: string): void {
    const count = this.#counts.get(why) ?? { total: 0, untold: 0, toldAtMs: Number.NEGATIVE_INFINITY };
    this.#counts.set(why, count);
    count.total += 1;
    count.untold += 1;
    const nowMs = performance.now();
    if (why === 'stopping' || nowMs - count.toldAtMs < TELL_EVERY_MS) return;
    this.#log.warn?.({ reason: why, address, ...(error !== undefined && { error }), count: count.untold }, 'connection refused');
    count.toldAtMs = nowMs;
    count.untold = 0;
  }

  count(why: Refusal): number {
    return this.#counts.get(why)?.total ?? 0;
  }
}
