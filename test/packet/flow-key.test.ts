// Keys of flows: conversations built from a description, so that nothing that reads frames is its own judge; hostile bytes; super-frames as
// segment.ts cuts them.

import { expect, it } from 'vitest';
import {
  FlowKeyReader,
  KIND_OTHER,
  KIND_V4,
  KIND_V6,
  KIND_WORD,
  kindOf,
  PORTS_WORD,
  portsUnknown,
  protocolOf,
  vlanOf,
} from '../../src/packet/flow-key.ts';
import { segment } from '../../src/packet/segment.ts';
import { insertVlanTag } from '../../src/packet/vlan.ts';
import { GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CHECKSUM } from '../../src/packet/vnet-header.ts';
import { type Random, random, seed } from '../harness/random.ts';
import { cutAtTimes, ethernetFrame, rawPacket } from './frame-corpus.ts';
import { tcpPacket, udpPacket } from './frames.ts';

console.log(`seed ${seed}`);

const u16 = (...values: number[]) => Buffer.from(values.flatMap((value) => [(value >> 8) & 0xff, value & 0xff]));

interface Read {
  key: string;
  fromB: boolean;
  kind: number;
  protocol: number;
  vlan: number;
  unknown: boolean;
  packets: number;
  bytes: number;
  rest: string;
}

interface How {
  outgoing?: boolean;
  tpid?: number;
  tci?: number;
  gsoType?: number;
  gsoSize?: number;
  length?: number;
}

function read(reader: FlowKeyReader, bytes: Uint8Array, how: How = {}, start = 0, captured = bytes.length - start): Read {
  const { outgoing = true, tpid = 0, tci = 0, gsoType = 0, gsoSize = 0, length = captured } = how;
  reader.read(bytes, start, captured, length, outgoing, tpid, tci, gsoType, gsoSize);
  return fieldsOf(reader);
}

function fieldsOf(reader: FlowKeyReader): Read {
  const kindWord = reader.key[KIND_WORD] as number;
  const { fromB, packets, etherType, tcpFlags, dscp, ttl, fragment, icmpType, icmpCode } = reader;
  return {
    key: [...reader.key].map((word) => (word >>> 0).toString(16)).join(' '),
    fromB,
    kind: kindOf(kindWord),
    protocol: protocolOf(kindWord),
    vlan: vlanOf(kindWord),
    unknown: portsUnknown(kindWord),
    packets,
    bytes: reader.bytes,
    rest: [etherType, tcpFlags, dscp, ttl, fragment, icmpType, icmpCode, reader.ethernetAt >= 0].join(' '),
  };
}

/** The two ports of a key as its first and second end have them. */
const portsOf = (reader: FlowKeyReader): number[] => {
  const ports = reader.key[PORTS_WORD] as number;
  return reader.fromB ? [ports & 0xffff, ports >>> 16] : [ports >>> 16, ports & 0xffff];
};

/** Source and destination address as the packet had them. */
function addressesOf(reader: FlowKeyReader): string[] {
  const words = [...reader.key].map((word) => (word >>> 0).toString(16).padStart(8, '0'));
  const size = kindOf(reader.key[KIND_WORD] as number) === KIND_V6 ? 4 : 1;
  const [a, b] = [words.slice(0, size).join(''), words.slice(4, 4 + size).join('')];
  return reader.fromB ? [b, a] : [a, b];
}

const ip4 = (source: Buffer, destination: Buffer, protocol: number, payload: Buffer, fragment = 0, id = 7): Buffer =>
  Buffer.concat([u16(0x4500 | 0xb8, 20 + payload.length, id, fragment), Buffer.from([61, protocol, 0, 0]), source, destination, payload]);
const ip6 = (source: Buffer, destination: Buffer, next: number, payload: Buffer): Buffer =>
  Buffer.concat([u16(0x6b80, 0, payload.length), Buffer.from([next, 62]), source, destination, payload]);
/** Extension header of IPv6 for a part. */
const part6 = (next: number, offset: number, more: boolean, id: number): Buffer =>
  Buffer.concat([Buffer.from([next, 0]), u16((offset << 3) | (more ? 1 : 0), id >>> 16, id & 0xffff)]);

interface Side {
  address: Buffer;
  mac: Buffer;
  port: number;
}

const PAIRS4: [number, number][] = [[8, 0], [13, 14], [15, 16], [17, 18], [10, 9]]; // biome-ignore format: a table
const PAIRS6: [number, number][] = [[128, 129], [139, 140], [144, 145], [133, 134]]; // biome-ignore format: a table

/** A packet each way of the same conversation. */
function conversation(any: Random): { there: Buffer; back: Buffer; six: boolean; protocol: number; ports: [number, number]; ends: Side[] } {
  const six = any.pick([false, true]);
  const side = (): Side => ({
    address: Buffer.from(any.bytes(six ? 16 : 4)),
    mac: Buffer.from(any.bytes(6)),
    port: any.pick([any.integer(0, 65_535), any.integer(0, 65_535), 0x8000, 0x7fff, 0, 65_535]),
  });
  const [one, two] = [side(), side()];
  // At times with itself: ports alone tell the ends apart.
  if (any.integer(0, 5) === 0) two.address = one.address;
  // Alike but for the sign of a word.
  if (any.integer(0, 5) === 0) {
    two.address = Buffer.from(one.address);
    const at = any.integer(0, two.address.length - 1);
    two.address[at] = (two.address[at] as number) ^ 0x80;
  }
  const protocol = any.pick([6, 17, 132, 33, 136, six ? 58 : 1, 47, 89]);
  const pair = any.pick(six ? PAIRS6 : PAIRS4);
  const body = (from: Side, to: Side, type: number): Buffer => {
    if (protocol === 6) return Buffer.concat([u16(from.port, to.port), Buffer.alloc(8), Buffer.from([0x50, 0x12]), Buffer.alloc(6)]);
    if (protocol === (six ? 58 : 1)) return Buffer.concat([Buffer.from([type, 0]), Buffer.alloc(6)]);
    return protocol === 47 || protocol === 89 ? Buffer.from(any.bytes(16)) : Buffer.concat([u16(from.port, to.port), Buffer.alloc(12)]);
  };
  const packet = (from: Side, to: Side, type: number) => (six ? ip6 : ip4)(from.address, to.address, protocol, body(from, to, type));
  const isIcmp = protocol === (six ? 58 : 1);
  const none = protocol === 47 || protocol === 89;
  const ports: [number, number] = isIcmp ? pair : none ? [0, 0] : [one.port, two.port];
  return { there: packet(one, two, pair[0]), back: packet(two, one, pair[1]), six, protocol, ports, ends: [one, two] };
}

const ethernet = (from: Side, to: Side, type: number, payload: Buffer, tags: Buffer = Buffer.alloc(0)): Buffer =>
  Buffer.concat([to.mac, from.mac, tags, u16(type), payload]);

it('both directions of a conversation have one key and opposite ends, and say what it was built from', () => {
  const any = random('conversations');
  const [tun, tap] = [new FlowKeyReader(false), new FlowKeyReader(true)];
  const keys = new Map<string, string>();
  for (let count = 0; count < 5000; count++) {
    const talk = conversation(any);
    const [one, two] = talk.ends as [Side, Side];
    const outgoing = any.pick([true, false]);
    const [type, kind] = talk.six ? [0x86dd, KIND_V6] : [0x0800, KIND_V4];
    const same = one.address.equals(two.address) && talk.ports[0] === talk.ports[1];
    for (const reader of [tun, tap]) {
      const vlan = reader === tap ? any.pick([0, 0, 5, 4095]) : 0;
      const inside = any.pick([false, true]);
      const how: How = vlan !== 0 && !inside ? { tpid: any.pick([0x8100, 0x88a8]), tci: 0x6000 | vlan } : {};
      const tags = vlan !== 0 && inside ? u16(any.pick([0x8100, 0x88a8, 0x9100]), 0x2000 | vlan) : Buffer.alloc(0);
      const frame = (packet: Buffer, from: Side, to: Side) => (reader === tap ? ethernet(from, to, type, packet, tags) : packet);
      const there = read(reader, frame(talk.there, one, two), { ...how, outgoing });
      expect(addressesOf(reader), 'there').toEqual([one.address.toString('hex'), two.address.toString('hex')]);
      expect(portsOf(reader)).toEqual(talk.ports);
      const back = read(reader, frame(talk.back, two, one), { ...how, outgoing: !outgoing });
      expect(addressesOf(reader), 'back').toEqual([two.address.toString('hex'), one.address.toString('hex')]);
      if (!same) expect([back.key, back.fromB]).toEqual([there.key, !there.fromB]);
      expect(there).toMatchObject({ kind, protocol: talk.protocol, vlan, unknown: false, packets: 1 });
      // A tag that was taken off was on the wire.
      expect(there.bytes).toBe(talk.there.length + (reader === tap ? 14 : 0) + (vlan === 0 ? 0 : 4));
      // Routed back out of the interface that it came through: another flow.
      const routed = read(reader, frame(talk.there, one, two), { ...how, outgoing: !outgoing });
      expect(routed.key).not.toBe(there.key);
      // Different conversations have different keys, but for those without ports.
      const text = JSON.stringify([
        reader === tap,
        talk.six,
        talk.protocol,
        [...talk.ends].map(({ address, port }) => [address, port]),
        vlan,
      ]);
      const clash = keys.get(`${reader === tap}${there.key}`);
      if (talk.protocol !== 47 && talk.protocol !== 89 && talk.protocol !== 1 && talk.protocol !== 58) expect(clash ?? text).toBe(text);
      keys.set(`${reader === tap}${there.key}`, text);
    }
  }
});

it('ICMP that has no answer keeps its direction, type and code', () => {
  const reader = new FlowKeyReader(false);
  const [low, high] = [Buffer.from([10, 0, 0, 1]), Buffer.from([10, 0, 0, 2])];
  const error = (from: Buffer, to: Buffer, code: number) => ip4(from, to, 1, Buffer.from([3, code, 0, 0, 0, 0, 0, 0]));
  const [a, b, c] = [error(low, high, 1), error(high, low, 1), error(low, high, 3)].map((bytes) => read(reader, bytes, { outgoing: true }));
  expect(new Set([a?.key, b?.key, c?.key]).size).toBe(3);
  expect([a?.fromB, b?.fromB]).toEqual([false, false]);
  expect(c?.rest).toBe([0x0800, 0, 0xb8 >> 2, 61, false, 3, 3, false].join(' '));
});

it('what is no IP is a flow of MAC addresses and EtherType, both ways', () => {
  const any = random('other');
  const reader = new FlowKeyReader(true);
  for (let count = 0; count < 1000; count++) {
    const [one, two] = [Buffer.from(any.bytes(6)), Buffer.from(any.bytes(6))];
    const type = any.pick([0x0806, 0x88cc, 0x8847, 46, 0x05ff, 0x0600, 0xffff]);
    const vlan = any.pick([0, 7]);
    const how = vlan === 0 ? {} : { tpid: 0x8100, tci: vlan };
    const there = read(reader, Buffer.concat([two, one, u16(type), Buffer.alloc(46)]), { ...how, outgoing: true });
    const words = [...reader.key].map((word) => (word >>> 0).toString(16).padStart(8, '0'));
    const ends = [words.slice(0, 2).join('').slice(0, 12), words.slice(4, 6).join('').slice(0, 12)];
    expect(reader.fromB ? ends.reverse() : ends).toEqual([one.toString('hex'), two.toString('hex')]);
    const back = read(reader, Buffer.concat([one, two, u16(type), Buffer.alloc(46)]), { ...how, outgoing: false });
    expect([back.key, back.fromB]).toEqual([there.key, !there.fromB]);
    expect(there).toMatchObject({ kind: KIND_OTHER, protocol: 0, vlan });
    expect(reader.etherType).toBe(type < 0x600 ? 0 : type);
    expect(reader.key[PORTS_WORD]).toBe(reader.etherType);
  }
});

it('a plain packet has the fields that reading it in full gives', () => {
  const any = random('plain');
  for (const tap of [false, true]) {
    const memory = Buffer.alloc(64 * 1024);
    const quick = new FlowKeyReader(tap);
    const careful = new FlowKeyReader(tap);
    let known = 0;
    let refused = 0;
    let frame: Buffer = Buffer.alloc(0);
    for (let count = 0; count < 60_000; count++) {
      if (count % 6 === 0) {
        const { there, back, six } = conversation(any);
        const packet = any.pick([there, there, back]);
        const side = { address: Buffer.alloc(4), mac: Buffer.from(any.bytes(6)), port: 0 };
        frame = tap ? ethernet(side, side, six ? 0x86dd : 0x0800, packet) : packet;
      }
      const sent = Buffer.from(frame);
      // Now and then one byte of the headers is another.
      if (any.integer(0, 2) === 0 && sent.length > 0) sent[any.integer(0, Math.min(60, sent.length - 1))] = any.integer(0, 255);
      const captured = any.integer(0, 5) === 0 ? any.integer(0, sent.length) : sent.length;
      const start = any.integer(0, 200);
      sent.copy(memory, start, 0, captured);
      const how = { outgoing: any.integer(0, 7) !== 0, length: sent.length };
      const wanted = read(careful, memory, how, start, captured);
      if (quick.readPlain(memory, start, captured, sent.length, how.outgoing)) known++;
      else {
        refused++;
        read(quick, memory, how, start, captured);
      }
      const found = fieldsOf(quick);
      if (JSON.stringify(found) !== JSON.stringify(wanted)) expect({ tap, count, found }).toEqual({ tap, count, found: wanted });
    }
    expect(known).toBeGreaterThan(1000);
    expect(refused).toBeGreaterThan(5000);
  }
});

it('neither throws nor reads outside, whatever the bytes', () => {
  const any = random('hostile');
  // Pairs of readers see the same frames among different neighbours, and so must always agree, what they remember included.
  const readers = [false, true].map((tap) => [new FlowKeyReader(tap), new FlowKeyReader(tap)] as const);
  for (let count = 0; count < 100_000; count++) {
    const tap = count % 2 === 0;
    const [first, second] = readers[tap ? 1 : 0] as readonly [FlowKeyReader, FlowKeyReader];
    const made = tap ? ethernetFrame(any) : rawPacket(any);
    const frame = Buffer.from(any.integer(0, 9) === 0 ? any.bytes(any.integer(0, 120)) : made);
    for (let changes = any.integer(0, 3); changes > 0 && frame.length > 0; changes--)
      frame[any.integer(0, Math.min(80, frame.length - 1))] = any.pick([0, 0xff, 0x45, 0x60, 44, 0x4f, any.integer(0, 255)]);
    const captured = any.integer(0, 2) === 0 ? any.integer(0, frame.length) : frame.length;
    const start = any.integer(0, 9);
    const [one, two] = [0x00, 0xff].map((poison) => {
      const bytes = Buffer.alloc(start + captured + 64, poison);
      frame.copy(bytes, start, 0, captured);
      return bytes;
    }) as [Buffer, Buffer];
    const tpid = any.pick([0, 0, 0x8100]);
    const gsoType = any.pick([0, 0, 1, 4, 5, 0x81, 3, 0x7f]);
    const how = {
      tpid,
      tci: any.integer(0, 65_535),
      outgoing: any.pick([true, false]),
      gsoType,
      gsoSize: any.integer(0, 1500),
      length: frame.length,
    };
    const ours = read(first, one, how, start, captured);
    const other = read(second, two, how, start, captured);
    if (JSON.stringify(ours) !== JSON.stringify(other)) expect(ours).toEqual(other);
    if (first.ethernetAt >= 0 && (first.ethernetAt !== start || captured < 14)) expect.fail('Ethernet header out of place');
    if (ours.packets < 1 || !Number.isSafeInteger(ours.bytes) || ours.bytes < frame.length) expect.fail(JSON.stringify(ours));
  }
});

it('counts of a super-frame what it is really cut into', () => {
  const any = random('super');
  const scratch = Buffer.alloc(70_000);
  let most = 0;
  for (let count = 0; count < 1500; count++) {
    const version = any.pick([4, 6] as const);
    const udp = any.integer(0, 2) === 0;
    const payload = Buffer.alloc(any.pick([0, 1, any.integer(0, 3000), any.integer(0, 60_000), 1448 * any.integer(1, 20)]));
    const options = Buffer.alloc(4 * any.integer(0, 10), 1);
    const packet = udp ? udpPacket(version, payload) : tcpPacket({ version, payload, options });
    const tap = any.pick([false, true]);
    const tags = any.pick([0, 0, 1, 2]);
    const off = any.pick([false, true]);
    const type = version === 4 ? 0x0800 : 0x86dd;
    const tag = u16(any.pick([0x8100, 0x88a8]), any.integer(0, 4095));
    const head = Buffer.concat([Buffer.alloc(12, 2), ...Array.from({ length: tags }, () => tag), u16(type)]);
    const frame = tap ? Buffer.concat([head, packet]) : packet;
    const ipBytes = version === 4 ? 20 : 40;
    const gsoType = (udp ? GSO_UDP_L4 : version === 4 ? GSO_TCPV4 : GSO_TCPV6) | (!udp && any.integer(0, 3) === 0 ? GSO_ECN : 0);
    const gsoSize = any.pick([1448, 1460, any.integer(100, 9000), 536]);
    // On the wire a tag that the kernel took off is in every piece.
    const takenOff = tap && off;
    const wire = takenOff ? Buffer.alloc(frame.length + 4) : Buffer.from(frame);
    if (takenOff) insertVlanTag(wire, frame, 0, frame.length, 0x8100, 9);
    const checksumStart = wire.length - packet.length + ipBytes;
    const vnet = { flags: NEEDS_CHECKSUM, gsoType, headerLength: 0, gsoSize, checksumStart, checksumOffset: udp ? 6 : 16 };
    let [pieces, bytes] = [0, 0];
    const answer = segment(wire, 0, wire.length, vnet, tap, scratch, (_, _from, length) => {
      pieces++;
      bytes += length;
    });
    expect(answer).toBe(pieces);
    const reader = new FlowKeyReader(tap);
    // No more than the headers are kept.
    const captured = Math.min(frame.length, 192);
    const ours = read(
      reader,
      frame,
      { gsoType, gsoSize, length: frame.length, ...(takenOff ? { tpid: 0x8100, tci: 9 } : {}) },
      0,
      captured,
    );
    expect({ packets: ours.packets, bytes: ours.bytes }, JSON.stringify({ version, udp, tags, takenOff, gsoSize })).toEqual({
      packets: pieces,
      bytes,
    });
    most = Math.max(most, pieces);
  }
  expect(most).toBeGreaterThan(40);
});

/** Parts of a datagram in order; `first` has the ports. */
function partsOf(any: Random, six: boolean, id: number): { parts: Buffer[]; ports: [number, number]; protocol: number } {
  const [source, destination] = [six, six].map((long, end) =>
    Buffer.concat([Buffer.alloc(long ? 15 : 3, 10), Buffer.from([end + 1 + (id % 3)])]),
  ) as [Buffer, Buffer];
  const protocol = any.pick([6, 17, 132, 136, six ? 58 : 1, 47]);
  const ports: [number, number] =
    protocol === 47 ? [0, 0] : protocol === (six ? 58 : 1) ? (six ? [128, 129] : [8, 0]) : [any.integer(1, 65_535), any.integer(1, 65_535)];
  const head = protocol === (six ? 58 : 1) ? Buffer.from([ports[0], 0]) : protocol === 47 ? Buffer.alloc(4) : u16(...ports);
  const transport = Buffer.concat([head, Buffer.alloc(20)]);
  const later = Buffer.alloc(24, 0xee);
  // Options for the destination stand behind the fragment header: only the first part has them.
  const options = six && any.pick([false, true]) ? Buffer.from([protocol, 0, 1, 4, 0, 0, 0, 0]) : Buffer.alloc(0);
  const next = options.length > 0 ? 60 : protocol;
  const parts = [0, 1, 2].map((index) => {
    const payload = index === 0 ? Buffer.concat([options, transport]) : later;
    const more = index < 2;
    if (!six) return ip4(source, destination, protocol, payload, (more ? 0x2000 : 0) | (index * 3), id);
    return ip6(source, destination, 44, Buffer.concat([part6(next, index * 4, more, id), payload]));
  });
  return { parts, ports, protocol };
}

it('gives parts the ports of their first one, also when many datagrams come interleaved', () => {
  const any = random('parts');
  let [known, all] = [0, 0];
  for (let round = 0; round < 300; round++) {
    const reader = new FlowKeyReader(false);
    const six = any.pick([false, true]);
    const datagrams = Array.from({ length: 24 }, (_, index) =>
      partsOf(any, six, six ? any.integer(0, 2 ** 32 - 1) : (round * 24 + index) & 0xffff),
    );
    const firsts = datagrams.map(({ parts, ports, protocol }) => {
      const first = read(reader, parts[0] as Buffer);
      expect([first.protocol, ...portsOf(reader)]).toEqual([protocol, ...ports]);
      expect(reader.fragment).toBe(true);
      return first;
    });
    for (const [index, datagram] of any.shuffled(
      datagrams.flatMap(
        (each, at) =>
          [
            [at, each.parts[1]],
            [at, each.parts[2]],
          ] as [number, Buffer][],
      ),
    )) {
      const later = read(reader, datagram);
      const first = firsts[index] as Read;
      expect(reader.fragment).toBe(true);
      all++;
      if (later.key !== first.key) continue;
      expect(later.fromB).toBe(first.fromB);
      known++;
    }
  }
  console.log(`${known} of ${all} parts of 24 datagrams at a time found their ports`);
  expect(known / all).toBeGreaterThan(0.995);
});

it('parts without their first one are a flow of their own where ports are missing, and tell no ports of others', () => {
  const any = random('lost');
  for (let round = 0; round < 500; round++) {
    const six = any.pick([false, true]);
    const reader = new FlowKeyReader(false);
    // Another datagram, alike but for its id.
    for (const part of partsOf(any, six, 3).parts) read(reader, part);
    const { parts, protocol } = partsOf(any, six, 6);
    const [second, third] = [read(reader, parts[1] as Buffer), read(reader, parts[2] as Buffer)];
    expect(third.key).toBe(second.key);
    expect(portsOf(reader)).toEqual([0, 0]);
    if (second.protocol !== 60) expect([second.protocol, second.unknown]).toEqual([protocol, protocol !== 47]);
  }
});

it('tells parts of different VLANs apart, and takes a whole packet with a fragment header as whole', () => {
  const reader = new FlowKeyReader(true);
  const [one, two] = [Buffer.from([10, 0, 0, 1]), Buffer.from([10, 0, 0, 2])];
  const frame = (packet: Buffer, vlan: number) => Buffer.concat([Buffer.alloc(12, 2), u16(0x8100, vlan, 0x0800), packet]);
  const first = (port: number) => ip4(one, two, 17, Buffer.concat([u16(port, 53, 28, 0), Buffer.alloc(16)]), 0x2000);
  read(reader, frame(first(1111), 1));
  read(reader, frame(first(2222), 2));
  for (const [vlan, port] of [
    [1, 1111],
    [2, 2222],
  ] as const) {
    read(reader, frame(ip4(one, two, 17, Buffer.alloc(16), 3), vlan));
    expect(portsOf(reader)).toEqual([port, 53]);
  }
  const plain = new FlowKeyReader(false);
  const [from, to] = [Buffer.alloc(16, 1), Buffer.alloc(16, 2)];
  read(plain, ip6(from, to, 44, Buffer.concat([part6(17, 0, false, 5), u16(7, 9, 8, 0)])));
  expect([plain.fragment, ...portsOf(plain)]).toEqual([false, 7, 9]);
});

it('cut frames are of no ports that were not read', () => {
  const any = random('cut');
  const reader = new FlowKeyReader(false);
  for (let count = 0; count < 3000; count++) {
    const { bytes } = cutAtTimes(any, rawPacket(any));
    const ours = read(reader, bytes);
    if (ours.unknown) expect(portsOf(reader)).toEqual([0, 0]);
  }
});
