// Events on their way to the exporter: all of a turn of the event loop are handed over at once, since each handing over is a write to disk.
// When the disk fails they wait, bounded in number and bytes, the oldest are dropped, and the gap in their numbers tells of that. Nothing
// here throws.
//
//   put --(end of the turn)--> exporter
//             '-- it throws: again after 1 s, doubling to 30 s

import type { Exporter, Outgoing } from '../flow/contract.ts';
import type { Log } from './log.ts';

const WAITING_MOST = 1000;
const WAITING_BYTES = 4 * 1024 * 1024;
const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 30_000;
const COMPLAIN_MS = 60_000;

export interface OutboxStats {
  /** Handed over to the exporter. */
  stored: number;
  waiting: number;
  /** Dropped for want of room. */
  lost: number;
  /** How often the exporter threw. */
  failures: number;
}

export class EventOutbox {
  readonly #exporter: Pick<Exporter, 'put'>;
  readonly #log: Log;
  #waiting: Outgoing[] = [];
  #bytes = 0;
  #soon: NodeJS.Immediate | undefined;
  #later: NodeJS.Timeout | undefined;
  #retryMs = RETRY_FIRST_MS;
  #complainedAt = Number.NEGATIVE_INFINITY;
  #stored = 0;
  #lost = 0;
  #failures = 0;

  constructor(exporter: Pick<Exporter, 'put'>, log: Log) {
    this.#exporter = exporter;
    this.#log = log;
  }

  put(message: Outgoing): void {
    this.#waiting.push(message);
    this.#bytes += message.payload.length;
    while (this.#waiting.length > WAITING_MOST || this.#bytes > WAITING_BYTES) {
      this.#bytes -= this.#waiting.shift()?.payload.length ?? 0;
      this.#lost++;
    }
    if (this.#later === undefined) this.#soon ??= setImmediate(() => this.#flush());
  }

  stats(): OutboxStats {
    return { stored: this.#stored, waiting: this.#waiting.length, lost: this.#lost, failures: this.#failures };
  }

  /** Tries once more; what the exporter does not take now is lost. */
  close(): void {
    this.#flush();
    clearTimeout(this.#later);
    this.#later = undefined;
    if (this.#waiting.length > 0) this.#log.warn({ events: this.#waiting.length }, 'events not stored');
  }

  #flush(): void {
    clearImmediate(this.#soon);
    clearTimeout(this.#later);
    this.#soon = this.#later = undefined;
    if (this.#waiting.length === 0) return;
    try {
      this.#exporter.put(this.#waiting);
      this.#stored += this.#waiting.length;
      this.#waiting = [];
      this.#bytes = 0;
      this.#retryMs = RETRY_FIRST_MS;
    } catch (error) {
      this.#failures++;
      this.#complain(error);
      this.#later = setTimeout(() => this.#flush(), this.#retryMs);
      this.#later.unref();
      this.#retryMs = Math.min(RETRY_MOST_MS, this.#retryMs * 2);
    }
  }

  #complain(error: unknown): void {
    const now = performance.now();
    if (now - this.#complainedAt < COMPLAIN_MS) return;
    this.#complainedAt = now;
    const { waiting, lost, failures } = this.stats();
    this.#log.warn({ err: String(error), waiting, lost, failures, retry_ms: this.#retryMs }, 'events not stored; tried again');
  }
}
