// Randomness that can be repeated: TAPLANE_SEED gives the seed, else it is drawn. Every kernel and e2e file prints it at its start.

export interface Random {
  /** At least 0, less than 1. */
  next(): number;
  /** Evenly from `low` up to, not including, `high`. */
  uniform(low: number, high: number): number;
  /** A whole number from `low` to `high`, both included. */
  integer(low: number, high: number): number;
  /** One of them; throws when there is none. */
  pick<Item>(items: readonly Item[]): Item;
  /** A copy in another order. */
  shuffled<Item>(items: readonly Item[]): Item[];
  bytes(length: number): Uint8Array;
}

export const seed = readSeed(process.env['TAPLANE_SEED']);

function readSeed(text: string | undefined): number {
  if (text === undefined || text === '') return Math.floor(Math.random() * 2 ** 32);
  const value = Number(text);
  if (!Number.isInteger(value)) throw new Error(`read TAPLANE_SEED: ${text} is not a whole number`);
  return value >>> 0;
}

/** The same `from` gives the same sequence. `stream` keeps two users of one seed apart. */
export function random(stream = '', from: number = seed): Random {
  let state = mix(from ^ hash(stream));
  // mulberry32: 32 bits of state, passes gjrand; good enough for choosing faults.
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const integer = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  return {
    next,
    uniform: (low, high) => low + next() * (high - low),
    integer,
    pick(items) {
      if (items.length === 0) throw new Error('pick: nothing to pick from');
      return items[integer(0, items.length - 1)] as (typeof items)[number];
    },
    shuffled(items) {
      const copy = [...items];
      for (let i = copy.length - 1; i > 0; i -= 1) {
        const j = integer(0, i);
        [copy[i], copy[j]] = [copy[j] as (typeof items)[number], copy[i] as (typeof items)[number]];
      }
      return copy;
    },
    bytes: (length) => Uint8Array.from({ length }, () => integer(0, 255)),
  };
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const character of text) value = Math.imul(value ^ (character.codePointAt(0) ?? 0), 0x01000193);
  return value >>> 0;
}

/** Neighbouring seeds must not give neighbouring sequences (the finalizer of murmur3). */
function mix(value: number): number {
  let h = value >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
