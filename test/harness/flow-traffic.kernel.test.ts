// The traffic as Debian's tshark reads it: whole, with right checksums, and with the Community IDs that it says it has.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { CommunityId } from '../../src/packet/community-id.ts';
import {
  interfaceDescription,
  LINKTYPE_ETHERNET,
  LINKTYPE_RAW,
  packetBlockBytes,
  sectionHeader,
  writePacket,
} from '../../src/packet/pcapng.ts';
import { everything, type Sent } from './flow-traffic.ts';
import { TAP_WIRE, TUN_WIRE, VLAN_WIRE, type Wire } from './frame-layers.ts';
import { seed } from './random.ts';
import { synScan } from './syn-scan.ts';

const folder = mkdtempSync(join(tmpdir(), 'tpl-traffic-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const CHECKS = ['ip.check_checksum:TRUE', 'tcp.check_checksum:TRUE', 'udp.check_checksum:TRUE', 'sctp.checksum:CRC 32c'];
/** 0 is bad, 1 good, 2 not looked at. */
const STATUS = ['ip', 'tcp', 'udp', 'icmp', 'icmpv6', 'sctp'].map((name) => `${name}.checksum.status`);
const FIELDS = ['_ws.malformed', '_ws.expert.message', 'frame.protocols', 'communityid', ...STATUS];

interface Row {
  malformed: string;
  remarks: string[];
  protocols: string;
  community: string;
  /** By protocol of `STATUS`; empty where there is none. */
  status: string[];
}

function tshark(wire: Wire, frames: readonly Buffer[]): Row[] {
  const file = join(folder, 'traffic.pcapng');
  const blocks = frames.map((bytes, index) => {
    const block = Buffer.alloc(packetBlockBytes(bytes.length));
    writePacket(block, 0, 0, 1_790_000_000_000_000_000n + BigInt(index) * 1000n, bytes, 0, bytes.length, bytes.length, 'unknown');
    return block;
  });
  const linkType = wire.ethernet === undefined ? LINKTYPE_RAW : LINKTYPE_ETHERNET;
  writeFileSync(file, Buffer.concat([sectionHeader(), interfaceDescription({ name: 'x', linkType, snapLength: 0 }), ...blocks]));
  const how = CHECKS.flatMap((option) => ['-o', option]);
  const fields = FIELDS.flatMap((field) => ['-e', field]);
  const shape = ['-T', 'fields', '-E', 'occurrence=a', '-E', 'separator=|', '-E', 'aggregator=;'];
  const result = spawnSync('tshark', ['-r', file, '--enable-protocol', 'communityid', ...how, ...shape, ...fields], { encoding: 'utf8' });
  if (result.error) throw result.error;
  expect(result.stderr).not.toContain(folder);
  expect(result.status).toBe(0);
  return result.stdout
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => {
      const [malformed = '', remarks = '', protocols = '', community = '', ...status] = line.split('|');
      return { malformed, remarks: remarks.split(';'), protocols, community, status };
    });
}

const WIRES: [string, Wire][] = [
  ['TUN', TUN_WIRE],
  ['TAP', TAP_WIRE],
  ['TAP with two VLAN tags', VLAN_WIRE],
];

/** What tshark remarks upon: that connections begin and end. */
const REMARKS = /^(Connection (establish|finish|reset) .*|This frame (initiates|undergoes) the connection closing|)$/;
/** By protocol, whose checksum has to be right; by kind, what a frame without IP is to tshark. */
const CHECKED: Record<number, string> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6', 132: 'sctp' };
const WITHOUT_IP: Record<string, RegExp> = { ARP: /:arp$/, LLDP: /:lldp$/, '802.3': /:llc:stp$/ };

/** Protocols whose checksums tshark must find right. */
function checkedIn({ kind, community, fragment }: Sent, whole: boolean): string[] {
  if (community === undefined) return [];
  const below = kind.endsWith('IPv4') ? ['ip'] : [];
  const name = CHECKED[community.protocol];
  return name === undefined || (fragment !== undefined && !whole) ? below : [...below, name];
}

describe.each(WIRES)('everything on a %s', (_, wire) => {
  it.each(['inbound', 'outbound'] as const)('is whole and right, opened %s', (opener) => {
    const sent = everything(wire, opener);
    const rows = tshark(
      wire,
      sent.map(({ frame }) => frame),
    );
    expect(rows).toHaveLength(sent.length);
    const ids = new CommunityId();
    let named = 0;
    for (const [index, each] of sent.entries()) {
      const { malformed, remarks, protocols, community, status } = rows[index] as Row;
      const next = sent[index + 1];
      // tshark reassembles the datagram in its last fragment, and tells of it there.
      const whole = each.fragment === undefined || next?.fragment !== 'later';
      const right = STATUS.filter((__, at) => status[at] !== '').map((name) => name.split('.')[0]);
      expect([each.kind, malformed]).toEqual([each.kind, '']);
      for (const remark of remarks) expect(remark).toMatch(REMARKS);
      // 1 is right, and an ICMP error quotes another packet.
      expect([each.kind, status.filter((one) => !/^(1(;1)*)?$/.test(one))]).toEqual([each.kind, []]);
      expect([each.kind, right]).toEqual([each.kind, expect.arrayContaining(checkedIn(each, whole))]);
      if (each.community === undefined) {
        expect([each.kind, protocols]).toEqual([each.kind, expect.stringMatching(WITHOUT_IP[each.kind] ?? /^$/)]);
        expect(community).toBe('');
        continue;
      }
      const { addresses, protocol, sourcePort, destinationPort } = each.community;
      const size = (addresses.length / 2) as 4 | 16;
      const id = ids.hash(addresses, 0, size, size, protocol, sourcePort, destinationPort);
      // It has no ID for protocols without ports in IPv6.
      if (!whole || (size === 16 && sourcePort < 0)) continue;
      expect([each.kind, community]).toEqual([each.kind, id]);
      named++;
    }
    console.log(`${sent.length} frames, ${named} with a Community ID that tshark gives too`);
    expect(named).toBeGreaterThan(100);
  });
});

it('a scan is of SYN packets with right checksums', () => {
  const frames = Array.from(synScan(500, seed, TAP_WIRE), (frame) => Buffer.from(frame));
  const rows = tshark(TAP_WIRE, frames);
  expect(new Set(rows.map(({ community }) => community)).size).toBe(500);
  for (const { malformed, remarks, status } of rows) {
    expect(malformed).toBe('');
    for (const remark of remarks) expect(remark).toMatch(/^Connection establish request \(SYN\)/);
    expect(status).toEqual(['1', '1', '', '', '', '']);
  }
});

it('tshark does find what is wrong', () => {
  const sent = everything(TUN_WIRE).map(({ frame, ...rest }) => ({ ...rest, frame: Buffer.from(frame) }));
  // The last byte of each is under some checksum, of all that have one.
  const damaged = sent.filter(({ community, fragment }) => fragment === undefined && CHECKED[community?.protocol ?? 0] !== undefined);
  for (const { frame } of damaged) frame[frame.length - 1] = (frame.at(-1) as number) ^ 1;
  const rows = tshark(
    TUN_WIRE,
    damaged.map(({ frame }) => frame),
  );
  expect(rows.filter(({ status }) => !status.some((one) => /^0/.test(one)))).toEqual([]);
});
