// pcapng files (draft-ietf-opsawg-pcapng): section header, interface descriptions, packets with nanosecond times, directions and
// comments, interface statistics with drop counts. Little-endian. Pure: blocks come as bytes, or are written into the caller's buffer.
//
//   | block type 4 | total length 4 | body, padded to 4 | total length 4 |       options: | code 2 | length 2 | value, padded to 4 |

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const INTERFACE_STATISTICS = 5;
const ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;

/** Link types (tcpdump.org/linktypes): Ethernet frames of a TAP, bare IP packets of a TUN. */
export const LINKTYPE_ETHERNET = 1;
export const LINKTYPE_RAW = 101;

const NANOSECONDS = 9;
const EPB_HEADER = 28;
const EPB_FLAGS_OPTION = 8;
const END_OF_OPTIONS = 4;
const TRAILER = 4;

export type PacketDirection = 'unknown' | 'inbound' | 'outbound';
const directionBits: { [direction in PacketDirection]: number } = { unknown: 0, inbound: 1, outbound: 2 };

const pad = (length: number): number => (length + 3) & ~3;

function option(code: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc(4 + pad(value.length));
  bytes.writeUInt16LE(code, 0);
  bytes.writeUInt16LE(value.length, 2);
  bytes.set(value, 4);
  return bytes;
}

/** A text option, cut to what 16 bits of length can hold. */
function text(code: number, value: string): Buffer {
  return option(code, Buffer.from(value, 'utf8').subarray(0, 0xfffc));
}

function u64(code: number, value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return option(code, bytes);
}

function block(type: number, body: Buffer, options: Buffer[]): Buffer {
  const all = options.length === 0 ? body : Buffer.concat([body, ...options, Buffer.alloc(END_OF_OPTIONS)]);
  const bytes = Buffer.alloc(12 + all.length);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(bytes.length, 4);
  bytes.set(all, 8);
  bytes.writeUInt32LE(bytes.length, bytes.length - 4);
  return bytes;
}

/** Begins a file. */
export function sectionHeader(about: { hardware?: string; os?: string; application?: string } = {}): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(BYTE_ORDER_MAGIC, 0);
  body.writeUInt16LE(1, 4);
  // Length not told: the file may be a pipe.
  body.writeBigInt64LE(-1n, 8);
  const options: Buffer[] = [];
  if (about.hardware !== undefined) options.push(text(2, about.hardware));
  if (about.os !== undefined) options.push(text(3, about.os));
  if (about.application !== undefined) options.push(text(4, about.application));
  return block(SECTION_HEADER, body, options);
}

export interface CapturedInterface {
  name: string;
  linkType: number;
  /** Most bytes kept of a packet, 0 for all. */
  snapLength: number;
  description?: string;
  /** The filter in force, in tcpdump's words. */
  filter?: string;
}

/** Describes an interface; packets refer to it by its number in the order of these blocks, from 0. */
export function interfaceDescription({ name, linkType, snapLength, description, filter }: CapturedInterface): Buffer {
  const body = Buffer.alloc(8);
  body.writeUInt16LE(linkType, 0);
  body.writeUInt32LE(snapLength, 4);
  const options = [text(2, name), option(9, Buffer.from([NANOSECONDS]))];
  if (description !== undefined) options.push(text(3, description));
  // A filter option begins with its kind: 0 is a string of libpcap.
  if (filter !== undefined) options.push(option(11, Buffer.concat([Buffer.from([0]), Buffer.from(filter, 'utf8').subarray(0, 0xfff0)])));
  return block(INTERFACE_DESCRIPTION, body, options);
}

/** Bytes of the block of a packet of which `captured` bytes are kept. */
export function packetBlockBytes(captured: number): number {
  return 8 + 20 + pad(captured) + EPB_FLAGS_OPTION + END_OF_OPTIONS + TRAILER;
}

/** Bits of epb_flags that say which way a packet went. */
export const PACKET_INBOUND = 1;
export const PACKET_OUTBOUND = 2;

/**
 * Writes the block of a packet at `at` and answers its length: `bytes[start, start + captured)` is copied. `timeNs` is since 1970.
 * The caller has made room with `packetBlockBytes`.
 */
export function writePacket(
  out: Buffer,
  at: number,
  number: number,
  timeNs: bigint,
  bytes: Uint8Array,
  start: number,
  captured: number,
  originalLength: number,
  direction: PacketDirection,
): number {
  const seconds = Number(timeNs / 1_000_000_000n);
  return writePacketAt(
    out,
    at,
    number,
    seconds,
    Number(timeNs % 1_000_000_000n),
    bytes,
    start,
    captured,
    originalLength,
    directionBits[direction],
  );
}

/** The same without anything to allocate: the time in seconds and nanoseconds, the direction as bits of epb_flags. */
export function writePacketAt(
  out: Buffer,
  at: number,
  number: number,
  seconds: number,
  nanos: number,
  bytes: Uint8Array,
  start: number,
  captured: number,
  originalLength: number,
  flags: number,
): number {
  const total = packetBlockBytes(captured);
  // seconds * 10^9 + nanos in two halves of 32 bits: doubles hold 53.
  const upper = (seconds >>> 16) * 1_000_000_000;
  const lower = (upper % 0x10000) * 0x10000 + (seconds & 0xffff) * 1_000_000_000 + nanos;
  out.writeUInt32LE(ENHANCED_PACKET, at);
  out.writeUInt32LE(total, at + 4);
  out.writeUInt32LE(number, at + 8);
  out.writeUInt32LE(Math.floor(upper / 0x10000) + Math.floor(lower / 0x1_0000_0000), at + 12);
  out.writeUInt32LE(lower % 0x1_0000_0000, at + 16);
  out.writeUInt32LE(captured, at + 20);
  out.writeUInt32LE(originalLength, at + 24);
  copyBytes(bytes, start, captured, out, at + EPB_HEADER);
  let next = at + EPB_HEADER + captured;
  const padded = at + EPB_HEADER + pad(captured);
  while (next < padded) out[next++] = 0;
  out.writeUInt16LE(2, next);
  out.writeUInt16LE(4, next + 2);
  out.writeUInt32LE(flags, next + 4);
  out.writeUInt32LE(0, next + 8);
  out.writeUInt32LE(total, next + 12);
  return total;
}

function copyBytes(from: Uint8Array, start: number, length: number, to: Buffer, at: number): void {
  if (Buffer.isBuffer(from)) from.copy(to, at, start, start + length);
  else to.set(from.subarray(start, start + length), at);
}

export interface CaptureStatistics {
  /** Packets that passed the interface, that the filter let through, and that were lost for want of room. */
  received: bigint;
  accepted?: bigint;
  dropped: bigint;
  startNs: bigint;
  endNs: bigint;
}

/** Statistics of an interface at the time `endNs`. */
export function interfaceStatistics(number: number, statistics: CaptureStatistics): Buffer {
  const body = Buffer.alloc(12);
  const { startNs, endNs, received, accepted, dropped } = statistics;
  body.writeUInt32LE(number, 0);
  body.writeUInt32LE(Number(BigInt.asUintN(32, endNs >> 32n)), 4);
  body.writeUInt32LE(Number(BigInt.asUintN(32, endNs)), 8);
  const time = (code: number, ns: bigint): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(Number(BigInt.asUintN(32, ns >> 32n)), 0);
    bytes.writeUInt32LE(Number(BigInt.asUintN(32, ns)), 4);
    return option(code, bytes);
  };
  const options = [time(2, startNs), time(3, endNs), u64(4, received), u64(5, dropped)];
  if (accepted !== undefined) options.push(u64(6, accepted));
  return block(INTERFACE_STATISTICS, body, options);
}
