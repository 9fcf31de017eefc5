// The flows of a meter: found by key in bounded time, whoever chose the keys. No allocation for a flow that is there.
//
// A flow is 42 words in a piece of the pool; `slot` is its number. An index of buckets with eight places each says where flows are; a key has
// two buckets, and a place holds slot + 1 and eight bits of the hash. Where both buckets are full the flow does not get in. Bucket numbers are
// the upper bits of a sum of products with secret factors (multilinear hashing over 16-bit halves), so that keys chosen without knowing them
// meet no more often than by chance; the sum is stirred, because ports or addresses in a row make sums in a row, which by some factors
// come in clumps.
//
//   word  0..9   key; word 0 is the link of the free list in a free flow
//         10     state, see below; 0 is free
//         11     TCP flags forward | reverse << 8 | DSCP << 16 | least TTL << 24
//         12     tick of the last packet       13, 14  last packet: seconds, nanoseconds
//         15     tick of the last record
//         16..23 counters of 64 bits: packets and bytes forward, reverse        so far the words that every packet touches
//         24..31 the same as told in records
//         32     hash for the first bucket     33  hash for the second
//         34, 35 first packet: seconds, nanoseconds
//         36     EtherType | ICMP type << 16 | ICMP code << 24
//         37..39 source MAC, destination MAC   40, 41  number of the flow, low half first

import { KEY_WORDS, KIND_V4, KIND_WORD, kindOf, PORTS_WORD } from '../packet/flow-key.ts';
import { FLOW_WORDS, type FlowPool, PIECE_FLOWS, PIECE_SHIFT, type Piece } from './flow-pool.ts';

export const HASH_1 = 32;
export const HASH_2 = 33;
export const FIRST_SECONDS = 34;
export const FIRST_NANOS = 35;
export const LAST_SECONDS = 13;
export const LAST_NANOS = 14;
export const LAST_TICK = 12;
export const TOLD_TICK = 15;
export const STATE = 10;
export const FLAGS = 11;
export const TYPES = 36;
export const MACS = 37;
export const NUMBER = 40;
/** In 64-bit counters from the begin of the flow. */
export const COUNTERS = 8;

export const IN_USE = 1;
export const STARTED = 2;
/** Its source is the end B of the key. */
export const FROM_B = 4;
export const OUTGOING = 8;
export const FRAGMENTS = 16;
export const FIN_FORWARD = 32;
export const FIN_REVERSE = 64;
export const CLOSED = 128;
export const ETHERNET = 256;

const PLACES = 8;
const PLACE_SHIFT = 3;
/** So many places of its first bucket a flow takes without a look at the second. */
const PREFERRED = 6;
const SLOT_MASK = 0xffffff;
const LEAST_BUCKET_BITS = 4;
/** 2^24 - 1 slots fit into a place. */
export const ENTRIES_MOST = 1 << 22;

/** Two factors for each half of each word of a key. */
export const SECRET_WORDS = KEY_WORDS * 4;

export class FlowTable {
  readonly #pool: FlowPool;
  readonly #secret: Int32Array;
  #most: number;
  #pieces: (Piece | undefined)[] = [];
  /** Pieces that may have a free flow; some may have none, or be gone. Each is listed once. */
  #open: number[] = [];
  #listed: boolean[] = [];
  #holes: number[] = [];
  #index: Int32Array;
  #bits = LEAST_BUCKET_BITS;
  #size = 0;
  /** Slot of the flow that was found last, -1 for none. */
  #last = -1;
  #hash1 = 0;
  #hash2 = 0;
  /** Where the flow is that was found or made last: its words, and where it begins in them. */
  words: Int32Array = new Int32Array(0);
  counters: Float64Array = new Float64Array(0);
  at = 0;

  /** `secret` are SECRET_WORDS random words that nobody else knows. */
  constructor(pool: FlowPool, most: number, secret: Int32Array) {
    this.#pool = pool;
    this.#most = Math.min(most, ENTRIES_MOST);
    this.#secret = secret.map((factor) => factor | 1);
    this.#index = new Int32Array(PLACES << this.#bits);
  }

  get size(): number {
    return this.#size;
  }

  limit(most: number): void {
    this.#most = Math.min(most, ENTRIES_MOST);
  }

  /** Slots from 0 that may hold flows; see `open`. */
  get slots(): number {
    return this.#pieces.length * PIECE_FLOWS;
  }

  /** Bytes of the index and of the pieces. */
  get memoryBytes(): number {
    const pieces = this.#pieces.reduce((count, piece) => count + (piece === undefined ? 0 : 1), 0);
    return this.#index.length * 4 + pieces * PIECE_FLOWS * FLOW_WORDS * 4;
  }

  /** Points `words`, `counters` and `at` to a slot; false when there is no flow in it. */
  open(slot: number): boolean {
    const piece = this.#pieces[slot >> PIECE_SHIFT];
    if (piece === undefined) return false;
    this.words = piece.words;
    this.counters = piece.counters;
    this.at = (slot & (PIECE_FLOWS - 1)) * FLOW_WORDS;
    return (piece.words[this.at + STATE] as number) !== 0;
  }

  /** Whether no flow is in the piece with this slot, the first of it: all of it can be passed over. */
  isEmptyPiece(slot: number): boolean {
    return (this.#pieces[slot >> PIECE_SHIFT]?.live ?? 0) === 0;
  }

  /** Finds the flow with this key and points to it; its slot, -1 for none. */
  find(key: Int32Array): number {
    // Packets come in trains: it is often the flow of the one before.
    if (this.#last >= 0 && this.#isAt(this.#last, key)) return this.#last;
    this.#hash(key);
    const shift = 32 - this.#bits;
    const tag = this.#tag();
    const slot = this.#findIn((this.#hash1 >>> shift) * PLACES, tag, key);
    this.#last = slot >= 0 ? slot : this.#findIn((this.#hash2 >>> shift) * PLACES, tag, key);
    return this.#last;
  }

  /** Makes a flow with the key that `find` has just not found, all else 0, and points to it; -1 when there is no room. */
  insert(key: Int32Array): number {
    if (this.#size >= this.#most) return -1;
    if (this.#size >= this.#index.length >> 1) this.#grow();
    const place = this.#placeFor(this.#hash1, this.#hash2);
    if (place < 0) return -1;
    const slot = this.#allocate();
    if (slot < 0) return -1;
    this.#index[place] = (slot + 1) | (this.#tag() << 24);
    this.#size++;
    this.open(slot);
    const { words, at } = this;
    words.fill(0, at, at + FLOW_WORDS);
    for (let index = 0; index < KEY_WORDS; index++) words[at + index] = key[index] as number;
    words[at + HASH_1] = this.#hash1;
    words[at + HASH_2] = this.#hash2;
    words[at + STATE] = IN_USE;
    return slot;
  }

  /** Takes a flow out. */
  remove(slot: number): void {
    if (!this.open(slot)) return;
    if (slot === this.#last) this.#last = -1;
    const { words, at } = this;
    const shift = 32 - this.#bits;
    if (!this.#clear(((words[at + HASH_1] as number) >>> shift) * PLACES, slot))
      this.#clear(((words[at + HASH_2] as number) >>> shift) * PLACES, slot);
    words[at + STATE] = 0;
    this.#size--;
    const number = slot >> PIECE_SHIFT;
    const piece = this.#pieces[number] as Piece;
    this.#list(number);
    words[at] = piece.free;
    piece.free = slot & (PIECE_FLOWS - 1);
    piece.live--;
    if (piece.live === 0 && this.#pieces.length > 1) this.#release(number, piece);
  }

  /** Gives all memory back. */
  close(): void {
    for (const piece of this.#pieces) if (piece !== undefined) this.#pool.giveBack(piece);
    this.#last = -1;
    this.#pieces = [];
    this.#open = [];
    this.#listed = [];
    this.#holes = [];
    this.#size = 0;
    this.#bits = LEAST_BUCKET_BITS;
    this.#index = new Int32Array(PLACES << this.#bits);
  }

  #hash(key: Int32Array): void {
    const secret = this.#secret;
    let first = 0;
    let second = 0;
    for (let index = 0; index < KEY_WORDS; index++) {
      const word = key[index] as number;
      // Most words of an IPv4 key.
      if (word === 0) continue;
      const low = word & 0xffff;
      const high = word >>> 16;
      const at = index * 4;
      first = (first + Math.imul(low, secret[at] as number) + Math.imul(high, secret[at + 1] as number)) | 0;
      second = (second + Math.imul(low, secret[at + 2] as number) + Math.imul(high, secret[at + 3] as number)) | 0;
    }
    this.#hash1 = stirred(first);
    this.#hash2 = stirred(second);
  }

  #tag(): number {
    return (this.#hash1 ^ (this.#hash2 >>> 7)) & 0xff;
  }

  #findIn(bucket: number, tag: number, key: Int32Array): number {
    const index = this.#index;
    for (let place = bucket; place < bucket + PLACES; place++) {
      const entry = index[place] as number;
      // Places are filled from the first on, without gaps.
      if (entry === 0) return -1;
      if (entry >>> 24 !== tag) continue;
      const slot = (entry & SLOT_MASK) - 1;
      if (this.#isAt(slot, key)) return slot;
    }
    return -1;
  }

  /** Whether the flow in a slot that is in use has this key; points to it if so. */
  #isAt(slot: number, key: Int32Array): boolean {
    const piece = this.#pieces[slot >> PIECE_SHIFT] as Piece;
    const at = (slot & (PIECE_FLOWS - 1)) * FLOW_WORDS;
    const words = piece.words;
    if (words[at + PORTS_WORD] !== key[PORTS_WORD] || words[at + KIND_WORD] !== key[KIND_WORD]) return false;
    if (words[at] !== key[0] || words[at + 4] !== key[4]) return false;
    // Of IPv4 that is all.
    if (kindOf(key[KIND_WORD] as number) !== KIND_V4)
      for (let index = 1; index < 8; index++) if (words[at + index] !== key[index]) return false;
    this.words = words;
    this.counters = piece.counters;
    this.at = at;
    return true;
  }

  /** A free place in the emptier of the two buckets, -1 when both are full. */
  #placeFor(hash1: number, hash2: number): number {
    const shift = 32 - this.#bits;
    const first = this.#freeIn((hash1 >>> shift) * PLACES);
    // A flow in its first bucket is found sooner.
    if (first >= 0 && (first & (PLACES - 1)) < PREFERRED) return first;
    const second = this.#freeIn((hash2 >>> shift) * PLACES);
    // The further back the first free place is, the fuller is the bucket.
    if (second < 0 || (first >= 0 && (first & (PLACES - 1)) <= (second & (PLACES - 1)))) return first;
    return second;
  }

  #freeIn(bucket: number): number {
    for (let place = bucket; place < bucket + PLACES; place++) if (this.#index[place] === 0) return place;
    return -1;
  }

  #clear(bucket: number, slot: number): boolean {
    const index = this.#index;
    for (let place = bucket; place < bucket + PLACES; place++) {
      if (((index[place] as number) & SLOT_MASK) !== slot + 1) continue;
      let last = place;
      while (last + 1 < bucket + PLACES && index[last + 1] !== 0) last++;
      index[place] = index[last] as number;
      index[last] = 0;
      return true;
    }
    return false;
  }

  #allocate(): number {
    for (;;) {
      const number = this.#open.at(-1) ?? this.#addPiece();
      if (number < 0) return -1;
      const piece = this.#pieces[number];
      if (piece === undefined || piece.free < 0) {
        this.#open.pop();
        this.#listed[number] = false;
        continue;
      }
      const flow = piece.free;
      piece.free = piece.words[flow * FLOW_WORDS] as number;
      piece.live++;
      return number * PIECE_FLOWS + flow;
    }
  }

  #list(number: number): void {
    if (this.#listed[number]) return;
    this.#listed[number] = true;
    this.#open.push(number);
  }

  #addPiece(): number {
    const piece = this.#pool.take();
    if (piece === undefined) return -1;
    const number = this.#holes.pop() ?? this.#pieces.length;
    this.#pieces[number] = piece;
    this.#list(number);
    return number;
  }

  #release(number: number, piece: Piece): void {
    this.#pool.giveBack(piece);
    this.#pieces[number] = undefined;
    this.#holes.push(number);
  }

  /** Doubles the index. A bucket becomes two, and what was in it goes to one of these: there is always room. */
  #grow(): void {
    const before = this.#index;
    const shift = 32 - this.#bits;
    this.#bits++;
    this.#index = new Int32Array(PLACES << this.#bits);
    for (let place = 0; place < before.length; place++) {
      const entry = before[place] as number;
      if (entry === 0) continue;
      this.open((entry & SLOT_MASK) - 1);
      const hash1 = this.words[this.at + HASH_1] as number;
      const hash = hash1 >>> shift === place >> PLACE_SHIFT ? hash1 : (this.words[this.at + HASH_2] as number);
      this.#index[this.#freeIn((hash >>> (shift - 1)) * PLACES)] = entry;
    }
  }
}

/** Another 32-bit number for each one, far from those of its neighbours (the finalizer of murmur3). */
function stirred(sum: number): number {
  let value = sum;
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return value ^ (value >>> 16);
}
