// Frames of a sender on the same machine, who leaves checksum and segmentation to hardware that no packet ever reaches: what a kernel's tunnel
// device sends over a veth arrives at a socket with the checksum of its inner TCP or UDP not computed, and as one datagram of up to 64 KiB
// whose inner packet is a super-frame. On a wire there is neither. Pure, no allocation.
//
// An unfinished checksum holds the folded sum of the pseudo-header (include/linux/skbuff.h, CHECKSUM_PARTIAL), which a finished one does by
// chance once in 65,536 packets; a look at the whole sum then tells.

import { fold, pseudoHeaderSum, sumBytes } from './checksum.ts';
import { ipPacket, readIpPacket } from './ip-packet.ts';
import { GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CHECKSUM, type VnetHeader } from './vnet-header.ts';

const [TCP, UDP] = [6, 17] as const;
const TCP_LEAST = 20;
const UDP_BYTES = 8;

const ip = ipPacket();

/**
 * Reads what is left to do of the frame `bytes[start, start + length)` into `into`, as offsets from the begin of the frame: a checksum, and pieces
 * when its IP packet is larger than `most`. `pieceBytes` is the payload of a piece of UDP; TCP is cut to fill `most`. Answers the bytes of the
 * frame without padding; 0: nothing is left to do, or it cannot be told.
 */
export function readUnfinished(bytes: Buffer, start: number, length: number, most: number, pieceBytes: number, into: VnetHeader): number {
  if (!readIpPacket(bytes, start, length, true, ip) || ip.fragment) return 0;
  const { payloadAt, end, protocol } = ip;
  const size = end - payloadAt;
  if (protocol === TCP ? size < TCP_LEAST : protocol !== UDP || size < UDP_BYTES) return 0;
  const offset = protocol === TCP ? 16 : 6;
  const found = bytes.readUInt16BE(payloadAt + offset);
  const pseudo = pseudoHeaderSum(bytes, ip.addressesAt, ip.addressBytes, protocol, size);
  if (found !== fold(pseudo) || found === 0 || fold(sumBytes(bytes, payloadAt, size, pseudo)) === 0xffff) return 0;
  into.flags = NEEDS_CHECKSUM;
  into.gsoType = GSO_NONE;
  into.gsoSize = 0;
  into.checksumStart = payloadAt - start;
  into.checksumOffset = offset;
  into.headerLength = into.checksumStart + (protocol === TCP ? ((bytes[payloadAt + 12] as number) >> 4) * 4 : UDP_BYTES);
  if (end - ip.at <= most) return end - start;
  const headerBytes = into.headerLength - (ip.at - start);
  into.gsoType = protocol === UDP ? GSO_UDP_L4 : ip.version === 4 ? GSO_TCPV4 : GSO_TCPV6;
  into.gsoSize = protocol === UDP ? pieceBytes : most - headerBytes;
  return into.gsoSize > 0 ? end - start : 0;
}

/** Bytes of the Ethernet frame at `start`, as its IP header tells; 0: it has none, or is cut off within it. */
export function statedBytes(bytes: Buffer, start: number, length: number): number {
  return readIpPacket(bytes, start, length, true, ip) ? ip.end - start : 0;
}
