// The newest flow records in memory, as the encoded batches that they came in, bounded in bytes: when there is no room, the oldest batches
// go. Batches are numbered from 0 in the order in which they came.
//
// Readers have cursors of their own, and no hold on the ring: one that does not come round in time misses batches, and its cursor counts
// the records of these exactly: taken + missed = put since the cursor began.

import { type BatchHead, type Malformed, readBatchHead } from './batch-head.ts';

const DEFAULT_RING_BYTES = 16 * 1024 * 1024;
/** What a batch takes beside its bytes, about: so that a flood of tiny ones is bounded too. */
const ENTRY_BYTES = 256;

export interface RingBatch {
  readonly number: number;
  /** `FlowBatch`, encoded. Not to be changed. */
  readonly bytes: Buffer;
  readonly records: number;
  /** Records that the data plane lost behind these. */
  readonly lost: bigint;
  /** Records that came before it since the ring began. */
  readonly before: number;
}

/** A place between two batches. */
export interface Mark {
  /** Of the batch behind it. */
  readonly number: number;
  /** Records that came before it since the ring began. */
  readonly records: number;
}

export interface Cursor {
  /** Records before `end` (by default all) that were missed since this was last asked. */
  missed(end?: Mark): number;
  /** The next batch before `end`; undefined when there is none. Those that went meanwhile are counted as missed. */
  take(end?: Mark): RingBatch | undefined;
  /** All that has been put was taken or missed. */
  isAtEnd(): boolean;
}

export class FlowRing {
  readonly #maxBytes: number;
  /** Begins with batches that are gone up to `#first`; these are cut off now and then. */
  #batches: (RingBatch | undefined)[] = [];
  #first = 0;
  #oldest = 0;
  #bytes = 0;
  #records = 0;
  #allRecords = 0;
  #allLost = 0n;
  #waiting = new Set<() => void>();

  constructor({ maxBytes = DEFAULT_RING_BYTES }: { maxBytes?: number } = {}) {
    this.#maxBytes = maxBytes;
  }

  /** Number of the oldest batch that is there; `next` when there is none. */
  get oldest(): number {
    return this.#oldest;
  }

  /** Number of the batch that is put next. */
  get next(): number {
    return this.#oldest + this.#batches.length - this.#first;
  }

  /** Bytes of the batches that are there. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Records in the batches that are there. */
  get records(): number {
    return this.#records;
  }

  /** Records put since the ring began, and records that batches told of as lost. */
  get totals(): { records: number; lost: bigint } {
    return { records: this.#allRecords, lost: this.#allLost };
  }

  /** Takes an encoded `FlowBatch` (*transfers*) and answers its head. What is malformed is not taken, and told. */
  put(batch: Buffer): BatchHead | Malformed {
    const head = readBatchHead(batch);
    if ('malformed' in head) return head;
    // A small view would hold the large memory that it looks into.
    const bytes = batch.buffer.byteLength > 2 * batch.length + ENTRY_BYTES ? copyOf(batch) : batch;
    this.#batches.push({ number: this.next, bytes, records: head.records, lost: head.lost, before: this.#allRecords });
    this.#bytes += bytes.length;
    this.#records += head.records;
    this.#allRecords += head.records;
    this.#allLost += head.lost;
    while (this.next > this.#oldest && this.#bytes + (this.next - this.#oldest) * ENTRY_BYTES > this.#maxBytes) this.#drop();
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const wake of waiting) wake();
    return head;
  }

  /** The batch of that number, if it is there. */
  at(number: number): RingBatch | undefined {
    return number < this.#oldest ? undefined : this.#batches[this.#first + number - this.#oldest];
  }

  /** The place behind all batches that have been put. */
  end(): Mark {
    return { number: this.next, records: this.#allRecords };
  }

  /** Begins with batch `number`, or with the oldest that is there where that is later; what went before is not missed. */
  cursor(number: number): Cursor {
    let at = Math.max(number, this.#oldest);
    /** Records put before batch `at`. */
    let seen = this.#before(at);
    let missed = 0;
    const catchUp = (end?: Mark): void => {
      const to = end !== undefined && end.number < this.#oldest ? end : { number: this.#oldest, records: this.#before(this.#oldest) };
      if (at >= to.number) return;
      missed += to.records - seen;
      at = to.number;
      seen = to.records;
    };
    return {
      missed: (end) => {
        catchUp(end);
        const count = missed;
        missed = 0;
        return count;
      },
      take: (end) => {
        catchUp(end);
        const batch = end === undefined || at < end.number ? this.at(at) : undefined;
        if (batch === undefined) return undefined;
        at++;
        seen += batch.records;
        return batch;
      },
      isAtEnd: () => at >= this.next,
    };
  }

  /** Resolves when the next batch is put, or `signal` aborts. */
  changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        signal.removeEventListener('abort', wake);
        this.#waiting.delete(wake);
        resolve();
      };
      if (signal.aborted) return resolve();
      signal.addEventListener('abort', wake, { once: true });
      this.#waiting.add(wake);
    });
  }

  #before(number: number): number {
    return this.at(number)?.before ?? this.#allRecords;
  }

  #drop(): void {
    const gone = this.#batches[this.#first] as RingBatch;
    this.#batches[this.#first++] = undefined;
    this.#oldest++;
    this.#bytes -= gone.bytes.length;
    this.#records -= gone.records;
    if (this.#first < 1024 || this.#first < this.#batches.length / 2) return;
    this.#batches = this.#batches.slice(this.#first);
    this.#first = 0;
  }
}

function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}
