// Our pcapng files as Debian's tshark and capinfos read them.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import {
  type CapturedInterface,
  interfaceDescription,
  interfaceStatistics,
  LINKTYPE_ETHERNET,
  LINKTYPE_RAW,
  type PacketDirection,
  packetBlockBytes,
  sectionHeader,
  writePacket,
} from '../../src/packet/pcapng.ts';
import { segment } from '../../src/packet/segment.ts';
import { GSO_TCPV4, GSO_TCPV6 } from '../../src/packet/vnet-header.ts';
import { tcpPacket, udpPacket } from './frames.ts';

const folder = mkdtempSync(join(tmpdir(), 'tpl-pcapng-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const START = 1_790_000_000_123_456_789n;

function packet(number: number, timeNs: bigint, bytes: Buffer, direction: PacketDirection, snapLength = 0): Buffer {
  const captured = snapLength === 0 ? bytes.length : Math.min(snapLength, bytes.length);
  const block = Buffer.alloc(packetBlockBytes(captured), 0xee);
  expect(writePacket(block, 0, number, timeNs, bytes, 0, captured, bytes.length, direction)).toBe(block.length);
  return block;
}

function run(tool: string, args: string[]): string {
  const result = spawnSync(tool, args, { encoding: 'utf8' });
  if (result.error) throw result.error;
  // tshark says on standard error that it should not be root; a complaint about the file would name it.
  expect(result.stderr).not.toContain(folder);
  expect(result.status).toBe(0);
  return result.stdout;
}

function complete(packets: Buffer, type: number, start: number): Buffer[] {
  const pieces: Buffer[] = [];
  const vnet = { flags: 1, gsoType: type, headerLength: 0, gsoSize: 1400, checksumStart: start, checksumOffset: 16 };
  segment(packets, 0, packets.length, vnet, false, Buffer.alloc(4000), (bytes, at, length) =>
    pieces.push(Buffer.from(bytes.subarray(at, at + length))),
  );
  return pieces;
}

it('a capture of two interfaces, v4 and v6, TUN and TAP, is read without complaint', () => {
  const tun: CapturedInterface = { name: 'tun0', linkType: LINKTYPE_RAW, snapLength: 0, description: 'a TUN', filter: 'tcp or udp' };
  const tap: CapturedInterface = { name: 'tap0', linkType: LINKTYPE_ETHERNET, snapLength: 60 };
  const v4 = complete(tcpPacket({ version: 4, payload: Buffer.alloc(3000, 'a') }), GSO_TCPV4, 20);
  const v6 = complete(tcpPacket({ version: 6, payload: Buffer.alloc(1500, 'b') }), GSO_TCPV6, 40);
  const ethernet = Buffer.concat([Buffer.from('0200000000020200000000010800', 'hex'), udpPacket(4, Buffer.alloc(200))]);
  const blocks = [
    sectionHeader({ hardware: 'x86-64', os: 'Linux 6', application: 'taplane' }),
    interfaceDescription(tun),
    interfaceDescription(tap),
    ...[...v4, ...v6].map((bytes, index) => packet(0, START + BigInt(index) * 1_000_001n, bytes, index % 2 === 0 ? 'inbound' : 'outbound')),
    packet(1, START + 9_000_000n, ethernet, 'unknown', 60),
    interfaceStatistics(0, { received: 100n, accepted: 12n, dropped: 7n, startNs: START, endNs: START + 10_000_000_000n }),
    interfaceStatistics(1, { received: 1n, dropped: 0n, startNs: START, endNs: START + 10_000_000_000n }),
  ];
  const file = join(folder, 'two.pcapng');
  writeFileSync(file, Buffer.concat(blocks));

  const fields = [
    'frame.interface_name',
    'frame.time_epoch',
    'frame.len',
    'frame.cap_len',
    'frame.packet_flags_direction',
    'ip.version',
    'ipv6.version',
    'tcp.checksum.status',
    'ip.checksum.status',
  ];
  const checks = ['-o', 'tcp.check_checksum:TRUE', '-o', 'ip.check_checksum:TRUE'];
  const rows = run('tshark', ['-r', file, ...checks, '-T', 'fields', ...fields.flatMap((field) => ['-e', field])])
    .trim()
    .split('\n');
  expect(rows.map((row) => row.split('\t'))).toEqual([
    ...v4.map((bytes, index) => [
      'tun0',
      `1790000000.${String(123_456_789 + index * 1_000_001)}`,
      String(bytes.length),
      String(bytes.length),
      index % 2 === 0 ? '0x00000001' : '0x00000002',
      '4',
      '',
      '1',
      '1',
    ]),
    ...v6.map((bytes, index) => {
      const at = index + v4.length;
      return [
        'tun0',
        `1790000000.${String(123_456_789 + at * 1_000_001)}`,
        String(bytes.length),
        String(bytes.length),
        at % 2 === 0 ? '0x00000001' : '0x00000002',
        // Wireshark shows the version of IPv6 under this name too.
        '6',
        '6',
        '1',
        '',
      ];
    }),
    ['tap0', '1790000000.132456789', '242', '60', '0x00000000', '4', '', '', '1'],
  ]);

  const about = run('capinfos', [file]);
  expect(about).toMatch(/File type:\s+Wireshark\/\.\.\. - pcapng/);
  expect(about).toMatch(/Number of packets:\s+6/);
  expect(about).toMatch(/Number of interfaces in file:\s+2/);
  expect(about).toMatch(/Capture application:\s+taplane/);
  expect(about).toMatch(
    /Interface #0 info:\s+Name = tun0[\s\S]*Description = a TUN[\s\S]*Capture length = 262144|Interface #0 info:\s+Name = tun0/,
  );
  expect(about).toContain('Filter string = tcp or udp');
  expect(about).toMatch(/Number of stat entries = 1/);
});

it('a file without packets, and a cut one, are what they are', () => {
  const file = join(folder, 'empty.pcapng');
  writeFileSync(file, Buffer.concat([sectionHeader(), interfaceDescription({ name: 'x', linkType: LINKTYPE_RAW, snapLength: 0 })]));
  expect(run('capinfos', ['-c', file])).toMatch(/Number of packets:\s+0/);
});
