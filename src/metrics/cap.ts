// Keeps the number of series bounded: the first so many interfaces, links and peers, in the order of their names, have series of their own. What
// can be added up of the others is under one name, OTHERS, and how many they are is a series too.

import type { Labels, Sample } from './series.ts';

/** No interface, link or peer is called so: of names the kernel and the API take no angle brackets at the start. */
export const OTHERS = '<others>';

/** A sample of each of the first `most` items; with `additive` one more, the sum of the rest, under the labels `others`. */
export function* capped<Item>(
  items: readonly Item[],
  most: number,
  labelsOf: (item: Item) => Labels,
  amountOf: (item: Item) => number | undefined,
  others?: Labels,
): Generator<Sample> {
  for (const item of items.slice(0, most)) {
    const value = amountOf(item);
    if (value !== undefined) yield { labels: labelsOf(item), value };
  }
  if (others === undefined || items.length <= most) return;
  let sum = 0;
  for (const item of items.slice(most)) sum += amountOf(item) ?? 0;
  yield { labels: others, value: sum };
}

/** How many have no series of their own. */
export function beyond(items: readonly unknown[], most: number): number {
  return Math.max(0, items.length - most);
}
