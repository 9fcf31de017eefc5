// "Too big" (RFC 792 type 3 code 4 with RFC 1191's MTU; RFC 4443 type 2): tells the sender of a packet what the path takes. Pure.
//
//   | type 1 | code 1 | checksum 2 | 0 2, MTU 2 (ICMPv6: MTU 4) | the packet's begin |

import { finish, pseudoHeaderSum, sumBytes } from './checksum.ts';
import { writeLinkAnswer } from './ethernet.ts';
import { type IpPacket, ipPacket, isBetweenHosts, readIpPacket } from './ip-packet.ts';
import { half, putHalf } from './pieces.ts';

const ICMP = 1;
const ICMPV6 = 58;
const ICMP_BYTES = 8;
const TTL = 64;
const DONT_FRAGMENT = 0x4000;
/** RFC 1812, section 4.3.2.3: as much as fits 576 bytes. RFC 4443, section 2.4 (c): the least MTU of IPv6. */
const ANSWER4_MOST = 576;
const ANSWER6_MOST = 1280;
/** DSCP of internetwork control (RFC 1812, section 5.3.2). */
const PRECEDENCE = 0xc0;

const ip = ipPacket();

/**
 * Writes into `out` the answer to the packet `bytes[start, start + length)` (behind an Ethernet header with `ethernet`, which is turned round),
 * which is larger than `mtu`. `source4` and `source6`, of 4 and 16 bytes, are whom it comes from; undefined: the packet's own destination.
 * Answers its length; 0 for what gets no answer: IPv4 without DF, fragments but the first, ICMP errors, multicast.
 */
export function tooBig(
  bytes: Buffer,
  start: number,
  length: number,
  ethernet: boolean,
  mtu: number,
  source4: Uint8Array | undefined,
  source6: Uint8Array | undefined,
  out: Buffer,
): number {
  if (!readIpPacket(bytes, start, length, ethernet, ip) || !ip.first || !isBetweenHosts(bytes, ip) || isError(bytes, ip)) return 0;
  const v4 = ip.version === 4;
  if (v4 && (half(bytes, ip.at + 6) & DONT_FRAGMENT) === 0) return 0;
  const ipBytes = v4 ? 20 : 40;
  const quoted = Math.min(ip.end - ip.at, (v4 ? ANSWER4_MOST : ANSWER6_MOST) - ipBytes - ICMP_BYTES);
  const at = ip.linkBytes;
  const message = at + ipBytes;
  const size = message + ICMP_BYTES + quoted;
  if (size > out.length) return 0;
  writeLinkAnswer(bytes, start, ip.linkBytes, out);
  if (v4) writeV4(bytes, out, at, size - at);
  else writeV6(out, at, ICMP_BYTES + quoted);
  writeAddresses(bytes, out, at + (v4 ? 12 : 8), v4 ? source4 : source6);
  if (v4) putHalf(out, at + 10, finish(sumBytes(out, at, 20)));
  out[message] = v4 ? 3 : 2;
  out[message + 1] = v4 ? 4 : 0;
  putHalf(out, message + 2, 0);
  putHalf(out, message + 4, 0);
  putHalf(out, message + 6, Math.min(mtu, 0xffff));
  bytes.copy(out, message + ICMP_BYTES, ip.at, ip.at + quoted);
  const pseudo = v4 ? 0 : pseudoHeaderSum(out, at + 8, 16, ICMPV6, ICMP_BYTES + quoted);
  putHalf(out, message + 2, finish(sumBytes(out, message, ICMP_BYTES + quoted, pseudo)));
  return size;
}

/** Errors get no errors (RFC 1122, section 3.2.2; RFC 4443, section 2.4 (e)), nor does what is too short to tell. */
function isError(bytes: Buffer, { version, protocol, payloadAt, end }: IpPacket): boolean {
  if (protocol !== (version === 4 ? ICMP : ICMPV6)) return false;
  if (payloadAt >= end) return true;
  const type = bytes[payloadAt] as number;
  if (version === 6) return type < 128 || type === 137;
  return type !== 0 && type !== 8 && type !== 13 && type !== 14;
}

function writeV4(bytes: Buffer, out: Buffer, at: number, size: number): void {
  out[at] = 0x45;
  out[at + 1] = PRECEDENCE;
  putHalf(out, at + 2, size);
  // As unique as that of the packet; it is never fragmented at this size.
  bytes.copy(out, at + 4, ip.at + 4, ip.at + 6);
  putHalf(out, at + 6, 0);
  out[at + 8] = TTL;
  out[at + 9] = ICMP;
  putHalf(out, at + 10, 0);
}

function writeV6(out: Buffer, at: number, size: number): void {
  putHalf(out, at, 0x6000);
  putHalf(out, at + 2, 0);
  putHalf(out, at + 4, size);
  out[at + 6] = ICMPV6;
  out[at + 7] = TTL;
}

function writeAddresses(bytes: Buffer, out: Buffer, at: number, source: Uint8Array | undefined): void {
  const { addressesAt, addressBytes } = ip;
  if (source?.length === addressBytes) out.set(source, at);
  else bytes.copy(out, at, addressesAt + addressBytes, addressesAt + 2 * addressBytes);
  bytes.copy(out, at + addressBytes, addressesAt, addressesAt + addressBytes);
}
