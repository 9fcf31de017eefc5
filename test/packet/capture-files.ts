// Capture files for tests, built field by field in either byte order, sharing nothing with src/packet.

export interface ByteOrder {
  little: boolean;
}

export const BOTH_ORDERS: [string, ByteOrder][] = [
  ['little-endian', { little: true }],
  ['big-endian', { little: false }],
];

export function words({ little }: ByteOrder, ...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) {
    if (little) bytes.writeUInt32LE(value >>> 0, index * 4);
    else bytes.writeUInt32BE(value >>> 0, index * 4);
  }
  return bytes;
}

export function halves({ little }: ByteOrder, ...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 2);
  for (const [index, value] of values.entries()) {
    if (little) bytes.writeUInt16LE(value, index * 2);
    else bytes.writeUInt16BE(value, index * 2);
  }
  return bytes;
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

export const MICRO = 0xa1b2c3d4;
export const NANO = 0xa1b23c4d;

export function pcapHeader(order: ByteOrder, magic: number, linkType = 1, version: [number, number] = [2, 4]): Buffer {
  return Buffer.concat([words(order, magic), halves(order, ...version), words(order, 0, 0, 262_144, linkType)]);
}

export function pcapRecord(order: ByteOrder, seconds: number, fraction: number, bytes: Buffer, original = bytes.length): Buffer {
  return Buffer.concat([words(order, seconds, fraction, bytes.length, original), bytes]);
}

export function block(order: ByteOrder, type: number, ...parts: Buffer[]): Buffer {
  const body = padded(Buffer.concat(parts));
  return Buffer.concat([words(order, type, body.length + 12), body, words(order, body.length + 12)]);
}

export function section(order: ByteOrder, version: [number, number] = [1, 0]): Buffer {
  return block(order, 0x0a0d0d0a, words(order, 0x1a2b3c4d), halves(order, ...version), Buffer.alloc(8, 0xff));
}

export function option(order: ByteOrder, code: number, value: Buffer): Buffer {
  return Buffer.concat([halves(order, code, value.length), padded(value)]);
}

export function describeInterface(order: ByteOrder, linkType: number, snapLength: number, ...options: Buffer[]): Buffer {
  return block(order, 1, halves(order, linkType, 0), words(order, snapLength), ...options);
}

function ticksOf(ticks: bigint): [number, number] {
  return [Number(ticks >> 32n), Number(ticks & 0xffffffffn)];
}

export function enhancedPacket(
  order: ByteOrder,
  number: number,
  ticks: bigint,
  bytes: Buffer,
  original = bytes.length,
  ...options: Buffer[]
) {
  return block(order, 6, words(order, number, ...ticksOf(ticks), bytes.length, original), padded(bytes), ...options);
}

/** The packet block that enhanced packets have replaced. */
export function oldPacket(order: ByteOrder, number: number, drops: number, ticks: bigint, bytes: Buffer, original = bytes.length) {
  return block(order, 2, halves(order, number, drops), words(order, ...ticksOf(ticks), bytes.length, original), bytes);
}

export function simplePacket(order: ByteOrder, original: number, bytes: Buffer): Buffer {
  return block(order, 3, words(order, original), bytes);
}
