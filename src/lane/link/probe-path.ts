// Between which addresses a link probes one of its peers. Pure.

import type { LinkPeer } from '../../gen/taplane/v1/link.ts';
import { parseAddress, parsePrefix } from '../../packet/address-text.ts';
import type { ProbePath } from '../../packet/probe-packet.ts';

const TTL = 64;
/** Goes no further than the other end of the link. */
const TTL_NEAR = 1;
/** Nobody's address (RFC 7600, RFC 6666): only another data plane answers what goes there. */
const NOBODY = { 4: Uint8Array.of(192, 0, 0, 8), 16: Uint8Array.from(Buffer.from('01000000000000000000000000000000', 'hex')) };

/**
 * `addresses` are those of the interface, as prefixes. To the probe address of the peer, else to its first allowed prefix of one address, else to
 * nobody's: always from an address of the same family. Undefined when the interface has none.
 */
export function probePath(addresses: readonly string[], peer: Pick<LinkPeer, 'probeAddress' | 'allowedPrefixes'>): ProbePath | undefined {
  const own = addresses.flatMap((text) => parsePrefix(text)?.bytes ?? []);
  const ofFamily = (size: number): Uint8Array | undefined => own.find((bytes) => bytes.length === size && !isLinkLocal(bytes));
  const given = parseAddress(peer.probeAddress);
  const hosts = peer.allowedPrefixes.flatMap((text) => {
    const prefix = parsePrefix(text);
    return prefix !== undefined && prefix.length === prefix.bytes.length * 8 ? [prefix.bytes] : [];
  });
  for (const to of given === undefined ? hosts : [given]) {
    const from = ofFamily(to.length);
    if (from !== undefined) return { from, to, ttl: TTL };
  }
  const from = ofFamily(4) ?? ofFamily(16);
  return from && { from, to: NOBODY[from.length as 4 | 16], ttl: TTL_NEAR };
}

/** On Ethernet: from the station of the interface with this uid. */
export function stationPath(uid: string): ProbePath {
  const digits = uid.replaceAll('-', '').slice(-10).padStart(10, '0');
  const from = Buffer.from(`02${/^[0-9a-f]{10}$/i.test(digits) ? digits : '0000000000'}`, 'hex');
  return { from, to: new Uint8Array(), ttl: TTL_NEAR };
}

function isLinkLocal(bytes: Uint8Array): boolean {
  return bytes.length === 16 && bytes[0] === 0xfe && ((bytes[1] as number) & 0xc0) === 0x80;
}
