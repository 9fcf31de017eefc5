// Layers of frames for tests: link, IP, extension headers, fragments, transport with right checksums. Built by plain arithmetic that shares
// nothing with src/. Pure.

import { slowChecksum } from '../packet/frames.ts';

/** Seen from the node: inbound is what its peer sends. */
export type From = 'inbound' | 'outbound';
export type Version = 4 | 6;

/** Two ends, and what is between them. Text as people write it; MAC addresses with colons. */
export interface Wire {
  node4: string;
  peer4: string;
  node6: string;
  peer6: string;
  /** A TAP; a TUN without it. */
  ethernet?: {
    node: string;
    peer: string;
    /** VLAN tags, outermost first: number of each. The outer one of two is of 802.1ad. */
    vlans?: readonly number[];
  };
}

/**
 * Addresses for documentation that no device should have: a kernel that does not forward drops what comes for them, and answers nothing.
 * Both ends are of one network, for where it has a route to the peer but none to the node, IPv6 would say so.
 */
export const TUN_WIRE: Wire = { node4: '198.51.100.101', peer4: '198.51.100.102', node6: '2001:db8:1::101', peer6: '2001:db8:1::102' };
/** The MAC addresses are not those of the device: it takes what comes for others'. */
export const TAP_WIRE = { ...TUN_WIRE, ethernet: { node: '02:00:5e:00:53:01', peer: '02:00:5e:00:53:02' } } satisfies Wire;
/** The same with two tags. */
export const VLAN_WIRE = { ...TAP_WIRE, ethernet: { ...TAP_WIRE.ethernet, vlans: [200, 100] } } satisfies Wire;

export const u16 = (...values: number[]): Buffer => Buffer.from(values.flatMap((value) => [(value >> 8) & 0xff, value & 0xff]));
export const u32 = (...values: number[]): Buffer => u16(...values.flatMap((value) => [value >>> 16, value & 0xffff]));

/** Bytes of a MAC address. */
export function macBytes(text: string): Buffer {
  return Buffer.from(text.replaceAll(':', ''), 'hex');
}

/** Bytes of an address of IPv4 or IPv6. */
export function addressBytes(text: string): Buffer {
  if (!text.includes(':')) return Buffer.from(text.split('.').map(Number));
  const [before = [], after = []] = text.split('::').map((part) => part.split(':').filter((group) => group !== ''));
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return Buffer.from([...before, ...zeros, ...after].map((group) => group.padStart(4, '0')).join(''), 'hex');
}

/** Source and destination address, 8 or 32 bytes. */
export function addresses(wire: Wire, from: From, version: Version): Buffer {
  const [node, peer] = version === 4 ? [wire.node4, wire.peer4] : [wire.node6, wire.peer6];
  return Buffer.concat((from === 'inbound' ? [peer, node] : [node, peer]).map(addressBytes));
}

/** A frame of a TAP, or the packet as it is on a TUN. `destination` in place of the other end. */
export function link({ ethernet }: Wire, from: From, type: number, packet: Buffer, destination?: string): Buffer {
  if (ethernet === undefined) return packet;
  const [source, other] = from === 'inbound' ? [ethernet.peer, ethernet.node] : [ethernet.node, ethernet.peer];
  const vlans = ethernet.vlans ?? [];
  const tags = vlans.map((vlan, index) => u16(index < vlans.length - 1 ? 0x88a8 : 0x8100, vlan));
  return Buffer.concat([macBytes(destination ?? other), macBytes(source), ...tags, u16(type), packet]);
}

export interface IpShape {
  /** Both addresses. */
  ends: Buffer;
  protocol: number;
  payload: Buffer;
  ttl?: number;
  /** IPv4: a multiple of 4 bytes. */
  options?: Buffer;
  identification?: number;
  /** IPv4: flags and offset in units of 8 bytes. */
  fragment?: number;
  /** IPv6: types of extension headers: 0 hop-by-hop, 60 destination options, 43 routing (RFC 8754, at its end), 44 a fragment that is whole. */
  extensions?: readonly number[];
}

/** An IP packet, of IPv6 when its addresses are. */
export function ip(shape: IpShape): Buffer {
  return shape.ends.length === 8 ? ipv4(shape) : ipv6(shape);
}

function ipv4({ ends, protocol, payload, ttl = 64, options = Buffer.alloc(0), identification = 7, fragment = 0 }: IpShape): Buffer {
  const headerBytes = 20 + options.length;
  const start = u16(0x4000 | (headerBytes << 6), headerBytes + payload.length, identification, fragment, (ttl << 8) | protocol, 0);
  const header = Buffer.concat([start, ends, options]);
  header.writeUInt16BE(slowChecksum(header), 10);
  return Buffer.concat([header, payload]);
}

function ipv6({ ends, protocol, payload, ttl = 64, extensions = [], identification = 7 }: IpShape): Buffer {
  let next = protocol;
  let body = payload;
  for (const type of extensions.toReversed()) {
    body = Buffer.concat([Buffer.from([next]), extensionRest(type, identification, ends.subarray(16)), body]);
    next = type;
  }
  return Buffer.concat([u16(0x6000, 0, body.length), Buffer.from([next, ttl]), ends, body]);
}

/** An extension header behind its first byte. */
function extensionRest(type: number, identification: number, destination: Buffer): Buffer {
  if (type === 44) return Buffer.concat([Buffer.alloc(3), u32(identification)]);
  // Length in units of 8 bytes but the first, type 4, no segments left, and the one segment there was.
  if (type === 43) return Buffer.concat([Buffer.from([2, 4, 0]), u32(0), destination]);
  // PadN of 12 bytes.
  if (type === 0 || type === 60) return Buffer.concat([Buffer.from([1, 1, 12]), Buffer.alloc(12)]);
  throw new Error(`extension header ${type}: not one of 0, 43, 44, 60`);
}

/** The parts of one datagram, in order, none with more than `most` bytes behind its IP header, itself a multiple of 8. */
export function fragments(shape: IpShape, most: number): Buffer[] {
  const parts: Buffer[] = [];
  const identification = shape.identification ?? 7;
  for (let at = 0; at < shape.payload.length; at += most) {
    const piece = shape.payload.subarray(at, at + most);
    const more = at + most < shape.payload.length;
    if (shape.ends.length === 8) {
      parts.push(ip({ ...shape, payload: piece, fragment: (more ? 0x2000 : 0) | (at / 8) }));
    } else {
      const header = Buffer.concat([Buffer.from([shape.protocol, 0]), u16(at | (more ? 1 : 0)), u32(identification)]);
      parts.push(ip({ ...shape, protocol: 44, payload: Buffer.concat([header, piece]) }));
    }
  }
  return parts;
}

/** `segment` with its checksum at `field`, over the pseudo-header too. */
function summed(segment: Buffer, ends: Buffer, protocol: number, field: number): Buffer {
  const sum = slowChecksum(Buffer.concat([ends, u32(segment.length), u32(protocol), segment]));
  // Zero would say that UDP has none.
  segment.writeUInt16BE(sum === 0 && protocol === 17 ? 0xffff : sum, field);
  return segment;
}

export function udp(ends: Buffer, ports: readonly [number, number], data: Buffer): Buffer {
  return summed(Buffer.concat([u16(...ports, 8 + data.length, 0), data]), ends, 17, 6);
}

export interface TcpShape {
  sequence: number;
  acknowledgment: number;
  flags: number;
  /** A multiple of 4 bytes. */
  options?: Buffer;
  data?: Buffer;
}

export function tcp(ends: Buffer, ports: readonly [number, number], shape: TcpShape): Buffer {
  const { sequence, acknowledgment, flags, options = Buffer.alloc(0), data = Buffer.alloc(0) } = shape;
  const offset = (20 + options.length) << 10;
  const header = Buffer.concat([u16(...ports), u32(sequence, acknowledgment), u16(offset | flags, 0xfaf0, 0, 0), options, data]);
  return summed(header, ends, 6, 16);
}

/** A message of ICMP, or of ICMPv6 between addresses of IPv6: type, code, and what is behind the checksum. */
export function icmp(ends: Buffer, type: number, code: number, rest: Buffer): Buffer {
  const message = Buffer.concat([Buffer.from([type, code, 0, 0]), rest]);
  if (ends.length === 32) return summed(message, ends, 58, 2);
  message.writeUInt16BE(slowChecksum(message), 2);
  return message;
}

/** An SCTP packet (RFC 9260) of whole chunks. */
export function sctp(ports: readonly [number, number], tag: number, ...chunks: Buffer[]): Buffer {
  const packet = Buffer.concat([u16(...ports), u32(tag, 0), ...chunks]);
  packet.writeUInt32LE(crc32c(packet), 8);
  return packet;
}

/** CRC of Castagnoli, bit by bit. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : 0x82f63b78);
  }
  return ~crc >>> 0;
}
