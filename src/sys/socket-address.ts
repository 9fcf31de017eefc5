// Addresses of IP sockets as text and as `struct sockaddr_in6` (linux/in6.h), which serves both families: IPv4 is written mapped, ::ffff:a.b.c.d.
// Pure.

/** 28 bytes of sockaddr_in6. Compared byte by byte; never changed once made. */
export type SocketAddress = Buffer;

export const SOCKET_ADDRESS_BYTES = 28;

const AF_INET6 = 10;
const PORT_AT = 2;
const ADDRESS_AT = 8;
const SCOPE_AT = 24;
const GROUPS = 8;
/** The longest text: eight groups, the last two of them as IPv4. */
const LONGEST = '[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535'.length;

/** From `192.0.2.1:51820`, `[2001:db8::1]:51820` or `:51820` (any address). Undefined for other text, scope ids and host names too. */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  if (text.length > LONGEST) return undefined;
  const colon = text.lastIndexOf(':');
  const port = colon < 0 ? undefined : decimal(text.slice(colon + 1), 65_535);
  if (port === undefined) return undefined;
  const host = text.slice(0, colon);
  if (host === '') return socketAddress(new Uint8Array(16), port);
  const bytes = host.startsWith('[') && host.endsWith(']') ? ipv6Bytes(host.slice(1, -1)) : ipv4Bytes(host);
  return bytes && socketAddress(bytes, port);
}

/** From 4 or 16 bytes in network order (*copies*). A scope is the index of the device that a link-local address belongs to. */
export function socketAddress(bytes: Uint8Array, port: number, scope = 0): SocketAddress {
  const address = Buffer.from(new ArrayBuffer(SOCKET_ADDRESS_BYTES));
  address.writeUInt16LE(AF_INET6, 0);
  address.writeUInt16BE(port, PORT_AT);
  if (bytes.length === 4) address.fill(0xff, ADDRESS_AT + 10, ADDRESS_AT + 12);
  address.set(bytes, ADDRESS_AT + 16 - bytes.length);
  address.writeUInt32LE(scope, SCOPE_AT);
  return address;
}

/** As `parseSocketAddress` reads it, IPv6 as in RFC 5952; IPv4 without mapping. */
export function formatSocketAddress(address: SocketAddress): string {
  const host = isIpv4(address) ? ipv4Text(address) : `[${ipv6Text(address)}]`;
  return `${host}:${portOf(address)}`;
}

/** Whether it is an IPv4 address, which is written mapped. */
export function isIpv4(address: SocketAddress): boolean {
  if (address[ADDRESS_AT + 10] !== 0xff || address[ADDRESS_AT + 11] !== 0xff) return false;
  for (let at = ADDRESS_AT; at < ADDRESS_AT + 10; at++) if (address[at] !== 0) return false;
  return true;
}

/** 0 to 65535. */
export function portOf(address: SocketAddress): number {
  return address.readUInt16BE(PORT_AT);
}

/** Whether it names no address, only a port. */
export function isAnyAddress(address: SocketAddress): boolean {
  for (let at = isIpv4(address) ? ADDRESS_AT + 12 : ADDRESS_AT; at < SCOPE_AT; at++) if (address[at] !== 0) return false;
  return true;
}

/** Its 4 or 16 bytes in network order (*copies*). */
export function addressBytes(address: SocketAddress): Uint8Array {
  return Uint8Array.from(address.subarray(isIpv4(address) ? ADDRESS_AT + 12 : ADDRESS_AT, SCOPE_AT));
}

/** Whether both are one: address, port and scope. Allocates nothing. */
export function sameSocketAddress(a: SocketAddress, b: SocketAddress): boolean {
  // From behind, where two differ soonest.
  for (let at = SOCKET_ADDRESS_BYTES - 1; at >= 0; at--) if (a[at] !== b[at]) return false;
  return true;
}

/** Whether both are one but for the scope, which what comes from a link-local address has, and text has not. Allocates nothing. */
export function sameAddressAndPort(a: SocketAddress, b: SocketAddress): boolean {
  for (let at = SCOPE_AT - 1; at >= ADDRESS_AT; at--) if (a[at] !== b[at]) return false;
  return a[PORT_AT] === b[PORT_AT] && a[PORT_AT + 1] === b[PORT_AT + 1];
}

/** One that is kept, of one that is only borrowed. */
export function copySocketAddress(address: SocketAddress): SocketAddress {
  const copy = Buffer.from(new ArrayBuffer(SOCKET_ADDRESS_BYTES));
  copy.set(address);
  return copy;
}

/** Digits only, no leading zero, at most `most`. */
function decimal(text: string, most: number): number | undefined {
  if (!/^(0|[1-9][0-9]{0,4})$/.test(text)) return undefined;
  const value = Number(text);
  return value <= most ? value : undefined;
}

function ipv4Bytes(text: string): Uint8Array | undefined {
  const parts = text.split('.').map((part) => decimal(part, 255));
  return parts.length === 4 && parts.every((part) => part !== undefined) ? Uint8Array.from(parts as number[]) : undefined;
}

/** RFC 4291 section 2.2, all three forms. */
function ipv6Bytes(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = groupsOf(halves[0] ?? '', halves.length === 1);
  const tail = halves.length === 2 ? groupsOf(halves[1] ?? '', true) : [];
  if (!head || !tail) return undefined;
  const absent = GROUPS - head.length - tail.length;
  // `::` stands for at least one group.
  if (halves.length === 2 ? absent < 1 : absent !== 0) return undefined;
  return Uint8Array.from([...head, ...Array<number>(absent).fill(0), ...tail].flatMap((group) => [group >> 8, group & 0xff]));
}

/** 16-bit groups between colons; the last two may be written as IPv4 where the text `ends` the address. */
function groupsOf(text: string, ends: boolean): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (ends && index === parts.length - 1 && part.includes('.')) {
      const bytes = ipv4Bytes(part);
      if (!bytes) return undefined;
      const [a = 0, b = 0, c = 0, d = 0] = bytes;
      groups.push((a << 8) | b, (c << 8) | d);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}

function ipv4Text(address: SocketAddress): string {
  return address.subarray(ADDRESS_AT + 12, SCOPE_AT).join('.');
}

/** RFC 5952 section 4: lower case, no leading zeros, the first longest run of two zero groups or more as `::`. */
function ipv6Text(address: SocketAddress): string {
  const groups = Array.from({ length: GROUPS }, (_, index) => address.readUInt16BE(ADDRESS_AT + 2 * index));
  let [start, length] = [0, 1];
  for (let from = 0; from < GROUPS; from++) {
    let to = from;
    while (to < GROUPS && groups[to] === 0) to++;
    if (to - from > length) [start, length] = [from, to - from];
  }
  const text = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  return length < 2 ? text(groups) : `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}
