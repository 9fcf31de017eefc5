// Agents restart, and close connections now and then on purpose. What runs until it is told otherwise tries again, for a minute at most.

import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientError } from '../rpc/client.ts';

const DELAY_MS = 250;
/** An agent that is away for longer than this is given up. */
const WITHIN_MS = 60_000;

export class Reconnection {
  readonly #signal: AbortSignal;
  readonly #tell: () => void;
  #lostAtMs: number | undefined;
  #wasConnected = false;

  /** `say` is told once for each loss: `connection to the agent lost, ` and `what`. */
  constructor(signal: AbortSignal, say: (text: string) => void, what: string) {
    this.#signal = signal;
    this.#tell = () => say(`connection to the agent lost, ${what}`);
  }

  connected(): void {
    this.#wasConnected = true;
    this.#lostAtMs = undefined;
  }

  /** Whether it is worth another try after `error`; if so, waits a moment before it resolves. What was never connected is not. */
  async again({ code }: Pick<ClientError, 'code'>): Promise<boolean> {
    if (!this.#wasConnected || (code !== 'UNAVAILABLE' && code !== 'CANCELLED')) return false;
    const now = performance.now();
    if (this.#lostAtMs === undefined) this.#tell();
    this.#lostAtMs ??= now;
    if (now - this.#lostAtMs > WITHIN_MS) return false;
    await sleep(DELAY_MS, undefined, { signal: this.#signal }).catch(() => {});
    return true;
  }
}
