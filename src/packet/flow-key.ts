// What a frame says of the flow that it belongs to: a key in ten words that is the same in both directions, and what is remembered of the
// packet. Nothing here throws or allocates: bytes that end too early make a flow of what could be read.
//
//   word  0..3  address A (IPv6; IPv4 in word 0; MAC in words 0 and 1)     A is the smaller of the two ends
//         4..7  address B
//         8     port of A, port of B; for ICMP type and counterpart; for what is no IP its EtherType
//         9     kind (2 bits: no IP, IPv4, IPv6) | way (1) | protocol (8) | ports not known (1) | VLAN id (12)
//
// `way` tells a packet from A to B that the node sends from one that it receives: a packet that is routed back out of the interface that it
// came through belongs to another flow, so that the two directions of a flow are those of the interface.

import { icmpCounterpart } from './community-id.ts';
import { FragmentPorts } from './fragment-ports.ts';

export const KEY_WORDS = 10;
export const PORTS_WORD = 8;
export const KIND_WORD = 9;

export const KIND_OTHER = 0;
export const KIND_V4 = 1;
export const KIND_V6 = 2;

const WAY_BIT = 1 << 2;
const PROTOCOL_SHIFT = 3;
const UNKNOWN_BIT = 1 << 11;
const VLAN_SHIFT = 12;

const ETHERNET_BYTES = 14;
const TAG_BYTES = 4;
const TAGS_MOST = 3;
const LEAST_ETHERTYPE = 0x0600;
const [ICMP, TCP, UDP, ICMP6, SCTP, DCCP, UDP_LITE] = [1, 6, 17, 58, 132, 33, 136] as const;
const [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS] = [0, 43, 44, 60] as const;
const EXTENSIONS_MOST = 8;
const GSO_KINDS = 0x7f;
/** An IPv4 header without options, and of what follows all that `readPlain` looks at: ports, of TCP the flags too. */
const PLAIN_TCP_BYTES = 34;
const PLAIN_UDP_BYTES = 24;

/** Kind of an address in word 9. */
export const kindOf = (word: number): number => word & 3;
export const protocolOf = (word: number): number => (word >>> PROTOCOL_SHIFT) & 0xff;
/** Whether the protocol has ports, or type and code, and the packet did not tell them: a fragment without its first part, or a cut one. */
export const portsUnknown = (word: number): boolean => (word & UNKNOWN_BIT) !== 0;
export const vlanOf = (word: number): number => (word >>> VLAN_SHIFT) & 0xfff;

/** Protocols whose first four bytes are two ports. */
export function hasPorts(protocol: number): boolean {
  return protocol === TCP || protocol === UDP || protocol === SCTP || protocol === DCCP || protocol === UDP_LITE;
}

export function isIcmp(protocol: number, kind: number): boolean {
  return protocol === (kind === KIND_V6 ? ICMP6 : ICMP);
}

/** Reads frames, one after another, into its own fields. */
export class FlowKeyReader {
  readonly key = new Int32Array(KEY_WORDS);
  /** The packet goes from B to A. */
  fromB = false;
  /** Ways to the MAC addresses: index of the Ethernet header in the bytes, -1 for none. */
  ethernetAt = -1;
  etherType = 0;
  /** Packets and bytes on the wire: more than one for a super-frame. */
  packets = 1;
  bytes = 0;
  tcpFlags = 0;
  dscp = 0;
  ttl = 0;
  fragment = false;
  icmpType = 0;
  icmpCode = 0;
  readonly #ethernet: boolean;
  readonly #fragments = new FragmentPorts();
  #sourcePort = 0;
  #destinationPort = 0;
  #oneWay = false;
  #vlan = 0;
  /** Where what follows the transport header begins, for super-frames; 0 when it was not found. */
  #payloadAt = 0;
  /** The key is one that `readPlain` made. */
  #isPlain = false;
  /** What was read last, and a view of it: numbers of several bytes are one load each. */
  #bytes: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(this.#bytes.buffer);

  constructor(ethernet: boolean) {
    this.#ethernet = ethernet;
  }

  /**
   * Reads a frame that has no tag taken off and is no super-frame, if it is an IPv4 packet of TCP or UDP without anything special: most are,
   * and for these it takes a fraction of the time that `read` takes. Answers false, with the fields undefined, when it is another.
   */
  readPlain(bytes: Uint8Array, start: number, captured: number, length: number, outgoing: boolean): boolean {
    const linkBytes = this.#ethernet ? ETHERNET_BYTES : 0;
    if (captured < linkBytes + PLAIN_UDP_BYTES) return false;
    if (bytes !== this.#bytes) this.#look(bytes);
    const view = this.#view;
    const at = start + linkBytes;
    if (linkBytes > 0 && view.getUint16(at - 2) !== 0x0800) return false;
    const protocol = bytes[at + 9] as number;
    if ((bytes[at] as number) !== 0x45 || (view.getUint16(at + 6) & 0x3fff) !== 0) return false;
    if (protocol !== UDP && (protocol !== TCP || captured < linkBytes + PLAIN_TCP_BYTES)) return false;
    const source = view.getInt32(at + 12);
    const destination = view.getInt32(at + 16);
    const ports = view.getInt32(at + 20);
    const fromB = source === destination ? ports >>> 16 > (ports & 0xffff) : source >>> 0 > destination >>> 0;
    const key = this.key;
    // What `readPlain` does not set is still 0 from the last time.
    if (!this.#isPlain) clear(key);
    this.#isPlain = true;
    key[0] = fromB ? destination : source;
    key[4] = fromB ? source : destination;
    key[PORTS_WORD] = fromB ? (ports << 16) | (ports >>> 16) : ports;
    key[KIND_WORD] = KIND_V4 | (protocol << PROTOCOL_SHIFT) | (outgoing !== fromB ? WAY_BIT : 0);
    this.fromB = fromB;
    this.ethernetAt = linkBytes > 0 ? start : -1;
    this.etherType = 0x0800;
    this.packets = 1;
    this.bytes = length;
    this.tcpFlags = protocol === TCP ? (bytes[at + 33] as number) : 0;
    this.dscp = (bytes[at + 1] as number) >> 2;
    this.ttl = bytes[at + 8] as number;
    this.fragment = false;
    this.icmpType = 0;
    this.icmpCode = 0;
    return true;
  }

  /**
   * Reads the frame of which `bytes[start, start + captured)` was kept of `length` bytes. `vlanTpid` and `vlanTci` are the tag that the
   * kernel took off, TPID 0 for none. `gsoType` and `gsoSize` are those of its virtio header.
   */
  read(
    bytes: Uint8Array,
    start: number,
    captured: number,
    length: number,
    outgoing: boolean,
    vlanTpid: number,
    vlanTci: number,
    gsoType: number,
    gsoSize: number,
  ): void {
    const key = this.key;
    clear(key);
    this.#isPlain = false;
    if (bytes !== this.#bytes) this.#look(bytes);
    this.fromB = false;
    this.tcpFlags = 0;
    this.dscp = 0;
    this.ttl = 0;
    this.fragment = false;
    this.icmpType = 0;
    this.icmpCode = 0;
    this.etherType = 0;
    this.ethernetAt = -1;
    this.#sourcePort = 0;
    this.#destinationPort = 0;
    this.#oneWay = false;
    this.#payloadAt = 0;
    const end = start + captured;
    this.#vlan = vlanTpid === 0 ? 0 : vlanTci & 0xfff;
    let at = start;
    let known = false;
    if (this.#ethernet) {
      if (captured >= ETHERNET_BYTES) {
        this.ethernetAt = start;
        at = start + ETHERNET_BYTES;
        const view = this.#view;
        let type = view.getUint16(at - 2);
        for (let tags = 0; tags < TAGS_MOST && isTag(type) && at + TAG_BYTES <= end; tags++) {
          if (tags === 0 && vlanTpid === 0) this.#vlan = view.getUint16(at) & 0xfff;
          type = view.getUint16(at + 2);
          at += TAG_BYTES;
        }
        // An 802.3 frame has its length there.
        this.etherType = type < LEAST_ETHERTYPE ? 0 : type;
        known = type === 0x0800 ? this.#v4(bytes, at, end) : type === 0x86dd && this.#v6(bytes, at, end);
        if (!known) this.#other(start);
      }
    } else if (captured > 0) {
      const version = (bytes[at] as number) >> 4;
      known = version === 4 ? this.#v4(bytes, at, end) : version === 6 && this.#v6(bytes, at, end);
      if (known) this.etherType = version === 4 ? 0x0800 : 0x86dd;
    }
    if (known) this.#orient();
    // As seen from A: sent from A to B by the node, or received from A.
    const way = outgoing !== this.fromB ? WAY_BIT : 0;
    key[KIND_WORD] = (key[KIND_WORD] as number) | way | (this.#vlan << VLAN_SHIFT);
    this.#size(start, length + (vlanTpid === 0 ? 0 : TAG_BYTES), vlanTpid === 0 ? 0 : TAG_BYTES, gsoType, gsoSize);
  }

  #look(bytes: Uint8Array): void {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** A super-frame is on the wire what it is cut into: each piece has all headers. */
  #size(start: number, length: number, tagBytes: number, gsoType: number, gsoSize: number): void {
    this.packets = 1;
    this.bytes = length;
    if ((gsoType & GSO_KINDS) === 0 || gsoSize === 0 || this.#payloadAt === 0) return;
    const headers = this.#payloadAt - start + tagBytes;
    const payload = length - headers;
    if (payload <= gsoSize) return;
    this.packets = Math.ceil(payload / gsoSize);
    this.bytes = payload + this.packets * headers;
  }

  #v4(bytes: Uint8Array, at: number, end: number): boolean {
    const view = this.#view;
    if (at + 20 > end || (bytes[at] as number) >> 4 !== 4) return false;
    const headerBytes = ((bytes[at] as number) & 15) * 4;
    if (headerBytes < 20) return false;
    const key = this.key;
    const protocol = bytes[at + 9] as number;
    const fragment = view.getUint16(at + 6);
    key[0] = view.getInt32(at + 12);
    key[4] = view.getInt32(at + 16);
    key[KIND_WORD] = KIND_V4 | (protocol << PROTOCOL_SHIFT);
    this.dscp = (bytes[at + 1] as number) >> 2;
    this.ttl = bytes[at + 8] as number;
    this.fragment = (fragment & 0x3fff) !== 0;
    this.#transport(bytes, at + headerBytes, end, protocol, KIND_V4, fragment & 0x1fff, protocol, view.getUint16(at + 4));
    return true;
  }

  #v6(bytes: Uint8Array, at: number, end: number): boolean {
    const view = this.#view;
    if (at + 40 > end || (bytes[at] as number) >> 4 !== 6) return false;
    const key = this.key;
    for (let index = 0; index < 4; index++) {
      key[index] = view.getInt32(at + 8 + index * 4);
      key[4 + index] = view.getInt32(at + 24 + index * 4);
    }
    this.dscp = (view.getUint16(at) >> 6) & 0x3f;
    this.ttl = bytes[at + 7] as number;
    let protocol = bytes[at + 6] as number;
    let next = at + 40;
    let offset = 0;
    let id = 0;
    for (let count = 0; count < EXTENSIONS_MOST && offset === 0; count++) {
      if (protocol !== HOP_BY_HOP && protocol !== ROUTING && protocol !== FRAGMENT && protocol !== DESTINATION_OPTIONS) break;
      if (next + 8 > end) break;
      if (protocol === FRAGMENT) {
        offset = view.getUint16(next + 2) >> 3;
        id = view.getInt32(next + 4);
        // One with neither offset nor more is whole (RFC 6946).
        if ((view.getUint16(next + 2) & 0xfff9) !== 0) this.fragment = true;
      }
      const size = protocol === FRAGMENT ? 8 : ((bytes[next + 1] as number) + 1) * 8;
      protocol = bytes[next] as number;
      next += size;
    }
    key[KIND_WORD] = KIND_V6 | (protocol << PROTOCOL_SHIFT);
    // Parts may tell other protocols: of the first one's headers some can stand behind the fragment header (RFC 8200, 4.5).
    this.#transport(bytes, next, end, protocol, KIND_V6, offset, FRAGMENT, id);
    return true;
  }

  /** `common` is what of the protocol all parts of a datagram tell alike. */
  #transport(bytes: Uint8Array, at: number, end: number, protocol: number, kind: number, offset: number, common: number, id: number): void {
    const view = this.#view;
    const scope = (this.#vlan << 16) | (kind << 8) | common;
    if (offset !== 0) return void this.#laterPart(protocol, kind, scope, id);
    if (hasPorts(protocol)) {
      if (at + 4 > end) return void this.#hide();
      this.#sourcePort = view.getUint16(at);
      this.#destinationPort = view.getUint16(at + 2);
      if (protocol === UDP) this.#payloadAt = at + 8;
      else if (protocol === TCP && at + 14 <= end) {
        this.tcpFlags = bytes[at + 13] as number;
        this.#payloadAt = at + ((bytes[at + 12] as number) >> 4) * 4;
      }
    } else if (isIcmp(protocol, kind)) {
      if (at + 2 > end) return void this.#hide();
      this.icmpType = bytes[at] as number;
      this.icmpCode = bytes[at + 1] as number;
      const counterpart = icmpCounterpart(this.icmpType, kind === KIND_V6);
      this.#oneWay = counterpart < 0;
      this.#sourcePort = this.icmpType;
      this.#destinationPort = this.#oneWay ? this.icmpCode : counterpart;
    }
    if (this.fragment) this.#fragments.note(this.key, scope, id, protocol, this.#sourcePort, this.#destinationPort, this.#oneWay);
  }

  /** The ports stand in the first part only. */
  #laterPart(protocol: number, kind: number, scope: number, id: number): void {
    const first = this.#fragments;
    if (!first.find(this.key, scope, id)) {
      if (hasPorts(protocol) || isIcmp(protocol, kind)) this.#hide();
      return;
    }
    this.key[KIND_WORD] = kind | (first.protocol << PROTOCOL_SHIFT);
    this.#sourcePort = first.sourcePort;
    this.#destinationPort = first.destinationPort;
    this.#oneWay = first.oneWay;
    if (!isIcmp(first.protocol, kind)) return;
    this.icmpType = first.sourcePort;
    this.icmpCode = first.oneWay ? first.destinationPort : 0;
  }

  #hide(): void {
    this.key[KIND_WORD] = (this.key[KIND_WORD] as number) | UNKNOWN_BIT;
  }

  /** MAC addresses as ends. */
  #other(start: number): void {
    const key = this.key;
    const view = this.#view;
    clear(key);
    this.#sourcePort = 0;
    this.#destinationPort = 0;
    key[0] = view.getInt32(start + 6);
    key[1] = view.getUint16(start + 10) << 16;
    key[4] = view.getInt32(start);
    key[5] = view.getUint16(start + 4) << 16;
    this.#orient();
    key[PORTS_WORD] = this.etherType;
  }

  #isSourceAbove(): boolean {
    const key = this.key;
    for (let index = 0; index < 4; index++) {
      const source = (key[index] as number) >>> 0;
      const destination = (key[4 + index] as number) >>> 0;
      if (source !== destination) return source > destination;
    }
    return this.#sourcePort > this.#destinationPort;
  }

  /** Puts the smaller end first. What has no answer stays as it is. */
  #orient(): void {
    const key = this.key;
    this.fromB = !this.#oneWay && this.#isSourceAbove();
    if (!this.fromB) {
      key[PORTS_WORD] = (this.#sourcePort << 16) | this.#destinationPort;
      return;
    }
    for (let index = 0; index < 4; index++) {
      const other = key[index] as number;
      key[index] = key[4 + index] as number;
      key[4 + index] = other;
    }
    key[PORTS_WORD] = (this.#destinationPort << 16) | this.#sourcePort;
  }
}

const isTag = (type: number): boolean => type === 0x8100 || type === 0x88a8 || type === 0x9100;

function clear(key: Int32Array): void {
  for (let index = 0; index < KEY_WORDS; index++) key[index] = 0;
}
