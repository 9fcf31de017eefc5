// How long to wait before the next try to connect: 100 ms, doubled each time up to 5 s, spread so that many links do not come at once. Pure.

const FIRST_MS = 100;
const MOST_MS = 5000;
const SPREAD = 0.2;

/** Whole milliseconds before try `failures` + 1, `failures` at least 1. `chance` is at least 0 and less than 1. */
export function backOffMs(failures: number, chance: number): number {
  const base = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 16));
  return Math.round(Math.min(MOST_MS, base * (1 - SPREAD + 2 * SPREAD * chance)));
}
