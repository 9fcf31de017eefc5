// A packet sent back to where it came from: MAC addresses, IP addresses, and ports of TCP and UDP exchanged, all else as it was. Checksums
// stay what they were, right or wrong: exchanging words does not change their sum. Pure, no allocation.

import { writeLinkAnswer } from './ethernet.ts';
import { ipPacket, isBetweenHosts, readIpPacket } from './ip-packet.ts';
import type { PrefixSet } from './prefix-set.ts';

const TCP = 6;
const UDP = 17;

const ip = ipPacket();

/**
 * Writes the packet, turned round, at the begin of `out` and answers its length, 0 when there is none. The frame is
 * `bytes[start, start + length)` (*borrows*), within `bytes` and apart from `out`; `ethernet` tells a TAP frame from a TUN packet.
 * `addresses` are the destinations that are answered for, undefined for all. Fragments but the first have no ports: their addresses are
 * exchanged. Nothing for what is no IP packet, or broken, and for multicast or broadcast at either end.
 */
export function reflect(
  bytes: Buffer,
  start: number,
  length: number,
  ethernet: boolean,
  addresses: PrefixSet | undefined,
  out: Buffer,
): number {
  if (length > out.length || !readIpPacket(bytes, start, length, ethernet, ip) || !isBetweenHosts(bytes, ip)) return 0;
  const { addressesAt, addressBytes, payloadAt, protocol } = ip;
  if (addresses !== undefined && !addresses.has(bytes, addressesAt + addressBytes, addressBytes)) return 0;
  bytes.copy(out, 0, start, start + length);
  writeLinkAnswer(bytes, start, ip.linkBytes, out);
  exchange(out, addressesAt - start, addressBytes);
  if ((protocol === TCP || protocol === UDP) && ip.first && payloadAt + 4 <= ip.end) exchange(out, payloadAt - start, 2);
  return length;
}

/** Exchanges `size` bytes at `at` with as many after them. */
function exchange(out: Buffer, at: number, size: number): void {
  for (let index = at; index < at + size; index++) {
    const byte = out[index] as number;
    out[index] = out[index + size] as number;
    out[index + size] = byte;
  }
}
