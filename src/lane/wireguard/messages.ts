// The four messages of WireGuard as bytes (wireguard.com/protocol; whitepaper section 5.4). Numbers are little-endian. Pure.
//
//   initiation  | 1, 0 0 0 | sender 4 | ephemeral 32 | static 32 + 16 | timestamp 12 + 16 | mac1 16 | mac2 16 |      148 bytes
//   response    | 2, 0 0 0 | sender 4 | receiver 4 | ephemeral 32 | nothing 0 + 16 | mac1 16 | mac2 16 |              92 bytes
//   cookie      | 3, 0 0 0 | receiver 4 | nonce 24 | cookie 16 + 16 |                                                 64 bytes
//   data        | 4, 0 0 0 | receiver 4 | counter 8 | packet, some zeros, + 16 |                        32 bytes and more

/** Type and the three reserved zeros behind it, read as one number. */
export const INITIATION = 1;
export const RESPONSE = 2;
export const COOKIE_REPLY = 3;
export const DATA = 4;

export const INITIATION_BYTES = 148;
export const RESPONSE_BYTES = 92;
export const COOKIE_REPLY_BYTES = 64;
/** A keepalive. */
export const LEAST_DATA_BYTES = 32;

/** Of handshake messages, from the end. */
export const MAC_BYTES = 16;
export const TAG_BYTES = 16;
export const KEY_BYTES = 32;
export const TIMESTAMP_BYTES = 12;

export const SENDER_AT = 4;
export const INITIATION_EPHEMERAL_AT = 8;
export const INITIATION_STATIC_AT = 40;
export const INITIATION_TIMESTAMP_AT = 88;
export const RESPONSE_RECEIVER_AT = 8;
export const RESPONSE_EPHEMERAL_AT = 12;
export const RESPONSE_NOTHING_AT = 44;
export const COOKIE_RECEIVER_AT = 4;
export const COOKIE_NONCE_AT = 8;
export const COOKIE_NONCE_BYTES = 24;
export const COOKIE_SEALED_AT = 32;
export const DATA_RECEIVER_AT = 4;
const DATA_COUNTER_AT = 8;
/** Where the inner packet begins. */
export const DATA_HEADER_BYTES = 16;
/** Bytes around an inner packet and its zeros. */
export const DATA_OVERHEAD_BYTES = DATA_HEADER_BYTES + TAG_BYTES;
const PADDING = 16;

const WORD = 2 ** 32;

/** Header of a data message at `at`. `counter` is below 2^53. Allocates nothing. */
export function writeDataHeader(bytes: Buffer, at: number, receiver: number, counter: number): void {
  const high = Math.floor(counter / WORD);
  bytes[at] = DATA;
  bytes[at + 1] = 0;
  bytes[at + 2] = 0;
  bytes[at + 3] = 0;
  writeWord(bytes, at + 4, receiver);
  writeWord(bytes, at + 8, counter % WORD);
  writeWord(bytes, at + 12, high);
}

function writeWord(bytes: Buffer, at: number, value: number): void {
  bytes[at] = value & 0xff;
  bytes[at + 1] = (value >>> 8) & 0xff;
  bytes[at + 2] = (value >>> 16) & 0xff;
  bytes[at + 3] = value >>> 24;
}

/** Counter of the data message at `at`; -1 when it is 2^53 or more, which no session of ours comes to. */
export function readCounter(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32LE(at + DATA_COUNTER_AT + 4);
  return high >= 2 ** 21 ? -1 : high * WORD + bytes.readUInt32LE(at + DATA_COUNTER_AT);
}

/** Inner bytes with the zeros that follow them on the wire: up to a multiple of 16, but not beyond `most`, which the path takes. */
export function padded(bytes: number, most: number): number {
  const length = (bytes + PADDING - 1) & -PADDING;
  if (length <= most) return length;
  return bytes > most ? bytes : most;
}

/**
 * TAI64N (cr.yp.to/libtai/tai64.html), 12 bytes big-endian, of `epoch` seconds and the `count`-th initiation in it: grows with both, whatever a
 * clock says.
 */
export function timestamp(epoch: bigint, count: number): Buffer {
  const bytes = Buffer.alloc(TIMESTAMP_BYTES);
  const seconds = 2n ** 62n + epoch + BigInt(Math.floor(count / 1e9));
  bytes.writeBigUInt64BE(BigInt.asUintN(64, seconds), 0);
  bytes.writeUInt32BE(count % 1e9, 8);
  return bytes;
}
