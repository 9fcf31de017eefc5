// Frames of many shapes, drawn at random from small pools of addresses and ports, so that filters find some of them. Lengths and fields
// are mostly right, checksums are not there. Shares nothing with src/packet.

import type { Random } from '../harness/random.ts';

const V4 = ['10.0.0.1', '10.0.0.1', '10.0.0.2', '10.1.2.3', '192.168.1.9', '224.0.0.5', '255.255.255.255'];
const V6 = [
  'fd000000000000000000000000000001',
  'fd000000000000000000000000000002',
  '20010db8000000000000000000000001',
  'ff020000000000000000000000000001',
];
const PORTS = [22, 53, 80, 443, 443, 40_000];
const MACS = ['020000000001', '020000000002', 'ffffffffffff', '01005e000005'];

const u16 = (...values: number[]) => Buffer.from(values.flatMap((value) => [(value >> 8) & 0xff, value & 0xff]));
const v4 = (random: Random) => Buffer.from(random.pick(V4).split('.').map(Number));
const v6 = (random: Random) => Buffer.from(random.pick(V6), 'hex');
const mac = (random: Random) => Buffer.from(random.pick(MACS), 'hex');
const some = (random: Random, most: number) => Buffer.from(random.bytes(random.integer(0, most)));

function transport(random: Random, six: boolean): { protocol: number; bytes: Buffer } {
  const ports = u16(random.pick(PORTS), random.pick(PORTS));
  const data = some(random, 80);
  switch (random.integer(0, 7)) {
    case 0:
    case 1:
    case 2: {
      const options = random.integer(0, 4);
      const flags = random.pick([0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0xc2]);
      const middle = Buffer.from([...random.bytes(8), (5 + options) << 4, flags, ...random.bytes(6 + options * 4)]);
      return { protocol: 6, bytes: Buffer.concat([ports, middle, data]) };
    }
    case 3:
    case 4:
      return { protocol: 17, bytes: Buffer.concat([ports, u16(8 + data.length, 0), data]) };
    case 5: {
      const type = random.pick(six ? [128, 129, 134, 135, 136, 1] : [0, 8, 8, 11]);
      return { protocol: six ? 58 : 1, bytes: Buffer.concat([Buffer.from([type, random.integer(0, 3)]), u16(0, 7, 1), data]) };
    }
    case 6:
      return { protocol: 132, bytes: Buffer.concat([ports, u16(0, 1, 0, 0), data]) };
    default:
      return { protocol: random.pick([2, 47, 50, 51, 89, 103, 112]), bytes: data };
  }
}

/** A packet of IPv4, with options and as a fragment at times. */
export function v4Packet(random: Random): Buffer {
  const { protocol, bytes } = transport(random, false);
  const options = random.pick([0, 0, 0, 1, 4, 10]) * 4;
  const fragment = random.pick([0, 0, 0, 0x4000, 0x2000, 0x2000 | random.integer(1, 100), random.integer(1, 0x1fff)]);
  const header = Buffer.from([0x40 | (5 + options / 4), random.pick([0, 0x10, 0xb8]), 0, 0, ...random.bytes(2), 0, 0, 64, protocol, 0, 0]);
  header.writeUInt16BE(20 + options + bytes.length, 2);
  header.writeUInt16BE(fragment, 6);
  return Buffer.concat([header, v4(random), v4(random), random.bytes(options), bytes]);
}

/** A packet of IPv6, with up to three extension headers. */
export function v6Packet(random: Random): Buffer {
  const { protocol, bytes } = transport(random, true);
  let next = protocol;
  let payload = bytes;
  for (let count = random.pick([0, 0, 0, 1, 2, 3]); count > 0; count -= 1) {
    const kind = random.pick([0, 43, 44, 60]);
    const words = kind === 44 ? 0 : random.integer(0, 2);
    payload = Buffer.concat([Buffer.from([next, words]), random.bytes(6 + words * 8), payload]);
    next = kind;
  }
  const header = Buffer.from([0x60, 0, 0, 0, 0, 0, next, 64]);
  header.writeUInt16BE(payload.length, 4);
  return Buffer.concat([header, v6(random), v6(random), payload]);
}

function etherPayload(random: Random): { type: number; bytes: Buffer } {
  switch (random.integer(0, 9)) {
    case 0:
      return {
        type: random.pick([0x0806, 0x0806, 0x8035]),
        bytes: Buffer.concat([
          u16(1, 0x0800, 0x0604, random.integer(1, 2)),
          mac(random),
          v4(random),
          mac(random),
          v4(random),
          Buffer.alloc(18),
        ]),
      };
    case 1: {
      // 802.3 with LLC.
      const bytes = Buffer.concat([Buffer.from([random.pick([0x42, 0xaa, 0xfe, 0xf0]), 0x42, 0x03]), some(random, 40)]);
      return { type: bytes.length, bytes };
    }
    case 2: {
      const label = Buffer.from([0, random.pick([0x04, 0x10]), random.pick([0x00, 0x01]), 64]);
      return { type: 0x8847, bytes: Buffer.concat([label, v4Packet(random)]) };
    }
    case 3:
      return { type: random.pick([0x8863, 0x8864, 0x88cc, 0x86dd, 0x0800]), bytes: some(random, 60) };
    case 4:
    case 5:
    case 6:
      return { type: 0x86dd, bytes: v6Packet(random) };
    default:
      return { type: 0x0800, bytes: v4Packet(random) };
  }
}

/** An Ethernet frame, with up to two VLAN tags. */
export function ethernetFrame(random: Random): Buffer {
  const { type, bytes } = etherPayload(random);
  const tags = Array.from({ length: random.pick([0, 0, 0, 1, 1, 2]) }, () =>
    u16(random.pick([0x8100, 0x8100, 0x88a8]), random.pick([5, 100, 0x2064])),
  );
  return Buffer.concat([mac(random), mac(random), ...tags, u16(type), bytes]);
}

/** What a TUN carries, and now and then what is no IP packet. */
export function rawPacket(random: Random): Buffer {
  return random.pick([v4Packet, v4Packet, v6Packet, v6Packet, () => some(random, 60)])(random);
}

export interface Captured {
  bytes: Buffer;
  /** Bytes that the frame had on the wire. */
  wireLength: number;
}

/** One in four is cut anywhere. */
export function cutAtTimes(random: Random, frame: Buffer): Captured {
  const kept = random.integer(0, 3) === 0 ? random.integer(0, frame.length) : frame.length;
  return { bytes: frame.subarray(0, kept), wireLength: frame.length };
}
