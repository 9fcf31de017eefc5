// A set of IPv4 and IPv6 prefixes, as bytes in network order. One hash table for each prefix length in use, so that an address costs one
// look-up for each length: constant time when all are hosts. Pure; built once, then asked without allocation.

/** A prefix; bits beyond its length are ignored. */
export interface PrefixBytes {
  /** 4 or 16 bytes. */
  bytes: Uint8Array;
  /** Bits, 0 to 32 or 128. */
  length: number;
}

/** Open addressing with empty slots left: every search ends. An IPv4 address is the first of four words. */
interface Table {
  masks: Int32Array;
  words: Int32Array;
  used: Uint8Array;
  lastSlot: number;
}

export class PrefixSet {
  readonly #v4: Table[];
  readonly #v6: Table[];

  /** *Copies* the items. Throws RangeError for bytes that are no address, and a length that it does not have. */
  constructor(items: readonly PrefixBytes[]) {
    for (const { bytes, length } of items) {
      if (bytes.length !== 4 && bytes.length !== 16) throw new RangeError(`build prefix set: an address of ${bytes.length} bytes`);
      if (!Number.isInteger(length) || length < 0 || length > bytes.length * 8)
        throw new RangeError(`build prefix set: ${length} of ${bytes.length * 8} bits`);
    }
    this.#v4 = tables(items.filter(({ bytes }) => bytes.length === 4));
    this.#v6 = tables(items.filter(({ bytes }) => bytes.length === 16));
  }

  /** Whether a prefix of the set holds the address of `size` bytes at `at`; false when `bytes` end before it does. */
  has(bytes: Uint8Array, at: number, size: 4 | 16): boolean {
    if (at < 0 || at + size > bytes.length) return false;
    const list = size === 4 ? this.#v4 : this.#v6;
    const a = word(bytes, at);
    const b = size === 4 ? 0 : word(bytes, at + 4);
    const c = size === 4 ? 0 : word(bytes, at + 8);
    const d = size === 4 ? 0 : word(bytes, at + 12);
    for (let index = 0; index < list.length; index++) {
      const table = list[index] as Table;
      if (table.used[slotOf(table, a, b, c, d)] === 1) return true;
    }
    return false;
  }
}

function word(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 24) | ((bytes[at + 1] as number) << 16) | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number);
}

/** The slot that holds the network of the address, or the empty one where it would go. */
function slotOf({ masks, words, used, lastSlot }: Table, a: number, b: number, c: number, d: number): number {
  const w = a & (masks[0] as number);
  const x = b & (masks[1] as number);
  const y = c & (masks[2] as number);
  const z = d & (masks[3] as number);
  let hash = Math.imul(w, 0x9e3779b1) ^ Math.imul(x, 0x85ebca6b) ^ Math.imul(y, 0xc2b2ae35) ^ Math.imul(z, 0x27d4eb2f);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  let slot = (hash ^ (hash >>> 13)) & lastSlot;
  for (; used[slot] === 1; slot = (slot + 1) & lastSlot) {
    const at = slot * 4;
    if (words[at] === w && words[at + 1] === x && words[at + 2] === y && words[at + 3] === z) return slot;
  }
  return slot;
}

function tables(items: readonly PrefixBytes[]): Table[] {
  const byLength = Map.groupBy(items, ({ length }) => length);
  return [...byLength].map(([length, group]) => {
    const slots = 2 ** Math.ceil(Math.log2(group.length * 2));
    const table = { masks: masksOf(length), words: new Int32Array(slots * 4), used: new Uint8Array(slots), lastSlot: slots - 1 };
    for (const { bytes } of group) add(table, bytes);
    return table;
  });
}

function masksOf(length: number): Int32Array {
  return Int32Array.from({ length: 4 }, (_, index) => {
    const bits = Math.min(32, Math.max(0, length - index * 32));
    return bits === 0 ? 0 : -1 << (32 - bits);
  });
}

function add(table: Table, bytes: Uint8Array): void {
  const wordAt = (at: number) => (at < bytes.length ? word(bytes, at) : 0);
  const network = [wordAt(0), wordAt(4), wordAt(8), wordAt(12)] as const;
  const slot = slotOf(table, ...network);
  table.used[slot] = 1;
  for (const [index, value] of network.entries()) table.words[slot * 4 + index] = value & (table.masks[index] as number);
}
