// Follows the numbers of the records of many meters through the batches that come, and finds what did not come and what came twice. Pure.
// Bounded: of meters that were silent for longest the place is forgotten, and they begin anew.

import type { FlowBatch } from '../gen/taplane/v1/flow.ts';

const MAX_EPOCHS = 16_384;

export class BatchGaps {
  /** By epoch, the number of the record that comes next. */
  readonly #next = new Map<string, bigint>();

  /** Answers the records of `batch` that have not come before, how many did not come, and how many it says were lost since then. */
  take(batch: FlowBatch): { flows: FlowBatch['flows']; gap: bigint; lost: bigint } {
    const { epoch, firstSequence: first } = batch;
    const lost = batch.lost.reduce((sum, { count }) => sum + count, 0n);
    const behind = first + BigInt(batch.flows.length);
    const next = this.#next.get(epoch);
    if (next !== undefined && behind + lost <= next) return { flows: [], gap: 0n, lost: 0n };
    this.#next.delete(epoch);
    this.#next.set(epoch, behind + lost);
    if (this.#next.size > MAX_EPOCHS) this.#next.delete(this.#next.keys().next().value as string);
    if (next === undefined || next <= first) return { flows: batch.flows, gap: next === undefined ? 0n : first - next, lost };
    // Some of it is known: first of the records, then of the loss behind them.
    const known = next - first;
    const count = BigInt(batch.flows.length);
    return known <= count ? { flows: batch.flows.slice(Number(known)), gap: 0n, lost } : { flows: [], gap: 0n, lost: behind + lost - next };
  }
}
