// Super-frames cut for a sink: as `segment.ts` cuts them, and smaller where the path takes less.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cut } from '../../src/packet/cut.ts';
import { segment } from '../../src/packet/segment.ts';
import {
  GSO_ECN,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP_L4,
  NEEDS_CHECKSUM,
  plainVnetHeader,
  type VnetHeader,
} from '../../src/packet/vnet-header.ts';
import { random } from '../harness/random.ts';
import { l4ChecksumError, tcpPacket, udpPacket } from './frames.ts';
import { bytesOf, type CutOptions, cutAll, ETHERNET4, ETHERNET6, fixIpv4, wholeTcp, wholeUdp } from './wire.ts';

function header(gsoType: number, gsoSize: number, checksumStart: number, checksumOffset: number): VnetHeader {
  return { flags: NEEDS_CHECKSUM, gsoType, headerLength: 0, gsoSize, checksumStart, checksumOffset };
}

function pieces(frame: Buffer, vnet: VnetHeader, options: CutOptions = {}): Buffer[] {
  const all = cutAll(frame, vnet, options);
  if (typeof all === 'string') throw new Error(all);
  return all;
}

/** Sets DF, where there is one. */
function notToFragment(packet: Buffer): Buffer {
  if ((packet[0] as number) >> 4 !== 4) return packet;
  packet[6] = 0x40;
  return fixIpv4(packet);
}

const l3Of = (version: 4 | 6) => (version === 4 ? 20 : 40);
const tcpType = (version: 4 | 6) => (version === 4 ? GSO_TCPV4 : GSO_TCPV6);

describe('TCP', () => {
  it.each([4, 6] as const)('over IPv%i comes out whole, in order, no piece larger than the path takes, wherever it lies', (version) => {
    const link = version === 4 ? ETHERNET4 : ETHERNET6;
    fc.assert(
      fc.property(
        fc.record({
          size: fc.integer({ min: 0, max: 20_000 }),
          gsoSize: fc.integer({ min: 50, max: 9000 }),
          most: fc.integer({ min: 200, max: 9000 }),
          words: fc.nat(10),
          tags: fc.nat(2),
          ethernet: fc.boolean(),
          gap: fc.integer({ min: 1, max: 5 }),
          offset: fc.nat(5),
        }),
        ({ size, gsoSize, most, words, tags, ethernet, gap, offset }) => {
          const payload = bytesOf(size);
          const options = Buffer.alloc(words * 4, 1);
          const packet = tcpPacket({ version, payload, sequence: 0xffff_fff0, flags: 0x99, options, identification: 0xffff });
          const tag = Buffer.from('81000007', 'hex');
          const before = !ethernet ? Buffer.alloc(0) : Buffer.concat([link.subarray(0, 12), ...Array(tags).fill(tag), link.subarray(12)]);
          const l3 = l3Of(version);
          const vnet = header(tcpType(version) | GSO_ECN, gsoSize, before.length + l3, 16);
          const all = pieces(Buffer.concat([before, packet]), vnet, { ethernet, most, gap, offset });
          const step = Math.min(gsoSize, most - l3 - 20 - options.length);
          expect(all).toHaveLength(Math.max(1, Math.ceil(size / step)));
          all.forEach((piece, index) => {
            const last = index === all.length - 1;
            const shape = {
              version,
              payload: payload.subarray(index * step, (index + 1) * step),
              sequence: (0xffff_fff0 + index * step) >>> 0,
              flags: 0x10 | (last ? 0x09 : 0) | (index === 0 ? 0x80 : 0),
              options,
              identification: (0xffff + index) & 0xffff,
            };
            if (!piece.equals(Buffer.concat([before, wholeTcp(shape)]))) expect(piece).toEqual(Buffer.concat([before, wholeTcp(shape)]));
          });
        },
      ),
      { numRuns: 100 },
    );
  });

  it.each([4, 6] as const)('of one packet over IPv%i is cut too where the path takes less, unless that would show', (version) => {
    const l3 = l3Of(version);
    const payload = bytesOf(1400);
    for (const partial of [true, false]) {
      const vnet = partial ? header(GSO_NONE, 0, l3, 16) : plainVnetHeader();
      const make = partial ? tcpPacket : wholeTcp;
      const all = pieces(make({ version, payload, flags: 0x18 }), vnet, { most: 600 });
      const step = 600 - l3 - 20;
      expect(all.map((piece) => piece.length - l3 - 20)).toEqual([step, step, 1400 - 2 * step]);
      expect(Buffer.concat(all.map((piece) => piece.subarray(l3 + 20)))).toEqual(payload);
      for (const piece of all) expect(l4ChecksumError(piece, 6, l3)).toBe(0);
      // SYN, RST, URG.
      for (const flags of [0x02, 0x14, 0x30])
        expect(cutAll(notToFragment(make({ version, payload, flags })), vnet, { most: 600 })).toBe('too-big');
    }
    const wrong = notToFragment(wholeTcp({ version, payload }));
    wrong[wrong.length - 1] = (wrong.at(-1) as number) ^ 1;
    expect(cutAll(wrong, plainVnetHeader(), { most: 600 })).toBe('too-big');
    expect(cutAll(wrong, plainVnetHeader())).toEqual([wrong]);
  });

  it('without room for any payload is too big', () => {
    for (const most of [0, 20, 39, 40])
      expect(cutAll(tcpPacket({ version: 4, payload: Buffer.alloc(100) }), header(GSO_TCPV4, 50, 20, 16), { most })).toBe('too-big');
    expect(pieces(tcpPacket({ version: 4, payload: Buffer.alloc(3) }), header(GSO_TCPV4, 50, 20, 16), { most: 41 })).toHaveLength(3);
    expect(pieces(tcpPacket({ version: 4, payload: Buffer.alloc(0) }), header(GSO_TCPV4, 50, 20, 16), { most: 40 })).toHaveLength(1);
  });

  it('is given up when there is no more room', () => {
    const vnet = header(GSO_TCPV4, 1000, 20, 16);
    const frame = tcpPacket({ version: 4, payload: Buffer.alloc(5000) });
    for (const room of [0, 1, 3]) expect(pieces(frame, vnet, { room })).toHaveLength(room);
    expect(pieces(wholeUdp(4, Buffer.alloc(9)), plainVnetHeader(), { room: 0 })).toHaveLength(0);
  });
});

describe('UDP', () => {
  it.each([4, 6] as const)('over IPv%i is cut into datagrams, or is too big', (version) => {
    const l3 = l3Of(version);
    const payload = bytesOf(5000);
    const vnet = header(GSO_UDP_L4, 1400, l3, 6);
    const all = pieces(udpPacket(version, payload), vnet, { most: 1400 + l3 + 8 });
    expect(all.map((piece) => piece.length - l3 - 8)).toEqual([1400, 1400, 1400, 800]);
    for (const piece of all) {
      expect(l4ChecksumError(piece, 17, l3)).toBe(0);
      expect(piece.readUInt16BE(l3 + 4)).toBe(piece.length - l3);
    }
    expect(Buffer.concat(all.map((piece) => piece.subarray(l3 + 8)))).toEqual(payload);
    expect(cutAll(notToFragment(udpPacket(version, payload)), vnet, { most: 1400 + l3 + 7 })).toBe('too-big');
    expect(cutAll(notToFragment(udpPacket(version, Buffer.alloc(1000))), vnet, { most: 1000 + l3 + 7 })).toBe('too-big');
    expect(cutAll(notToFragment(wholeUdp(version, payload)), plainVnetHeader(), { most: 1400 })).toBe('too-big');
  });
});

describe('MSS of SYN', () => {
  const cases = [
    { name: 'first', options: '020405b4', lead: 0 },
    { name: 'after NOPs, at an odd place', options: '01020405b4010101', lead: 1 },
    { name: 'after other options', options: '0402080a0000000100000000020405b4', lead: 12 },
  ];
  it.each(cases)('$name is brought down to what the path takes', ({ options, lead }) => {
    for (const version of [4, 6] as const)
      for (const flags of [0x02, 0x12])
        for (const partial of [false, true])
          for (const ethernet of [false, true])
            for (const most of [1280, 1400]) {
              const l3 = l3Of(version);
              const link = !ethernet ? Buffer.alloc(0) : version === 4 ? ETHERNET4 : ETHERNET6;
              const shape = { version, flags, payload: Buffer.alloc(0), options: Buffer.from(options, 'hex') };
              const frame = Buffer.concat([link, partial ? tcpPacket(shape) : wholeTcp(shape)]);
              const vnet = partial ? header(GSO_NONE, 0, link.length + l3, 16) : plainVnetHeader();
              const [piece] = pieces(frame, vnet, { ethernet, most }) as [Buffer];
              const ip = piece.subarray(link.length);
              expect(ip.readUInt16BE(l3 + 20 + lead + 2)).toBe(most - l3 - 20);
              expect(l4ChecksumError(ip, 6, l3)).toBe(0);
              const same = Buffer.from(piece);
              frame.copy(same, link.length + l3 + 16, link.length + l3 + 16, link.length + l3 + 18);
              frame.copy(same, link.length + l3 + 20 + lead + 2, link.length + l3 + 20 + lead + 2, link.length + l3 + 24 + lead);
              expect(same).toEqual(frame);
            }
  });

  it('stays when it is lower, the packet is no SYN, a fragment, or the option is broken', () => {
    const syn = (options: string, flags = 0x02) =>
      wholeTcp({ version: 4, flags, payload: Buffer.alloc(0), options: Buffer.from(options, 'hex') });
    const fragment = syn('020405b4');
    fragment[6] = 0x20;
    const all = [
      syn('020404b0'),
      syn('020405b4', 0x10),
      fixIpv4(fragment),
      syn('00020405b4000000'),
      syn('020305b4'),
      syn('08000000020405b4'),
      syn('0801020405b40000'),
      syn('01010204'),
    ];
    for (const frame of all) expect(pieces(frame, plainVnetHeader(), { most: 1400 })).toEqual([frame]);
  });

  it('is found behind extension headers of IPv6', () => {
    const tcp = wholeTcp({ version: 6, flags: 0x02, payload: Buffer.alloc(0), options: Buffer.from('020405b4', 'hex') });
    const options = Buffer.from('0600010400000000', 'hex');
    const frame = Buffer.concat([tcp.subarray(0, 40), options, tcp.subarray(40)]);
    frame[6] = 60;
    frame.writeUInt16BE(frame.length - 40, 4);
    const [piece] = pieces(frame, plainVnetHeader(), { most: 1280 }) as [Buffer];
    expect(piece.readUInt16BE(40 + 8 + 22)).toBe(1220);
  });
});

it('a frame that is no super-frame goes as it is, with its checksum completed where asked', () => {
  const packet = tcpPacket({ version: 4, payload: Buffer.from('hello') });
  const [whole] = pieces(packet, header(GSO_NONE, 0, 20, 16)) as [Buffer];
  expect(l4ChecksumError(whole, 6, 20)).toBe(0);
  expect(pieces(packet, plainVnetHeader())).toEqual([packet]);
  expect(cutAll(packet, header(GSO_NONE, 0, 30, 16))).toBe('bad-header');
  expect(cutAll(Buffer.alloc(0), plainVnetHeader())).toBe('bad-header');
});

it('frames that are not IP go whole, up to the path and a link header', () => {
  const arp = Buffer.concat([Buffer.from('ffffffffffff0200000000010806', 'hex'), Buffer.alloc(46)]);
  expect(pieces(arp, plainVnetHeader(), { ethernet: true, most: 38 })).toEqual([arp]);
  expect(cutAll(arp, plainVnetHeader(), { ethernet: true, most: 37 })).toBe('too-big');
  // IPv4 by its type, not by its version.
  const odd = Buffer.concat([ETHERNET4, Buffer.alloc(46, 0x60)]);
  expect(pieces(odd, plainVnetHeader(), { ethernet: true, most: 1280 })).toEqual([odd]);
  expect(cutAll(arp.subarray(0, 13), plainVnetHeader(), { ethernet: true })).toBe('bad-header');
});

it('cuts as segment does', () => {
  const dice = random('both');
  for (let round = 0; round < 200; round++) {
    const version = dice.pick([4, 6] as const);
    const isTcp = dice.next() < 0.5;
    const payload = bytesOf(dice.integer(0, 4000), round);
    const frame = isTcp ? tcpPacket({ version, payload, flags: 0x19 }) : udpPacket(version, payload);
    const vnet = header(isTcp ? tcpType(version) : GSO_UDP_L4, dice.integer(1, 1500), l3Of(version), isTcp ? 16 : 6);
    const theirs: Buffer[] = [];
    segment(Buffer.from(frame), 0, frame.length, vnet, false, Buffer.alloc(70_000), (bytes, start, length) =>
      theirs.push(Buffer.from(bytes.subarray(start, start + length))),
    );
    expect(pieces(frame, vnet)).toEqual(theirs);
  }
});

it('what a header claims is not believed: 100,000 of them, on whole and cut frames', () => {
  const dice = random('claims');
  const frames = [
    tcpPacket({ version: 4, payload: Buffer.alloc(3000) }),
    tcpPacket({ version: 6, payload: Buffer.alloc(3000) }),
    Buffer.concat([ETHERNET4, tcpPacket({ version: 4, payload: Buffer.alloc(300), flags: 2, options: Buffer.alloc(8, 2) })]),
    Buffer.concat([ETHERNET6, tcpPacket({ version: 6, payload: Buffer.alloc(300), flags: 2, options: Buffer.alloc(8, 2) })]),
    udpPacket(4, Buffer.alloc(100)),
    Buffer.alloc(0),
  ];
  const edge = Buffer.alloc(8, 0xbb);
  const sunk = Buffer.alloc(70_000, 0xbb);
  const counts = new Map<string, number>();
  for (let round = 0; round < 100_000; round++) {
    const whole = dice.pick(frames);
    const frame = Buffer.from(whole.subarray(0, dice.next() < 0.5 ? whole.length : dice.integer(0, whole.length)));
    if (frame.length > 0 && dice.next() < 0.5) frame[dice.integer(0, Math.min(80, frame.length) - 1)] = dice.integer(0, 255);
    const vnet: VnetHeader = {
      flags: dice.integer(0, 3),
      gsoType: dice.pick([0, 1, 3, 4, 5, 0x81, 0x84, dice.integer(0, 255)]),
      headerLength: dice.integer(0, 0xffff),
      gsoSize: dice.pick([0, 7, 1400, 0xffff]),
      checksumStart: dice.pick([20, 34, 40, 54, 0, 0xffff, dice.integer(0, 70)]),
      checksumOffset: dice.pick([16, 6, 0, 0xffff]),
    };
    const most = dice.pick([0, 68, 600, 1400, 65_535]);
    const ethernet = dice.next() < 0.5;
    const room = Buffer.concat([Buffer.alloc(8, 0xaa), frame, Buffer.alloc(8, 0xaa)]);
    const before = Buffer.from(room);
    const slot = { start: 8, bytes: 0 };
    const outcome = cut(room, 8, frame.length, vnet, ethernet, most, {
      buffer: sunk,
      place: (bytes) => {
        slot.bytes = bytes;
        if (slot.start + bytes + 8 > sunk.length) throw new Error(`asks for ${bytes} bytes`);
        sunk.fill(0xbb, slot.start + bytes, slot.start + bytes + 8);
        return slot.start;
      },
      put: (start, bytes) => {
        if (start !== slot.start || bytes !== slot.bytes) throw new Error('put what was not placed');
        if (bytes - (ethernet ? 22 : 0) > most) throw new Error(`put ${bytes} bytes`);
        if (!sunk.subarray(0, 8).equals(edge) || !sunk.subarray(start + bytes, start + bytes + 8).equals(edge))
          throw new Error('wrote beyond the piece');
      },
    });
    const kind = typeof outcome === 'string' ? outcome : 'cut';
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
    if (!room.equals(before)) throw new Error('changed the frame');
  }
  expect([...counts.keys()].sort()).toEqual(['bad-header', 'cut', 'too-big', 'unsupported']);
});
