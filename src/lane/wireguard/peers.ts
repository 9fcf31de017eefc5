// The peers of a link: by public key, in the order of the spec, and by the inner addresses that are theirs.

import { type PrefixTrie, prefixTrie } from '../../packet/prefix-trie.ts';
import { Peer } from './peer.ts';
import type { PeerLink } from './peer-link.ts';
import type { PeerSetup } from './peer-setup.ts';

export class Peers {
  readonly #link: PeerLink;
  readonly #forget: (peer: Peer) => void;
  #byKey = new Map<string, Peer>();
  #routes: PrefixTrie<Peer> = prefixTrie();

  /** `forget`: it is closed, and nothing may come from it any more. */
  constructor(link: PeerLink, forget: (peer: Peer) => void) {
    this.#link = link;
    this.#forget = forget;
  }

  [Symbol.iterator](): IterableIterator<Peer> {
    return this.#byKey.values();
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** `publicKey`: 32 bytes. */
  find(publicKey: Buffer): Peer | undefined {
    return this.#byKey.get(publicKey.toString('latin1'));
  }

  /** The peer that has the inner address of `addressBytes` at `bytes[at]`: the longest prefix of all peers decides. */
  route(bytes: Uint8Array, at: number, addressBytes: 4 | 16): Peer | undefined {
    return this.#routes.find(bytes, at, addressBytes);
  }

  /** These are the peers now: those that stay keep their sessions and endpoints, and a prefix is the last one's that names it. */
  set(setups: readonly PeerSetup[], now: number): void {
    const before = this.#byKey;
    this.#byKey = new Map();
    this.#routes = prefixTrie();
    for (const setup of setups) {
      const key = setup.publicKey.toString('latin1');
      const known = before.get(key) ?? this.#byKey.get(key);
      known?.configure(setup, now);
      const peer = known ?? new Peer(this.#link, setup, now);
      before.delete(key);
      this.#byKey.set(key, peer);
      for (const { bytes, length } of setup.prefixes) this.#routes.set(bytes, length, peer);
    }
    for (const gone of before.values()) {
      gone.close();
      this.#forget(gone);
    }
  }

  close(): void {
    this.#routes = prefixTrie();
    for (const peer of this.#byKey.values()) peer.close();
    this.#byKey.clear();
  }
}
