// Longest prefix match for IPv4 and IPv6, each prefix with a value: which peer takes an address. Pure; a lookup allocates nothing.

export interface PrefixTrie<T> {
  /** The value of the longest prefix that holds the address at `bytes[at]`, of 4 or 16 bytes. */
  find(bytes: Uint8Array, at: number, addressBytes: 4 | 16): T | undefined;
  /** Gives `value` to a prefix; bits beyond `length` are ignored. What it had before is answered. */
  set(prefix: Uint8Array, length: number, value: T): T | undefined;
  /** Takes a prefix away; its value is answered. */
  remove(prefix: Uint8Array, length: number): T | undefined;
  readonly size: number;
}

export function prefixTrie<T>(): PrefixTrie<T> {
  throw new Error('not built yet');
}
