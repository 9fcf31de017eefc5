// Netlink attributes: type-length-value, 4-byte aligned, host byte order (linux/netlink.h). Pure bytes.
//
//   0      2      4
//   | len  | type | value ... | pad to 4 |      len counts the header and the value, not the pad
//
// Reading never throws and never leaves the bounds: a bad length ends the walk. Writing refuses what 16 bits cannot hold.

import { SysError } from '../sys-error.ts';

const HEADER = 4;
/** Largest value of one attribute: 65535 less the header. */
export const MAX_VALUE = 65531;
const NLA_F_NESTED = 0x8000;
const TYPE_MASK = 0x3fff;
const EMSGSIZE = 90;

const align = (length: number): number => (length + 3) & ~3;

/** Attributes of one level, the last of a type wins. Values are views into `bytes` (*borrows*). */
export type Attributes = Map<number, Buffer>;

/** Reads the attributes between `start` and `end`. */
export function readAttributes(bytes: Buffer, start = 0, end = bytes.length): Attributes {
  const found: Attributes = new Map();
  let at = start;
  while (at + HEADER <= end) {
    const length = bytes.readUInt16LE(at);
    if (length < HEADER || at + length > end) break;
    found.set(bytes.readUInt16LE(at + 2) & TYPE_MASK, bytes.subarray(at + HEADER, at + length));
    at += align(length);
  }
  return found;
}

/** A u32 value, `missing` when absent or short. */
export function readU32(value: Buffer | undefined, missing = 0): number {
  return value !== undefined && value.length >= 4 ? value.readUInt32LE(0) : missing;
}

/** A u8 value, `missing` when absent. */
export function readU8(value: Buffer | undefined, missing = 0): number {
  return value?.[0] ?? missing;
}

/** A string up to its NUL, '' when absent. */
export function readString(value: Buffer | undefined): string {
  if (value === undefined) return '';
  const end = value.indexOf(0);
  return value.toString('utf8', 0, end < 0 ? value.length : end);
}

/** One attribute with a raw value. Throws SysError EMSGSIZE beyond 65531 bytes. */
export function attribute(type: number, value: Uint8Array): Buffer {
  if (value.length > MAX_VALUE)
    throw new SysError(`encode netlink attribute ${type}`, EMSGSIZE, `${value.length} bytes, at most ${MAX_VALUE}`);
  const bytes = Buffer.alloc(align(HEADER + value.length));
  bytes.writeUInt16LE(HEADER + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, HEADER);
  return bytes;
}

/** One u32 attribute. */
export function u32Attribute(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return attribute(type, bytes);
}

/** One u8 attribute. */
export function u8Attribute(type: number, value: number): Buffer {
  return attribute(type, Buffer.from([value]));
}

/** One string attribute, with its NUL. */
export function stringAttribute(type: number, value: string): Buffer {
  return attribute(type, Buffer.from(`${value}\0`, 'utf8'));
}

/** An attribute that holds attributes. */
export function nestedAttribute(type: number, inner: Buffer[]): Buffer {
  return attribute(type | NLA_F_NESTED, Buffer.concat(inner));
}
