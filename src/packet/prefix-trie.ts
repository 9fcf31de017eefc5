// Longest prefix match for IPv4 and IPv6, each prefix with a value: which peer takes an address. Pure; a lookup allocates nothing.
//
// One compressed binary trie for each family: a node is a prefix, its children are longer ones that begin with it and differ in the bit after it.
// Nodes without a value have two children, so there are fewer of them than prefixes.

export interface PrefixTrie<T> {
  /** The value of the longest prefix that holds the address at `bytes[at]`, of 4 or 16 bytes; undefined too when `bytes` end before it does. */
  find(bytes: Uint8Array, at: number, addressBytes: 4 | 16): T | undefined;
  /**
   * Gives `value` to a prefix, of 4 or 16 bytes (*copies*); bits beyond `length` are ignored. What it had before is answered. Throws RangeError for
   * bytes that are no address, and a length that it does not have.
   */
  set(prefix: Uint8Array, length: number, value: T): T | undefined;
  /** Takes a prefix away; its value is answered. Throws as `set`. */
  remove(prefix: Uint8Array, length: number): T | undefined;
  /** Prefixes of both families. */
  readonly size: number;
}

interface Node<T> {
  /** Words of 32 bits, those of IPv4 have the rest zero; bits beyond `length` are zero. */
  a: number;
  b: number;
  c: number;
  d: number;
  length: number;
  /** What it has a value for, when it has one; `undefined` may be a value. */
  held: boolean;
  value: T | undefined;
  zero: Node<T> | undefined;
  one: Node<T> | undefined;
}

/** Words of the address that is looked for. */
const wanted = { a: 0, b: 0, c: 0, d: 0 };

export function prefixTrie<T>(): PrefixTrie<T> {
  // A root of each family is there always, so that every change has a parent.
  const root4 = node<T>(0);
  const root6 = node<T>(0);
  let size = 0;

  function rootFor(prefix: Uint8Array, length: number): Node<T> {
    if (prefix.length !== 4 && prefix.length !== 16) throw new RangeError(`prefix trie: an address of ${prefix.length} bytes`);
    if (!Number.isInteger(length) || length < 0 || length > prefix.length * 8)
      throw new RangeError(`prefix trie: ${length} of ${prefix.length * 8} bits`);
    readAddress(prefix, 0, prefix.length);
    wanted.a &= mask(length);
    wanted.b &= mask(length - 32);
    wanted.c &= mask(length - 64);
    wanted.d &= mask(length - 96);
    return prefix.length === 4 ? root4 : root6;
  }

  return {
    get size() {
      return size;
    },

    find(bytes, at, addressBytes) {
      if (at < 0 || at + addressBytes > bytes.length) return undefined;
      readAddress(bytes, at, addressBytes);
      let found: T | undefined;
      let next: Node<T> | undefined = addressBytes === 4 ? root4 : root6;
      while (next !== undefined && sharedBits(next) === next.length) {
        if (next.held) found = next.value;
        next = bit(next.length) === 0 ? next.zero : next.one;
      }
      return found;
    },

    set(prefix, length, value) {
      let parent = rootFor(prefix, length);
      // `parent` holds the prefix all the way down.
      while (parent.length < length) {
        const child = bit(parent.length) === 0 ? parent.zero : parent.one;
        const shared = child === undefined ? length : Math.min(sharedBits(child), length);
        if (child !== undefined && shared === child.length) {
          parent = child;
          continue;
        }
        const between = node<T>(shared);
        setChild(parent, between);
        if (child !== undefined) adopt(between, child);
        parent = between;
      }
      const before = parent.value;
      if (!parent.held) size++;
      parent.held = true;
      parent.value = value;
      return before;
    },

    remove(prefix, length) {
      let grandparent: Node<T> | undefined;
      let parent: Node<T> | undefined;
      let at: Node<T> | undefined = rootFor(prefix, length);
      while (at !== undefined && at.length < length) {
        grandparent = parent;
        parent = at;
        at = bit(at.length) === 0 ? at.zero : at.one;
        if (at !== undefined && (at.length > length || sharedBits(at) < at.length)) return undefined;
      }
      if (at === undefined || !at.held) return undefined;
      const before = at.value;
      at.held = false;
      at.value = undefined;
      size--;
      prune(parent, at);
      // One that was there only to branch.
      if (parent !== undefined) prune(grandparent, parent);
      return before;
    },
  };
}

/** Takes a node without value out when it has not two children; `parent` is undefined for a root, which stays. */
function prune<T>(parent: Node<T> | undefined, { held, zero, one }: Node<T>): void {
  if (parent === undefined || held || (zero !== undefined && one !== undefined)) return;
  if (bit(parent.length) === 0) parent.zero = zero ?? one;
  else parent.one = zero ?? one;
}

function node<T>(length: number): Node<T> {
  return {
    a: wanted.a & mask(length),
    b: wanted.b & mask(length - 32),
    c: wanted.c & mask(length - 64),
    d: wanted.d & mask(length - 96),
    length,
    held: false,
    value: undefined,
    zero: undefined,
    one: undefined,
  };
}

/** On the side where the wanted prefix goes. */
function setChild<T>(parent: Node<T>, child: Node<T>): void {
  if (bit(parent.length) === 0) parent.zero = child;
  else parent.one = child;
}

function adopt<T>(parent: Node<T>, child: Node<T>): void {
  if (bitOf(child.a, child.b, child.c, child.d, parent.length) === 0) parent.zero = child;
  else parent.one = child;
}

function readAddress(bytes: Uint8Array, at: number, addressBytes: number): void {
  wanted.a = word(bytes, at);
  wanted.b = addressBytes === 4 ? 0 : word(bytes, at + 4);
  wanted.c = addressBytes === 4 ? 0 : word(bytes, at + 8);
  wanted.d = addressBytes === 4 ? 0 : word(bytes, at + 12);
}

function word(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 24) | ((bytes[at + 1] as number) << 16) | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number);
}

/** The first `bits` of a word; none below 0, all above 32. */
function mask(bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : -1 << (32 - bits);
}

/** How many of its first bits the wanted address shares with a node, at most the node's length. */
function sharedBits<T>(at: Node<T>): number {
  let bits = Math.clz32(at.a ^ wanted.a);
  if (bits === 32) bits += Math.clz32(at.b ^ wanted.b);
  if (bits === 64) bits += Math.clz32(at.c ^ wanted.c);
  if (bits === 96) bits += Math.clz32(at.d ^ wanted.d);
  return Math.min(bits, at.length);
}

/** A bit of the wanted address, 0 being the first; 0 beyond its end. */
function bit(index: number): number {
  return bitOf(wanted.a, wanted.b, wanted.c, wanted.d, index);
}

function bitOf(a: number, b: number, c: number, d: number, index: number): number {
  const of = index < 32 ? a : index < 64 ? b : index < 96 ? c : d;
  return index >= 128 ? 0 : (of >>> (31 - (index & 31))) & 1;
}
