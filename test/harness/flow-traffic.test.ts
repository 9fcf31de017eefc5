// The traffic itself: how much of it there is, which way it goes, and that a scan repeats no flow.

import { describe, expect, it } from 'vitest';
import { slowChecksum } from '../packet/frames.ts';
import * as traffic from './flow-traffic.ts';
import { addressBytes, crc32c, TAP_WIRE, TUN_WIRE } from './frame-layers.ts';
import { synScan } from './syn-scan.ts';

const count = (sent: readonly traffic.Sent[], from: string) => sent.filter((each) => each.from === from).length;

describe('conversations', () => {
  it.each([4, 6] as const)('have as many packets each way as they say, of IPv%i', (version) => {
    const both = (sent: traffic.Sent[]) => [count(sent, 'inbound'), count(sent, 'outbound')];
    expect(both(traffic.ping(TUN_WIRE, version, { rounds: 3 }))).toEqual([3, 3]);
    expect(both(traffic.udpExchange(TUN_WIRE, version, { rounds: 5 }))).toEqual([5, 5]);
    expect(both(traffic.tcpSession(TUN_WIRE, version, { rounds: 4 }))).toEqual([8, 6]);
    expect(both(traffic.tcpSession(TUN_WIRE, version, { rounds: 4, opener: 'outbound' }))).toEqual([6, 8]);
    expect(both(traffic.tcpRefusal(TUN_WIRE, version))).toEqual([1, 1]);
    expect(both(traffic.unreachable(TUN_WIRE, version))).toEqual([1, 1]);
    expect(both(traffic.fragmented(TUN_WIRE, version))).toEqual([3, 3]);
    expect(both(traffic.gre(TUN_WIRE, version))).toEqual([1, 1]);
    expect(both(traffic.esp(TUN_WIRE, version))).toEqual([1, 1]);
    expect(both(traffic.sctpAssociation(TUN_WIRE, version))).toEqual([5, 4]);
  });

  it('open from the side that was asked for, and are the same but for that', () => {
    for (const wire of [TUN_WIRE, TAP_WIRE]) {
      const [one, two] = [traffic.everything(wire), traffic.everything(wire, 'outbound')];
      expect(one.map(({ kind }) => kind)).toEqual(two.map(({ kind }) => kind));
      expect(one.map(({ frame }) => frame.length)).toEqual(two.map(({ frame }) => frame.length));
      expect(count(one, 'inbound')).toBe(count(two, 'outbound'));
    }
  });

  it('a TUN carries IP only', () => {
    for (const make of [traffic.arp, traffic.neighbours, traffic.lldp, traffic.spanningTree])
      expect(() => make(TUN_WIRE)).toThrow('IP only');
    expect(traffic.everything(TUN_WIRE).every(({ community }) => community !== undefined)).toBe(true);
  });

  it('VLAN tags stand behind the addresses, the outer one of two as that of a provider', () => {
    const tags = (vlans: number[]) =>
      traffic
        .arp({ ...TAP_WIRE, ethernet: { ...TAP_WIRE.ethernet, vlans } })[0]
        ?.frame.subarray(12, 14 + vlans.length * 4)
        .toString('hex');
    expect(tags([])).toBe('0806');
    expect(tags([100])).toBe('810000640806');
    expect(tags([200, 100])).toBe('88a800c8810000640806');
  });
});

describe('a scan', () => {
  const flowOf = (frame: Buffer) => frame.readUInt32BE(12) * 65_536 + frame.readUInt16BE(20);

  it('repeats no flow, is the same for the same seed, and another for another', () => {
    const flows = (seed: number, most: number) => Array.from(synScan(most, seed), flowOf);
    const first = flows(1, 200_000);
    expect(new Set(first).size).toBe(200_000);
    expect(flows(1, 1000)).toEqual(first.slice(0, 1000));
    expect(flows(2, 1000)).not.toEqual(first.slice(0, 1000));
  });

  it('has one buffer with right checksums', () => {
    const seen = new Set<Buffer>();
    let wrong = 0;
    // Enough for sums that carry twice.
    for (const frame of synScan(200_000, 7)) {
      seen.add(frame);
      const pseudo = Buffer.concat([frame.subarray(12, 20), Buffer.from([0, 6, 0, 20]), frame.subarray(20)]);
      if (slowChecksum(frame.subarray(0, 20)) !== 0 || slowChecksum(pseudo) !== 0) wrong++;
    }
    expect(wrong).toBe(0);
    expect(seen.size).toBe(1);
    const [tap] = synScan(1, 7, TAP_WIRE);
    expect(tap?.subarray(14)).toEqual([...synScan(1, 7)][0]);
  });

  it('refuses more flows than it can tell apart', () => {
    expect(() => [...synScan(2 ** 31 + 1, 1)]).toThrow(RangeError);
  });
});

it('addresses and the sum of SCTP are what they are known to be', () => {
  expect(addressBytes('2001:db8::1').toString('hex')).toBe('20010db8000000000000000000000001');
  expect(addressBytes('::').toString('hex')).toBe('0'.repeat(32));
  expect(addressBytes('1:2:3:4:5:6:7:8').toString('hex')).toBe('00010002000300040005000600070008');
  // RFC 3720, appendix B.4, and the check value of every table of CRCs.
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
});
