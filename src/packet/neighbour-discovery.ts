// Neighbour advertisements (RFC 4861, sections 4.4, 7.1.1 and 7.2.4) for solicitations, in the caller's buffer. Pure, no allocation.
//
//   solicitation:  | type 135 | code 0 | checksum 2 | reserved 4 | target 16 | options ... |
//   advertisement: | type 136 | code 0 | checksum 2 | R S O, reserved 4 | target 16 | option 2, 1, MAC 6 |

import { finish, fold, pseudoHeaderSum, sumBytes } from './checksum.ts';
import { isStation, writeLinkAnswer } from './ethernet.ts';
import { ipPacket, isAll, isHost, readIpPacket } from './ip-packet.ts';
import type { PrefixSet } from './prefix-set.ts';

const ICMPV6 = 58;
const SOLICITATION = 135;
const ADVERTISEMENT = 136;
const HOP_LIMIT = 255;
const SOLICITATION_BYTES = 24;
const ADVERTISEMENT_BYTES = 32;
const SOLICITED = 0x40;
const OVERRIDE = 0x20;
const SOURCE_MAC_OPTION = 1;
const TARGET_MAC_OPTION = 2;

/** All nodes of the link, ff02::1, and the MAC address that goes with it (RFC 2464, section 7). */
const ALL_NODES = Buffer.from('ff020000000000000000000000000001', 'hex');
const ALL_NODES_MAC = Buffer.from('333300000001', 'hex');
/** ff02::1:ff00:0/104: the last 24 bits are those of the target. */
const SOLICITED_NODE = Buffer.from('ff0200000000000000000001ff', 'hex');

const ip = ipPacket();

/**
 * Writes the advertisement that answers a neighbour solicitation at the begin of `out` and answers its length, 0 when there is none. The
 * Ethernet frame is `bytes[start, start + length)` (*borrows*), within `bytes` and apart from `out`. `mac` (6 bytes) is given for every
 * address of `addresses`. A solicitation of duplicate address detection (source ::, RFC 4862, section 5.4) is answered to all nodes,
 * without the solicited flag. Solicitations that RFC 4861 calls invalid, or that are sent to others than the target, get none.
 */
export function neighbourAdvertisement(
  bytes: Buffer,
  start: number,
  length: number,
  addresses: PrefixSet,
  mac: Uint8Array,
  out: Buffer,
): number {
  if (!readIpPacket(bytes, start, length, true, ip) || ip.version !== 6 || !isSolicitation(bytes)) return 0;
  const { linkBytes, addressesAt, payloadAt } = ip;
  const target = payloadAt + 8;
  const total = linkBytes + 40 + ADVERTISEMENT_BYTES;
  if (out.length < total || !isStation(bytes, start + 6) || !addresses.has(bytes, target, 16)) return 0;
  const detection = isAll(bytes, addressesAt, 16, 0);

  writeLinkAnswer(bytes, start, linkBytes, out);
  if (detection) ALL_NODES_MAC.copy(out, 0);
  out.set(mac, 6);
  const at = linkBytes;
  out.writeUInt32BE(0x6000_0000, at);
  out.writeUInt16BE(ADVERTISEMENT_BYTES, at + 4);
  out[at + 6] = ICMPV6;
  out[at + 7] = HOP_LIMIT;
  bytes.copy(out, at + 8, target, target + 16);
  if (detection) ALL_NODES.copy(out, at + 24);
  else bytes.copy(out, at + 24, addressesAt, addressesAt + 16);
  const message = at + 40;
  out.writeUInt32BE((ADVERTISEMENT << 24) >>> 0, message);
  out.writeUInt32BE((detection ? OVERRIDE : SOLICITED | OVERRIDE) << 24, message + 4);
  bytes.copy(out, message + 8, target, target + 16);
  out[message + 24] = TARGET_MAC_OPTION;
  out[message + 25] = 1;
  out.set(mac, message + 26);
  const pseudo = pseudoHeaderSum(out, at + 8, 16, ICMPV6, ADVERTISEMENT_BYTES);
  out.writeUInt16BE(finish(sumBytes(out, message, ADVERTISEMENT_BYTES, pseudo)), message + 2);
  return total;
}

/** Whether the packet is a valid solicitation (RFC 4861, section 7.1.1) that asks the target, by itself or by its group. */
function isSolicitation(bytes: Buffer): boolean {
  const { at, addressesAt, payloadAt, end } = ip;
  const messageBytes = end - payloadAt;
  // Nothing between (RFC 6980 forbids fragments); never forwarded.
  if (ip.protocol !== ICMPV6 || payloadAt !== at + 40 || bytes[at + 7] !== HOP_LIMIT || messageBytes < SOLICITATION_BYTES) return false;
  if (bytes[payloadAt] !== SOLICITATION || bytes[payloadAt + 1] !== 0) return false;
  const [source, destination, target] = [addressesAt, addressesAt + 16, payloadAt + 8];
  const detection = isAll(bytes, source, 16, 0);
  if (!isHost(bytes, target, 16) || !(detection || isHost(bytes, source, 16)) || isSame(bytes, source, target)) return false;
  const group = isGroupOf(bytes, destination, target);
  if (!group && (detection || !isSame(bytes, destination, target))) return false;
  if (!areOptionsRight(bytes, payloadAt + SOLICITATION_BYTES, end, detection)) return false;
  return fold(sumBytes(bytes, payloadAt, messageBytes, pseudoHeaderSum(bytes, addressesAt, 16, ICMPV6, messageBytes))) === 0xffff;
}

/** Every option has a length, within the packet; who has no address yet gives no MAC address. */
function areOptionsRight(bytes: Buffer, from: number, end: number, detection: boolean): boolean {
  let at = from;
  while (at < end) {
    const size = at + 1 < end ? (bytes[at + 1] as number) * 8 : 0;
    if (size === 0 || at + size > end || (detection && bytes[at] === SOURCE_MAC_OPTION)) return false;
    at += size;
  }
  return true;
}

function isGroupOf(bytes: Buffer, group: number, target: number): boolean {
  for (let index = 0; index < 16; index++) {
    if (bytes[group + index] !== (index < SOLICITED_NODE.length ? SOLICITED_NODE[index] : bytes[target + index])) return false;
  }
  return true;
}

function isSame(bytes: Buffer, a: number, b: number): boolean {
  for (let index = 0; index < 16; index++) if (bytes[a + index] !== bytes[b + index]) return false;
  return true;
}
