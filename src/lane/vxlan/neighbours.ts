// Answers ARP requests and neighbour solicitations of our own side for addresses that remotes have shown to be theirs, in place of flooding
// them (as RFC 7432, section 10, and RFC 9161 do). Pure but for its memory; the clock is passed in.
//
// * Pairs of IP and MAC address are learned from what comes from remotes: of IPv4 from the sender of any ARP message, of IPv6 from
//   advertisements only, since they alone tell whether the neighbour is a router; an answer that gets this wrong takes away default routes.
// * A pair that is heard on our own side, or of IPv6 with another MAC, is forgotten. Frames with VLAN tags belong to other networks: never learned,
//   never answered. Questions to one station are not answered either: they ask whether it is still there.
// * The oldest are first, in the order of the map, so that what has aged is found at once. When it is full nothing more is learned.

import { arpReply } from '../../packet/arp.ts';
import { fold, pseudoHeaderSum, sumBytes } from '../../packet/checksum.ts';
import { ETHERTYPE_ARP, ETHERTYPE_IPV6, etherType, isStation } from '../../packet/ethernet.ts';
import { ipPacket, isHost, readIpPacket } from '../../packet/ip-packet.ts';
import { neighbourAdvertisement } from '../../packet/neighbour-discovery.ts';
import { PrefixSet } from '../../packet/prefix-set.ts';

const ETHERNET_BYTES = 14;
/** An ARP message of IPv4 on Ethernet, from the begin of the frame. */
const ARP_END = ETHERNET_BYTES + 28;
const ARP_IPV4 = [0, 1, 8, 0, 6, 4, 0] as const;
const [ARP_SENDER_MAC, ARP_SENDER_IP, ARP_TARGET_IP] = [22, 28, 38] as const;
const IPV6_NEXT = 20;
const ICMPV6_AT = 54;
const TARGET_AT = 62;
const OPTIONS_AT = 78;
const ICMPV6 = 58;
const [SOLICITATION, ADVERTISEMENT] = [135, 136] as const;
const SOURCE_MAC_OPTION = 1;
const TARGET_MAC_OPTION = 2;
const ROUTER = 0x80;

/** The pairs decide, not a set of prefixes. */
const ANY = new PrefixSet([
  { bytes: new Uint8Array(4), length: 0 },
  { bytes: new Uint8Array(16), length: 0 },
]);

const ip = ipPacket();

interface Pair {
  mac: Buffer;
  isRouter: boolean;
  seenMs: number;
}

export interface NeighbourLimits {
  /** Pairs at most. */
  most: number;
  ageMs: number;
}

export class Neighbours {
  #most: number;
  #ageMs: number;
  /** By the address, 4 or 16 bytes as latin1. */
  readonly #pairs = new Map<string, Pair>();
  /** Of questions that were answered. */
  answered = 0;

  constructor({ most, ageMs }: NeighbourLimits) {
    this.#most = most;
    this.#ageMs = ageMs;
  }

  limit({ most, ageMs }: NeighbourLimits): void {
    this.#most = most;
    this.#ageMs = ageMs;
  }

  get size(): number {
    return this.#pairs.size;
  }

  clear(): void {
    this.#pairs.clear();
  }

  /** A frame `bytes[start, start + length)` came from a remote (*borrows*). */
  heard(bytes: Buffer, start: number, length: number, nowMs: number): void {
    if (isArp(bytes, start, length)) {
      const mac = start + ARP_SENDER_MAC;
      if (isHost(bytes, start + ARP_SENDER_IP, 4) && isStation(bytes, mac)) {
        this.#learn(keyOf(bytes, start + ARP_SENDER_IP, 4), bytes, mac, false, nowMs);
      }
      return;
    }
    if (!isDiscovery(bytes, start, length)) return;
    const type = bytes[start + ICMPV6_AT];
    if (type === ADVERTISEMENT) {
      const mac = optionAt(bytes, start, TARGET_MAC_OPTION);
      if (mac > 0 && isHost(bytes, start + TARGET_AT, 16) && isStation(bytes, mac)) {
        const isRouter = ((bytes[start + ICMPV6_AT + 4] as number) & ROUTER) !== 0;
        this.#learn(keyOf(bytes, start + TARGET_AT, 16), bytes, mac, isRouter, nowMs);
      }
      return;
    }
    const mac = optionAt(bytes, start, SOURCE_MAC_OPTION);
    const key = keyOf(bytes, start + ip.addressesAt - ip.at + ETHERNET_BYTES, 16);
    const known = this.#pairs.get(key);
    if (mac > 0 && known !== undefined && known.mac.compare(bytes, mac, mac + 6) !== 0) this.#pairs.delete(key);
  }

  /**
   * A frame `bytes[start, start + length)` is to be flooded (*borrows*). Writes the answer to it at the begin of `out` and answers its length; 0
   * when there is none, and it must be flooded. `isThere` says whether a MAC address (6 bytes) is behind a remote now.
   */
  answer(bytes: Buffer, start: number, length: number, nowMs: number, isThere: (mac: Buffer) => boolean, out: Buffer): number {
    const isOfArp = isArp(bytes, start, length);
    if (!isOfArp && !isDiscovery(bytes, start, length)) return 0;
    this.#leave(bytes, start, isOfArp);
    if (isStation(bytes, start)) return 0;
    if (!isOfArp && bytes[start + ICMPV6_AT] !== SOLICITATION) return 0;
    const pair = this.#pairs.get(isOfArp ? keyOf(bytes, start + ARP_TARGET_IP, 4) : keyOf(bytes, start + TARGET_AT, 16));
    if (pair === undefined || nowMs - pair.seenMs > this.#ageMs || !isThere(pair.mac)) return 0;
    const size = isOfArp
      ? arpReply(bytes, start, length, ANY, pair.mac, out)
      : neighbourAdvertisement(bytes, start, length, ANY, pair.mac, out);
    if (size === 0) return 0;
    if (!isOfArp && pair.isRouter) markRouter(out);
    this.answered++;
    return size;
  }

  /** Forgets what has aged. */
  sweep(nowMs: number): void {
    for (const [key, { seenMs }] of this.#pairs) {
      if (nowMs - seenMs <= this.#ageMs) return;
      this.#pairs.delete(key);
    }
  }

  /** The addresses that a MAC address (48 bits) was heard with last, 4 or 16 bytes by MAC address; where there are several, one of them. */
  addresses(nowMs: number): Map<number, Buffer> {
    const found = new Map<number, Buffer>();
    for (const [key, { mac, seenMs }] of this.#pairs) {
      if (nowMs - seenMs <= this.#ageMs) found.set(mac.readUIntBE(0, 6), Buffer.from(key, 'latin1'));
    }
    return found;
  }

  #learn(key: string, bytes: Buffer, mac: number, isRouter: boolean, nowMs: number): void {
    const known = this.#pairs.get(key);
    if (known === undefined && this.#pairs.size >= this.#most) {
      this.sweep(nowMs);
      if (this.#pairs.size >= this.#most) return;
    }
    const pair = known ?? { mac: Buffer.alloc(6), isRouter, seenMs: nowMs };
    bytes.copy(pair.mac, 0, mac, mac + 6);
    pair.isRouter = isRouter;
    pair.seenMs = nowMs;
    // To the end of the order.
    this.#pairs.delete(key);
    this.#pairs.set(key, pair);
  }

  /** Who speaks on our own side with an address has it now. */
  #leave(bytes: Buffer, start: number, isOfArp: boolean): void {
    if (this.#pairs.size === 0) return;
    if (isOfArp) this.#pairs.delete(keyOf(bytes, start + ARP_SENDER_IP, 4));
    else if (bytes[start + ICMPV6_AT] === ADVERTISEMENT) this.#pairs.delete(keyOf(bytes, start + TARGET_AT, 16));
    else this.#pairs.delete(keyOf(bytes, start + ETHERNET_BYTES + 8, 16));
  }
}

function keyOf(bytes: Buffer, at: number, size: 4 | 16): string {
  return bytes.toString('latin1', at, at + size);
}

/** An ARP request or reply of IPv4 on Ethernet, without tags. */
function isArp(bytes: Buffer, start: number, length: number): boolean {
  if (length < ARP_END || etherType(bytes, start, ETHERNET_BYTES) !== ETHERTYPE_ARP) return false;
  for (let index = 0; index < ARP_IPV4.length; index++) if (bytes[start + ETHERNET_BYTES + index] !== ARP_IPV4[index]) return false;
  const operation = bytes[start + ETHERNET_BYTES + ARP_IPV4.length];
  return operation === 1 || operation === 2;
}

/** A neighbour solicitation or advertisement without tags that RFC 4861 (sections 7.1.1, 7.1.2) calls valid, its options aside. */
function isDiscovery(bytes: Buffer, start: number, length: number): boolean {
  if (length < OPTIONS_AT || etherType(bytes, start, ETHERNET_BYTES) !== ETHERTYPE_IPV6 || bytes[start + IPV6_NEXT] !== ICMPV6)
    return false;
  const type = bytes[start + ICMPV6_AT];
  if ((type !== SOLICITATION && type !== ADVERTISEMENT) || bytes[start + ICMPV6_AT + 1] !== 0 || bytes[start + IPV6_NEXT + 1] !== 255)
    return false;
  if (!readIpPacket(bytes, start, length, true, ip) || ip.end < start + OPTIONS_AT) return false;
  const size = ip.end - ip.payloadAt;
  return fold(sumBytes(bytes, ip.payloadAt, size, pseudoHeaderSum(bytes, ip.addressesAt, 16, ICMPV6, size))) === 0xffff;
}

/** Where the MAC address of an option of the message just read stands; 0: there is none. */
function optionAt(bytes: Buffer, start: number, wanted: number): number {
  for (let at = start + OPTIONS_AT; at + 8 <= ip.end; ) {
    const size = (bytes[at + 1] as number) * 8;
    if (size === 0) return 0;
    if (bytes[at] === wanted && size === 8) return at + 2;
    at += size;
  }
  return 0;
}

/** Sets the router flag of an advertisement, and mends its checksum (RFC 1624, equation 3). */
function markRouter(out: Buffer): void {
  const at = ICMPV6_AT + 4;
  const before = out.readUInt16BE(at);
  const after = before | (ROUTER << 8);
  out.writeUInt16BE(after, at);
  const sum = (~out.readUInt16BE(ICMPV6_AT + 2) & 0xffff) + (~before & 0xffff) + after;
  out.writeUInt16BE(~fold(sum) & 0xffff, ICMPV6_AT + 2);
}
