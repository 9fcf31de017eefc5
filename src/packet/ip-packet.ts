// Where the parts of an IP packet are (RFC 791, RFC 8200), for those who answer it. What headers claim is checked against the frame.
// Pure, no allocation: the result goes into the caller's object.

import { fold, sumBytes } from './checksum.ts';
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, etherType, isStation, linkHeaderBytes } from './ethernet.ts';

const V4_BYTES = 20;
const V6_BYTES = 40;
const MORE_FRAGMENTS = 0x2000;
const V4_OFFSET = 0x1fff;
const V6_OFFSET_AND_MORE = 0xfff9;
const V6_OFFSET = 0xfff8;
const [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS] = [0, 43, 44, 60] as const;
/** RFC 8200, section 4.1, knows of 6 in one packet. */
const EXTENSIONS_MOST = 8;

export interface IpPacket {
  version: 4 | 6;
  /** Bytes of the link header, 0 for none. */
  linkBytes: number;
  /** Index of the IP header, of its source address, of what follows all headers walked, and of the end of the packet. */
  at: number;
  addressesAt: number;
  payloadAt: number;
  end: number;
  /** Bytes of an address; the destination follows the source. */
  addressBytes: 4 | 16;
  /** What the payload is, or is a part of: an IP protocol number. */
  protocol: number;
  /** One of several parts of a datagram. */
  fragment: boolean;
  /** The payload begins here: false in every fragment but the first. */
  first: boolean;
}

/** An object to read into. */
export function ipPacket(): IpPacket {
  return {
    version: 4,
    linkBytes: 0,
    at: 0,
    addressesAt: 0,
    payloadAt: 0,
    end: 0,
    addressBytes: 4,
    protocol: 0,
    fragment: false,
    first: false,
  };
}

/**
 * Reads the IP packet of the frame `bytes[start, start + length)`, which lies within `bytes`; `ethernet` tells a TAP frame from a TUN
 * packet. Answers false, with `into` undefined, for what a host drops: no IP, cut off, a wrong IPv4 checksum (RFC 1122, section 3.2.1.2),
 * an IPv6 routing header with way to go, and more than 8 extension headers.
 */
export function readIpPacket(bytes: Uint8Array, start: number, length: number, ethernet: boolean, into: IpPacket): boolean {
  const linkBytes = linkHeaderBytes(bytes, start, length, ethernet);
  if (linkBytes < 0 || length < linkBytes + V4_BYTES) return false;
  const at = start + linkBytes;
  const version = (bytes[at] as number) >> 4;
  if (version !== 4 && version !== 6) return false;
  if (ethernet && etherType(bytes, start, linkBytes) !== (version === 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6)) return false;
  into.version = version;
  into.linkBytes = linkBytes;
  into.at = at;
  return version === 4 ? readV4(bytes, at, start + length, into) : readV6(bytes, at, start + length, into);
}

/** Whether an answer may be sent: both ends of the packet are single ones (RFC 1122, section 3.2.2; RFC 4291, section 2.7), on its link too. */
export function isBetweenHosts(bytes: Uint8Array, { at, linkBytes, addressesAt, addressBytes }: IpPacket): boolean {
  const frame = at - linkBytes;
  if (linkBytes > 0 && !(isStation(bytes, frame) && isStation(bytes, frame + 6))) return false;
  return isHost(bytes, addressesAt, addressBytes) && isHost(bytes, addressesAt + addressBytes, addressBytes);
}

/** Whether an address can be of one host: not 0.0.0.0/8, 224.0.0.0/4, 255.255.255.255, ::, ff00::/8. */
export function isHost(bytes: Uint8Array, at: number, size: 4 | 16): boolean {
  const first = bytes[at] as number;
  if (size === 4) return first !== 0 && (first < 224 || first > 239) && !isAll(bytes, at, 4, 255);
  return first !== 255 && !isAll(bytes, at, 16, 0);
}

/** Whether all `size` bytes at `at` are `value`. */
export function isAll(bytes: Uint8Array, at: number, size: number, value: number): boolean {
  for (let index = 0; index < size; index++) if (bytes[at + index] !== value) return false;
  return true;
}

function half(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

function readV4(bytes: Uint8Array, at: number, end: number, into: IpPacket): boolean {
  const headerBytes = ((bytes[at] as number) & 15) * 4;
  const total = half(bytes, at + 2);
  if (headerBytes < V4_BYTES || total < headerBytes || at + total > end) return false;
  if (fold(sumBytes(bytes, at, headerBytes)) !== 0xffff) return false;
  const fragment = half(bytes, at + 6);
  into.addressesAt = at + 12;
  into.addressBytes = 4;
  into.protocol = bytes[at + 9] as number;
  into.payloadAt = at + headerBytes;
  into.end = at + total;
  into.first = (fragment & V4_OFFSET) === 0;
  into.fragment = (fragment & (V4_OFFSET | MORE_FRAGMENTS)) !== 0;
  return true;
}

function readV6(bytes: Uint8Array, at: number, end: number, into: IpPacket): boolean {
  into.addressesAt = at + 8;
  into.addressBytes = 16;
  into.end = at + V6_BYTES + half(bytes, at + 4);
  into.first = true;
  into.fragment = false;
  return into.end <= end && skipExtensions(bytes, at + V6_BYTES, bytes[at + 6] as number, into);
}

/** Walks over the extension headers that say nothing of the payload. An ESP or authentication header is payload: it covers what follows. */
function skipExtensions(bytes: Uint8Array, from: number, type: number, into: IpPacket): boolean {
  let at = from;
  let next = type;
  for (let count = 0; into.first; count++) {
    if (next !== HOP_BY_HOP && next !== ROUTING && next !== FRAGMENT && next !== DESTINATION_OPTIONS) break;
    if (count === EXTENSIONS_MOST || at + 8 > into.end) return false;
    if (next === ROUTING && bytes[at + 3] !== 0) return false;
    if (next === FRAGMENT) {
      const offset = half(bytes, at + 2);
      into.first = (offset & V6_OFFSET) === 0;
      // One with neither offset nor more is whole (RFC 6946).
      into.fragment = (offset & V6_OFFSET_AND_MORE) !== 0;
    }
    const size = next === FRAGMENT ? 8 : ((bytes[at + 1] as number) + 1) * 8;
    next = bytes[at] as number;
    at += size;
    if (at > into.end) return false;
  }
  into.protocol = next;
  into.payloadAt = at;
  return true;
}
