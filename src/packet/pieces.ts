// What cutting a super-frame is: where its parts are, as far as its virtio header can be believed, and the pieces, each with headers of its
// own, written once, straight to where they go. Sums of what all pieces share are made once. Pure; no allocation.

import { finish, sumBytes } from './checksum.ts';
import { ETHERNET_BYTES, isTag, TAG_BYTES } from './ethernet.ts';
import { GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, type VnetHeader } from './vnet-header.ts';

export const TCP = 6;
export const UDP = 17;
const V4_BYTES = 20;
const V6_BYTES = 40;
const TCP_BYTES = 20;
const UDP_BYTES = 8;
const TCP_FIN = 0x01;
const TCP_PSH = 0x08;
const TCP_CWR = 0x80;

/** Ethernet with two tags, IPv6, and TCP with all options; one view of each length that occurred. */
const HEADERS_MOST = 22 + 40 + 60;
const headers = new Uint8Array(HEADERS_MOST);
const headerViews: Uint8Array[] = [];

/** Why a frame was not cut: it went nowhere and is to be counted. */
export type Refusal = 'bad-header' | 'unsupported';

/** Where pieces go. */
export interface PieceSink {
  /** All pieces are written into this, which is apart from what they are cut of. */
  readonly buffer: Buffer;
  /** Where the next piece, of `bytes`, is to start in `buffer`; negative: nowhere, and the rest of the frame is given up. */
  place(bytes: number): number;
  /** The piece stands at `start`, whole. */
  put(start: number, bytes: number): void;
}

/** Indexes of the parts of a TCP or UDP packet in its buffer. */
export interface SuperFrame {
  start: number;
  l3: number;
  l4: number;
  payload: number;
  end: number;
  v4: boolean;
  isTcp: boolean;
}

/** An object to read into. */
export function superFrame(): SuperFrame {
  return { start: 0, l3: 0, l4: 0, payload: 0, end: 0, v4: false, isTcp: false };
}

/** Finds the parts of `frame[start, start + length)`, which `header` calls a super-frame; undefined, with `into` filled, when it can be cut. */
export function readSuperFrame(
  frame: Buffer,
  start: number,
  length: number,
  header: VnetHeader,
  ethernet: boolean,
  into: SuperFrame,
): Refusal | undefined {
  const gsoType = header.gsoType & ~GSO_ECN;
  if (gsoType !== GSO_TCPV4 && gsoType !== GSO_TCPV6 && gsoType !== GSO_UDP_L4) return 'unsupported';
  const end = start + length;
  const l3 = ethernet ? behindTags(frame, start, end) : start;
  if (l3 >= end || header.gsoSize === 0) return 'bad-header';
  const version = (frame[l3] as number) >> 4;
  const v4 = version === 4;
  if ((!v4 && version !== 6) || (gsoType === GSO_TCPV4 && !v4) || (gsoType === GSO_TCPV6 && v4)) return 'bad-header';
  into.start = start;
  into.l3 = l3;
  into.l4 = start + header.checksumStart;
  into.end = end;
  into.v4 = v4;
  into.isTcp = gsoType !== GSO_UDP_L4;
  return findPayload(frame, into) ? undefined : 'bad-header';
}

/** Index behind an Ethernet header with all of its tags, of which there may be more here than elsewhere: they are only copied. */
function behindTags(frame: Buffer, start: number, end: number): number {
  let at = start + ETHERNET_BYTES;
  while (at + TAG_BYTES <= end && isTag(half(frame, at - 2))) at += TAG_BYTES;
  return at;
}

/** Sets `payload` of what is otherwise filled; false when headers do not fit. */
export function findPayload(frame: Buffer, at: SuperFrame): boolean {
  const { l3, l4, end, isTcp } = at;
  if (l4 < l3 + (at.v4 ? V4_BYTES : V6_BYTES) || l4 + (isTcp ? TCP_BYTES : UDP_BYTES) > end) return false;
  const protocol = isTcp ? TCP : UDP;
  if (at.v4 && (l3 + ((frame[l3] as number) & 15) * 4 !== l4 || frame[l3 + 9] !== protocol)) return false;
  if (!at.v4 && l4 === l3 + V6_BYTES && frame[l3 + 6] !== protocol) return false;
  const l4Bytes = isTcp ? ((frame[l4 + 12] as number) >> 4) * 4 : UDP_BYTES;
  at.payload = l4 + l4Bytes;
  return l4Bytes >= (isTcp ? TCP_BYTES : UDP_BYTES) && at.payload <= end;
}

/**
 * Writes `frame`, whose parts are `at`, as pieces of at most `pieceBytes` of payload into `sink`, and answers how many. Without payload it is one
 * piece. Fields are as the kernel's own segmentation makes them (net/ipv4/tcp_offload.c, udp_offload.c, af_inet.c).
 */
export function cutPieces(frame: Buffer, at: SuperFrame, pieceBytes: number, sink: PieceSink): number {
  const { start, l3, l4, payload, end, v4, isTcp } = at;
  const { buffer } = sink;
  const headerBytes = payload - start;
  const sequence = isTcp ? frame.readUInt32BE(l4 + 4) : 0;
  const offsetAndFlags = isTcp ? half(frame, l4 + 12) : 0;
  const identification = v4 ? half(frame, l3 + 4) : 0;
  const l3Sum = v4 ? sumBytes(frame, l3, l4 - l3) - half(frame, l3 + 2) - identification - half(frame, l3 + 10) : 0;
  const l4Sum = sharedSum(frame, at);
  const shared = headerView(frame, start, headerBytes);
  let count = 0;
  for (let offset = payload; offset < end || count === 0; offset += pieceBytes) {
    const size = Math.min(pieceBytes, end - offset);
    const to = sink.place(headerBytes + size);
    if (to < 0 || to + headerBytes + size > buffer.length) return count;
    if (shared === undefined) frame.copy(buffer, to, start, payload);
    else buffer.set(shared, to);
    frame.copy(buffer, to + headerBytes, offset, offset + size);
    const toL3 = to + l3 - start;
    const toL4 = to + l4 - start;
    const l4Bytes = payload - l4 + size;
    if (v4) {
      const total = l4 - l3 + l4Bytes;
      const id = (identification + count) & 0xffff;
      putHalf(buffer, toL3 + 2, total);
      putHalf(buffer, toL3 + 4, id);
      putHalf(buffer, toL3 + 10, finish(l3Sum + total + id));
    } else putHalf(buffer, toL3 + 4, l4 - l3 - V6_BYTES + l4Bytes);
    const sum = sumBytes(buffer, to + headerBytes, size, l4Sum + l4Bytes);
    if (isTcp) {
      const next = (sequence + (offset - payload)) >>> 0;
      // FIN and PSH belong to the last piece, CWR to the first.
      const flags = offsetAndFlags & ~(offset + size < end ? TCP_FIN | TCP_PSH : 0) & ~(count > 0 ? TCP_CWR : 0);
      putHalf(buffer, toL4 + 4, next >>> 16);
      putHalf(buffer, toL4 + 6, next & 0xffff);
      buffer[toL4 + 13] = flags;
      putHalf(buffer, toL4 + 16, finish(sum + (next >>> 16) + (next & 0xffff) + flags));
    } else {
      putHalf(buffer, toL4 + 4, l4Bytes);
      // UDP says 0 for none.
      putHalf(buffer, toL4 + 6, finish(sum + l4Bytes) || 0xffff);
    }
    sink.put(to, headerBytes + size);
    count++;
  }
  return count;
}

/** The headers of a frame, from where they are copied in a third of the time that `copy` takes; undefined for unusually long ones. */
function headerView(frame: Buffer, start: number, bytes: number): Uint8Array | undefined {
  if (bytes > HEADERS_MOST) return undefined;
  frame.copy(headers, 0, start, start + bytes);
  headerViews[bytes] ??= headers.subarray(0, bytes);
  return headerViews[bytes];
}

/** Sum of addresses, protocol and transport header, without what differs from piece to piece: length, sequence, flags, checksum. */
function sharedSum(frame: Buffer, { l3, l4, payload, v4, isTcp }: SuperFrame): number {
  const addresses = v4 ? sumBytes(frame, l3 + 12, 8) : sumBytes(frame, l3 + 8, 32);
  const sum = sumBytes(frame, l4, payload - l4, addresses + (isTcp ? TCP : UDP));
  if (!isTcp) return sum - half(frame, l4 + 4) - half(frame, l4 + 6);
  return sum - half(frame, l4 + 4) - half(frame, l4 + 6) - half(frame, l4 + 12) - half(frame, l4 + 16);
}

export function half(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

export function putHalf(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}
