// Calls that were refused since nobody knows who is on their connection. Whoever makes many of them must not fill the log, or push records out of it: at
// most one record in ten seconds, and the one behind it says of how many it tells.

import type { TaplaneError } from '../errors.ts';
import type { Entry } from './record.ts';

const TELL_EVERY_MS = 10_000;
const PATH_MOST = 256;

export class Strangers {
  readonly #write: (entry: Entry) => Promise<void>;
  readonly #everyMs: number;
  /** Runs while another record would be too soon. */
  #quiet: NodeJS.Timeout | undefined;
  #last = { path: '', reason: '' };
  #untold = 0;

  /** `write` may reject: the log tells of that itself. */
  constructor(write: (entry: Entry) => Promise<void>, everyMs = TELL_EVERY_MS) {
    this.#write = write;
    this.#everyMs = everyMs;
  }

  /** Resolves when it is written, or at once when it will be told of later. */
  async refused(path: string, error: TaplaneError): Promise<void> {
    this.#last = { path, reason: error.reason };
    this.#untold += 1;
    if (this.#quiet === undefined) await this.#tell();
  }

  /** Tells of what nobody was told of yet. */
  async close(): Promise<void> {
    clearTimeout(this.#quiet);
    if (this.#untold > 0) await this.#tell();
    clearTimeout(this.#quiet);
  }

  async #tell(): Promise<void> {
    const calls = this.#untold;
    this.#untold = 0;
    this.#quiet = setTimeout(() => {
      this.#quiet = undefined;
      if (this.#untold > 0) void this.#tell();
    }, this.#everyMs);
    this.#quiet.unref();
    await this.#write(entryOfStrangers(this.#last, calls)).catch(() => {});
  }
}

function entryOfStrangers({ path, reason }: { path: string; reason: string }, calls: number): Entry {
  return {
    time: new Date().toISOString(),
    caller: { name: 'unknown', kind: 'unknown' },
    method: path.slice(0, PATH_MOST),
    resources: [],
    code: 'UNAUTHENTICATED',
    reason,
    durationMs: 0,
    digest: '',
    request: JSON.stringify({ calls }),
  };
}
