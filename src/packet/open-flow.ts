// One super-frame in the making: the first segment of a flow, with the payload of those that followed behind its own. What may follow is what the
// kernel's GRO joins (net/ipv4/tcp_offload.c, udp_offload.c; net/ipv4/af_inet.c, net/ipv6/ip6_offload.c), and no more.
//
//   room | virtio header 10 | link header | IP | TCP or UDP | payload | payload | ...

import { finish, fold, sumBytes } from './checksum.ts';
import { ETHERNET_BYTES } from './ethernet.ts';
import { type FlowSegment, flowSegment } from './flow-segment.ts';
import { half, putHalf, TCP, UDP } from './pieces.ts';
import { GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CHECKSUM, plainVnetHeader, VNET_HEADER_BYTES, writeVnetHeader } from './vnet-header.ts';

const IP_MOST = 65_535;
const LINK_MOST = 22;
/** A virtio header, and up to 3 bytes so that the payload lies in memory as it does where it comes from: words are copied as words. */
const BEFORE = VNET_HEADER_BYTES + 3;
/** UDP_GRO_CNT_MAX of net/ipv4/udp_offload.c; senders of the kernel stay below it too. */
const DATAGRAMS_MOST = 64;
const TCP_PSH = 0x08;
const DONT_FRAGMENT = 0x40;

/** Takes `bytes[start, start + length)`: virtio header (10 bytes) and frame, valid until it returns (*borrows*). */
export type WriteSuper = (bytes: Buffer, start: number, length: number) => void;

export class OpenFlow {
  /** Which one it is, in the order in which flows were opened. */
  turn = 0;
  /** Segments that it holds, 0 when it is free. */
  count = 0;
  /** Nothing may follow. */
  isFull = false;
  /** Comes into being with the first flow: most links never have many at once. */
  #buffer: Buffer | undefined;
  /** The first segment, in the buffer; `end` moves on. */
  readonly #at: FlowSegment = flowSegment();
  readonly #vnet = plainVnetHeader();
  /** Payload of every segment but the last. */
  #size = 0;
  #sequence = 0;
  /** What identifications go up by: 1, or 0, which the second segment tells. */
  #step = 1;
  #isPushed = false;
  /** Of the IPv4 header without length, identification and checksum, and of both addresses and the protocol. */
  #l3Sum = 0;
  #pseudoSum = 0;

  /** Opens with the segment (*copies*), which is joinable and right. */
  open(bytes: Buffer, segment: FlowSegment, turn: number): void {
    this.#buffer ??= Buffer.allocUnsafeSlow(BEFORE + LINK_MOST + IP_MOST);
    const buffer = this.#buffer;
    const start = VNET_HEADER_BYTES + ((bytes.byteOffset + segment.start - VNET_HEADER_BYTES - buffer.byteOffset) & 3);
    const at = this.#at;
    const by = start - segment.start;
    bytes.copy(buffer, start, segment.start, segment.end);
    at.start = start;
    at.l3 = segment.l3 + by;
    at.l4 = segment.l4 + by;
    at.payload = segment.payload + by;
    at.end = segment.end + by;
    at.v4 = segment.v4;
    at.isTcp = segment.isTcp;
    this.turn = turn;
    this.count = 1;
    this.isFull = false;
    this.#size = at.end - at.payload;
    this.#isPushed = false;
    this.#sequence = at.isTcp ? (buffer.readUInt32BE(at.l4 + 4) + this.#size) >>> 0 : 0;
    const { l3 } = at;
    if (at.v4) this.#l3Sum = sumBytes(buffer, l3, 20) - half(buffer, l3 + 2) - half(buffer, l3 + 4) - half(buffer, l3 + 10);
    this.#pseudoSum = (at.v4 ? sumBytes(buffer, l3 + 12, 8) : sumBytes(buffer, l3 + 8, 32)) + (at.isTcp ? TCP : UDP);
  }

  /** Whether a segment is of the same addresses and ports. */
  isOf(bytes: Buffer, { l3, l4, v4, isTcp }: FlowSegment): boolean {
    const at = this.#at;
    if (v4 !== at.v4 || isTcp !== at.isTcp) return false;
    const buffer = this.#buffer as Buffer;
    if (!isSame(bytes, l4, buffer, at.l4, 4)) return false;
    return v4 ? isSame(bytes, l3 + 12, buffer, at.l3 + 12, 8) : isSame(bytes, l3 + 8, buffer, at.l3 + 8, 32);
  }

  /** Whether a joinable segment of this flow may follow as far as its headers tell. */
  takes(bytes: Buffer, segment: FlowSegment): boolean {
    const at = this.#at;
    const buffer = this.#buffer as Buffer;
    const { l3, l4, v4, isTcp } = segment;
    const size = segment.end - segment.payload;
    const linkBytes = l3 - segment.start;
    if (this.isFull || size > this.#size || at.end + size - at.l3 > IP_MOST) return false;
    // No device is given more than the longest IP packet behind an Ethernet header; tags are on its account.
    if (linkBytes > ETHERNET_BYTES && at.end + size - at.start > ETHERNET_BYTES + IP_MOST) return false;
    if (linkBytes !== at.l3 - at.start || segment.payload - l4 !== at.payload - at.l4) return false;
    if (!isSame(bytes, segment.start, buffer, at.start, linkBytes)) return false;
    // Type of service; TTL and DF; traffic class and flow label; hop limit.
    if (!isSame(bytes, l3, buffer, at.l3, v4 ? 2 : 4)) return false;
    if (v4 ? !isSame(bytes, l3 + 6, buffer, at.l3 + 6, 3) : bytes[l3 + 7] !== buffer[at.l3 + 7]) return false;
    if (v4 && !this.#isNextIdentification(half(bytes, l3 + 4))) return false;
    return !isTcp || this.#isNext(bytes, segment);
  }

  /** Puts the payload of a segment that it takes behind its own (*copies*); false, with nothing done, when a checksum is wrong. */
  join(bytes: Buffer, segment: FlowSegment): boolean {
    const { l3, l4, payload, end, v4 } = segment;
    const at = this.#at;
    const buffer = this.#buffer as Buffer;
    const l3Sum = this.#l3Sum + half(bytes, l3 + 2) + half(bytes, l3 + 4) + half(bytes, l3 + 10);
    if (v4 && fold(l3Sum) !== 0xffff) return false;
    if (fold(sumBytes(bytes, l4, end - l4, this.#pseudoSum + end - l4)) !== 0xffff) return false;
    const size = end - payload;
    bytes.copy(buffer, at.end, payload, end);
    if (this.count === 1) this.#step = v4 && half(bytes, l3 + 4) === half(buffer, at.l3 + 4) ? 0 : 1;
    at.end += size;
    this.count++;
    if (at.isTcp) {
      this.#sequence = (this.#sequence + size) >>> 0;
      this.#isPushed = ((bytes[l4 + 13] as number) & TCP_PSH) !== 0;
    }
    this.isFull = size < this.#size || this.#isPushed || (!at.isTcp && this.count === DATAGRAMS_MOST);
    return true;
  }

  /** Gives it away, behind a virtio header, and is free. One segment alone goes as it came. */
  close(write: WriteSuper): void {
    const { start, end } = this.#at;
    const buffer = this.#buffer as Buffer;
    const at = start - VNET_HEADER_BYTES;
    if (this.count > 1) this.#finish(buffer, at);
    else buffer.fill(0, at, start);
    this.count = 0;
    write(buffer, at, end - at);
  }

  /** As the kernel has a packet that is yet to be cut: lengths of the whole, and the sum of the pseudo-header for a checksum. */
  #finish(buffer: Buffer, headerAt: number): void {
    const { start, l3, l4, payload, end, v4, isTcp } = this.#at;
    const l4Bytes = end - l4;
    if (v4) {
      putHalf(buffer, l3 + 2, end - l3);
      putHalf(buffer, l3 + 10, finish(this.#l3Sum + (end - l3) + half(buffer, l3 + 4)));
    } else putHalf(buffer, l3 + 4, l4Bytes);
    if (!isTcp) putHalf(buffer, l4 + 4, l4Bytes);
    else if (this.#isPushed) buffer[l4 + 13] = (buffer[l4 + 13] as number) | TCP_PSH;
    const checksumOffset = isTcp ? 16 : 6;
    putHalf(buffer, l4 + checksumOffset, fold(this.#pseudoSum + l4Bytes));
    const vnet = this.#vnet;
    vnet.flags = NEEDS_CHECKSUM;
    vnet.gsoType = isTcp ? (v4 ? GSO_TCPV4 : GSO_TCPV6) : GSO_UDP_L4;
    vnet.headerLength = payload - start;
    vnet.gsoSize = this.#size;
    vnet.checksumStart = l4 - start;
    vnet.checksumOffset = checksumOffset;
    writeVnetHeader(buffer, headerAt, vnet);
  }

  /** They count on, as they will when it is cut. Those that cannot be fragmented may also stay the same (RFC 6864). */
  #isNextIdentification(identification: number): boolean {
    const { l3 } = this.#at;
    const buffer = this.#buffer as Buffer;
    const first = half(buffer, l3 + 4);
    const counted = ((first + this.count) & 0xffff) === identification;
    if (this.count > 1 && this.#step === 1) return counted;
    const stays = first === identification && ((buffer[l3 + 6] as number) & DONT_FRAGMENT) !== 0;
    return this.count > 1 ? stays : counted || stays;
  }

  #isNext(bytes: Buffer, { l4, payload }: FlowSegment): boolean {
    const at = this.#at.l4;
    const buffer = this.#buffer as Buffer;
    if (bytes.readUInt32BE(l4 + 4) !== this.#sequence) return false;
    // Acknowledgement; window; urgent pointer and options, timestamps among them.
    return (
      isSame(bytes, l4 + 8, buffer, at + 8, 4) &&
      isSame(bytes, l4 + 14, buffer, at + 14, 2) &&
      isSame(bytes, l4 + 18, buffer, at + 18, payload - l4 - 18)
    );
  }
}

function isSame(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, size: number): boolean {
  for (let index = 0; index < size; index++) if (a[aAt + index] !== b[bAt + index]) return false;
  return true;
}
