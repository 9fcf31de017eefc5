// Frames coalesced: what may be joined is, what may not is not; cut again they are what they were.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { coalescer } from '../../src/packet/coalesce.ts';
import { GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CHECKSUM, plainVnetHeader } from '../../src/packet/vnet-header.ts';
import { type Random, random } from '../harness/random.ts';
import { slowChecksum } from './frames.ts';
import { bytesOf, coalesceAll, cutAll, type Edit, ETHERNET4, ETHERNET6, readSuper, type Super, wholeTcp, wholeUdp } from './wire.ts';

const l3Of = (version: 4 | 6) => (version === 4 ? 20 : 40);

/** Segments of one connection, as a host sends them. */
function stream(version: 4 | 6, sizes: number[], { sequence = 1, identification = 7, words = 3, pushed = false } = {}): Buffer[] {
  let at = sequence;
  return sizes.map((size, index) => {
    const payload = bytesOf(size, at);
    const flags = pushed && index === sizes.length - 1 ? 0x18 : 0x10;
    const frame = wholeTcp({
      version,
      payload,
      sequence: at,
      flags,
      options: Buffer.alloc(words * 4, 1),
      identification: (identification + index) & 0xffff,
    });
    at = (at + size) >>> 0;
    return frame;
  });
}

/** How many super-frames with so much room for payload these segments fill, one after another. */
function supersFor(sizes: readonly number[], room: number): number {
  let count = 0;
  let left = 0;
  for (const size of sizes) {
    if (size > left) {
      count++;
      left = room;
    }
    left -= size;
  }
  return count;
}

it.each([4, 6] as const)('TCP over IPv%i: what is coalesced and cut again is the same, byte for byte', (version) => {
  fc.assert(
    fc.property(
      fc.record({
        size: fc.integer({ min: 1, max: 1460 }),
        count: fc.integer({ min: 1, max: 60 }),
        last: fc.integer({ min: 1, max: 1460 }),
        pushed: fc.boolean(),
        ethernet: fc.boolean(),
        words: fc.nat(10),
        offset: fc.nat(5),
      }),
      ({ size, count, last, pushed, ethernet, words, offset }) => {
        const sizes = [...Array<number>(count).fill(size), Math.min(size, last)];
        const link = !ethernet ? Buffer.alloc(0) : version === 4 ? ETHERNET4 : ETHERNET6;
        const frames = stream(version, sizes, { sequence: 0xffff_ff00, identification: 0xfffe, words, pushed }).map((frame) =>
          Buffer.concat([link, frame]),
        );
        const supers = coalesceAll(frames, { ethernet, offset });
        expect(supers).toHaveLength(supersFor(sizes, 65_535 - l3Of(version) - 20 - words * 4));
        const [first] = supers;
        expect(first?.header).toEqual({
          flags: NEEDS_CHECKSUM,
          gsoType: version === 4 ? GSO_TCPV4 : GSO_TCPV6,
          headerLength: link.length + l3Of(version) + 20 + words * 4,
          gsoSize: size,
          checksumStart: link.length + l3Of(version),
          checksumOffset: 16,
        });
        const again = supers.flatMap(({ header, frame }) => cutAll(frame, header, { ethernet, offset: 5 - offset }) as Buffer[]);
        expect(again.length).toBe(frames.length);
        again.forEach((frame, index) => {
          if (!frame.equals(frames[index] as Buffer)) expect(frame).toEqual(frames[index]);
        });
      },
    ),
    { numRuns: 100 },
  );
});

it.each([4, 6] as const)('UDP over IPv%i: datagrams of one size become one, up to 64', (version) => {
  const frames = Array.from({ length: 70 }, (_, index) => {
    const payload = bytesOf(index === 69 ? 100 : 500, index);
    // Identifications stay the same, which only those that must not be fragmented may.
    return wholeUdp(version, payload, version === 4 ? (packet) => packet.writeUInt16BE(0x4000, 6) : undefined);
  });
  const supers = coalesceAll(frames);
  expect(supers.map(({ frame }) => frame.length - l3Of(version) - 8)).toEqual([64 * 500, 5 * 500 + 100]);
  expect(supers[0]?.header).toMatchObject({ flags: NEEDS_CHECKSUM, gsoType: GSO_UDP_L4, gsoSize: 500, checksumOffset: 6 });
  const again = supers.flatMap(({ header, frame }) => cutAll(frame, header) as Buffer[]);
  expect(again.map((frame) => frame.subarray(l3Of(version)))).toEqual(frames.map((frame) => frame.subarray(l3Of(version))));
});

it('what would be longer than an IP packet can be is not joined', () => {
  const large = stream(4, [32_748, 32_747, 100], { words: 0 });
  expect(coalesceAll(large).map(({ frame }) => frame.length)).toEqual([65_535, 140]);
  expect(coalesceAll(stream(4, [32_748, 32_748], { words: 0 })).map(({ frame }) => frame.length)).toEqual([32_788, 32_788]);
});

it('what would be longer than a device takes, on account of its VLAN tags, is not joined', () => {
  const tag = Buffer.of(0x81, 0, 0, 5);
  const large = stream(4, [32_748, 32_747], { words: 0 });
  for (const tags of [0, 1, 2]) {
    const link = Buffer.concat([ETHERNET4.subarray(0, 12), ...Array<Buffer>(tags).fill(tag), ETHERNET4.subarray(12)]);
    const lengths = coalesceAll(
      large.map((frame) => Buffer.concat([link, frame])),
      { ethernet: true },
    ).map(({ frame }) => frame.length);
    expect(lengths).toEqual(tags === 0 ? [14 + 65_535] : large.map((frame) => link.length + frame.length));
  }
});

it('one frame alone goes as it came, behind an empty header', () => {
  for (const frame of [...stream(4, [1000]), ...stream(6, [1000]), wholeUdp(4, Buffer.alloc(9)), wholeUdp(6, Buffer.alloc(9))])
    expect(coalesceAll([frame])).toEqual([{ header: plainVnetHeader(), frame }]);
});

it('without offload every frame goes as it came', () => {
  const frames = stream(4, [1000, 1000, 1000]);
  expect(coalesceAll(frames, { offload: false })).toEqual(frames.map((frame) => ({ header: plainVnetHeader(), frame })));
});

interface Pair {
  /** Whether the second may follow the first. */
  joined: boolean;
  tcp?: Edit;
  udp?: Edit;
  /** Of the second; the first has 500 bytes. */
  size?: number;
  flags?: number;
  version?: 4 | 6;
  /** After its checksums were made. */
  after?: Edit;
}

const flip =
  (at: number): Edit =>
  (packet) => {
    packet[at] = (packet[at] as number) ^ 1;
  };
const flipL4 =
  (at: number): Edit =>
  (packet, l4) => {
    packet[l4 + at] = (packet[l4 + at] as number) ^ 1;
  };

/** A second frame that is as it should be but for one thing. */
const pairs: Record<string, Pair> = {
  'nothing else': { joined: true },
  'PSH at its end': { joined: true, flags: 0x18 },
  'a shorter payload': { joined: true, size: 1 },
  'a longer payload': { joined: false, size: 501 },
  'no payload': { joined: false, size: 0 },
  'a gap before it': { joined: false, tcp: flipL4(6) },
  'another acknowledgement': { joined: false, tcp: flipL4(11) },
  'another window': { joined: false, tcp: flipL4(15) },
  'an urgent pointer': { joined: false, tcp: flipL4(19) },
  'other options': { joined: false, tcp: flipL4(25) },
  'reserved bits': { joined: false, tcp: flipL4(12) },
  'another source port': { joined: false, tcp: flipL4(1), udp: flipL4(1) },
  'another destination port': { joined: false, tcp: flipL4(3), udp: flipL4(3) },
  'another source': { joined: false, tcp: flip(15), udp: flip(15) },
  'another destination': { joined: false, tcp: flip(19), udp: flip(19) },
  'another source in IPv6': { joined: false, version: 6, tcp: flip(8), udp: flip(23) },
  'another destination in IPv6': { joined: false, version: 6, tcp: flip(24), udp: flip(39) },
  'another type of service': { joined: false, tcp: flip(1), udp: flip(1) },
  'another TTL': { joined: false, tcp: flip(8), udp: flip(8) },
  'another identification': { joined: false, tcp: flip(4), udp: flip(4) },
  'another flow label': { joined: false, version: 6, tcp: flip(3), udp: flip(3) },
  'another hop limit': { joined: false, version: 6, tcp: flip(7), udp: flip(7) },
  DF: { joined: false, tcp: (packet) => packet.writeUInt16BE(0x4000, 6), udp: (packet) => packet.writeUInt16BE(0x4000, 6) },
  'more fragments to come': {
    joined: false,
    tcp: (packet) => packet.writeUInt16BE(0x2000, 6),
    udp: (packet) => packet.writeUInt16BE(0x2000, 6),
  },
  'a reserved bit of IPv4': {
    joined: false,
    tcp: (packet) => packet.writeUInt16BE(0x8000, 6),
    udp: (packet) => packet.writeUInt16BE(0x8000, 6),
  },
  ...Object.fromEntries(
    [0x11, 0x12, 0x14, 0x30, 0x50, 0x90, 0x00, 0x08].map((flags) => [`flags ${flags.toString(16)}`, { joined: false, flags }]),
  ),
  'a wrong byte of its payload': { joined: false, after: (packet) => flip(packet.length - 1)(packet, 0) },
  'a wrong IPv4 checksum': { joined: false, after: flip(10) },
  'a wrong transport checksum': { joined: false, after: flipL4(6) },
};

describe.each(Object.entries(pairs))('what comes next has %s', (_name, { joined, tcp, udp, size = 500, flags, version, after }) => {
  const onlyTcp = flags !== undefined || (tcp !== undefined && udp === undefined);
  for (const protocol of onlyTcp ? ['TCP'] : ['TCP', 'UDP'])
    for (const family of version ? [version] : tcp || after ? ([4] as const) : ([4, 6] as const))
      it(`${protocol} over IPv${family}`, () => {
        const make = (payload: Buffer, index: number, edit?: Edit) => {
          const identification: Edit = (packet, l4) => {
            if (family === 4) packet.writeUInt16BE(20 + index, 4);
            edit?.(packet, l4);
          };
          if (protocol === 'UDP') return wholeUdp(family, payload, identification);
          const shape = { version: family, payload, sequence: 1 + index * 500, flags: index === 1 ? (flags ?? 0x10) : 0x10 };
          return wholeTcp({ ...shape, options: Buffer.from('0101080a0000000100000002', 'hex') }, identification);
        };
        const first = make(Buffer.alloc(500, 1), 0);
        const second = make(Buffer.alloc(size, 2), 1, protocol === 'TCP' ? tcp : udp);
        after?.(second, family === 4 ? 20 : 40);
        const supers = coalesceAll([first, second]);
        if (joined) expect(supers.map(({ header }) => header.gsoSize)).toEqual([500]);
        else expect(supers).toEqual([first, second].map((frame) => ({ header: plainVnetHeader(), frame })));
      });
});

it('UDP without a checksum, with a wrong length, IP options, extension headers and padding are not joined', () => {
  const udp = wholeUdp(4, Buffer.alloc(100), (packet) => packet.writeUInt16BE(0x4000, 6));
  // So that 0 would be right, were it a checksum.
  const rest = wholeUdp(4, Buffer.alloc(100)).readUInt16BE(26);
  const none = wholeUdp(4, Buffer.concat([Buffer.alloc(98), Buffer.from([rest >> 8, rest])]), (packet) => packet.writeUInt16BE(0x4000, 6));
  expect(none.readUInt16BE(26)).toBe(0xffff);
  none.writeUInt16BE(0, 26);
  const long = wholeUdp(4, Buffer.alloc(100), (packet) => packet.writeUInt16BE(107, 24));
  const tcp6 = wholeTcp({ version: 6, payload: Buffer.alloc(100) });
  const extended = Buffer.concat([tcp6.subarray(0, 40), Buffer.from('0600010400000000', 'hex'), tcp6.subarray(40)]);
  extended[6] = 0;
  extended.writeUInt16BE(extended.length - 40, 4);
  const tcp4 = wholeTcp({ version: 4, payload: Buffer.alloc(100) });
  const optional = Buffer.concat([tcp4.subarray(0, 20), Buffer.alloc(4, 1), tcp4.subarray(20)]);
  optional[0] = 0x46;
  optional.writeUInt16BE(optional.length, 2);
  optional.writeUInt16BE(0, 10);
  optional.writeUInt16BE(slowChecksum(optional.subarray(0, 24)), 10);
  const padded = Buffer.concat([udp, Buffer.alloc(6)]);
  for (const frame of [none, long, extended, optional, padded])
    expect(coalesceAll([frame, frame, frame])).toEqual([1, 2, 3].map(() => ({ header: plainVnetHeader(), frame })));
});

it('frames of many flows keep their order in each, whatever is among them', () => {
  const dice = random('flows');
  let joined = 0;
  for (let round = 0; round < 40; round++) {
    const ethernet = dice.next() < 0.5;
    const frames = traffic(dice, 200).map(({ version, packet }) =>
      ethernet ? Buffer.concat([version === 4 ? ETHERNET4 : ETHERNET6, packet]) : packet,
    );
    const supers = coalesceAll(frames, { ethernet });
    const again = supers.flatMap(({ header, frame }) => {
      expect(frame.length).toBeLessThanOrEqual(65_535 + 14);
      if (header.gsoType !== GSO_NONE) joined++;
      return cutAll(frame, header, { ethernet }) as Buffer[];
    });
    expect(again).toHaveLength(frames.length);
    const l3 = ethernet ? 14 : 0;
    const before = Map.groupBy(frames, (frame) => flowOf(frame.subarray(l3)));
    const after = Map.groupBy(again, (frame) => flowOf(frame.subarray(l3)));
    for (const [flow, sent] of before) {
      const got = after.get(flow) ?? [];
      const at = sent.findIndex((frame, index) => !got[index]?.equals(frame));
      if (at >= 0)
        throw new Error(`round ${round}: ${flow}: frame ${at} differs:\n${sent[at]?.toString('hex')}\n${got[at]?.toString('hex')}`);
    }
  }
  expect(joined).toBeGreaterThan(300);
});

/** Addresses, ports and protocol of a packet, as far as they can be told by looking at fixed places. */
function flowOf(packet: Buffer): string {
  const v4 = (packet[0] as number) >> 4 === 4;
  return v4 ? `4 ${packet[9]} ${packet.toString('hex', 12, 24)}` : `6 ${packet[6]} ${packet.toString('hex', 8, 44)}`;
}

/** Frames of a dozen flows, most of them as they should be. */
function traffic(dice: Random, count: number): { version: 4 | 6; packet: Buffer }[] {
  const flows = Array.from({ length: 12 }, (_, index) => ({
    version: (index & 1) === 0 ? (4 as const) : (6 as const),
    isTcp: (index & 2) === 0,
    port: 1000 + index,
    size: dice.integer(1, 1400),
    sequence: dice.integer(0, 0xffff_ffff),
    identification: dice.integer(0, 0xffff),
  }));
  let flow = dice.pick(flows);
  return Array.from({ length: count }, (_, index) => {
    if (dice.next() < 0.4) flow = dice.pick(flows);
    const size = dice.next() < 0.1 ? dice.integer(0, flow.size) : flow.size;
    const payload = Buffer.alloc(size, index);
    const { version, port, isTcp } = flow;
    const odd = dice.next();
    if (odd < 0.05) flow.sequence += 1000;
    flow.identification = (flow.identification + (odd < 0.1 ? 2 : 1)) & 0xffff;
    const edit: Edit = (packet, l4) => {
      packet.writeUInt16BE(port, l4);
      if (version === 4) packet.writeUInt16BE(flow.identification, 4);
      if (odd > 0.97) packet[version === 4 ? 8 : 7] = 5;
    };
    const flags = dice.next() < 0.9 ? 0x10 : dice.pick([0x18, 0x11, 0x14, 0x90]);
    const shape = { version, payload, flags, sequence: flow.sequence >>> 0 };
    const packet = isTcp ? wholeTcp(shape, edit) : wholeUdp(version, payload, edit);
    flow.sequence += size;
    if (odd > 0.94 && odd < 0.97) packet[dice.integer(version === 4 ? 24 : 44, packet.length - 1)] = 0x77;
    return { version, packet };
  });
}

it('whatever a frame says, it comes out as it was: 50,000 of them', () => {
  const dice = random('hostile');
  const good = [...stream(4, [100, 100]), ...stream(6, [100, 100]), wholeUdp(4, Buffer.alloc(50)), wholeUdp(6, Buffer.alloc(50))];
  for (const ethernet of [false, true]) {
    const given: Buffer[] = [];
    const taken: Super[] = [];
    const joined = coalescer({
      ethernet,
      offload: true,
      write: (bytes, start, length) => taken.push(readSuper(bytes, start, length)),
    });
    for (let round = 0; round < 25_000; round++) {
      const whole = dice.pick(good);
      const link = !ethernet ? Buffer.alloc(0) : (whole[0] as number) >> 4 === 4 ? ETHERNET4 : ETHERNET6;
      const frame = Buffer.concat([link, whole]).subarray(0, dice.next() < 0.7 ? undefined : dice.integer(1, whole.length));
      if (dice.next() < 0.8) frame[dice.integer(0, Math.min(70, frame.length) - 1)] = dice.integer(0, 255);
      given.push(frame);
      const room = Buffer.concat([Buffer.alloc(2, 0xff), frame, Buffer.alloc(9, 0xff)]);
      joined.add(room, 2, frame.length);
      if (dice.next() < 0.1) joined.flush();
    }
    joined.flush();
    const sorted = (frames: Buffer[]) => frames.map((frame) => frame.toString('hex')).sort();
    const again = taken.flatMap(({ header, frame }) =>
      header.gsoType === GSO_NONE ? [frame] : (cutAll(frame, header, { ethernet }) as Buffer[]),
    );
    expect(sorted(again)).toEqual(sorted(given));
  }
});
