// IP and MAC addresses between text and bytes. Text goes out in canonical form (RFC 5952, lower case). Pure.

import ipaddr from 'ipaddr.js';

/** Numbers of linux/socket.h. */
const [AF_INET, AF_INET6] = [2, 10] as const;

/** An IP address, 4 or 16 bytes in network order. */
export interface Ip {
  family: typeof AF_INET | typeof AF_INET6;
  bytes: Buffer;
}

export interface Prefix extends Ip {
  prefixLength: number;
}

/** Reads an address; undefined when it is none, has a zone, or is IPv4 in one of its odd spellings. */
export function parseIp(text: string): Ip | undefined {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return { family: AF_INET, bytes: Buffer.from(ipaddr.IPv4.parse(text).toByteArray()) };
  const tail = text.slice(text.lastIndexOf(':') + 1);
  if (tail.includes('.') && !ipaddr.IPv4.isValidFourPartDecimal(tail)) return undefined;
  if (!text.includes(':') || text.includes('%') || !ipaddr.IPv6.isValid(text)) return undefined;
  return { family: AF_INET6, bytes: Buffer.from(ipaddr.IPv6.parse(text).toByteArray()) };
}

/** Reads `address/length`; without a length the whole address is the prefix. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/');
  const ip = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (ip === undefined) return undefined;
  const bits = ip.bytes.length * 8;
  if (slash < 0) return { ...ip, prefixLength: bits };
  const length = text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(length) || Number(length) > bits) return undefined;
  return { ...ip, prefixLength: Number(length) };
}

/** Canonical text of 4 or 16 bytes. */
export function formatIp(bytes: Uint8Array): string {
  const ip = ipaddr.fromByteArray([...bytes]);
  return ip.kind() === 'ipv6' ? (ip as ipaddr.IPv6).toRFC5952String() : ip.toString();
}

/** Canonical `address/length`. */
export function formatPrefix(bytes: Uint8Array, prefixLength: number): string {
  return `${formatIp(bytes)}/${prefixLength}`;
}

/** What kind of address it is, by ipaddr.js: `unicast`, `multicast`, `loopback`, `ipv4Mapped`, `unspecified`, `linkLocal`, ... */
export function rangeOf(ip: Ip): string {
  return ipaddr.fromByteArray([...ip.bytes]).range();
}

/** The address with its host bits cleared. */
export function networkOf(prefix: Prefix): Buffer {
  const network = Buffer.from(prefix.bytes);
  for (let bit = prefix.prefixLength; bit < network.length * 8; bit++) {
    const at = bit >> 3;
    network[at] = (network[at] ?? 0) & ~(0x80 >> (bit & 7));
  }
  return network;
}

/** Reads `aa:bb:cc:dd:ee:ff`. */
export function parseMac(text: string): Buffer | undefined {
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text) ? Buffer.from(text.replaceAll(':', ''), 'hex') : undefined;
}

/** Canonical text of a MAC address, '' for no bytes. */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}
