// Our answers as Debian's tshark judges them: every checksum right, nothing malformed. And capture files that tcpdump, editcap and mergecap
// have written, read by us and by tshark.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { arpReply } from '../../src/packet/arp.ts';
import { type CapturedPacket, CaptureReader } from '../../src/packet/capture-reader.ts';
import { echoReply } from '../../src/packet/icmp-echo.ts';
import { neighbourAdvertisement } from '../../src/packet/neighbour-discovery.ts';
import {
  interfaceDescription,
  LINKTYPE_ETHERNET,
  LINKTYPE_RAW,
  packetBlockBytes,
  sectionHeader,
  writePacket,
} from '../../src/packet/pcapng.ts';
import { PrefixSet } from '../../src/packet/prefix-set.ts';
import { reflect } from '../../src/packet/reflect.ts';
import { random } from '../harness/random.ts';
import { tcpPacket, udpPacket } from './frames.ts';
import { type Answer, answerTo, ethernet, hex, icmp, icmpv6, ipv4, ipv6, PEER_V6 } from './requests.ts';

const folder = mkdtempSync(join(tmpdir(), 'tpl-answers-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const START = 1_790_000_000_123_456_789n;

function run(tool: string, ...args: string[]): string {
  const { error, status, stdout, stderr } = spawnSync(tool, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  if (error) throw error;
  if (status !== 0) throw new Error(`${tool} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

interface Written {
  ethernet: boolean;
  bytes: Buffer;
}

/** A pcapng file of ours: TUN packets and TAP frames, some milliseconds and nanoseconds apart, `snapLength` bytes of each. */
function write(name: string, packets: readonly Written[], snapLength = 0): string {
  // Each kind has an interface, when there are any: not every format can have two.
  const kinds = [false, true].filter((kind) => packets.some(({ ethernet: link }) => link === kind));
  const described = kinds.map((kind) =>
    interfaceDescription({ name: kind ? 'tap0' : 'tun0', linkType: kind ? LINKTYPE_ETHERNET : LINKTYPE_RAW, snapLength }),
  );
  const blocks = [sectionHeader(), ...described];
  for (const [index, { ethernet: link, bytes }] of packets.entries()) {
    const captured = snapLength === 0 ? bytes.length : Math.min(snapLength, bytes.length);
    const block = Buffer.alloc(packetBlockBytes(captured));
    const time = START + BigInt(index) * 7_000_001n;
    writePacket(block, 0, kinds.indexOf(link), time, bytes, 0, captured, bytes.length, 'inbound');
    blocks.push(block);
  }
  const file = join(folder, name);
  writeFileSync(file, Buffer.concat(blocks));
  return file;
}

function fields(file: string, ...names: string[]): string[][] {
  const checks = ['ip', 'udp', 'tcp'].flatMap((protocol) => ['-o', `${protocol}.check_checksum:TRUE`]);
  // What is in the datagrams is random.
  const blind = ['dns', 'tls'].flatMap((protocol) => ['--disable-protocol', protocol]);
  const rows = run('tshark', '-n', '-r', file, ...checks, ...blind, '-T', 'fields', ...names.flatMap((name) => ['-e', name]));
  return rows
    .split('\n')
    .slice(0, -1)
    .map((row) => row.split('\t'));
}

const GOOD = '1';
const everything = new PrefixSet([
  { bytes: Buffer.alloc(4), length: 0 },
  { bytes: Buffer.alloc(16), length: 0 },
]);
const MAC = hex('02aabbccddee');
const data = (length: number) => Buffer.from(random('answers', length).bytes(length));
const echo4 = (length: number) => icmp(Buffer.concat([hex('0800 0000 1234 0001'), data(length)]));
const echo6 = (length: number) => icmpv6(Buffer.concat([hex('8000 0000 1234 0001'), data(length)]));
const GROUP = 'ff0200000000000000000001ff000002';
const solicit = (source: string | undefined, options: string) =>
  ipv6({
    next: 58,
    hopLimit: 255,
    destination: GROUP,
    payload: icmpv6(hex(`8700 0000 00000000 ${PEER_V6} ${options}`), source, GROUP),
    ...(source === undefined ? {} : { source }),
  });

/** tcpPacket and udpPacket leave their checksum to hardware; this is the hardware. */
function withChecksum(packet: Buffer, field: number): Buffer {
  const l4 = packet[0] === 0x45 ? 20 : 40;
  let sum = 0;
  const padded = Buffer.concat([packet.subarray(l4), Buffer.alloc(packet.length & 1)]);
  for (let at = 0; at < padded.length; at += 2) sum += padded.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  packet.writeUInt16BE(~sum & 0xffff, l4 + field);
  return packet;
}

describe('answers, by tshark', () => {
  const packets: [string, Buffer][] = [0, 1, 56, 1472, 9000].flatMap((length) => [
    ['icmp', ipv4({ protocol: 1, payload: echo4(length), tos: 0xb9 })],
    ['icmp', ipv4({ protocol: 1, payload: echo4(length), options: hex('94040000') })],
    ['icmpv6', ipv6({ next: 58, payload: echo6(length), flow: 0xb912345 })],
    ['icmpv6', ipv6({ next: 0, payload: Buffer.concat([hex('3a 00 0502 0000 0100'), echo6(length)]) })],
  ]);
  packets.push(['icmp', ipv4({ protocol: 1, payload: icmp(hex('0800 0000 0000 0000 0000')) })]);
  packets.push(['icmp', ipv4({ protocol: 1, payload: echo4(65_507) })]);
  const tags = ['', '8100 e005', '88a8 0007 8100 0005'];
  const onLink = (packet: Buffer) => tags.map((tag) => ethernet((packet[0] as number) >> 4 === 4 ? '0800' : '86dd', packet, tag));

  function answers(answer: (link: boolean) => Answer, requests: readonly Buffer[]): Written[] {
    const all = requests.flatMap((bytes) => [
      { ethernet: false, bytes },
      ...onLink(bytes).map((frame) => ({ ethernet: true, bytes: frame })),
    ]);
    return all.map(({ ethernet: link, bytes }) => {
      const reply = answerTo(answer(link), bytes);
      if (reply === undefined) throw new Error(`no answer to ${bytes.subarray(0, 80).toString('hex')}`);
      return { ethernet: link, bytes: reply };
    });
  }

  it('echo replies', () => {
    const answer =
      (link: boolean): Answer =>
      (bytes, start, length, out) =>
        echoReply(bytes, start, length, link, undefined, out);
    const written = answers(
      answer,
      packets.map(([, packet]) => packet),
    );
    const rows = fields(
      write('echo.pcapng', written),
      'ip.checksum.status',
      'icmp.checksum.status',
      'icmpv6.checksum.status',
      'icmp.type',
      'icmpv6.type',
      'ip.ttl',
      'ipv6.hlim',
      '_ws.malformed',
    );
    const v4 = [GOOD, GOOD, '', '0', '', '64', '', ''];
    const v6 = ['', '', GOOD, '', '129', '', '64', ''];
    expect(rows).toEqual(packets.flatMap(([kind]) => [0, 1, 2, 3].map(() => (kind === 'icmp' ? v4 : v6))));
  });

  it('a packet turned round', () => {
    const requests = ([4, 6] as const).flatMap((version) =>
      [0, 1, 1400].flatMap((length) => [
        withChecksum(tcpPacket({ version, payload: data(length), options: hex('01010101') }), 16),
        withChecksum(udpPacket(version, data(length)), 6),
      ]),
    );
    const answer =
      (link: boolean): Answer =>
      (bytes, start, length, out) =>
        reflect(bytes, start, length, link, undefined, out);
    const file = write('reflect.pcapng', answers(answer, requests));
    const rows = fields(
      file,
      'ip.src',
      'ipv6.src',
      'tcp.srcport',
      'udp.srcport',
      'ip.checksum.status',
      'tcp.checksum.status',
      'udp.checksum.status',
      '_ws.malformed',
    );
    const expected = (version: 4 | 6, tcp: boolean) => [
      version === 4 ? '10.0.0.2' : '',
      version === 6 ? 'fd00::2' : '',
      tcp ? '443' : '',
      tcp ? '' : '53',
      version === 4 ? GOOD : '',
      tcp ? GOOD : '',
      tcp ? '' : GOOD,
      '',
    ];
    expect(rows).toEqual(
      ([4, 6] as const).flatMap((version) =>
        [0, 1, 1400].flatMap(() => [true, false].flatMap((tcp) => [0, 1, 2, 3].map(() => expected(version, tcp)))),
      ),
    );
  });

  it('neighbour advertisements and ARP replies', () => {
    const nd: Answer = (bytes, start, length, out) => neighbourAdvertisement(bytes, start, length, everything, MAC, out);
    const arp: Answer = (bytes, start, length, out) => arpReply(bytes, start, length, everything, MAC, out);
    const solicitations = [solicit(undefined, '0101 020000000001'), solicit('00'.repeat(16), '')].flatMap(onLink);
    const request = hex('0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002');
    const requests = tags.map((tag) => ethernet('0806', request, tag, 'ffffffffffff'));
    const written = [...solicitations.map((frame) => answerTo(nd, frame)), ...requests.map((frame) => answerTo(arp, frame))];
    const file = write(
      'neighbours.pcapng',
      written.map((bytes) => ({ ethernet: true, bytes: bytes as Buffer })),
    );
    const rows = fields(
      file,
      'icmpv6.checksum.status',
      'icmpv6.nd.na.target_address',
      'icmpv6.nd.na.flag.s',
      'icmpv6.nd.na.flag.o',
      'icmpv6.opt.linkaddr',
      'ipv6.dst',
      'ipv6.hlim',
      'arp.opcode',
      'arp.src.hw_mac',
      'arp.src.proto_ipv4',
      'eth.src',
      'eth.dst',
      '_ws.malformed',
      '_ws.expert.severity',
    );
    const ours = '02:aa:bb:cc:dd:ee';
    const node = '02:00:00:00:00:01';
    const advert = (solicited: string, destination: string, mac: string) => [
      GOOD,
      'fd00::2',
      solicited,
      '1',
      ours,
      destination,
      '255',
      '',
      '',
      '',
      ours,
      mac,
      '',
      '',
    ];
    const same = (row: string[]) => tags.map(() => row);
    expect(rows).toEqual([
      ...same(advert('1', 'fd00::1', node)),
      ...same(advert('0', 'ff02::1', '33:33:00:00:00:01')),
      ...same(['', '', '', '', '', '', '', '2', ours, '10.0.0.2', ours, node, '', '']),
    ]);
  });
});

describe('capture files of others', () => {
  const tun: Written[] = [60, 1, 1400, 0, 9000].map((length) => ({
    ethernet: false,
    bytes: ipv4({ protocol: 253, payload: data(length) }),
  }));
  const tap: Written[] = [100, 46, 1500].map((length) => ({ ethernet: true, bytes: ethernet('88b5', data(length)) }));
  const micros = (packets: CapturedPacket[]) => packets.map((packet) => ({ ...packet, nanos: Math.floor(packet.nanos / 1000) * 1000 }));
  let source = '';
  let cut = '';
  beforeAll(() => {
    source = write('source.pcapng', tun);
    cut = write('cut.pcapng', tap, 64);
  });

  function read(file: string, piece = 1000): CapturedPacket[] {
    const bytes = readFileSync(file);
    const reader = new CaptureReader();
    const packets: CapturedPacket[] = [];
    for (let at = 0; at < bytes.length; at += piece) packets.push(...reader.push(bytes.subarray(at, at + piece)));
    reader.end();
    return packets;
  }

  /** As tshark sees the same file. */
  function agrees(file: string): CapturedPacket[] {
    const packets = read(file);
    const ours = packets.map(({ seconds, nanos, originalLength, bytes }) => [
      `${seconds}.${String(nanos).padStart(9, '0')}`,
      String(originalLength),
      String(bytes.length),
    ]);
    expect(ours).toEqual(fields(file, 'frame.time_epoch', 'frame.len', 'frame.cap_len'));
    return packets;
  }

  const expected = (written: readonly Written[], snapLength = Infinity): CapturedPacket[] =>
    written.map(({ ethernet: link, bytes }, index) => {
      const time = START + BigInt(index) * 7_000_001n;
      return {
        linkType: link ? 1 : 101,
        seconds: Number(time / 1_000_000_000n),
        nanos: Number(time % 1_000_000_000n),
        originalLength: bytes.length,
        bytes: bytes.subarray(0, snapLength),
      };
    });

  it('our own', () => {
    expect(agrees(source)).toEqual(expected(tun));
    expect(agrees(cut)).toEqual(expected(tap, 64));
  });

  it.each<[string, boolean]>([
    ['pcapng', true],
    ['nsecpcap', true],
    ['pcap', false],
  ])('%s by editcap', (format, nanos) => {
    for (const [from, written, snap] of [
      [source, tun, Infinity],
      [cut, tap, 64],
    ] as const) {
      const file = join(folder, `${format}-${snap}`);
      run('editcap', '-F', format, from, file);
      const packets = expected(written, snap);
      // libpcap has a number of its own for raw IP in old files.
      expect(agrees(file)).toEqual(nanos ? packets : micros(packets));
    }
  });

  it.each<[string, boolean]>([
    ['micro', false],
    ['nano', true],
  ])('pcap by tcpdump, %sseconds', (precision, nanos) => {
    const file = join(folder, `tcpdump-${precision}`);
    run('tcpdump', `--time-stamp-precision=${precision}`, '-r', source, '-w', file);
    expect(agrees(file)).toEqual(nanos ? expected(tun) : micros(expected(tun)));
  });

  it('pcapng with several interfaces by mergecap, sections by cat', () => {
    const merged = join(folder, 'merged');
    run('mergecap', '-F', 'pcapng', '-w', merged, source, cut);
    const packets = agrees(merged);
    expect(packets).toHaveLength(8);
    expect(new Set(packets.map(({ linkType }) => linkType))).toEqual(new Set([1, 101]));
    const joined = join(folder, 'joined');
    writeFileSync(joined, Buffer.concat([readFileSync(source), readFileSync(cut), readFileSync(merged)]));
    expect(agrees(joined)).toEqual([...expected(tun), ...expected(tap, 64), ...packets]);
  });
});
