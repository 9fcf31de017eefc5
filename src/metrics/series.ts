// What a series is: a name, what it says, and how its samples come out of a snapshot. Pure. The lists of all series are in `node-series.ts`,
// `interface-series.ts` and `link-series.ts`, put together in `catalogue.ts`.

import type { NodeSnapshot } from './snapshot.ts';

export const PREFIX = 'taplane_';

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  labels?: Labels;
  value: number;
  /** Of histograms: what stands behind the name of the series. */
  suffix?: '_bucket' | '_sum' | '_count';
}

export type Kind = 'counter' | 'gauge' | 'histogram';

/** A family of samples under one name. Values of a counter only grow, but may begin anew with the process that counts. */
export interface Series {
  /** With prefix and base unit; of counters with `_total`. */
  readonly name: string;
  readonly kind: Kind;
  /** One sentence. */
  readonly help: string;
  readonly labels: readonly string[];
  readonly read: (snapshot: NodeSnapshot) => Iterable<Sample>;
}

type Read = (snapshot: NodeSnapshot) => Iterable<Sample> | number | undefined;

/** A gauge. `read` may answer one number where there are no labels; undefined: no sample. */
export function gauge(name: string, help: string, read: Read, labels: readonly string[] = []): Series {
  return { name: PREFIX + name, kind: 'gauge', help, labels, read: many(read) };
}

/** A counter; its name ends with `_total`. */
export function counter(name: string, help: string, read: Read, labels: readonly string[] = []): Series {
  return { name: PREFIX + name, kind: 'counter', help, labels, read: many(read) };
}

export function histogram(
  name: string,
  help: string,
  read: (snapshot: NodeSnapshot) => Iterable<Sample>,
  labels: readonly string[],
): Series {
  return { name: PREFIX + name, kind: 'histogram', help, labels, read };
}

/** A sample for each entry of a record, with its key as the label. */
export function* byKey(label: string, record: Readonly<Record<string, number>>): Generator<Sample> {
  for (const [key, value] of Object.entries(record)) yield { labels: { [label]: key }, value };
}

/** How many of each value there are; `values` come also when there are none. */
export function* tally<Item>(items: Iterable<Item>, keys: readonly Labels[], of: (item: Item) => Labels): Generator<Sample> {
  const counts = new Map(keys.map((labels) => [JSON.stringify(labels), { labels, value: 0 }]));
  for (const item of items) {
    const labels = of(item);
    const key = JSON.stringify(labels);
    const count = counts.get(key);
    if (count === undefined) counts.set(key, { labels, value: 1 });
    else count.value++;
  }
  yield* counts.values();
}

function many(read: Read): Series['read'] {
  return (snapshot) => {
    const answer = read(snapshot);
    if (answer === undefined) return [];
    return typeof answer === 'number' ? [{ value: answer }] : answer;
  };
}
