// Echo replies of ICMP (RFC 792) and ICMPv6 (RFC 4443, section 4.2), in the caller's buffer. Pure, no allocation.
//
//   | type 1 | code 1 | checksum 2 | identifier 2 | sequence 2 | data |        request 8, reply 0; ICMPv6 request 128, reply 129

import { finish, fold, pseudoHeaderSum, sumBytes } from './checksum.ts';
import { writeLinkAnswer } from './ethernet.ts';
import { ipPacket, isBetweenHosts, readIpPacket } from './ip-packet.ts';
import type { PrefixSet } from './prefix-set.ts';

const ICMP = 1;
const ICMPV6 = 58;
const HEADER_BYTES = 8;
const TTL = 64;
const DSCP = 0xfc;

const ip = ipPacket();

/**
 * Writes the reply to an echo request at the begin of `out` and answers its length, 0 when there is none. The frame is
 * `bytes[start, start + length)` (*borrows*), within `bytes` and apart from `out`; `ethernet` tells a TAP frame from a TUN packet.
 * `addresses` are those that are answered for, undefined for all.
 *
 * No reply: not an echo request with code 0, a fragment, a wrong checksum, multicast or broadcast at either end, no room in `out`. IPv4
 * options and IPv6 extension headers are left out of the reply; its TTL is 64, its DSCP that of the request (RFC 1349, section 5.1).
 */
export function echoReply(
  bytes: Buffer,
  start: number,
  length: number,
  ethernet: boolean,
  addresses: PrefixSet | undefined,
  out: Buffer,
): number {
  if (!readIpPacket(bytes, start, length, ethernet, ip) || ip.fragment) return 0;
  const v4 = ip.version === 4;
  const { addressBytes, addressesAt, linkBytes, payloadAt } = ip;
  const messageBytes = ip.end - payloadAt;
  if (ip.protocol !== (v4 ? ICMP : ICMPV6) || messageBytes < HEADER_BYTES) return 0;
  const request = v4 ? 8 : 128;
  if (bytes[payloadAt] !== request || bytes[payloadAt + 1] !== 0) return 0;
  if (!isBetweenHosts(bytes, ip)) return 0;
  if (addresses !== undefined && !addresses.has(bytes, addressesAt + addressBytes, addressBytes)) return 0;
  const message = linkBytes + (v4 ? 20 : 40);
  if (message + messageBytes > out.length) return 0;
  const pseudo = v4 ? 0 : pseudoHeaderSum(bytes, addressesAt, 16, ICMPV6, messageBytes);
  const sum = sumBytes(bytes, payloadAt, messageBytes, pseudo);
  if (fold(sum) !== 0xffff) return 0;

  writeLinkAnswer(bytes, start, linkBytes, out);
  if (v4) writeV4(bytes, out, linkBytes, messageBytes);
  else writeV6(bytes, out, linkBytes, messageBytes);
  const reply = v4 ? 0 : 129;
  bytes.copy(out, message, payloadAt, ip.end);
  out[message] = reply;
  // The sum of the reply is that of the request but for type and checksum (RFC 1624; taken off by adding the complement); addresses
  // exchanged have the same sum.
  const type = request << 8;
  const checksum = finish(sum + (0xffff - out.readUInt16BE(message + 2)) + (0xffff - type) + (reply << 8));
  out.writeUInt16BE(checksum, message + 2);
  // Such a sum is never zero; that of a reply without any bit is.
  if (checksum === 0) out.writeUInt16BE(finish(sumBytes(out, message, messageBytes, pseudo)), message + 2);
  return message + messageBytes;
}

function writeV4(bytes: Buffer, out: Buffer, at: number, messageBytes: number): void {
  out[at] = 0x45;
  out[at + 1] = (bytes[ip.at + 1] as number) & DSCP;
  out.writeUInt16BE(20 + messageBytes, at + 2);
  // May be fragmented on its way; the identification is as unique among replies as it is among requests.
  bytes.copy(out, at + 4, ip.at + 4, ip.at + 6);
  out.writeUInt16BE(0, at + 6);
  out[at + 8] = TTL;
  out[at + 9] = ICMP;
  out.writeUInt16BE(0, at + 10);
  writeAddresses(bytes, out, at + 12);
  out.writeUInt16BE(finish(sumBytes(out, at, 20)), at + 10);
}

function writeV6(bytes: Buffer, out: Buffer, at: number, messageBytes: number): void {
  const trafficClass = bytes.readUInt16BE(ip.at) & (DSCP << 4);
  out.writeUInt16BE(0x6000 | trafficClass, at);
  out.writeUInt16BE(0, at + 2);
  out.writeUInt16BE(messageBytes, at + 4);
  out[at + 6] = ICMPV6;
  out[at + 7] = TTL;
  writeAddresses(bytes, out, at + 8);
}

/** The addresses of the request, exchanged. */
function writeAddresses(bytes: Buffer, out: Buffer, at: number): void {
  const { addressesAt, addressBytes } = ip;
  bytes.copy(out, at, addressesAt + addressBytes, addressesAt + 2 * addressBytes);
  bytes.copy(out, at + addressBytes, addressesAt, addressesAt + addressBytes);
}
