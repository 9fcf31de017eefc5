// Calls by method and code, and how long unary ones took. The methods are a closed set: what is not in it is not counted, so that no client can
// make series. Adding to it costs two look-ups.

import type { Sample } from './series.ts';

/** Upper bounds of the histogram, seconds. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

/** What is counted: by `package.Service/Method`. */
export interface CallCounts {
  /** Calls that are over, by method, then by code. */
  readonly ended: ReadonlyMap<string, ReadonlyMap<string, number>>;
  readonly inProgress: ReadonlyMap<string, number>;
  /** Of unary calls. */
  readonly durations: ReadonlyMap<string, Durations>;
}

export interface Durations {
  /** By bucket, each without those below; the last is beyond all bounds. */
  readonly counts: readonly number[];
  readonly sumSeconds: number;
}

interface Counting {
  ended: Map<string, number>;
  inProgress: number;
  counts: number[];
  sumSeconds: number;
}

export class CallMeter {
  readonly #methods: Map<string, Counting>;
  readonly #now: () => number;

  /** `paths` as gRPC has them, `/package.Service/Method`; `now` in milliseconds. */
  constructor(paths: Iterable<string>, now: () => number = () => performance.now()) {
    this.#now = now;
    this.#methods = new Map(
      [...paths].map((path) => [path, { ended: new Map(), inProgress: 0, counts: new Array(BUCKETS.length + 1).fill(0), sumSeconds: 0 }]),
    );
  }

  /** A call begins. The answer ends it, once, with the name of its code. */
  begin(path: string, unary: boolean): (code: string) => void {
    const method = this.#methods.get(path);
    if (method === undefined) return () => {};
    const startedAt = this.#now();
    method.inProgress++;
    let over = false;
    return (code) => {
      if (over) return;
      over = true;
      method.inProgress--;
      method.ended.set(code, (method.ended.get(code) ?? 0) + 1);
      if (unary) note(method, Math.max(0, this.#now() - startedAt) / 1000);
    };
  }

  counts(): CallCounts {
    const ended = new Map<string, ReadonlyMap<string, number>>();
    const inProgress = new Map<string, number>();
    const durations = new Map<string, Durations>();
    for (const [path, method] of this.#methods) {
      const name = path.slice(1);
      if (method.inProgress > 0 || method.ended.size > 0) inProgress.set(name, method.inProgress);
      if (method.ended.size > 0) ended.set(name, new Map(method.ended));
      if (method.counts.some((count) => count > 0)) durations.set(name, { counts: [...method.counts], sumSeconds: method.sumSeconds });
    }
    return { ended, inProgress, durations };
  }
}

/** The samples of a histogram, cumulative as Prometheus has them. */
export function* bucketSamples(durations: CallCounts['durations']): Generator<Sample> {
  for (const [method, { counts, sumSeconds }] of durations) {
    let sum = 0;
    for (const [index, count] of counts.entries()) {
      sum += count;
      yield { suffix: '_bucket', labels: { method, le: index < BUCKETS.length ? String(BUCKETS[index]) : '+Inf' }, value: sum };
    }
    yield { suffix: '_sum', labels: { method }, value: sumSeconds };
    yield { suffix: '_count', labels: { method }, value: sum };
  }
}

function note(method: Counting, seconds: number): void {
  const at = BUCKETS.findIndex((bound) => seconds <= bound);
  const index = at < 0 ? BUCKETS.length : at;
  method.counts[index] = (method.counts[index] ?? 0) + 1;
  method.sumSeconds += seconds;
}
