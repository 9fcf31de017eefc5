// Packets in a few words: literal bytes, and what is cut or nonsense.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hexDump, isoTime, packetDocument, packetLine, packetsOf, type SeenPacket } from '../../src/cli/packet-line.ts';
import { summary } from '../../src/cli/packet-summary.ts';
import { Direction, PacketBatch } from '../../src/gen/taplane/v1/packet.ts';

const RAW = 101;
const ETHERNET = 1;
const hex = (text: string) => Buffer.from(text.replace(/\s/g, ''), 'hex');
const MACS = '02000000000b 02000000000a';

const ip4 = (protocol: string, rest: string, fragment = '0000') => `45000054 0000${fragment} 40${protocol}0000 0a000001 0a000002 ${rest}`;
const ip6 = (next: string, length: string, rest: string) =>
  `60000000 ${length}${next}40 fd000000000000000000000000000001 fd000000000000000000000000000002 ${rest}`;
const SYN = '01bbc738 00000001 00000000 5002faf0 00000000';

test.each<[string, number, string, string]>([
  ['ICMP', RAW, ip4('01', '0800 0000 0007 0001'), 'ICMP 10.0.0.1 > 10.0.0.2 echo request id 7 seq 1'],
  ['unreachable', RAW, ip4('01', '0303 0000 0000 0000'), 'ICMP 10.0.0.1 > 10.0.0.2 unreachable code 3'],
  ['UDP', RAW, ip4('11', '0035 c738 0040 0000'), 'UDP 10.0.0.1:53 > 10.0.0.2:51000 len 56'],
  ['TCP', RAW, ip4('06', SYN), 'TCP 10.0.0.1:443 > 10.0.0.2:51000 [SYN] seq 1 win 64240 len 44'],
  ['first fragment', RAW, ip4('11', '0035 c738 0040 0000', '2000'), 'UDP 10.0.0.1:53 > 10.0.0.2:51000 len 56 first fragment'],
  ['later fragment', RAW, ip4('11', 'ffffffff', '00b9'), 'UDP 10.0.0.1 > 10.0.0.2 fragment at 1480'],
  ['GRE', RAW, ip4('2f', '00000800'), 'GRE 10.0.0.1 > 10.0.0.2'],
  ['unknown protocol', RAW, ip4('fd', ''), 'IP-protocol-253 10.0.0.1 > 10.0.0.2'],
  [
    'IPv6 TCP',
    RAW,
    ip6('06', '0014', SYN.replace('5002', '5012')),
    'TCP [fd00::1]:443 > [fd00::2]:51000 [SYN,ACK] seq 1 ack 0 win 64240 len 0',
  ],
  [
    'IPv6 with a header between',
    RAW,
    ip6('00', '0010', '3a00 000000000000 8000 0000 0007 0002'),
    'ICMPv6 fd00::1 > fd00::2 echo request id 7 seq 2',
  ],
  ['IPv6 fragment', RAW, ip6('2c', '0010', '1100 05a9 00000001'), 'UDP fd00::1 > fd00::2 fragment at 1448'],
  [
    'neighbour solicitation',
    RAW,
    ip6('3a', '0018', '8700 0000 00000000 fd000000000000000000000000000002'),
    'ICMPv6 fd00::1 > fd00::2 neighbour solicitation fd00::2',
  ],
  [
    'ARP',
    ETHERNET,
    `${MACS} 0806 0001 0800 06 04 0001 02000000000a 0a000001 000000000000 0a000002`,
    'ARP 02:00:00:00:00:0a > 02:00:00:00:00:0b who has 10.0.0.2, tell 10.0.0.1',
  ],
  [
    'ARP answer',
    ETHERNET,
    `${MACS} 0806 0001 0800 06 04 0002 02000000000a 0a000001 02000000000b 0a000002`,
    'ARP 02:00:00:00:00:0a > 02:00:00:00:00:0b 10.0.0.1 is at 02:00:00:00:00:0a',
  ],
  [
    'IPv4 in a VLAN',
    ETHERNET,
    `${MACS} 8100 0005 0800 ${ip4('01', '0000 0000 0007 0001')}`,
    'ICMP 10.0.0.1 > 10.0.0.2 vlan 5 echo reply id 7 seq 1',
  ],
  ['other', ETHERNET, `${MACS} 88cc 00`, '0x88cc 02:00:00:00:00:0a > 02:00:00:00:00:0b'],
  ['802.3', ETHERNET, `${MACS} 0026 42`, '802.3 02:00:00:00:00:0a > 02:00:00:00:00:0b'],
  ['nothing', RAW, '', 'unknown no IP header (version 0)'],
  ['cut in the IP header', RAW, '4500', 'unknown cut short'],
  ['cut in the TCP header', RAW, ip4('06', '01bb'), 'TCP 10.0.0.1 > 10.0.0.2 cut short'],
  ['cut in the Ethernet header', ETHERNET, '0200', 'unknown cut short'],
  ['cut in IPv4', ETHERNET, `${MACS} 0800 45`, 'IPv4 02:00:00:00:00:0a > 02:00:00:00:00:0b cut short'],
])('%s', (_, linkType, text, line) => {
  const bytes = hex(text);
  const packet: SeenPacket = { sequence: 1n, timeNs: 0n, direction: Direction.OUTBOUND, length: bytes.length, bytes, linkType };
  expect(packetLine(packet).replace(/^[\d:.]+ out \d+ /, '')).toBe(line);
});

test('never throws, whatever the bytes', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 120 }),
      fc.constantFrom(0x45, 0x60, 0x4f),
      fc.constantFrom(RAW, ETHERNET),
      (bytes, first, linkType) => {
        const frame = Buffer.from(bytes);
        if (frame.length > 0) frame[linkType === RAW ? 0 : Math.min(14, frame.length - 1)] = first;
        expect(summary(linkType, frame).protocol).not.toBe('');
      },
    ),
  );
});

test('frames of a batch get their number, time, direction and length', () => {
  const batch = PacketBatch.fromPartial({
    firstSequence: 41n,
    time: { seconds: 1_700_000_000n, nanos: 999_999_999 },
    frames: [
      { direction: Direction.INBOUND, data: hex('4500') },
      { direction: Direction.OUTBOUND, timeOffsetNs: 2n, originalLength: 84, data: hex('4500') },
    ],
  });
  const [first, second] = packetsOf(batch, RAW);
  expect(first).toMatchObject({ sequence: 41n, timeNs: 1_700_000_000_999_999_999n, length: 2 });
  expect(packetDocument(second as SeenPacket)).toEqual({
    sequence: '42',
    time: '2023-11-14T22:13:21.000000001Z',
    direction: 'out',
    length: 84,
    capturedLength: 2,
    protocol: 'unknown',
    source: '',
    destination: '',
    info: 'cut short',
    data: 'RQA=',
  });
  expect(packetLine(first as SeenPacket)).toMatch(/^\d\d:\d\d:20\.999999 in 2 unknown cut short$/);
});

test('times and dumps', () => {
  expect(isoTime(0n)).toBe('1970-01-01T00:00:00.000000000Z');
  expect(hexDump(Buffer.from('GET / HTTP/1.1\r\n\x00'))).toBe(
    '  0x0000:  4745 5420 2f20 4854 5450 2f31 2e31 0d0a  GET / HTTP/1.1..\n  0x0010:  00                                       .\n',
  );
});
