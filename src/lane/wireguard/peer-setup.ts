// What is declared of a peer, read from the spec of its link. Pure.

import type { LinkPeer } from '../../gen/taplane/v1/link.ts';
import { parsePrefix } from '../../packet/address-text.ts';
import type { PrefixBytes } from '../../packet/prefix-set.ts';
import { KEY_BYTES } from './messages.ts';

export interface PeerSetup {
  /** 32 bytes. */
  publicKey: Buffer;
  /** 32 bytes; zeros for none. */
  presharedKey: Buffer;
  /** Text; empty for none. */
  endpoint: string;
  /** 0: none. */
  keepaliveMs: number;
  prefixes: PrefixBytes[];
  displayName: string;
}

/** *Copies*. Undefined for a peer without a key: the agent lets none pass. */
export function peerSetup(peer: LinkPeer): PeerSetup | undefined {
  if (peer.publicKey.length !== KEY_BYTES) return undefined;
  const presharedKey = Buffer.alloc(KEY_BYTES);
  if (peer.presharedKey.length === KEY_BYTES) presharedKey.set(peer.presharedKey);
  return {
    publicKey: Buffer.from(peer.publicKey),
    presharedKey,
    endpoint: peer.endpoint,
    keepaliveMs: peer.keepalive * 1000,
    prefixes: peer.allowedPrefixes.flatMap((text) => parsePrefix(text) ?? []),
    displayName: peer.displayName || peer.endpoint,
  };
}
