// The trie against a table that is looked through.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { type PrefixTrie, prefixTrie } from '../../src/packet/prefix-trie.ts';
import { bound } from '../harness/bound.ts';
import { random } from '../harness/random.ts';

interface Row {
  bytes: Uint8Array;
  length: number;
  value: number;
}

function holds({ bytes, length }: Row, address: Uint8Array): boolean {
  if (bytes.length !== address.length) return false;
  for (let bit = 0; bit < length; bit++) {
    const shift = 7 - (bit & 7);
    if ((((bytes[bit >> 3] as number) ^ (address[bit >> 3] as number)) >> shift) & 1) return false;
  }
  return true;
}

function nameOf(bytes: Uint8Array, length: number): string {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return `${bytes.length}/${bits.slice(0, length)}`;
}

const find = (trie: PrefixTrie<number>, bytes: Uint8Array) => trie.find(bytes, 0, bytes.length as 4 | 16);

it.each([
  // From many prefixes within few bits, so that they meet at every level, to addresses as they are.
  { name: 'few bits', addressBytes: 4, free: 5, rounds: bound(350_000, 50_000) },
  { name: 'few bits of IPv6', addressBytes: 16, free: 5, rounds: bound(350_000, 50_000) },
  { name: 'all bits', addressBytes: 4, free: 32, rounds: bound(150_000, 50_000) },
  { name: 'all bits of IPv6', addressBytes: 16, free: 128, rounds: bound(150_000, 50_000) },
])('says what a table says, over many random changes: $name', ({ addressBytes, free, rounds }) => {
  const dice = random(`trie ${addressBytes} ${free}`);
  const trie = prefixTrie<number>();
  const rows = new Map<string, Row>();
  const all = addressBytes * 8;
  // Bits that differ between addresses; the rest is zero.
  const places = dice.shuffled(Array.from({ length: all }, (_, index) => index)).slice(0, free);
  const lengths = free === all ? undefined : [...places.map((place) => place + 1), 0, all];
  const address = () => {
    const bytes = new Uint8Array(addressBytes);
    for (const place of places) if (dice.next() < 0.5) bytes[place >> 3] = (bytes[place >> 3] as number) | (128 >> (place & 7));
    return bytes;
  };
  const few = Array.from({ length: 200 }, address);
  for (let round = 0; round < rounds; round++) {
    const bytes = free === all ? dice.pick(few) : address();
    const kind = dice.next();
    if (kind < 0.4) {
      let longest: Row | undefined;
      for (const row of rows.values()) if ((longest === undefined || row.length > longest.length) && holds(row, bytes)) longest = row;
      const found = find(trie, bytes);
      if (found !== longest?.value) throw new Error(`round ${round}: ${nameOf(bytes, all)} gives ${found}, not ${longest?.value}`);
      continue;
    }
    const length = lengths ? dice.pick(lengths) : dice.integer(0, all);
    const name = nameOf(bytes, length);
    const before = rows.get(name)?.value;
    // About as many come as go, and there are never many.
    const comes = kind < 0.7 && (rows.size < 60 || rows.has(name));
    const answered = comes ? trie.set(bytes, length, round) : trie.remove(bytes, length);
    if (answered !== before) throw new Error(`round ${round}: ${name} had ${before}, not ${answered}`);
    if (comes) rows.set(name, { bytes, length, value: round });
    else rows.delete(name);
    if (trie.size !== rows.size) throw new Error(`round ${round}: ${trie.size} of ${rows.size}`);
  }
  for (const { bytes, length, value } of rows.values()) expect(trie.remove(bytes, length)).toBe(value);
  expect(trie.size).toBe(0);
  for (const bytes of few) expect(find(trie, bytes)).toBeUndefined();
});

it('what is taken away leaves nothing behind, and 500 peers take little', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const heapBytes = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const dice = random('memory');
  const trie = prefixTrie<number>();
  const address = (size: 4 | 16) => Uint8Array.from({ length: size }, () => dice.integer(0, 255));
  const empty = heapBytes();
  for (let peer = 0; peer < 500; peer++) {
    for (let index = 0; index < 3; index++) trie.set(address(4), 32, peer);
    trie.set(address(16), 64, peer);
  }
  const full = heapBytes();
  expect(full - empty).toBeLessThan(2 << 20);
  for (let round = 0; round < 20_000; round++) {
    const bytes = address(16);
    trie.set(bytes, 128, round);
    // Its neighbour, so that there is a branch deep down.
    bytes[15] = (bytes[15] as number) ^ 1;
    trie.set(bytes, 128, round);
    trie.remove(bytes, 128);
    bytes[15] = (bytes[15] as number) ^ 1;
    trie.remove(bytes, 128);
  }
  expect(trie.size).toBe(2000);
  expect(heapBytes() - full).toBeLessThan(1 << 20);
});

describe('at its edges', () => {
  it('/0 takes all of its family, a whole address itself only', () => {
    const trie = prefixTrie<string>();
    trie.set(new Uint8Array(4), 0, 'all 4');
    trie.set(Uint8Array.of(10, 0, 0, 1), 32, 'host 4');
    trie.set(new Uint8Array(16).fill(0xff), 128, 'host 6');
    const bytes = Uint8Array.of(9, 10, 0, 0, 1, 10, 0, 0, 2);
    expect(trie.find(bytes, 1, 4)).toBe('host 4');
    expect(trie.find(bytes, 5, 4)).toBe('all 4');
    expect(trie.find(new Uint8Array(16).fill(0xff), 0, 16)).toBe('host 6');
    expect(trie.find(new Uint8Array(16), 0, 16)).toBeUndefined();
    trie.set(new Uint8Array(16), 0, 'all 6');
    expect(trie.find(new Uint8Array(16), 0, 16)).toBe('all 6');
    expect(trie.remove(new Uint8Array(4), 0)).toBe('all 4');
    expect(trie.find(bytes, 5, 4)).toBeUndefined();
    expect(trie.size).toBe(3);
  });

  it('bits beyond the length are ignored, and what is written into the bytes later', () => {
    const trie = prefixTrie<number>();
    const bytes = Uint8Array.of(10, 1, 2, 3);
    expect(trie.set(bytes, 8, 1)).toBeUndefined();
    bytes[0] = 11;
    expect(trie.set(Uint8Array.of(10, 9, 9, 9), 8, 2)).toBe(1);
    expect(trie.find(Uint8Array.of(10, 7, 7, 7), 0, 4)).toBe(2);
    expect(trie.remove(Uint8Array.of(10, 0, 0, 0), 9)).toBeUndefined();
    expect(trie.remove(Uint8Array.of(10, 0, 0, 0), 7)).toBeUndefined();
    expect(trie.remove(Uint8Array.of(10, 0, 0, 0), 8)).toBe(2);
  });

  it('an address that is not all there has no prefix; one that cannot be is refused', () => {
    const trie = prefixTrie<number>();
    trie.set(new Uint8Array(4), 0, 1);
    expect(trie.find(new Uint8Array(7), 4, 4)).toBeUndefined();
    expect(trie.find(new Uint8Array(7), -1, 4)).toBeUndefined();
    for (const [bytes, length] of [
      [3, 0],
      [4, 33],
      [4, -1],
      [4, 1.5],
      [16, 129],
      [16, Number.NaN],
    ] as const) {
      expect(() => trie.set(new Uint8Array(bytes), length, 1)).toThrow(RangeError);
      expect(() => trie.remove(new Uint8Array(bytes), length)).toThrow(RangeError);
    }
  });
});
