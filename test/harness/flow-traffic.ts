// Conversations of exactly known frames, to be sent through a TUN or TAP and counted: every frame of both directions, as bytes with right
// checksums, and what it is. Pure.
//
//   const frames = [...ping(TAP_WIRE, 4), ...tcpSession(TAP_WIRE, 6, { opener: 'outbound' })];
//
// A TUN carries IP only: what is none of it throws there. `everything` gives whatever a wire can carry, each conversation with ports and
// identifiers of its own.

import {
  addressBytes,
  addresses,
  type From,
  fragments,
  type IpShape,
  icmp,
  ip,
  link,
  macBytes,
  sctp,
  tcp,
  u16,
  u32,
  udp,
  type Version,
  type Wire,
} from './frame-layers.ts';

export interface Sent {
  frame: Buffer;
  from: From;
  /** The conversation, in words. */
  kind: string;
  /** What the Community ID is made of; absent for what is no IP. Of a fragment: that of its datagram. */
  community?: Community;
  /** A part of a datagram; the first one alone tells ports. */
  fragment?: 'first' | 'later';
}

export interface Community {
  /** Source, then destination: 8 or 32 bytes. */
  addresses: Buffer;
  protocol: number;
  /** Ports, or type and code of ICMP; -1 for both where the protocol has none. */
  sourcePort: number;
  destinationPort: number;
}

export interface Conversation {
  /** Who sends first; its peer's side unless told. */
  opener?: From;
  /** Port, or identifier, of the opener. */
  port?: number;
  /** Of the answerer. */
  toPort?: number;
  /** Exchanges of request and answer. */
  rounds?: number;
  /** Bytes of data in each. */
  bytes?: number;
  /** IPv6 extension headers, and IPv4 options. */
  shape?: Pick<IpShape, 'extensions' | 'options'>;
}

const [ICMP, TCP, UDP, GRE, ESP, ICMPV6, SCTP] = [1, 6, 17, 47, 50, 58, 132] as const;
const [FIN, SYN, RST, PSH, ACK] = [1, 2, 4, 8, 16] as const;
const NO_PORTS = [-1, -1] as const;

const other = (from: From): From => (from === 'inbound' ? 'outbound' : 'inbound');
const reversed = ([a, b]: readonly [number, number]): [number, number] => [b, a];
const filler = (length: number): Buffer => Buffer.alloc(length, 0x5a);
const typeOf = (version: Version): number => (version === 4 ? 0x0800 : 0x86dd);

/** A frame of an IP packet. `ports` is what its Community ID is made of. */
function packet(wire: Wire, from: From, kind: string, ports: readonly [number, number], shape: IpShape, destination?: string): Sent {
  const community = { addresses: shape.ends, protocol: shape.protocol, sourcePort: ports[0], destinationPort: ports[1] };
  const version = shape.ends.length === 8 ? 4 : 6;
  return { frame: link(wire, from, typeOf(version), ip(shape), destination), from, kind, community };
}

/** Echo requests and their answers. */
export function ping(
  wire: Wire,
  version: Version,
  { opener = 'inbound', port = 1, rounds = 1, bytes = 56, shape }: Conversation = {},
): Sent[] {
  const kind = `ping on IPv${version}`;
  const protocol = version === 4 ? ICMP : ICMPV6;
  const types = version === 4 ? [8, 0] : [128, 129];
  return Array.from({ length: rounds }, (_, round) =>
    types.map((type, answer) => {
      const from = answer === 0 ? opener : other(opener);
      const ends = addresses(wire, from, version);
      const payload = icmp(ends, type, 0, Buffer.concat([u16(port, round + 1), filler(bytes)]));
      return packet(wire, from, kind, [type, 0], { ...shape, ends, protocol, payload });
    }),
  ).flat();
}

/** Datagrams there and back. */
export function udpExchange(wire: Wire, version: Version, conversation: Conversation = {}): Sent[] {
  const { opener = 'inbound', port = 40_000, toPort = 7007, rounds = 1, bytes = 100, shape } = conversation;
  return Array.from({ length: rounds * 2 }, (_, number) => {
    const from = number % 2 === 0 ? opener : other(opener);
    const ports: [number, number] = number % 2 === 0 ? [port, toPort] : [toPort, port];
    const ends = addresses(wire, from, version);
    return packet(wire, from, `UDP on IPv${version}`, ports, { ...shape, ends, protocol: UDP, payload: udp(ends, ports, filler(bytes)) });
  });
}

/** Sends the segments of one connection, with the numbers as they must be. */
class Connection {
  readonly sent: Sent[] = [];
  readonly #wire: Wire;
  readonly #version: Version;
  readonly #conversation: Conversation;
  readonly #next: Record<From, number> = { inbound: 1000, outbound: 0xffff_ff00 };
  readonly #kind: string;

  constructor(wire: Wire, version: Version, kind: string, conversation: Conversation) {
    this.#wire = wire;
    this.#version = version;
    this.#conversation = conversation;
    this.#kind = `${kind} on IPv${version}`;
  }

  send(from: From, flags: number, data: Buffer = Buffer.alloc(0)): void {
    const { opener = 'inbound', port = 40_000, toPort = 7007, shape } = this.#conversation;
    const ports: readonly [number, number] = from === opener ? [port, toPort] : reversed([port, toPort]);
    const ends = addresses(this.#wire, from, this.#version);
    // Largest segment, in what opens a connection.
    const options = (flags & SYN) === 0 ? Buffer.alloc(0) : u16(0x0204, this.#version === 4 ? 1460 : 1440);
    const acknowledgment = (flags & ACK) === 0 ? 0 : this.#next[other(from)];
    const payload = tcp(ends, ports, { sequence: this.#next[from], acknowledgment, flags, options, data });
    this.sent.push(packet(this.#wire, from, this.#kind, ports, { ...shape, ends, protocol: TCP, payload }));
    this.#next[from] = (this.#next[from] + data.length + ((flags & (SYN | FIN)) === 0 ? 0 : 1)) >>> 0;
  }
}

/** A connection from SYN to the last ACK: `3 + 2 * rounds + 3` packets. */
export function tcpSession(wire: Wire, version: Version, conversation: Conversation = {}): Sent[] {
  const { opener = 'inbound', rounds = 1, bytes = 200 } = conversation;
  const answerer = other(opener);
  const connection = new Connection(wire, version, 'TCP', conversation);
  connection.send(opener, SYN);
  connection.send(answerer, SYN | ACK);
  connection.send(opener, ACK);
  for (let round = 0; round < rounds; round++) {
    connection.send(opener, PSH | ACK, filler(bytes));
    connection.send(answerer, PSH | ACK, filler(bytes));
  }
  connection.send(opener, FIN | ACK);
  connection.send(answerer, FIN | ACK);
  connection.send(opener, ACK);
  return connection.sent;
}

/** A connection that is refused: SYN and RST. */
export function tcpRefusal(wire: Wire, version: Version, conversation: Conversation = {}): Sent[] {
  const { opener = 'inbound' } = conversation;
  const connection = new Connection(wire, version, 'refused TCP', conversation);
  connection.send(opener, SYN);
  connection.send(other(opener), RST | ACK);
  return connection.sent;
}

/** A datagram for a closed port, and the error that goes back: the error is a flow of its own. */
export function unreachable(wire: Wire, version: Version, conversation: Conversation = {}): Sent[] {
  const kind = `unreachable on IPv${version}`;
  const from = other(conversation.opener ?? 'inbound');
  const { ethernet: _, ...bare } = wire;
  const [datagram] = udpExchange(bare, version, conversation);
  const ends = addresses(wire, from, version);
  const [protocol, type, code] = version === 4 ? [ICMP, 3, 3] : [ICMPV6, 1, 4];
  const error = icmp(ends, type, code, Buffer.concat([u32(0), (datagram as Sent).frame]));
  const [first] = udpExchange(wire, version, conversation);
  return [{ ...(first as Sent), kind }, packet(wire, from, kind, [type, code], { ends, protocol, payload: error })];
}

/** One datagram of UDP in pieces, and its answer likewise: 3 fragments each way as it stands. */
export function fragmented(wire: Wire, version: Version, conversation: Conversation & { most?: number } = {}): Sent[] {
  const { opener = 'inbound', port = 40_000, toPort = 7007, bytes = 3000, most = 1400 } = conversation;
  return [opener, other(opener)].flatMap((from) => {
    const ports: readonly [number, number] = from === opener ? [port, toPort] : [toPort, port];
    const ends = addresses(wire, from, version);
    const shape = { ends, protocol: UDP, payload: udp(ends, ports, filler(bytes)), identification: port };
    const community = { addresses: ends, protocol: UDP, sourcePort: ports[0], destinationPort: ports[1] };
    return fragments(shape, most).map((bytes, index): Sent => {
      const frame = link(wire, from, typeOf(version), bytes);
      return { frame, from, kind: `fragments on IPv${version}`, community, fragment: index === 0 ? 'first' : 'later' };
    });
  });
}

/** A packet each way of a protocol without ports, in which nothing is to be seen; `header` is told the identifier of its sender. */
function opaque(wire: Wire, version: Version, name: string, protocol: number, header: (port: number) => Buffer, how: Conversation): Sent[] {
  const { opener = 'inbound', port = 40_000, toPort = 7007, bytes = 60, shape } = how;
  return [opener, other(opener)].map((from) => {
    const ends = addresses(wire, from, version);
    const payload = Buffer.concat([header(from === opener ? port : toPort + port), filler(bytes)]);
    return packet(wire, from, `${name} on IPv${version}`, NO_PORTS, { ...shape, ends, protocol, payload });
  });
}

/** GRE (RFC 2784) around frames of a private type. */
export function gre(wire: Wire, version: Version, conversation: Conversation = {}): Sent[] {
  return opaque(wire, version, 'GRE', GRE, () => u16(0, 0x88b5), conversation);
}

/** ESP (RFC 4303): an association each way. */
export function esp(wire: Wire, version: Version, conversation: Conversation = {}): Sent[] {
  return opaque(wire, version, 'ESP', ESP, (association) => u32(association, 1), conversation);
}

/** An association of SCTP: four packets to open it, a chunk of data and its acknowledgment, three to shut it down. */
export function sctpAssociation(wire: Wire, version: Version, conversation: Conversation = {}): Sent[] {
  const { opener = 'inbound', port = 40_000, toPort = 7007, shape } = conversation;
  const tags = { opener: 0x1111, answerer: 0x2222 };
  const chunk = (type: number, value: Buffer, flags = 0): Buffer =>
    Buffer.concat([Buffer.from([type, flags]), u16(4 + value.length), value]);
  const cookie = u32(0xc00c1e, 1);
  const init = (tag: number): Buffer => Buffer.concat([u32(tag, 65_536), u16(1, 1), u32(1)]);
  const steps: [byOpener: boolean, tag: number, Buffer][] = [
    [true, 0, chunk(1, init(tags.opener))],
    [false, tags.opener, chunk(2, Buffer.concat([init(tags.answerer), u16(7, 4 + cookie.length), cookie]))],
    [true, tags.answerer, chunk(10, cookie)],
    [false, tags.opener, chunk(11, Buffer.alloc(0))],
    [true, tags.answerer, chunk(0, Buffer.concat([u32(1), u16(0, 0), u32(0), filler(conversation.bytes ?? 40)]), 3)],
    [false, tags.opener, chunk(3, Buffer.concat([u32(1, 65_536), u16(0, 0)]))],
    [true, tags.answerer, chunk(7, u32(1))],
    [false, tags.opener, chunk(8, Buffer.alloc(0))],
    [true, tags.answerer, chunk(14, Buffer.alloc(0))],
  ];
  return steps.map(([byOpener, tag, bytes]) => {
    const from = byOpener ? opener : other(opener);
    const ports: readonly [number, number] = byOpener ? [port, toPort] : [toPort, port];
    const payload = sctp(ports, tag, bytes);
    return packet(wire, from, `SCTP on IPv${version}`, ports, { ...shape, ends: addresses(wire, from, version), protocol: SCTP, payload });
  });
}

function macs({ ethernet }: Wire, from: From): [Buffer, Buffer] {
  if (ethernet === undefined) throw new Error('a TUN carries IP only');
  return (from === 'inbound' ? [ethernet.peer, ethernet.node] : [ethernet.node, ethernet.peer]).map(macBytes) as [Buffer, Buffer];
}

/** Who has an address, asked of all, and the answer. */
export function arp(wire: Wire, { opener = 'inbound' }: Conversation = {}): Sent[] {
  return [opener, other(opener)].map((from, index) => {
    const [source, destination] = macs(wire, from);
    const ends = addresses(wire, from, 4);
    const target = index === 0 ? Buffer.alloc(6) : destination;
    const body = Buffer.concat([u16(1, 0x0800, 0x0604, index + 1), source, ends.subarray(0, 4), target, ends.subarray(4)]);
    return { frame: link(wire, from, 0x0806, body, index === 0 ? 'ff:ff:ff:ff:ff:ff' : undefined), from, kind: 'ARP' };
  });
}

/** Neighbour solicitation and advertisement (RFC 4861): two flows to a Community ID, for the first goes to a group. */
export function neighbours(wire: Wire, { opener = 'inbound' }: Conversation = {}): Sent[] {
  const kind = 'neighbours on IPv6';
  const [asking] = macs(wire, opener);
  const [answering] = macs(wire, other(opener));
  const ends = addresses(wire, opener, 6);
  const target = ends.subarray(16);
  const low = target.subarray(13);
  const groupEnds = Buffer.concat([ends.subarray(0, 16), addressBytes('ff02::1:ff00:0').subarray(0, 13), low]);
  const solicitation = icmp(groupEnds, 135, 0, Buffer.concat([u32(0), target, Buffer.from([1, 1]), asking]));
  const groupMac = `33:33:ff:${[...low].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;
  const answerEnds = addresses(wire, other(opener), 6);
  const advertisement = icmp(answerEnds, 136, 0, Buffer.concat([u32(0x60000000), target, Buffer.from([2, 1]), answering]));
  return [
    packet(wire, opener, kind, [135, 0], { ends: groupEnds, protocol: ICMPV6, payload: solicitation, ttl: 255 }, groupMac),
    packet(wire, other(opener), kind, [136, 0], { ends: answerEnds, protocol: ICMPV6, payload: advertisement, ttl: 255 }),
  ];
}

/** An announcement of LLDP: EtherType 88cc. */
export function lldp(wire: Wire, { opener = 'inbound' }: Conversation = {}): Sent[] {
  const [source] = macs(wire, opener);
  // Chassis and port by MAC address, 120 seconds to live, end.
  const body = Buffer.concat([u16(0x0207), Buffer.from([4]), source, u16(0x0407), Buffer.from([3]), source, u16(0x0602, 120, 0)]);
  return [{ frame: link(wire, opener, 0x88cc, body, '01:80:c2:00:00:0e'), from: opener, kind: 'LLDP' }];
}

/** A spanning tree message: IEEE 802.3 with a length where others have a type. */
export function spanningTree(wire: Wire, { opener = 'inbound' }: Conversation = {}): Sent[] {
  const [source] = macs(wire, opener);
  const bridge = Buffer.concat([u16(0x8000), source]);
  const message = Buffer.concat([Buffer.alloc(5), bridge, u32(0), bridge, u16(0x8001, 0, 20 << 8, 2 << 8, 15 << 8)]);
  const body = Buffer.concat([Buffer.from([0x42, 0x42, 0x03]), message]);
  return [{ frame: link(wire, opener, body.length, body, '01:80:c2:00:00:00'), from: opener, kind: '802.3' }];
}

/**
 * One conversation of every kind that the wire can carry, none of them with the ports of another. What has no ports is still of one flow
 * between two addresses: all pings of one version of IP are to a Community ID.
 */
export function everything(wire: Wire, opener: From = 'inbound'): Sent[] {
  let port = 40_000;
  const next = (more: Conversation = {}): Conversation => ({ opener, port: port++, ...more });
  const all: Sent[] = [];
  for (const version of [4, 6] as const) {
    for (const make of [ping, udpExchange, tcpSession, tcpRefusal, unreachable, fragmented, gre, esp, sctpAssociation]) {
      all.push(...make(wire, version, next()));
    }
  }
  // Router alert (RFC 2113).
  all.push(...udpExchange(wire, 4, next({ shape: { options: u16(0x9404, 0) } })));
  for (const extensions of [[0], [60], [44], [43], [0, 60, 43, 44]]) {
    for (const make of [ping, udpExchange, tcpSession, sctpAssociation]) all.push(...make(wire, 6, next({ shape: { extensions } })));
  }
  if (wire.ethernet !== undefined) for (const make of [arp, neighbours, lldp, spanningTree]) all.push(...make(wire, { opener }));
  return all;
}
