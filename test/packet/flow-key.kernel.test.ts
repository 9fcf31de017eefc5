// Keys of random frames, field by field as Debian's tshark reads them.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import {
  FlowKeyReader,
  hasPorts,
  isIcmp,
  KIND_OTHER,
  KIND_V6,
  KIND_WORD,
  kindOf,
  PORTS_WORD,
  portsUnknown,
  protocolOf,
  vlanOf,
} from '../../src/packet/flow-key.ts';
import {
  interfaceDescription,
  LINKTYPE_ETHERNET,
  LINKTYPE_RAW,
  packetBlockBytes,
  sectionHeader,
  writePacket,
} from '../../src/packet/pcapng.ts';
import { type Random, random } from '../harness/random.ts';
import { ethernetFrame, rawPacket } from './frame-corpus.ts';

const folder = mkdtempSync(join(tmpdir(), 'tpl-flow-key-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const COUNT = 4000;
const FIELDS = [
  'frame.protocols', 'eth.src', 'eth.dst', 'eth.type', 'vlan.id', 'vlan.etype', 'ieee8021ad.id', 'ieee8021ad.svid', 'ieee8021ah.etype',
  'ip.src', 'ip.dst', 'ip.proto', 'ip.ttl', 'ip.dsfield.dscp', 'ip.flags.mf', 'ip.frag_offset',
  'ipv6.src', 'ipv6.dst', 'ipv6.nxt', 'ipv6.hlim', 'ipv6.tclass.dscp', 'ipv6.fraghdr.more', 'ipv6.fraghdr.offset',
  'ipv6.hopopts.nxt', 'ipv6.routing.nxt', 'ipv6.fraghdr.nxt', 'ipv6.dstopts.nxt',
  'tcp.srcport', 'tcp.dstport', 'tcp.flags', 'udp.srcport', 'udp.dstport', 'sctp.srcport', 'sctp.dstport',
  'icmp.type', 'icmp.code', 'icmpv6.type', 'icmpv6.code', '_ws.malformed',
] as const; // biome-ignore format: a table
type Told = Record<(typeof FIELDS)[number], string[]>;

/** What tshark says of each frame: all values of each field, outermost first. */
function tshark(name: string, linkType: number, frames: readonly Buffer[]): Told[] {
  const file = join(folder, name);
  const blocks = frames.map((bytes, index) => {
    const block = Buffer.alloc(packetBlockBytes(bytes.length));
    writePacket(block, 0, 0, 1_790_000_000_000_000_000n + BigInt(index), bytes, 0, bytes.length, bytes.length, 'unknown');
    return block;
  });
  writeFileSync(file, Buffer.concat([sectionHeader(), interfaceDescription({ name: 'x', linkType, snapLength: 0 }), ...blocks]));
  // Parts stand for themselves, and nothing is guessed from ports.
  const how = ['-n', '-o', 'ip.defragment:FALSE', '-o', 'ipv6.defragment:FALSE'];
  const fields = ['-T', 'fields', '-E', 'separator=|', ...FIELDS.flatMap((field) => ['-e', field])];
  const result = spawnSync('tshark', ['-r', file, ...how, ...fields], { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (result.error) throw result.error;
  expect(result.status, result.stderr).toBe(0);
  const lines = result.stdout.replace(/\n$/, '').split('\n');
  expect(lines).toHaveLength(frames.length);
  return lines.map((line) => {
    const values = line.split('|');
    return Object.fromEntries(FIELDS.map((field, at) => [field, values[at] === '' ? [] : (values[at] ?? '').split(',')])) as Told;
  });
}

/** The protocol behind the extension headers, which stand in the order of `frame.protocols`. */
function protocolBehind(told: Told): number {
  let protocol = Number(told['ipv6.nxt'][0]);
  const layers = (told['frame.protocols'][0] ?? '').split(':');
  const next = { 'ipv6.hopopts': 0, 'ipv6.routing': 0, 'ipv6.fraghdr': 0, 'ipv6.dstopts': 0 };
  for (const layer of layers.slice(layers.indexOf('ipv6') + 1)) {
    if (!(layer in next)) break;
    const kind = layer as keyof typeof next;
    protocol = Number(told[`${kind}.nxt`][next[kind]++]);
  }
  return protocol;
}

const number = (values: string[]): number => Number(values[0] ?? '0');
const isTrue = (values: string[]): boolean => values.some((value) => value === '1' || value === 'True');

/** An address in the one form of ours: hexadecimal digits. */
function hex(text: string): string {
  if (text.includes('.')) return Buffer.from(text.split('.').map(Number)).toString('hex');
  const [left = '', right] = text.split('::');
  const groups = (part: string) => (part === '' ? [] : part.split(':')).map((group) => group.padStart(4, '0'));
  const [before, after] = [groups(left), groups(right ?? '')];
  return [...before, ...Array.from({ length: right === undefined ? 0 : 8 - before.length - after.length }, () => '0000'), ...after].join(
    '',
  );
}

interface Facts {
  kind: string;
  vlan: number;
  etherType: number;
  source: string;
  destination: string;
  protocol: number;
  fragment: boolean;
  ttl: number;
  dscp: number;
  /** Ports, or type and code; undefined where the packet does not tell. */
  first: number | undefined;
  second: number | undefined;
  tcpFlags: number;
}

const LINK_LAYERS = new Set(['eth', 'ethertype', 'vlan', 'ieee8021ad', 'raw']);

function theirs(told: Told, tap: boolean): Facts {
  const layers = (told['frame.protocols'][0] ?? '').split(':');
  const inner = layers.find((layer) => !LINK_LAYERS.has(layer)) ?? '';
  const isRead = told[inner === 'ipv6' ? 'ipv6.dst' : 'ip.dst'].length > 0;
  const kind = (inner === 'ip' || inner === 'ipv6') && isRead ? inner : 'other';
  const six = kind === 'ipv6';
  // Two tags of 802.1ad in a row are told under other names.
  const outer = layers[2] === 'ieee8021ad' ? [...told['ieee8021ad.svid'], ...told['ieee8021ad.id']] : told['vlan.id'];
  const types = [told['eth.type'][0], told['vlan.etype'].at(-1), told['ieee8021ah.etype'].at(-1)].map((type) => Number(type ?? 0));
  const type = types.find((each) => each !== 0 && each !== 0x8100 && each !== 0x88a8) ?? 0;
  const facts: Facts = {
    kind,
    vlan: number(outer),
    // Of an 802.3 frame it is the length.
    etherType: tap ? (type < 0x600 ? 0 : type) : six ? 0x86dd : kind === 'ip' ? 0x0800 : 0,
    source: hexOfMac(told['eth.src']),
    destination: hexOfMac(told['eth.dst']),
    protocol: 0,
    fragment: false,
    ttl: 0,
    dscp: 0,
    first: undefined,
    second: undefined,
    tcpFlags: 0,
  };
  if (kind === 'other') return facts;
  facts.source = hex(told[six ? 'ipv6.src' : 'ip.src'][0] as string);
  facts.destination = hex(told[six ? 'ipv6.dst' : 'ip.dst'][0] as string);
  facts.protocol = six ? protocolBehind(told) : number(told['ip.proto']);
  facts.fragment = six
    ? isTrue(told['ipv6.fraghdr.more']) || told['ipv6.fraghdr.offset'].some((offset) => offset !== '0')
    : isTrue(told['ip.flags.mf'].slice(0, 1)) || number(told['ip.frag_offset']) !== 0;
  facts.ttl = number(told[six ? 'ipv6.hlim' : 'ip.ttl']);
  facts.dscp = number(told[six ? 'ipv6.tclass.dscp' : 'ip.dsfield.dscp']);
  const layer = { 6: 'tcp', 17: 'udp', 132: 'sctp' }[facts.protocol] as 'tcp' | 'udp' | 'sctp' | undefined;
  if (layer !== undefined && layers.includes(layer)) {
    facts.first = Number(told[`${layer}.srcport`][0]);
    facts.second = Number(told[`${layer}.dstport`][0]);
    if (layer === 'tcp') facts.tcpFlags = number(told['tcp.flags']) & 0xff;
  } else if (facts.protocol === (six ? 58 : 1) && layers.includes(six ? 'icmpv6' : 'icmp')) {
    facts.first = Number(told[six ? 'icmpv6.type' : 'icmp.type'][0]);
    facts.second = Number(told[six ? 'icmpv6.code' : 'icmp.code'][0]);
  }
  return facts;
}

const hexOfMac = (values: string[]): string => (values[0] ?? '').replaceAll(':', '');

function ours(reader: FlowKeyReader, frame: Buffer): Facts {
  reader.read(frame, 0, frame.length, frame.length, true, 0, 0, 0, 0);
  const word = reader.key[KIND_WORD] as number;
  const kind = kindOf(word);
  const words = [...reader.key].map((each) => (each >>> 0).toString(16).padStart(8, '0')).join('');
  const digits = kind === KIND_OTHER ? 12 : kind === KIND_V6 ? 32 : 8;
  const ends = [words.slice(0, digits), words.slice(32, 32 + digits)];
  const ports = reader.key[PORTS_WORD] as number;
  const pair = [ports >>> 16, ports & 0xffff];
  if (reader.fromB) {
    ends.reverse();
    pair.reverse();
  }
  const told = isIcmp(protocolOf(word), kind) ? [reader.icmpType, reader.icmpCode] : hasPorts(protocolOf(word)) ? pair : [];
  const [first, second] = portsUnknown(word) || kind === KIND_OTHER ? [] : told;
  return {
    kind: kind === KIND_OTHER ? 'other' : kind === KIND_V6 ? 'ipv6' : 'ip',
    vlan: vlanOf(word),
    etherType: reader.etherType,
    source: kind === KIND_OTHER && reader.ethernetAt < 0 ? '' : (ends[0] as string),
    destination: kind === KIND_OTHER && reader.ethernetAt < 0 ? '' : (ends[1] as string),
    protocol: protocolOf(word),
    fragment: reader.fragment,
    ttl: reader.ttl,
    dscp: reader.dscp,
    first,
    second,
    tcpFlags: reader.tcpFlags,
  };
}

/** Where the network header begins. */
function networkAt(frame: Buffer, tap: boolean): number {
  let at = tap ? 14 : 0;
  while (tap && [0x8100, 0x88a8].includes(frame.readUInt16BE(at - 2)) && at + 4 < frame.length) at += 4;
  return at;
}

/** The corpus has one time to live, and few code points. */
function varied(any: Random, bytes: Buffer, tap: boolean): Buffer {
  const copy = Buffer.from(bytes);
  const at = networkAt(copy, tap);
  if (copy.length < at + 40 || any.integer(0, 1) === 0) return copy;
  const version = (copy[at] as number) >> 4;
  if (version === 4) copy[at + 1] = any.integer(0, 255);
  else if (version === 6) copy.writeUInt16BE(0x6000 | any.integer(0, 0xfff), at);
  if (version === 4 || version === 6) copy[version === 4 ? at + 8 : at + 7] = any.integer(0, 255);
  return copy;
}

/** It begins like IP, but its length is not the one that it tells. */
function isJunk(frame: Buffer, tap: boolean): boolean {
  const packet = frame.subarray(networkAt(frame, tap));
  const version = (packet[0] ?? 0) >> 4;
  if (version === 4) return packet.length < 20 || packet.readUInt16BE(2) !== packet.length;
  return version === 6 && (packet.length < 40 || packet.readUInt16BE(4) !== packet.length - 40);
}

/** IPv6 whose extension headers are right, and parts of datagrams among them. */
function extended(any: Random): Buffer {
  const u16 = (...values: number[]) => Buffer.from(values.flatMap((value) => [value >> 8, value & 0xff]));
  let next = any.pick([6, 17, 132, 58, 89]);
  const ports = u16(any.integer(1, 65_535), any.integer(1, 65_535));
  const bodies: Record<number, Buffer> = {
    6: Buffer.concat([ports, Buffer.alloc(8), Buffer.from([0x50, any.integer(1, 255)]), Buffer.alloc(6)]),
    17: Buffer.concat([ports, u16(8, 0)]),
    132: Buffer.concat([ports, u16(0, 1, 0, 0), Buffer.from('0b000004', 'hex')]),
    58: Buffer.from([any.pick([128, 129]), 0, 0, 0, 0, 7, 0, 1]),
  };
  let body = bodies[next] ?? Buffer.alloc(24);
  const kinds = any.shuffled([43, 44, 60]).slice(0, any.integer(0, 3));
  if (any.pick([true, false])) kinds.push(0);
  for (const kind of kinds) {
    const words = any.integer(0, 2);
    const offset = any.pick([0, 0, any.integer(1, 8191)]);
    const header =
      kind === 44
        ? Buffer.concat([Buffer.from([next, 0]), u16((offset << 3) | any.integer(0, 1)), Buffer.from(any.bytes(4))])
        : kind === 43
          ? Buffer.concat([Buffer.from([next, words, 99, 0]), Buffer.alloc(4 + words * 8)])
          : Buffer.concat([Buffer.from([next, words, 1, 4 + words * 8]), Buffer.alloc(4 + words * 8)]);
    body = Buffer.concat([header, body]);
    next = kind;
  }
  const addresses = Buffer.from(any.bytes(32));
  return Buffer.concat([u16(0x6000 | any.integer(0, 0xfff), 0, body.length), Buffer.from([next, any.integer(0, 255)]), addresses, body]);
}

for (const tap of [true, false]) {
  it(`of random ${tap ? 'Ethernet frames' : 'packets'} are what tshark reads`, () => {
    const any = random(`flow-key-${tap}`);
    const one = (): Buffer => {
      if (any.integer(0, 4) > 0) return varied(any, tap ? ethernetFrame(any) : rawPacket(any), tap);
      return tap ? Buffer.concat([Buffer.alloc(12, 2), Buffer.from([0x86, 0xdd]), extended(any)]) : extended(any);
    };
    const frames = Array.from({ length: COUNT }, one);
    const all = tshark(`${tap}.pcapng`, tap ? LINKTYPE_ETHERNET : LINKTYPE_RAW, frames);
    const kinds = new Map<string, number>();
    for (const [index, frame] of frames.entries()) {
      const told = all[index] as Told;
      // Each with a memory of its own, so that parts get no ports of others: tshark gives them none.
      const mine = ours(new FlowKeyReader(tap), frame);
      const other = theirs(told, tap);
      // What tshark makes of random bytes that begin like IP is its own affair.
      // With random options it sometimes sees no IPv4 header at all.
      const isLost = other.kind === 'other' && mine.kind === 'ipv4' && told['frame.protocols'][0]?.includes('ip') === true;
      if (isJunk(frame, tap) || isLost) {
        kinds.set('junk', (kinds.get('junk') ?? 0) + 1);
        continue;
      }
      const malformed = told['_ws.malformed'].length > 0;
      // It reads no further than to what it does not like, such as random options; we only look for where headers end.
      const inPart = malformed ? { protocol: 0, fragment: false, first: undefined, second: undefined, tcpFlags: 0 } : {};
      // Of a first part it reads nothing behind destination options that follow the fragment header.
      const isHidden = mine.fragment && other.first === undefined && told['frame.protocols'][0]?.endsWith('ipv6.dstopts') === true;
      const hidden = isHidden ? { first: undefined, second: undefined, tcpFlags: 0 } : {};
      const about = `${told['frame.protocols']} ${frame.toString('hex')}`;
      expect({ about, ...mine, ...inPart, ...hidden }).toEqual({ about, ...other, ...inPart, ...hidden });
      const kind = malformed || isHidden ? 'read in part' : `${mine.kind}${mine.fragment ? ' fragments' : ''}`;
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    }
    console.log([...kinds].map(([kind, count]) => `${count} ${kind}`).join(', '));
    expect(kinds.get('junk') ?? 0).toBeLessThan(COUNT / 20);
    expect(COUNT - (kinds.get('read in part') ?? 0)).toBeGreaterThan(2500);
  });
}
