// One observer of the ring: what is in memory, then what comes.
//
//   memory, up to where the ring ended when the observer came --follow--> `following`, then each batch as it is put --until, signal--> end
//
// Work is done in slices of a few milliseconds, of all observers together one in each turn of the event loop, and none while the client does
// not ask for the next answer: it then falls behind, and what the ring dropped meanwhile is told as `missed`. An observer holds one batch and one answer, never more. Losses are told with the next
// answer, or alone before it waits; those of interfaces that the filters rule out are not told. Records that do not decode are missed too.

import { Flow, FlowBatch } from '../gen/taplane/v1/flow.ts';
import type { ObserveFlowsResponse } from '../gen/taplane/v1/flow_service.ts';
import { type BatchHead, readBatchHead, recordPlaces } from './batch-head.ts';
import { endingAt } from './ending.ts';
import type { FlowTest } from './filter.ts';
import type { Observation } from './observation.ts';
import type { Cursor, FlowRing, Mark, RingBatch } from './ring.ts';
import type { Turns } from './turns.ts';

const SLICE_MS = 4;
/** Records of an answer as they came in, bytes. */
const ANSWER_BYTES = 60 * 1024;

/** Ends with what was asked for, or soon after `signal` aborts. Works in `turns`, shared with other observers. `now` is Date.now. */
export async function* observe(
  ring: FlowRing,
  wanted: Observation,
  signal: AbortSignal,
  turns: Turns,
  now: () => number = Date.now,
): AsyncGenerator<ObserveFlowsResponse> {
  using ending = endingAt(wanted.follow ? wanted.untilMs : undefined, signal, now);
  const slices = new Slices(turns);
  const end = ring.end();
  const observer = new Observer(ring.cursor(0), wanted, slices, signal);
  await slices.next();
  if (wanted.last > 0n) observer.begin(...(await newest(ring, wanted, end, slices, signal)), ring);
  else if (wanted.follow) observer.begin(end.number, 0, ring);
  yield* observer.tell(end);
  if (!wanted.follow || signal.aborted) return;
  yield observer.answer({ following: true });
  while (!signal.aborted) {
    yield* observer.tell();
    if (ending.signal.aborted) return;
    // While the client held back the last answer, more may have come.
    if (observer.isAtEnd()) await ring.changed(ending.signal);
    await slices.next();
  }
}

class Observer {
  #cursor: Cursor;
  readonly #wanted: Observation;
  readonly #slices: Slices;
  readonly #signal: AbortSignal;
  #left: number;
  /** Matching records of batch `#from` that are passed over. */
  #skip = 0;
  #from = -1;
  #missed = 0;
  #lost = 0n;

  constructor(cursor: Cursor, wanted: Observation, slices: Slices, signal: AbortSignal) {
    this.#cursor = cursor;
    this.#wanted = wanted;
    this.#slices = slices;
    this.#signal = signal;
    this.#left = wanted.first > 0n ? Number(wanted.first) : Number.POSITIVE_INFINITY;
  }

  /** Goes on from batch `from` without its first `skip` matching records. */
  begin(from: number, skip: number, ring: FlowRing): void {
    this.#cursor = ring.cursor(from);
    this.#from = from;
    this.#skip = skip;
  }

  isAtEnd(): boolean {
    return this.#cursor.isAtEnd();
  }

  answer(parts: Partial<ObserveFlowsResponse>): ObserveFlowsResponse {
    const answer = { batch: undefined, following: false, missed: BigInt(this.#missed), lost: this.#lost, ...parts };
    this.#missed = 0;
    this.#lost = 0n;
    return answer;
  }

  /** All batches before `end`, by default all that there are. */
  async *tell(end?: Mark): AsyncGenerator<ObserveFlowsResponse> {
    while (!this.#signal.aborted && this.#left > 0) {
      const stored = this.#cursor.take(end);
      this.#missed += this.#cursor.missed(end);
      if (stored === undefined) break;
      yield* this.#batch(stored);
      if (this.#slices.isOver()) await this.#slices.next();
    }
    if (!this.#signal.aborted && (this.#missed > 0 || this.#lost > 0n)) yield this.answer({});
  }

  async *#batch(stored: RingBatch): AsyncGenerator<ObserveFlowsResponse> {
    const head = readBatchHead(stored.bytes);
    const test = 'malformed' in head ? undefined : this.#wanted.test(head);
    if ('malformed' in head || test === undefined) return;
    const places = recordPlaces(stored.bytes);
    let skip = stored.number === this.#from ? this.#skip : 0;
    let flows: Flow[] = [];
    let bytes = 0;
    for (let index = 0; index < places.length && this.#left > 0; index += 2) {
      if (this.#slices.isOver()) await this.#slices.next();
      if (this.#signal.aborted) return;
      const [start, end] = [places[index] as number, places[index + 1] as number];
      const flow = decoded(stored.bytes, start, end);
      if (flow === undefined) this.#missed++;
      else if (test(flow) && --skip < 0) {
        if (flows.length > 0 && bytes + end - start > ANSWER_BYTES) {
          yield this.answer({ batch: batchOf(head, flows) });
          flows = [];
          bytes = 0;
        }
        flows.push(this.#wanted.mask(flow));
        bytes += end - start;
        this.#left--;
      }
    }
    if (this.#left > 0) this.#lost += stored.lost;
    if (flows.length > 0) yield this.answer({ batch: batchOf(head, flows) });
  }
}

/** Where the newest records that match begin: number of a batch, and how many of its matching records come before. */
async function newest(
  ring: FlowRing,
  { test, last }: Observation,
  end: Mark,
  slices: Slices,
  signal: AbortSignal,
): Promise<[from: number, skip: number]> {
  const most = Number(last);
  let found = 0;
  for (let number = end.number - 1; !signal.aborted; number--) {
    const stored = ring.at(number);
    if (stored === undefined) break;
    const head = readBatchHead(stored.bytes);
    const matches = 'malformed' in head ? undefined : test(head);
    if (matches !== undefined) found += await count(stored.bytes, matches, slices);
    if (found >= most) return [number, found - most];
    if (slices.isOver()) await slices.next();
  }
  return [0, 0];
}

async function count(bytes: Buffer, test: FlowTest, slices: Slices): Promise<number> {
  const places = recordPlaces(bytes);
  let matching = 0;
  for (let index = 0; index < places.length; index += 2) {
    const flow = decoded(bytes, places[index] as number, places[index + 1] as number);
    if (flow !== undefined && test(flow)) matching++;
    if (slices.isOver()) await slices.next();
  }
  return matching;
}

function decoded(bytes: Buffer, start: number, end: number): Flow | undefined {
  try {
    return Flow.decode(bytes.subarray(start, end));
  } catch {
    return undefined;
  }
}

function batchOf(head: BatchHead, flows: Flow[]): FlowBatch {
  const { cluster, node, interface: name, interfaceUid, labels, epoch, exportTime } = head;
  return { ...FlowBatch.create(), cluster, node, interface: name, interfaceUid, labels, epoch, exportTime, flows };
}

/** Lets the rest of the process run every few milliseconds. */
class Slices {
  readonly #turns: Turns;
  #beganMs = Number.NEGATIVE_INFINITY;

  constructor(turns: Turns) {
    this.#turns = turns;
  }

  isOver(): boolean {
    return performance.now() - this.#beganMs > SLICE_MS;
  }

  async next(): Promise<void> {
    await this.#turns.next();
    this.#beganMs = performance.now();
  }
}
