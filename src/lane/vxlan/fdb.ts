// The forwarding database of a vxlan link: which remote a MAC address is behind. Pure but for its memory; the clock is passed in.
//
//   unknown --heard from a remote--> there --heard from another remote--> there (moved at once)
//      ^---- not heard for ageMs ------'  '--heard on our own side--> home --heard from a remote--> there
//
// * Only addresses that some remote was heard with are kept: our own side is known to the node's bridge, which has a table for it. An address
//   that was remote and is heard here stays as `HOME` until it ages, so that one that goes to and fro is seen to do so.
// * When it is full nothing more is learned, and that is counted. To let the oldest go instead would give a remote that makes up addresses
//   the power to have all others forgotten, and their frames flooded.
// * Pinned addresses never move, never age, and do not count against the bound.
// * An address that moves more than FLAPS times, each within FLAP_MS of the one before, is flapping: there is a loop, or it is there twice.
//
// Open addressing in typed arrays, by a hash that the network cannot foresee: no allocation for a frame.

/** Answers of `find`: unknown, and on our own side. */
export const NOWHERE = -1;
export const HOME = 0xffff;

/** `pinned`: it belongs to another remote, for good. `none`: an address of a group, or all zeros, which is nobody's. */
export type Learned = 'known' | 'new' | 'moved' | 'full' | 'pinned' | 'none';

export interface FdbLimits {
  /** Learned addresses at most. */
  most: number;
  /** Milliseconds after which one that was not heard is forgotten. */
  ageMs: number;
}

export interface FdbEntry {
  /** 48 bits. */
  mac: number;
  remote: number;
  isStatic: boolean;
}

const FLAPS = 8;
const FLAP_MS = 1000;
const SLOTS_LEAST = 256;
/** Slots that are looked through for what has aged when the table is full. */
const SWEEP = 64;
const [EMPTY, LEARNED, PINNED] = [0, 1, 2] as const;

interface Slots {
  last: number;
  kind: Uint8Array;
  /** The address: 16 and 32 bits. */
  high: Uint16Array;
  low: Int32Array;
  remote: Uint16Array;
  seenMs: Float64Array;
  movedMs: Float64Array;
  moves: Uint8Array;
}

export class ForwardingTable {
  readonly #seed: number;
  #most: number;
  #ageMs: number;
  #slots = slotsOf(SLOTS_LEAST);
  #learned = 0;
  #pinned = 0;
  #cursor = 0;
  #high = 0;
  #low = 0;
  /** Addresses that changed their place. */
  moves = 0;
  /** Addresses that were not learned since the table was full, each time that they were heard. */
  refused = 0;
  /** Whether what `find` found last is flapping. */
  flapping = false;

  /** `seed`: 32 bits that the network does not know. */
  constructor(limits: FdbLimits, seed: number) {
    this.#seed = seed | 0;
    this.#most = limits.most;
    this.#ageMs = limits.ageMs;
  }

  /** Learned addresses, those at home and those that have aged and were not swept yet among them. */
  get learned(): number {
    return this.#learned;
  }

  /** What is beyond a smaller bound stays until it ages. */
  limit({ most, ageMs }: FdbLimits): void {
    this.#most = most;
    this.#ageMs = ageMs;
  }

  /** The remote that the address at `at` is behind, `HOME` or `NOWHERE`. */
  find(bytes: Uint8Array, at: number, nowMs: number): number {
    this.#read(bytes, at);
    const slot = this.#slotOf();
    this.flapping = false;
    const { kind, remote, moves, movedMs } = this.#slots;
    if (kind[slot] === EMPTY || this.#isOld(slot, nowMs)) return NOWHERE;
    this.flapping = (moves[slot] as number) > FLAPS && nowMs - (movedMs[slot] as number) < FLAP_MS;
    return remote[slot] as number;
  }

  /** A frame with this source came from `remote` (0 to 65534). */
  learn(bytes: Uint8Array, at: number, remote: number, nowMs: number): Learned {
    this.#read(bytes, at);
    if (((this.#high >> 8) & 1) === 1 || (this.#high === 0 && this.#low === 0)) return 'none';
    const slot = this.#slotOf();
    const slots = this.#slots;
    if (slots.kind[slot] === PINNED) return slots.remote[slot] === remote ? 'known' : 'pinned';
    if (slots.kind[slot] === LEARNED) {
      const isOld = this.#isOld(slot, nowMs);
      const isSame = slots.remote[slot] === remote;
      slots.seenMs[slot] = nowMs;
      slots.remote[slot] = remote;
      if (isOld) slots.moves[slot] = 0;
      else if (!isSame) this.#moved(slot, nowMs);
      return isOld ? 'new' : isSame ? 'known' : 'moved';
    }
    if (this.#learned >= this.#most) {
      this.sweep(nowMs, SWEEP);
      if (this.#learned >= this.#most) {
        this.refused++;
        return 'full';
      }
    }
    this.#learned++;
    this.#put(LEARNED, remote, nowMs);
    return 'new';
  }

  /** Whether the address is pinned to another remote than this. */
  isPinnedElsewhere(bytes: Uint8Array, at: number, remote: number): boolean {
    if (this.#pinned === 0) return false;
    this.#read(bytes, at);
    const slot = this.#slotOf();
    return this.#slots.kind[slot] === PINNED && this.#slots.remote[slot] !== remote;
  }

  /** A frame with this source came from our own side: if it was behind a remote it is no more. Answers whether it has moved. */
  home(bytes: Uint8Array, at: number, nowMs: number): boolean {
    if (this.#learned === 0) return false;
    this.#read(bytes, at);
    const slot = this.#slotOf();
    const { kind, remote, seenMs } = this.#slots;
    if (kind[slot] !== LEARNED) return false;
    if (this.#isOld(slot, nowMs)) {
      this.#remove(slot);
      return false;
    }
    seenMs[slot] = nowMs;
    if (remote[slot] === HOME) return false;
    remote[slot] = HOME;
    this.#moved(slot, nowMs);
    return true;
  }

  /** Binds an address (48 bits) to a remote for good; the first one counts. Addresses of groups are ignored. */
  pin(mac: number, remote: number): void {
    this.#high = Math.floor(mac / 2 ** 32);
    this.#low = mac | 0;
    if (((this.#high >> 8) & 1) === 1 || mac === 0) return;
    const slot = this.#slotOf();
    const { kind } = this.#slots;
    if (kind[slot] === PINNED) return;
    if (kind[slot] === LEARNED) this.#remove(slot);
    this.#pinned++;
    this.#put(PINNED, remote, 0);
  }

  unpinAll(): void {
    this.#removeWhere((slot) => this.#slots.kind[slot] === PINNED);
  }

  /** A remote is gone, and with it all that was behind it. */
  forget(remote: number): void {
    this.#removeWhere((slot) => this.#slots.remote[slot] === remote);
  }

  /** Looks through the next `count` slots and removes what has aged. */
  sweep(nowMs: number, count = this.#slots.last + 1): void {
    for (let left = count; left > 0; left--) {
      const slot = this.#cursor & this.#slots.last;
      // What follows may have come to this slot.
      if (this.#slots.kind[slot] === LEARNED && this.#isOld(slot, nowMs)) this.#remove(slot);
      else this.#cursor = slot + 1;
    }
  }

  /** At most `most` of the addresses that are behind remotes now, the pinned ones first. */
  list(nowMs: number, most: number): FdbEntry[] {
    const found: FdbEntry[] = [];
    const { kind, high, low, remote, last } = this.#slots;
    for (const wanted of [PINNED, LEARNED]) {
      for (let slot = 0; slot <= last && found.length < most; slot++) {
        if (kind[slot] !== wanted || remote[slot] === HOME || this.#isOld(slot, nowMs)) continue;
        const mac = (high[slot] as number) * 2 ** 32 + ((low[slot] as number) >>> 0);
        found.push({ mac, remote: remote[slot] as number, isStatic: wanted === PINNED });
      }
    }
    return found;
  }

  #read(bytes: Uint8Array, at: number): void {
    this.#high = ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
    this.#low =
      ((bytes[at + 2] as number) << 24) | ((bytes[at + 3] as number) << 16) | ((bytes[at + 4] as number) << 8) | (bytes[at + 5] as number);
  }

  #isOld(slot: number, nowMs: number): boolean {
    return this.#slots.kind[slot] === LEARNED && nowMs - (this.#slots.seenMs[slot] as number) > this.#ageMs;
  }

  #moved(slot: number, nowMs: number): void {
    const { moves, movedMs } = this.#slots;
    this.moves++;
    const isSoon = nowMs - (movedMs[slot] as number) < FLAP_MS;
    moves[slot] = isSoon ? Math.min(255, (moves[slot] as number) + 1) : 1;
    movedMs[slot] = nowMs;
  }

  /** The slot of the address that was read, or the empty one where it would go. */
  #slotOf(): number {
    const { kind, high, low, last } = this.#slots;
    let slot = this.#hash(this.#high, this.#low) & last;
    while (kind[slot] !== EMPTY && (low[slot] !== this.#low || high[slot] !== this.#high)) slot = (slot + 1) & last;
    return slot;
  }

  #hash(high: number, low: number): number {
    let hash = Math.imul(low ^ this.#seed, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15) ^ high, 0xc2b2ae35) + this.#seed;
    hash = Math.imul(hash ^ (hash >>> 13), 0x27d4eb2f);
    return hash ^ (hash >>> 16);
  }

  /** Puts the address that was read, which is not there, with its count raised already. */
  #put(kind: number, remote: number, nowMs: number): void {
    if ((this.#learned + this.#pinned) * 2 > this.#slots.last) this.#grow();
    const slot = this.#slotOf();
    const slots = this.#slots;
    slots.kind[slot] = kind;
    slots.high[slot] = this.#high;
    slots.low[slot] = this.#low;
    slots.remote[slot] = remote;
    slots.seenMs[slot] = nowMs;
    slots.movedMs[slot] = Number.NEGATIVE_INFINITY;
    slots.moves[slot] = 0;
  }

  #grow(): void {
    const old = this.#slots;
    const [high, low] = [this.#high, this.#low];
    this.#slots = slotsOf((old.last + 1) * 2);
    for (let slot = 0; slot <= old.last; slot++) {
      if (old.kind[slot] === EMPTY) continue;
      this.#high = old.high[slot] as number;
      this.#low = old.low[slot] as number;
      copySlot(old, slot, this.#slots, this.#slotOf());
    }
    this.#high = high;
    this.#low = low;
  }

  /** What stands behind a removed one only comes nearer, so every slot is looked at. */
  #removeWhere(isGone: (slot: number) => boolean): void {
    for (let slot = 0; slot <= this.#slots.last; ) {
      if (this.#slots.kind[slot] !== EMPTY && isGone(slot)) this.#remove(slot);
      else slot++;
    }
  }

  /** Empties a slot and closes the gap in the chain behind it. */
  #remove(at: number): void {
    const slots = this.#slots;
    const { kind, high, low, last } = slots;
    if (kind[at] === PINNED) this.#pinned--;
    else this.#learned--;
    let gap = at;
    kind[gap] = EMPTY;
    for (let slot = (gap + 1) & last; kind[slot] !== EMPTY; slot = (slot + 1) & last) {
      const ideal = this.#hash(high[slot] as number, low[slot] as number) & last;
      // It may move forward to the gap unless its own place lies behind the gap.
      if (((slot - ideal) & last) < ((slot - gap) & last)) continue;
      copySlot(slots, slot, slots, gap);
      kind[slot] = EMPTY;
      gap = slot;
    }
  }
}

function slotsOf(count: number): Slots {
  return {
    last: count - 1,
    kind: new Uint8Array(count),
    high: new Uint16Array(count),
    low: new Int32Array(count),
    remote: new Uint16Array(count),
    seenMs: new Float64Array(count),
    movedMs: new Float64Array(count),
    moves: new Uint8Array(count),
  };
}

function copySlot(from: Slots, at: number, to: Slots, target: number): void {
  to.kind[target] = from.kind[at] as number;
  to.high[target] = from.high[at] as number;
  to.low[target] = from.low[at] as number;
  to.remote[target] = from.remote[at] as number;
  to.seenMs[target] = from.seenMs[at] as number;
  to.movedMs[target] = from.movedMs[at] as number;
  to.moves[target] = from.moves[at] as number;
}
