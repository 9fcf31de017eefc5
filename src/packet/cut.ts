// From a super-frame to the frames of the wire, each written once, straight to where it is to be sent from. As `segment.ts`, for those who put
// something of their own around every piece, and for a path that takes less than the device thinks: TCP is cut smaller than asked, since
// its receiver cannot tell. MSS options of SYN are brought down to what the path takes. Pure; the only memory is the caller's.

import { fold, pseudoHeaderSum, sumBytes } from './checksum.ts';
import { ETHERNET_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6, etherType, linkHeaderBytes } from './ethernet.ts';
import { fragment } from './fragment.ts';
import { ipPacket, readIpPacket } from './ip-packet.ts';
import { clampMss } from './mss.ts';
import { cutPieces, findPayload, half, type PieceSink, readSuperFrame, superFrame, TCP } from './pieces.ts';
import { completeChecksum } from './segment.ts';
import { GSO_ECN, GSO_NONE, NEEDS_CHECKSUM, plainVnetHeader, type VnetHeader } from './vnet-header.ts';

export type { PieceSink } from './pieces.ts';

/** Pieces that were put, or why none was: `too-big` is larger than `most` and cannot be cut smaller. */
export type CutOutcome = number | 'bad-header' | 'unsupported' | 'too-big';

/** Of Ethernet with two VLAN tags. */
const LINK_MOST = 22;
const PACKET_MOST = 65_535;
const FRAGMENT = 0x3fff;
/** Flags whose segment is one: SYN takes a number of its own, a pointer of URG counts from where it stands. */
const TCP_WHOLE = 0x02 | 0x04 | 0x20;

const parts = superFrame();
const ip = ipPacket();
/** Nothing is left to do. */
const WHOLE = plainVnetHeader();

/**
 * Cuts `frame[start, start + length)`, which `header` describes, into pieces whose IP packet (behind Ethernet and VLAN tags, with `ethernet`)
 * is at most `most` bytes. The frame stays as it is. Where it is an IPv4 packet that may be fragmented, or many of UDP, it is; not with `ethernet`. Frames that are not IP pass whole when they are not longer than `most` and, with `ethernet`, 22. The sink's buffer is apart from the frame; `sink` does not call it again.
 */
export function cut(
  frame: Buffer,
  start: number,
  length: number,
  header: VnetHeader,
  ethernet: boolean,
  most: number,
  sink: PieceSink,
): CutOutcome {
  if ((header.gsoType & ~GSO_ECN) === GSO_NONE) return single(frame, start, length, header, ethernet, most, sink);
  const refusal = readSuperFrame(frame, start, length, header, ethernet, parts);
  if (refusal !== undefined) return refusal;
  const room = most - (parts.payload - parts.l3);
  const payloadBytes = parts.end - parts.payload;
  if (parts.isTcp) return cutTcp(frame, Math.min(header.gsoSize, room), sink);
  if (Math.min(header.gsoSize, payloadBytes) <= room) return cutPieces(frame, parts, header.gsoSize, sink);
  return ethernet || !parts.v4 ? 'too-big' : fragmentPieces(frame, header.gsoSize, most, sink);
}

/** Datagrams that are larger than the path takes, of IPv4: each is a packet that may be fragmented, unless it says otherwise. */
function fragmentPieces(frame: Buffer, gsoSize: number, most: number, sink: PieceSink): CutOutcome {
  fragments ??= new Fragments();
  fragments.begin(most, sink);
  cutPieces(frame, parts, gsoSize, fragments);
  return fragments.isRefused ? 'too-big' : fragments.count;
}

/** Every piece at the same place, from where it goes on in fragments. */
class Fragments implements PieceSink {
  readonly buffer = Buffer.allocUnsafeSlow(PACKET_MOST);
  #sink: PieceSink = this;
  #most = 0;
  count = 0;
  isRefused = false;

  begin(most: number, sink: PieceSink): void {
    this.#most = most;
    this.#sink = sink;
    this.count = 0;
    this.isRefused = false;
  }

  place(bytes: number): number {
    return this.isRefused || bytes > PACKET_MOST ? -1 : 0;
  }

  put(start: number, bytes: number): void {
    const fragments = readIpPacket(this.buffer, start, bytes, false, ip) ? fragment(this.buffer, ip, WHOLE, this.#most, this.#sink) : -1;
    this.isRefused = fragments < 0;
    this.count += Math.max(0, fragments);
  }
}

/** Made when it is first needed. */
let fragments: Fragments | undefined;

/** TCP of `parts`; `pieceBytes` may be no room at all. */
function cutTcp(frame: Buffer, pieceBytes: number, sink: PieceSink): CutOutcome {
  if (pieceBytes <= 0 && (pieceBytes < 0 || parts.end > parts.payload)) return 'too-big';
  return cutPieces(frame, parts, Math.max(1, pieceBytes), sink);
}

/** A frame of its own. */
function single(
  frame: Buffer,
  start: number,
  length: number,
  header: VnetHeader,
  ethernet: boolean,
  most: number,
  sink: PieceSink,
): CutOutcome {
  const linkBytes = linkHeaderBytes(frame, start, length, ethernet);
  if (length <= (ethernet ? ETHERNET_BYTES - 1 : 0)) return 'bad-header';
  const partial = (header.flags & NEEDS_CHECKSUM) !== 0;
  const version = linkBytes < 0 ? 0 : versionOf(frame, start, length, linkBytes, ethernet);
  if (version === 0) return length > most + (ethernet ? LINK_MOST : 0) ? 'too-big' : whole(frame, start, length, header, -1, 0, sink);
  if (length - linkBytes <= most) {
    const l4 = tcpAt(frame, start, length, linkBytes, ethernet);
    return whole(frame, start, length, header, l4 < 0 ? -1 : l4 - start, most - (version === 4 ? 40 : 60), sink);
  }
  if (!readIpPacket(frame, start, length, ethernet, ip)) return 'too-big';
  if (isCuttable(frame, start, version === 4, partial)) return cutTcp(frame, most - (parts.payload - parts.l3), sink);
  // A bridge does not fragment.
  const fragments = ethernet || version === 6 ? -1 : fragment(frame, ip, header, most, sink);
  return fragments < 0 ? 'too-big' : fragments;
}

/** Whether the packet just read is TCP that may be cut, with `parts` filled. */
function isCuttable(frame: Buffer, start: number, v4: boolean, partial: boolean): boolean {
  if (ip.protocol !== TCP || ip.fragment) return false;
  parts.start = start;
  parts.l3 = ip.at;
  parts.l4 = ip.payloadAt;
  parts.end = ip.end;
  parts.v4 = v4;
  parts.isTcp = true;
  if (!findPayload(frame, parts) || ((frame[parts.l4 + 13] as number) & TCP_WHOLE) !== 0) return false;
  // What the pieces say is right must have been so before.
  return partial || isTcpRight(frame);
}

/** Puts a frame as it is but for its checksum, and the MSS of a TCP header `l4` bytes into it, -1 for none. */
function whole(frame: Buffer, start: number, length: number, header: VnetHeader, l4: number, mss: number, sink: PieceSink): CutOutcome {
  const partial = (header.flags & NEEDS_CHECKSUM) !== 0;
  if (partial && header.checksumStart + header.checksumOffset + 2 > length) return 'bad-header';
  const to = sink.place(length);
  if (to < 0) return 0;
  frame.copy(sink.buffer, to, start, start + length);
  if (l4 >= 0) clampMss(sink.buffer, to + l4, to + length, mss, partial);
  if (partial) completeChecksum(sink.buffer, to, length, header);
  sink.put(to, length);
  return 1;
}

/** 4 or 6; 0 for what is no IP packet. */
function versionOf(frame: Buffer, start: number, length: number, linkBytes: number, ethernet: boolean): 0 | 4 | 6 {
  if (linkBytes >= length) return 0;
  const version = (frame[start + linkBytes] as number) >> 4;
  const type = ethernet ? etherType(frame, start, linkBytes) : 0;
  if (version === 4 && length >= linkBytes + 20 && (!ethernet || type === ETHERTYPE_IPV4)) return 4;
  if (version === 6 && length >= linkBytes + 40 && (!ethernet || type === ETHERTYPE_IPV6)) return 6;
  return 0;
}

/** Index of the TCP header of an IP packet that is no fragment, -1 for none. */
function tcpAt(frame: Buffer, start: number, length: number, linkBytes: number, ethernet: boolean): number {
  const l3 = start + linkBytes;
  const first = frame[l3] as number;
  if (first >> 4 === 4) {
    if (frame[l3 + 9] !== TCP || (half(frame, l3 + 6) & FRAGMENT) !== 0) return -1;
    return l3 + (first & 15) * 4;
  }
  const next = frame[l3 + 6];
  if (next === TCP) return l3 + 40;
  if (next !== 0 && next !== 43 && next !== 60) return -1;
  return readIpPacket(frame, start, length, ethernet, ip) && ip.protocol === TCP && !ip.fragment ? ip.payloadAt : -1;
}

function isTcpRight(frame: Buffer): boolean {
  const size = parts.end - parts.l4;
  const pseudo = pseudoHeaderSum(frame, ip.addressesAt, ip.addressBytes, TCP, size);
  return fold(sumBytes(frame, parts.l4, size, pseudo)) === 0xffff;
}
