// What coalescing wants to know of a frame: where the parts of its TCP or UDP packet are, which may stand in one super-frame with others like
// it. Pure, no allocation: the result goes into the caller's object.

import { fold, sumBytes } from './checksum.ts';
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, etherType, linkHeaderBytes } from './ethernet.ts';
import { half, type SuperFrame, superFrame, TCP, UDP } from './pieces.ts';

const V4_FRAGMENT = 0x3fff;
const V4_RESERVED = 0x8000;
const [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS] = [0, 43, 44, 60] as const;
const TCP_ACK = 0x10;
const TCP_PSH = 0x08;

export interface FlowSegment extends SuperFrame {
  /** Data with nothing special: it may be joined, if its checksums are right. */
  joinable: boolean;
}

/** An object to read into. */
export function flowSegment(): FlowSegment {
  return { ...superFrame(), joinable: false };
}

/**
 * What a frame is to the flows that are being joined: `segment` of one of them, with `into` filled; `apart` belongs to none of them; `unclear` might
 * belong to any: a fragment, or one with headers between IP and transport.
 */
export type SegmentKind = 'segment' | 'apart' | 'unclear';

/** Reads the frame `bytes[start, start + length)`, which lies within `bytes`. `ethernet` tells a TAP frame from a TUN packet. */
export function readFlowSegment(bytes: Uint8Array, start: number, length: number, ethernet: boolean, into: FlowSegment): SegmentKind {
  const linkBytes = linkHeaderBytes(bytes, start, length, ethernet);
  const l3 = start + linkBytes;
  if (linkBytes < 0 || length < linkBytes + 20) return 'apart';
  const version = (bytes[l3] as number) >> 4;
  if (version !== 4 && (version !== 6 || length < linkBytes + 40)) return 'apart';
  if (ethernet && etherType(bytes, start, linkBytes) !== (version === 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6)) return 'apart';
  into.start = start;
  into.l3 = l3;
  into.v4 = version === 4;
  const protocol = into.v4 ? bytes[l3 + 9] : bytes[l3 + 6];
  if (!into.v4 && (protocol === HOP_BY_HOP || protocol === ROUTING || protocol === FRAGMENT || protocol === DESTINATION_OPTIONS))
    return 'unclear';
  if (protocol !== TCP && protocol !== UDP) return 'apart';
  into.isTcp = protocol === TCP;
  // Options, fragments, and a reserved bit of IPv4.
  if (into.v4 && (bytes[l3] !== 0x45 || (half(bytes, l3 + 6) & (V4_FRAGMENT | V4_RESERVED)) !== 0)) return 'unclear';
  into.l4 = l3 + (into.v4 ? 20 : 40);
  into.end = into.v4 ? l3 + half(bytes, l3 + 2) : into.l4 + half(bytes, l3 + 4);
  const minimum = into.isTcp ? 20 : 8;
  if (into.l4 + minimum > into.end || into.end > start + length) return 'unclear';
  const l4Bytes = into.isTcp ? ((bytes[into.l4 + 12] as number) >> 4) * 4 : 8;
  into.payload = into.l4 + l4Bytes;
  // Padding behind the packet would come to stand between payloads.
  into.joinable = l4Bytes >= minimum && into.payload < into.end && into.end === start + length && isPlain(bytes, into);
  return 'segment';
}

function isPlain(bytes: Uint8Array, { l4, end, isTcp }: FlowSegment): boolean {
  if (isTcp) return ((bytes[l4 + 13] as number) & ~TCP_PSH) === TCP_ACK && ((bytes[l4 + 12] as number) & 0x0f) === 0;
  // One without a checksum cannot be verified, and its pieces would get one (net/ipv4/udp_offload.c, udp_gro_receive_segment).
  return half(bytes, l4 + 4) === end - l4 && half(bytes, l4 + 6) !== 0;
}

/** Whether the checksums of a segment are right. */
export function isSegmentRight(bytes: Uint8Array, { l3, l4, end, v4, isTcp }: FlowSegment): boolean {
  if (v4 && fold(sumBytes(bytes, l3, 20)) !== 0xffff) return false;
  const pseudo = (v4 ? sumBytes(bytes, l3 + 12, 8) : sumBytes(bytes, l3 + 8, 32)) + (isTcp ? TCP : UDP) + end - l4;
  return fold(sumBytes(bytes, l4, end - l4, pseudo)) === 0xffff;
}

/** Whether a segment ends its super-frame: its sender says that nothing more comes at the moment. */
export function isPushed(bytes: Uint8Array, { l4, isTcp }: FlowSegment): boolean {
  return isTcp && ((bytes[l4 + 13] as number) & TCP_PSH) !== 0;
}
