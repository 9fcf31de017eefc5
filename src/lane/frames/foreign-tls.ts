// What an end that speaks TLS says to one that does not. Pure.

/** Why the first bytes of a stream are no frames. */
export const SPEAKS_TLS = 'the other end speaks TLS, and this one does not';

const HANDSHAKE = 0x16;
const ALERT = 0x15;
const MAJOR = 3;
const CLIENT_HELLO = 1;
const ALERT_BYTES = 2;
const RECORD_HEADER_BYTES = 5;

/**
 * Whether `bytes[0, length)`, the first of a stream, are a ClientHello or an alert (RFC 8446, sections 4.1.2, 5.1 and 6). As frames they would be one of 5635 or 5379 bytes that
 * is no IP packet, and whose Ethernet destination is a multicast group that nobody has.
 */
export function isTls(bytes: Buffer, length: number): boolean {
  if (length <= RECORD_HEADER_BYTES || bytes[1] !== MAJOR) return false;
  if (bytes[0] === HANDSHAKE) return bytes[5] === CLIENT_HELLO;
  return bytes[0] === ALERT && bytes.readUInt16BE(3) === ALERT_BYTES && (bytes[5] === 1 || bytes[5] === 2);
}
