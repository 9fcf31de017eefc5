// What a packet is, in a few words: addresses, ports, flags. Reads what is there of a frame that may be cut or nonsense, and never throws:
// what cannot be read is told as such. Pure.

import ipaddr from 'ipaddr.js';

export interface PacketSummary {
  /** The innermost that was read, such as `TCP`, `ARP` or `0x88cc`. */
  protocol: string;
  /** IP addresses, else MAC addresses; empty when there are none to read. */
  source: string;
  destination: string;
  sourcePort?: number;
  destinationPort?: number;
  /** Of TCP, in the words of the RFC. */
  flags?: string[];
  /** Innermost VLAN. */
  vlan?: number;
  /** What else is worth a word; may be empty. */
  info: string;
}

const ETHERNET = 1;
const TCP_FLAGS = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'];
const PROTOCOLS: Record<number, string> = {
  2: 'IGMP',
  4: 'IPIP',
  41: 'IPv6-in-IP',
  47: 'GRE',
  50: 'ESP',
  51: 'AH',
  89: 'OSPF',
  132: 'SCTP',
};
const EXTENSIONS = [0, 43, 60];
const FRAGMENT = 44;
const ICMP: Record<number, string> = { 0: 'echo reply', 3: 'unreachable', 5: 'redirect', 8: 'echo request', 11: 'time exceeded' };
const ICMP6: Record<number, string> = {
  1: 'unreachable',
  2: 'packet too big',
  3: 'time exceeded',
  4: 'parameter problem',
  128: 'echo request',
  129: 'echo reply',
  133: 'router solicitation',
  134: 'router advertisement',
  135: 'neighbour solicitation',
  136: 'neighbour advertisement',
  143: 'multicast listener report',
};

/** `linkType` as tcpdump.org/linktypes: 1 for Ethernet, everything else begins with an IP header. Borrows `bytes`. */
export function summary(linkType: number, bytes: Buffer): PacketSummary {
  return linkType === ETHERNET ? ethernet(bytes) : ip(bytes, cut('', ''));
}

function ethernet(bytes: Buffer): PacketSummary {
  if (bytes.length < 14) return cut('', '');
  const frame = { source: mac(bytes, 6), destination: mac(bytes, 0) };
  let at = 12;
  let vlan: { vlan?: number } = {};
  for (let type = bytes.readUInt16BE(at); type === 0x8100 || type === 0x88a8; type = bytes.readUInt16BE(at)) {
    if (bytes.length < at + 6) return { ...frame, ...vlan, protocol: 'VLAN', info: 'cut short' };
    vlan = { vlan: bytes.readUInt16BE(at + 2) & 0xfff };
    at += 4;
  }
  const type = bytes.readUInt16BE(at);
  const inner = bytes.subarray(at + 2);
  const here = (found: PacketSummary): PacketSummary => ({ ...found, ...vlan });
  if (type === 0x0800 || type === 0x86dd)
    return here(ip(inner, { ...frame, protocol: type === 0x0800 ? 'IPv4' : 'IPv6', info: 'cut short' }));
  if (type === 0x0806) return here({ ...frame, protocol: 'ARP', info: arp(inner) });
  if (type < 1536) return here({ ...frame, protocol: '802.3', info: '' });
  return here({ ...frame, protocol: `0x${type.toString(16).padStart(4, '0')}`, info: '' });
}

function arp(bytes: Buffer): string {
  if (bytes.length < 28) return 'cut short';
  const operation = bytes.readUInt16BE(6);
  const [sender, target] = [ip4(bytes, 14), ip4(bytes, 24)];
  if (operation === 1) return sender === target ? `announces ${sender}` : `who has ${target}, tell ${sender}`;
  return operation === 2 ? `${sender} is at ${mac(bytes, 8)}` : `operation ${operation}`;
}

/** `unread` is the answer when it is no IP header. */
function ip(bytes: Buffer, unread: PacketSummary): PacketSummary {
  const version = (bytes[0] ?? 0) >> 4;
  if (version === 4 && bytes.length >= 20) return ip4Packet(bytes);
  if (version === 6 && bytes.length >= 40) return ip6Packet(bytes);
  return version === 4 || version === 6 ? unread : { ...unread, info: `no IP header (version ${version})` };
}

function ip4Packet(bytes: Buffer): PacketSummary {
  const between = { source: ip4(bytes, 12), destination: ip4(bytes, 16) };
  const fragment = bytes.readUInt16BE(6);
  const offset = (fragment & 0x1fff) * 8;
  const protocol = bytes[9] as number;
  const header = ((bytes[0] as number) & 15) * 4;
  // Super-frames of an offload have no length.
  const end = bytes.readUInt16BE(2) || bytes.length;
  if (offset > 0) return { ...between, protocol: nameOf(protocol), info: `fragment at ${offset}` };
  const found = transport(protocol, bytes.subarray(Math.max(20, header)), end - header, between);
  return fragment & 0x2000 ? { ...found, info: words(found.info, 'first fragment') } : found;
}

function ip6Packet(bytes: Buffer): PacketSummary {
  const between = { source: ip6(bytes, 8), destination: ip6(bytes, 24) };
  const end = 40 + (bytes.readUInt16BE(4) || bytes.length - 40);
  let protocol = bytes[6] as number;
  let at = 40;
  while (EXTENSIONS.includes(protocol) || protocol === FRAGMENT) {
    if (bytes.length < at + 8) return { ...between, protocol: 'IPv6', info: 'cut short' };
    const next = bytes[at] as number;
    if (protocol === FRAGMENT) {
      const offset = bytes.readUInt16BE(at + 2) & 0xfff8;
      if (offset > 0) return { ...between, protocol: nameOf(next), info: `fragment at ${offset}` };
      at += 8;
    } else at += ((bytes[at + 1] as number) + 1) * 8;
    protocol = next;
  }
  return transport(protocol, bytes.subarray(at), end - at, between);
}

/** `length` is what the IP header says of the bytes of `bytes`, which may be fewer. */
function transport(protocol: number, bytes: Buffer, length: number, between: { source: string; destination: string }): PacketSummary {
  if (protocol === 6) return tcp(bytes, length, between);
  if (protocol === 17) {
    if (bytes.length < 8) return { ...between, protocol: 'UDP', info: 'cut short' };
    return { ...between, protocol: 'UDP', ...ports(bytes), info: `len ${Math.max(0, length - 8)}` };
  }
  if (protocol === 1) return { ...between, protocol: 'ICMP', info: icmp(bytes, ICMP, [0, 8]) };
  if (protocol === 58) return { ...between, protocol: 'ICMPv6', info: icmp(bytes, ICMP6, [128, 129]) };
  return { ...between, protocol: nameOf(protocol), info: '' };
}

function tcp(bytes: Buffer, length: number, between: { source: string; destination: string }): PacketSummary {
  if (bytes.length < 20) return { ...between, protocol: 'TCP', info: 'cut short' };
  const bits = bytes[13] as number;
  const flags = TCP_FLAGS.filter((_, index) => bits & (1 << index));
  const payload = Math.max(0, length - ((bytes[12] as number) >> 4) * 4);
  const acknowledged = bits & 0x10 ? `ack ${bytes.readUInt32BE(8)}` : '';
  const info = words(
    `[${flags.join(',')}]`,
    `seq ${bytes.readUInt32BE(4)}`,
    acknowledged,
    `win ${bytes.readUInt16BE(14)}`,
    `len ${payload}`,
  );
  return { ...between, protocol: 'TCP', ...ports(bytes), flags, info };
}

function icmp(bytes: Buffer, names: Record<number, string>, echoes: number[]): string {
  if (bytes.length < 8) return 'cut short';
  const [type, code] = [bytes[0] as number, bytes[1] as number];
  const name = names[type] ?? `type ${type}`;
  if (echoes.includes(type)) return `${name} id ${bytes.readUInt16BE(4)} seq ${bytes.readUInt16BE(6)}`;
  if ((type === 135 || type === 136) && bytes.length >= 24) return `${name} ${ip6(bytes, 8)}`;
  return code === 0 ? name : `${name} code ${code}`;
}

function ports(bytes: Buffer) {
  return { sourcePort: bytes.readUInt16BE(0), destinationPort: bytes.readUInt16BE(2) };
}

function nameOf(protocol: number): string {
  if (protocol === 6) return 'TCP';
  if (protocol === 17) return 'UDP';
  if (protocol === 1) return 'ICMP';
  return PROTOCOLS[protocol] ?? `IP protocol ${protocol}`;
}

function cut(source: string, destination: string): PacketSummary {
  return { protocol: 'unknown', source, destination, info: 'cut short' };
}

function mac(bytes: Buffer, at: number): string {
  return (bytes.toString('hex', at, at + 6).match(/../g) ?? []).join(':');
}

function ip4(bytes: Buffer, at: number): string {
  return bytes.subarray(at, at + 4).join('.');
}

function ip6(bytes: Buffer, at: number): string {
  return new ipaddr.IPv6([...bytes.subarray(at, at + 16)]).toRFC5952String();
}

function words(...parts: string[]): string {
  return parts.filter((part) => part !== '').join(' ');
}
