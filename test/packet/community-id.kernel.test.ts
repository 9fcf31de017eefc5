// Community IDs of random packets as Debian's tshark gives them to the same packets. The corpus is built here, so that nothing of ours
// reads it: what an ID is made of is what a packet was made from.
//
// Where tshark departs from the specification, or has nothing to say, that is told below, and checked too.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { CommunityId } from '../../src/packet/community-id.ts';
import { interfaceDescription, LINKTYPE_RAW, packetBlockBytes, sectionHeader, writePacket } from '../../src/packet/pcapng.ts';
import { type Random, random } from '../harness/random.ts';
import { slowChecksum } from './frames.ts';

const folder = mkdtempSync(join(tmpdir(), 'tpl-community-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const COUNT = 3000;
const START = 1_790_000_000_000_000_000n;

interface Packet {
  kind: string;
  bytes: Buffer;
  source: Buffer;
  destination: Buffer;
  protocol: number;
  /** Ports, or type and code; -1 for none. */
  first: number;
  second: number;
}

const u16 = (...values: number[]) => Buffer.from(values.flatMap((value) => [value >> 8, value & 0xff]));

function header4(source: Buffer, destination: Buffer, protocol: number, payload: Buffer, fragment = 0): Buffer {
  const header = Buffer.concat([u16(0x4500, 20 + payload.length, 7, fragment), Buffer.from([64, protocol, 0, 0]), source, destination]);
  header.writeUInt16BE(slowChecksum(header), 10);
  return Buffer.concat([header, payload]);
}

function header6(source: Buffer, destination: Buffer, next: number, payload: Buffer): Buffer {
  return Buffer.concat([u16(0x6000, 0, payload.length), Buffer.from([next, 64]), source, destination, payload]);
}

const V4_ERRORS = [3, 4, 5, 11, 12];
const V6_ERRORS = [1, 2, 3, 4];
/** Of TCP, UDP and SCTP: the transport header behind its ports. */
const REST: Record<number, Buffer> = {
  6: Buffer.from('0000000100000000500200400000' + '0000', 'hex'),
  17: u16(8, 0),
  132: Buffer.concat([u16(0, 1, 0, 0), Buffer.from('0b000004', 'hex')]),
};
/** Protocols without ports: IGMP, RSVP, GRE, ESP, EIGRP, OSPF, PIM, VRRP, L2TP, and some that are nobody's. */
const OTHERS = [2, 46, 47, 50, 88, 89, 103, 112, 115, 200, 253];

function address(any: Random, six: boolean): Buffer {
  // Few enough that pairs come both ways and with themselves.
  const last = any.pick([1, 2, 9, 10, 0x80, 0xff]);
  return six ? Buffer.from([0xfd, ...Array(13).fill(0), any.pick([0, 1]), last]) : Buffer.from([10, any.pick([0, 200]), 0, last]);
}

function upper(any: Random, six: boolean): { kind: string; protocol: number; first: number; second: number; payload: Buffer } {
  const family = six ? 'IPv6' : 'IPv4';
  const kind = any.integer(0, 7);
  if (kind < 3) {
    const protocol = any.pick([6, 17, 132]);
    const [first, second] = [any.pick([1, 80, 255, 256, any.integer(0, 65535)]), any.pick([80, 53, 65535, any.integer(0, 65535)])];
    return {
      kind: `${protocol} on ${family}`,
      protocol,
      first,
      second,
      payload: Buffer.concat([u16(first, second), REST[protocol] ?? Buffer.alloc(0)]),
    };
  }
  if (kind < 6) {
    const errors = six ? V6_ERRORS : V4_ERRORS;
    const pairs = six ? [128, 129, 130, 131, 133, 134, 135, 136, 139, 140, 144, 145] : [0, 8, 9, 10, 13, 14, 15, 16, 17, 18];
    const type = any.pick([any.pick(pairs), any.pick(pairs), any.pick(errors), any.integer(0, 255)]);
    const code = any.pick([0, 0, 1, 4, 255]);
    // The packet that an error is about must not be taken for the one that carries it.
    const about = six
      ? header6(address(any, true), address(any, true), 17, Buffer.concat([u16(1, 2), u16(8, 0)]))
      : header4(address(any, false), address(any, false), 17, Buffer.concat([u16(1, 2), u16(8, 0)]));
    // tshark gives no ID to what it finds malformed: a listener report (RFC 3810) is here one without records.
    const body = errors.includes(type) ? Buffer.concat([Buffer.alloc(4), about]) : Buffer.alloc(six && type === 143 ? 4 : 36);
    const payload = Buffer.concat([Buffer.from([type, code]), u16(0), body]);
    return { kind: `ICMP on ${family}`, protocol: six ? 58 : 1, first: type, second: code, payload };
  }
  const protocol = any.pick(OTHERS);
  return { kind: `others on ${family}`, protocol, first: -1, second: -1, payload: Buffer.alloc(any.integer(16, 40)) };
}

function packet(any: Random): Packet {
  const six = any.pick([false, true]);
  const { kind, protocol, first, second, payload } = upper(any, six);
  const [source, destination] = [address(any, six), address(any, six)];
  if (!six && any.integer(0, 9) === 0) {
    const fragment = any.pick([0x2000 | any.integer(1, 99), any.integer(1, 99)]);
    const bytes = header4(source, destination, protocol, payload, fragment);
    return { kind: 'later fragments on IPv4', bytes, source, destination, protocol, first: -1, second: -1 };
  }
  if (!six) return { kind, bytes: header4(source, destination, protocol, payload), source, destination, protocol, first, second };
  let next = protocol;
  let body = payload;
  for (let count = any.pick([0, 0, 0, 1, 2, 3]); count > 0; count--) {
    const words = any.integer(0, 2);
    // Destination options and a fragment header of a whole datagram: PadN in the former.
    const type = any.pick([60, 44]);
    const extension =
      type === 44
        ? Buffer.concat([Buffer.from([next, 0]), u16(0, 0, 9)])
        : Buffer.concat([Buffer.from([next, words, 1, 4 + words * 8]), Buffer.alloc(4 + words * 8)]);
    body = Buffer.concat([extension, body]);
    next = type;
  }
  const extended = next === protocol ? kind : `${kind} behind extension headers`;
  return { kind: extended, bytes: header6(source, destination, next, body), source, destination, protocol, first, second };
}

/** What tshark says of packets of bare IP: an ID, or nothing. */
function tshark(name: string, packets: readonly Buffer[], ...options: string[]): string[] {
  const file = join(folder, name);
  const blocks = packets.map((bytes, index) => {
    const block = Buffer.alloc(packetBlockBytes(bytes.length));
    writePacket(block, 0, 0, START + BigInt(index), bytes, 0, bytes.length, bytes.length, 'unknown');
    return block;
  });
  writeFileSync(
    file,
    Buffer.concat([sectionHeader(), interfaceDescription({ name: 'x', linkType: LINKTYPE_RAW, snapLength: 0 }), ...blocks]),
  );
  // Fragments stand for themselves.
  const how = ['--enable-protocol', 'communityid', '-o', 'ip.defragment:FALSE', '-o', 'ipv6.defragment:FALSE', ...options];
  const result = spawnSync('tshark', ['-r', file, ...how, '-T', 'fields', '-e', 'communityid'], { encoding: 'utf8' });
  if (result.error) throw result.error;
  expect(result.stderr).not.toContain(folder);
  expect(result.status).toBe(0);
  return result.stdout.replace(/\n$/, '').split('\n');
}

function ours({ source, destination, protocol, first, second }: Packet, ids = new CommunityId()): string {
  return ids.hash(Buffer.concat([source, destination]), 0, source.length, source.length as 4 | 16, protocol, first, second);
}

/** The specification read plainly, for what tshark says nothing of. */
function withoutPorts({ source, destination, protocol }: Packet): string {
  const ends = [source, destination].sort(Buffer.compare);
  return `1:${createHash('sha1')
    .update(Buffer.concat([u16(0), ...ends, Buffer.from([protocol, 0])]))
    .digest('base64')}`;
}

/** tshark 4.0 does not know the protocol of what is in IPv6, unless it has ports: it is without an ID. */
const isUntold = ({ source, first }: Packet) => source.length === 16 && first < 0;

it('are what tshark gives to random packets, with a seed and without', () => {
  const any = random('community-id');
  const packets = Array.from({ length: COUNT }, () => packet(any));
  const bytes = packets.map((each) => each.bytes);
  const theirs = tshark('random.pcapng', bytes);
  const seeded = tshark('seed.pcapng', bytes, '-o', 'communityid.seed:4711');
  const [ids, seededIds] = [new CommunityId(), new CommunityId(4711)];
  const kinds = new Map<string, number>();
  const answer = (each: Packet, id: string) => ({ ...each, bytes: each.bytes.toString('hex'), id });
  for (const [index, each] of packets.entries()) {
    kinds.set(each.kind, (kinds.get(each.kind) ?? 0) + 1);
    if (isUntold(each)) {
      expect(answer(each, theirs[index] ?? '?')).toEqual(answer(each, ''));
      expect(answer(each, ours(each, ids))).toEqual(answer(each, withoutPorts(each)));
      continue;
    }
    expect(answer(each, ours(each, ids))).toEqual(answer(each, theirs[index] ?? '?'));
    expect(answer(each, ours(each, seededIds))).toEqual(answer(each, seeded[index] ?? '?'));
  }
  console.log(`community IDs: ${[...kinds].map(([kind, count]) => `${count} ${kind}`).join(', ')}`);
  expect(kinds.size).toBe(16);
  // Both ways of the same conversation are among them.
  expect(new Set(theirs).size).toBeLessThan(COUNT);
});

it('differ from those of tshark for UDP-Lite, which it takes for UDP, and agree for DCCP, of which neither counts the ports', () => {
  const [source, destination] = [Buffer.from([10, 0, 0, 1]), Buffer.from([10, 0, 0, 2])];
  const dccp = Buffer.concat([u16(5, 6), Buffer.from('040000000000000000000000', 'hex')]);
  const packets = [
    { kind: 'UDP-Lite', protocol: 136, first: 5, second: 6, payload: u16(5, 6, 8, 0) },
    { kind: 'DCCP', protocol: 33, first: 5, second: 6, payload: dccp },
  ].map(({ payload, ...rest }) => ({ ...rest, source, destination, bytes: header4(source, destination, rest.protocol, payload) }));
  const [lite, other] = packets as [Packet, Packet];
  const theirs = tshark(
    'others.pcapng',
    packets.map(({ bytes }) => bytes),
  );
  expect(theirs).toEqual([ours({ ...lite, protocol: 17 }), ours(other)]);
  expect(ours(lite)).toBe(withoutPorts(lite));
  expect(ours(other)).toBe(withoutPorts(other));
});
