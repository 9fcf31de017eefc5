// Conversations for tests of the ledger: frames built from a description, so that what a record must tell is known without reading them.

import type { Random } from '../harness/random.ts';

const u16 = (...values: number[]) => Buffer.from(values.flatMap((value) => [(value >> 8) & 0xff, value & 0xff]));

export interface Talk {
  name: string;
  six: boolean;
  /** Addresses of the two sides, empty for what is no IP. */
  addresses: [Buffer, Buffer];
  macs: [Buffer, Buffer];
  /** 0 for what is no IP. */
  protocol: number;
  ports: [number, number];
  /** Types of ICMP there and back; undefined for other protocols. */
  icmp?: { types: [number, number]; code: number };
  etherType: number;
  vlan: number;
  /** The tag was taken off by the kernel. */
  takenOff: boolean;
  /** Only the first side speaks. */
  oneWay: boolean;
  /** Which side is the node. */
  node: 0 | 1;
}

export interface Sent {
  bytes: Buffer;
  /** Bytes of the frame before it was cut to what is kept, without a tag that was taken off. */
  length: number;
  gsoSize: number;
  packets: number;
  wireBytes: number;
}

/** `count` conversations that differ, of every kind; on a TUN none of Ethernet alone. */
export function talks(any: Random, count: number, tap: boolean): Talk[] {
  return Array.from({ length: count }, (_, index) => {
    const six = any.pick([false, true]);
    const kinds = ['tcp', 'tcp', 'tcp', 'udp', 'echo', 'error', 'sctp', 'dccp', 'lite', 'gre', ...(tap ? ['arp', 'lldp', '802.3'] : [])];
    const kind = any.pick(kinds);
    const isOther = kind === 'arp' || kind === 'lldp' || kind === '802.3';
    const address = (end: number): Buffer => {
      if (isOther) return Buffer.alloc(0);
      const last = Buffer.from([end, index >> 8, index & 0xff]);
      return Buffer.concat([Buffer.from(six ? [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] : [10]), last]);
    };
    const ends = any.shuffled([1, 200]);
    const protocol = { tcp: 6, udp: 17, sctp: 132, dccp: 33, lite: 136, gre: 47, echo: six ? 58 : 1, error: six ? 58 : 1 }[kind] ?? 0;
    const hasPorts = ['tcp', 'udp', 'sctp', 'dccp', 'lite'].includes(kind);
    const vlan = tap ? any.pick([0, 0, 7, 4095]) : 0;
    const talk: Talk = {
      name: `${index} ${kind}${six ? 6 : 4} ${vlan}`,
      six,
      addresses: [address(ends[0] as number), address(ends[1] as number)],
      // Conversations without IP are told apart by these.
      macs: [
        Buffer.from([2, 0, ends[0] as number, 0, index >> 8, index & 0xff]),
        Buffer.from([2, 0, ends[1] as number, 0, index >> 8, index & 0xff]),
      ],
      protocol,
      ports: hasPorts ? [any.integer(0, 65_535), any.pick([53, 443, 0, 65_535])] : [0, 0],
      etherType: isOther ? { arp: 0x0806, lldp: 0x88cc, '802.3': 0 }[kind] : six ? 0x86dd : 0x0800,
      vlan,
      takenOff: any.pick([false, true]),
      oneWay: kind === 'error',
      node: any.pick([0, 1]),
    };
    if (kind === 'echo') talk.icmp = { types: six ? [128, 129] : [8, 0], code: 0 };
    if (kind === 'error') talk.icmp = { types: [3, 3], code: any.integer(0, 255) };
    return talk;
  });
}

/** A frame of a conversation from one of its sides. `gso` makes super-frames of TCP over IPv4. */
export function frameOf(
  any: Random,
  talk: Talk,
  from: 0 | 1,
  how: { flags: number; ttl: number; dscp: number; tap: boolean; gso: boolean },
): Sent {
  const to = (1 - from) as 0 | 1;
  const payload = how.gso && talk.protocol === 6 && !talk.six ? any.integer(1, 40_000) : 0;
  const ports = u16(talk.ports[from], talk.ports[to]);
  let body = Buffer.from(any.bytes(any.integer(4, 40)));
  if (talk.icmp !== undefined) body = Buffer.from([talk.icmp.types[from], talk.icmp.code, 0, 0, 0, 0, 0, 0]);
  else if (talk.protocol === 6) body = Buffer.concat([ports, Buffer.alloc(8), Buffer.from([0x50, how.flags]), Buffer.alloc(6)]);
  else if (talk.protocol !== 0 && talk.protocol !== 47) body = Buffer.concat([ports, Buffer.alloc(12)]);
  const [source, destination] = [talk.addresses[from], talk.addresses[to]];
  if (talk.etherType === 0x86dd) {
    const head = u16(0x6000 | (how.dscp << 6), 0, body.length);
    body = Buffer.concat([head, Buffer.from([talk.protocol, how.ttl]), source, destination, body]);
  } else if (talk.etherType === 0x0800) {
    const head = u16(0x4500 | (how.dscp << 2), Math.min(65_535, 20 + body.length + payload), 1, 0);
    body = Buffer.concat([head, Buffer.from([how.ttl, talk.protocol, 0, 0]), source, destination, body]);
  }
  const tag = talk.vlan !== 0 && !talk.takenOff ? u16(0x8100, 0x2000 | talk.vlan) : Buffer.alloc(0);
  const type = u16(talk.etherType === 0 ? body.length : talk.etherType);
  const bytes = how.tap ? Buffer.concat([talk.macs[to], talk.macs[from], tag, type, body]) : body;
  const headers = bytes.length + (talk.vlan !== 0 && talk.takenOff ? 4 : 0);
  const gsoSize = payload === 0 ? 0 : any.integer(500, 1460);
  const packets = payload <= gsoSize ? 1 : Math.ceil(payload / gsoSize);
  return { bytes, length: bytes.length + payload, gsoSize, packets, wireBytes: payload + packets * headers };
}
