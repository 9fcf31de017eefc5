// Varints of the protobuf wire format (protobuf.dev/programming-guides/encoding) for numbers up to 2^53: where messages are written in place,
// without objects. Pure.

/** Bytes of the varint of a whole number from 0 to 2^53. */
export function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes++;
  return bytes;
}

/** Writes the varint of a whole number from 0 to 2^53 and answers where it ends. */
export function writeVarint(out: Uint8Array, at: number, value: number): number {
  let rest = value;
  let next = at;
  while (rest >= 0x80) {
    out[next++] = (rest % 0x80) | 0x80;
    rest = rest >= 0x8000_0000 ? Math.floor(rest / 0x80) : rest >>> 7;
  }
  out[next++] = rest;
  return next;
}

/** Writes a number below 2^28 in exactly four bytes, for lengths that are known only later. Readers take such varints as any other. */
export function writeVarint4(out: Uint8Array, at: number, value: number): void {
  out[at] = (value & 0x7f) | 0x80;
  out[at + 1] = ((value >>> 7) & 0x7f) | 0x80;
  out[at + 2] = ((value >>> 14) & 0x7f) | 0x80;
  out[at + 3] = (value >>> 21) & 0x7f;
}

/** Where a reader stands. */
export interface Cursor {
  at: number;
}

/** What `readVarint` answers in place of a value: the bytes are no varint, or its value is 2^53 or more and so no exact number. */
export const NO_VARINT = -1;
export const TOO_GREAT = -2;

/** Reads a varint of at most ten bytes before `end` and moves on. Answers NO_VARINT or TOO_GREAT in place of its value, see there. */
export function readVarint(bytes: Uint8Array, cursor: Cursor, end: number): number {
  let value = 0;
  let scale = 1;
  for (let count = 0; count < 10 && cursor.at < end; count++) {
    const byte = bytes[cursor.at++] as number;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return value < 2 ** 53 ? value : TOO_GREAT;
    scale *= 0x80;
  }
  return NO_VARINT;
}
