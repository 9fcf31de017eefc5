// Cuts a super-frame (TCP over IPv4 or IPv6, UDP with USO) into the frames that would have gone on the wire, and completes checksums
// that were left to hardware. What the header claims is checked against the frame: nothing is read or written beyond it. Pure; the
// only memory is the caller's.

import { finish, fold, pseudoHeaderSum, sumBytes } from './checksum.ts';
import { GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CHECKSUM, type VnetHeader } from './vnet-header.ts';

const ETHERNET_BYTES = 14;
const VLAN_TAGS = new Set([0x8100, 0x88a8]);
const TCP = 6;
const UDP = 17;
const TCP_FIN = 0x01;
const TCP_PSH = 0x08;
const TCP_CWR = 0x80;

/** Receives one frame: `bytes[start, start + length)`, valid until it returns (*borrows*). */
export type Emit = (bytes: Buffer, start: number, length: number) => void;

/** Why a frame was not cut: it went nowhere and is to be counted. */
export type Refusal = 'bad-header' | 'unsupported';

/**
 * Emits the wire frames of `frame[start, start + length)`: itself, with its checksum completed in place, or its pieces, each built in
 * `scratch`, which must hold the headers and one piece. `ethernet` tells a TAP frame from a TUN packet. Answers how many were
 * emitted, or why none was.
 */
export function segment(
  frame: Buffer,
  start: number,
  length: number,
  header: VnetHeader,
  ethernet: boolean,
  scratch: Buffer,
  emit: Emit,
): number | Refusal {
  const gsoType = header.gsoType & ~GSO_ECN;
  if (gsoType === GSO_NONE) {
    if ((header.flags & NEEDS_CHECKSUM) !== 0 && !completeChecksum(frame, start, length, header)) return 'bad-header';
    emit(frame, start, length);
    return 1;
  }
  if (gsoType !== GSO_TCPV4 && gsoType !== GSO_TCPV6 && gsoType !== GSO_UDP_L4) return 'unsupported';
  const l3 = start + linkBytes(frame, start, length, ethernet);
  const end = start + length;
  const l4 = start + header.checksumStart;
  const version = l3 < end ? (frame[l3] as number) >> 4 : 0;
  const v4 = version === 4;
  const isTcp = gsoType !== GSO_UDP_L4;
  const minimumL3 = v4 ? 20 : 40;
  if ((gsoType === GSO_TCPV4 && !v4) || (gsoType === GSO_TCPV6 && version !== 6) || (version !== 4 && version !== 6)) return 'bad-header';
  if (header.gsoSize === 0 || l4 < l3 + minimumL3 || l4 + (isTcp ? 20 : 8) > end) return 'bad-header';
  if (v4 && l3 + ((frame[l3] as number) & 15) * 4 !== l4) return 'bad-header';
  const l4Bytes = isTcp ? ((frame[l4 + 12] as number) >> 4) * 4 : 8;
  const payload = l4 + l4Bytes;
  const headerBytes = payload - start;
  if (l4Bytes < 8 || payload > end || headerBytes + header.gsoSize > scratch.length) return 'bad-header';

  frame.copy(scratch, 0, start, payload);
  const at = { l3: l3 - start, l4: l4 - start };
  const sequence = isTcp ? frame.readUInt32BE(l4 + 4) : 0;
  const flags = isTcp ? (frame[l4 + 13] as number) : 0;
  const identification = v4 ? frame.readUInt16BE(l3 + 4) : 0;
  let count = 0;
  // A super-frame without payload is one frame.
  for (let offset = payload; offset < end || count === 0; offset += header.gsoSize) {
    const piece = Math.min(header.gsoSize, end - offset);
    const last = offset + piece >= end;
    frame.copy(scratch, headerBytes, offset, offset + piece);
    writeL3(scratch, at, headerBytes + piece, v4, (identification + count) & 0xffff);
    if (isTcp) {
      scratch.writeUInt32BE((sequence + (offset - payload)) >>> 0, at.l4 + 4);
      // FIN and PSH belong to the last piece, CWR to the first.
      scratch[at.l4 + 13] = flags & ~(last ? 0 : TCP_FIN | TCP_PSH) & ~(count === 0 ? 0 : TCP_CWR);
    } else scratch.writeUInt16BE(8 + piece, at.l4 + 4);
    writeL4Checksum(scratch, at, headerBytes + piece, v4, isTcp);
    emit(scratch, 0, headerBytes + piece);
    count++;
  }
  return count;
}

/** Puts the checksum that the header asks for into the frame; false when it points outside. */
export function completeChecksum(frame: Buffer, start: number, length: number, header: VnetHeader): boolean {
  const from = header.checksumStart;
  const field = from + header.checksumOffset;
  if (from >= length || field + 2 > length) return false;
  // The field holds the sum of the pseudo-header, which is thereby part of the sum.
  const checksum = finish(sumBytes(frame, start + from, length - from));
  frame.writeUInt16BE(checksum === 0 ? 0xffff : checksum, start + field);
  return true;
}

function linkBytes(frame: Buffer, start: number, length: number, ethernet: boolean): number {
  if (!ethernet) return 0;
  let at = ETHERNET_BYTES;
  while (at + 4 <= length && VLAN_TAGS.has(frame.readUInt16BE(start + at - 2))) at += 4;
  return at;
}

function writeL3(scratch: Buffer, at: { l3: number; l4: number }, frameBytes: number, v4: boolean, identification: number): void {
  if (!v4) {
    scratch.writeUInt16BE(frameBytes - at.l3 - 40, at.l3 + 4);
    return;
  }
  scratch.writeUInt16BE(frameBytes - at.l3, at.l3 + 2);
  scratch.writeUInt16BE(identification, at.l3 + 4);
  scratch.writeUInt16BE(0, at.l3 + 10);
  scratch.writeUInt16BE(finish(sumBytes(scratch, at.l3, at.l4 - at.l3)), at.l3 + 10);
}

function writeL4Checksum(scratch: Buffer, at: { l3: number; l4: number }, frameBytes: number, v4: boolean, isTcp: boolean): void {
  const field = at.l4 + (isTcp ? 16 : 6);
  const l4Length = frameBytes - at.l4;
  scratch.writeUInt16BE(0, field);
  const pseudo = pseudoHeaderSum(scratch, v4 ? at.l3 + 12 : at.l3 + 8, v4 ? 4 : 16, isTcp ? TCP : UDP, l4Length);
  const checksum = ~fold(sumBytes(scratch, at.l4, l4Length, pseudo)) & 0xffff;
  // UDP says 0 for none.
  scratch.writeUInt16BE(checksum === 0 && !isTcp ? 0xffff : checksum, field);
}
