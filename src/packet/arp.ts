// ARP replies (RFC 826, for IPv4 on Ethernet), in the caller's buffer. Pure, no allocation.
//
//   | hardware 2: 1 | protocol 2: 0800 | lengths 6, 4 | operation 2: request 1, reply 2 | sender MAC 6, IP 4 | target MAC 6, IP 4 |

import { ETHERTYPE_ARP, etherType, isStation, linkHeaderBytes, writeLinkAnswer } from './ethernet.ts';
import { isAll, isHost } from './ip-packet.ts';
import type { PrefixSet } from './prefix-set.ts';

const ARP_BYTES = 28;
const SENDER_MAC = 8;
const SENDER_IP = 14;
const TARGET_IP = 24;

/** Everything before the addresses, of a request. */
const REQUEST = [0, 1, 8, 0, 6, 4, 0, 1];

/**
 * Writes the reply to an ARP request at the begin of `out` and answers its length, 0 when there is none. The Ethernet frame is
 * `bytes[start, start + length)` (*borrows*), within `bytes` and apart from `out`. `mac` (6 bytes) is given for every address of
 * `addresses`. Probes (RFC 5227, sender 0.0.0.0) are answered; announcements, which ask for the address of their sender, are not.
 */
export function arpReply(bytes: Buffer, start: number, length: number, addresses: PrefixSet, mac: Uint8Array, out: Buffer): number {
  const linkBytes = linkHeaderBytes(bytes, start, length, true);
  const total = linkBytes + ARP_BYTES;
  if (linkBytes < 0 || length < total || out.length < total || etherType(bytes, start, linkBytes) !== ETHERTYPE_ARP) return 0;
  const at = start + linkBytes;
  for (let index = 0; index < REQUEST.length; index++) if (bytes[at + index] !== REQUEST[index]) return 0;
  if (!isStation(bytes, start + 6) || !isStation(bytes, at + SENDER_MAC)) return 0;
  if (!isHost(bytes, at + TARGET_IP, 4) || !addresses.has(bytes, at + TARGET_IP, 4)) return 0;
  const probe = isAll(bytes, at + SENDER_IP, 4, 0);
  if (!probe && (!isHost(bytes, at + SENDER_IP, 4) || bytes.readUInt32BE(at + SENDER_IP) === bytes.readUInt32BE(at + TARGET_IP))) return 0;

  writeLinkAnswer(bytes, start, linkBytes, out);
  for (let index = 0; index < REQUEST.length; index++) out[linkBytes + index] = REQUEST[index] as number;
  out[linkBytes + 7] = 2;
  for (let index = 0; index < 6; index++) {
    out[6 + index] = mac[index] as number;
    out[linkBytes + SENDER_MAC + index] = mac[index] as number;
  }
  bytes.copy(out, linkBytes + SENDER_IP, at + TARGET_IP, at + TARGET_IP + 4);
  // To whom it asked: MAC and IP as they came.
  bytes.copy(out, linkBytes + 18, at + SENDER_MAC, at + SENDER_MAC + 10);
  return total;
}
