// Fragments of IPv4 packets that are larger than the path takes: put together again they are the packet, however often it was fragmented.

import { describe, expect, it } from 'vitest';
import { GSO_NONE, GSO_UDP_L4, NEEDS_CHECKSUM, plainVnetHeader } from '../../src/packet/vnet-header.ts';
import { random } from '../harness/random.ts';
import { l4ChecksumError, slowChecksum, udpPacket } from './frames.ts';
import { bytesOf, type CutOptions, cutAll, ETHERNET4, fixIpv4, wholeUdp } from './wire.ts';

const MORE = 0x2000;
const OFFSET = 0x1fff;

/** A packet of UDP whose header has these options. */
function withOptions(packet: Buffer, options: Buffer): Buffer {
  const longer = Buffer.concat([packet.subarray(0, 20), options, packet.subarray(20)]);
  longer[0] = 0x40 | (5 + options.length / 4);
  longer.writeUInt16BE(longer.length, 2);
  return sealed(longer);
}

function sealed(packet: Buffer): Buffer {
  packet.writeUInt16BE(0, 10);
  packet.writeUInt16BE(slowChecksum(packet.subarray(0, ((packet[0] as number) & 15) * 4)), 10);
  return packet;
}

function fragmentsOf(packet: Buffer, most: number, header = plainVnetHeader()): Buffer[] {
  const all = cutAll(packet, header, { most });
  if (typeof all === 'string') throw new Error(all);
  return all;
}

/** The packet that fragments in any order are of (RFC 791, section 3.2), with the header of the first. */
function reassembled(fragments: readonly Buffer[]): Buffer {
  const parts = fragments
    .map((packet) => {
      const headerBytes = ((packet[0] as number) & 15) * 4;
      const field = packet.readUInt16BE(6);
      expect(slowChecksum(packet.subarray(0, headerBytes))).toBe(0);
      expect(packet.readUInt16BE(2)).toBe(packet.length);
      return { packet, headerBytes, at: (field & OFFSET) * 8, isLast: (field & MORE) === 0, payload: packet.subarray(headerBytes) };
    })
    .sort((a, b) => a.at - b.at);
  let end = 0;
  for (const { at, payload } of parts) {
    expect(at).toBe(end);
    end += payload.length;
  }
  expect(parts.map(({ isLast }) => isLast)).toEqual(parts.map((_, index) => index === parts.length - 1));
  const { packet, headerBytes } = parts[0] as (typeof parts)[number];
  const whole = Buffer.concat([packet.subarray(0, headerBytes), ...parts.map(({ payload }) => payload)]);
  whole.writeUInt16BE(whole.length, 2);
  whole.writeUInt16BE(packet.readUInt16BE(6) & ~MORE, 6);
  return sealed(whole);
}

it('are the packet again, of whatever size it is and the path takes', () => {
  const dice = random('fragments');
  for (let round = 0; round < 300; round++) {
    const packet = wholeUdp(4, bytesOf(dice.integer(1, 9000), round));
    const most = dice.integer(28, packet.length - 1);
    const all = fragmentsOf(packet, most);
    expect(Math.max(...all.map(({ length }) => length))).toBeLessThanOrEqual(most);
    expect(all).toHaveLength(Math.ceil((packet.length - 20) / ((most - 20) & ~7)));
    expect(reassembled(all)).toEqual(packet);
  }
});

it('are fragmented again where a path takes less still', () => {
  const packet = wholeUdp(4, bytesOf(5000));
  const twice = fragmentsOf(packet, 1400).flatMap((one) => (one.length > 600 ? fragmentsOf(one, 600) : [one]));
  expect(twice.length).toBeGreaterThan(8);
  expect(reassembled(twice.reverse())).toEqual(packet);
});

it('have the checksum that was left to hardware, over all of the packet', () => {
  for (const bytes of [1500, 1501]) {
    const all = fragmentsOf(udpPacket(4, bytesOf(bytes)), 600, {
      ...plainVnetHeader(),
      flags: NEEDS_CHECKSUM,
      gsoType: GSO_NONE,
      checksumStart: 20,
      checksumOffset: 6,
    });
    expect(all.length).toBeGreaterThan(2);
    expect(l4ChecksumError(reassembled(all), 17, 20)).toBe(0);
  }
});

it('have of the options what each must have', () => {
  // Record route (7) for the first only; NOP; router alert (148) for all.
  const options = Buffer.from('0707040000000001940400000000000000000000', 'hex').subarray(0, 16);
  const packet = withOptions(wholeUdp(4, bytesOf(1000)), options);
  const all = fragmentsOf(packet, 500);
  expect(all.map((one) => one.subarray(20, 36).toString('hex'))).toEqual([
    options.toString('hex'),
    ...Array<string>(all.length - 1).fill('0101010101010101940400000000000000000000'.slice(0, 32)),
  ]);
  expect(reassembled(all)).toEqual(packet);
});

describe('there are none', () => {
  const large = () => wholeUdp(4, bytesOf(1000));

  const cases: [string, () => [Buffer, CutOptions]][] = [
    ['of what must not be fragmented', () => [edited(large(), 6, 0x4000), {}]],
    ['of IPv6', () => [wholeUdp(6, bytesOf(1000)), {}]],
    ['on a bridge', () => [Buffer.concat([ETHERNET4, large()]), { ethernet: true }]],
    ['where not even 8 bytes fit', () => [large(), { most: 27 }]],
    ['that would lie beyond the end of any packet', () => [edited(large(), 6, OFFSET - 100), {}]],
    ['of a header that is wrong', () => [edited(large(), 6, 0, false), {}]],
  ];

  it.each(cases)('%s', (_, make) => {
    const [packet, options] = make();
    expect(cutAll(packet, plainVnetHeader(), { most: 600, ...options })).toBe('too-big');
  });

  it('whose checksum would not be where it is looked for', () => {
    for (const [checksumStart, checksumOffset] of [
      [0, 6],
      [20, 590],
      [20, 5000],
    ] as const) {
      const header = { ...plainVnetHeader(), flags: NEEDS_CHECKSUM, checksumStart, checksumOffset };
      expect(cutAll(large(), header, { most: 600 })).toBe('too-big');
    }
  });
});

function edited(packet: Buffer, at: number, value: number, isRight = true): Buffer {
  packet.writeUInt16BE(value, at);
  if (isRight) return fixIpv4(packet);
  packet[10] = (packet[10] as number) ^ 1;
  return packet;
}

it('are of each datagram of a super-frame of UDP that is larger than the path takes', () => {
  const dice = random('super-frames');
  for (let round = 0; round < 100; round++) {
    const gsoSize = dice.integer(100, 3000);
    const payload = bytesOf(dice.integer(gsoSize, 20_000), round);
    const vnet = { ...plainVnetHeader(), flags: NEEDS_CHECKSUM, gsoType: GSO_UDP_L4, gsoSize, checksumStart: 20, checksumOffset: 6 };
    const frame = udpPacket(4, payload);
    const most = dice.integer(68, 28 + gsoSize - 1);
    const groups = new Map<number, Buffer[]>();
    for (const one of fragmentsOf(frame, most, vnet)) {
      expect(one.length).toBeLessThanOrEqual(most);
      const id = one.readUInt16BE(4);
      groups.set(id, [...(groups.get(id) ?? []), one]);
    }
    const expected = fragmentsOf(frame, 65_535, vnet);
    expect([...groups.values()].map(reassembled), `round ${round}`).toEqual(expected.map(sealed));
    // A bridge does not fragment, and nobody does what is not to be.
    expect(cutAll(Buffer.concat([ETHERNET4, frame]), { ...vnet, checksumStart: 34 }, { most, ethernet: true })).toBe('too-big');
    frame[6] = 0x40;
    expect(cutAll(fixIpv4(frame), vnet, { most })).toBe('too-big');
  }
});
