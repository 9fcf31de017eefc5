// What has been opened, to be closed in reverse order. One part that hangs or fails does not keep the others from closing:
// each has its time, all together have theirs, and what is left behind is logged.

import { setTimeout as sleep } from 'node:timers/promises';

export interface ClosingLog {
  debug(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export class ClosingStack {
  readonly #log: ClosingLog;
  readonly #partMs: number;
  readonly #parts: { name: string; close: () => Promise<void> }[] = [];
  #closing: Promise<boolean> | undefined;

  constructor(log: ClosingLog, partMs: number) {
    this.#log = log;
    this.#partMs = partMs;
  }

  add(name: string, close: () => Promise<void>): void {
    this.#parts.push({ name, close });
  }

  /** True when every part closed in time and without an error. Twice is once. */
  close(totalMs: number): Promise<boolean> {
    this.#closing ??= this.#closeAll(performance.now() + totalMs);
    return this.#closing;
  }

  async #closeAll(until: number): Promise<boolean> {
    let clean = true;
    for (let part = this.#parts.pop(); part; part = this.#parts.pop()) {
      const startedAt = performance.now();
      // A part whose turn comes after the time is up is still asked, it is only not waited for.
      const allowedMs = Math.max(0, Math.min(this.#partMs, until - startedAt));
      // Cancelled as soon as the part has closed: a timer that ticks on would keep the process from ending.
      const timer = new AbortController();
      const late = sleep(allowedMs, 'late' as const, { signal: timer.signal }).catch(() => 'late' as const);
      const ended = await Promise.race([this.#closeOne(part), late]);
      timer.abort();
      const fields = { step: part.name, duration_ms: Math.round(performance.now() - startedAt) };
      if (ended === 'closed') this.#log.debug(fields, 'closed');
      else clean = false;
      if (ended === 'late') this.#log.error(fields, 'not closed in time');
    }
    return clean;
  }

  async #closeOne({ name, close }: { name: string; close: () => Promise<void> }): Promise<'closed' | 'failed'> {
    try {
      await close();
      return 'closed';
    } catch (error) {
      this.#log.error({ step: name, error }, 'close failed');
      return 'failed';
    }
  }
}
