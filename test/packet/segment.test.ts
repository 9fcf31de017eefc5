// Super-frames cut into wire frames: the payload is whole, every checksum right, every field as the kernel's own segmentation makes it.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { completeChecksum, segment } from '../../src/packet/segment.ts';
import {
  GSO_ECN,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP_L4,
  NEEDS_CHECKSUM,
  plainVnetHeader,
  readVnetHeader,
  type VnetHeader,
  writeVnetHeader,
} from '../../src/packet/vnet-header.ts';
import { random } from '../harness/random.ts';
import { l4ChecksumError, slowChecksum, tcpPacket, udpPacket } from './frames.ts';

const ETHERNET = Buffer.from('0200000000020200000000010800', 'hex');
const scratch = Buffer.alloc(70_000);

function header(gsoType: number, gsoSize: number, checksumStart: number, checksumOffset: number): VnetHeader {
  return { flags: NEEDS_CHECKSUM, gsoType, headerLength: 0, gsoSize, checksumStart, checksumOffset };
}

function cut(frame: Buffer, vnet: VnetHeader, ethernet = false): Buffer[] | string {
  const pieces: Buffer[] = [];
  // Not at the start of its buffer, and followed by what must not be read.
  const room = Buffer.concat([Buffer.alloc(3, 0xee), frame, Buffer.alloc(5, 0xee)]);
  const outcome = segment(room, 3, frame.length, vnet, ethernet, scratch, (bytes, start, length) =>
    pieces.push(Buffer.from(bytes.subarray(start, start + length))),
  );
  if (typeof outcome === 'string') return outcome;
  expect(outcome).toBe(pieces.length);
  return pieces;
}

describe('TCP', () => {
  it.each([
    [4, GSO_TCPV4],
    [6, GSO_TCPV6],
  ] as const)('over IPv%i of any size comes out whole, in order, with right checksums', (version, gsoType) => {
    const l3Bytes = version === 4 ? 20 : 40;
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 20_000 }),
        fc.integer({ min: 1, max: 9000 }),
        fc.nat(10),
        fc.boolean(),
        (size, gsoSize, words, ethernet) => {
          const payload = Buffer.from(random('payload', size).bytes(size));
          const options = Buffer.alloc(words * 4, 1);
          const flags = 0x10 | 0x08 | 0x01 | 0x80;
          const packet = tcpPacket({ version, payload, sequence: 0xffff_fff0, flags, options, identification: 0xffff });
          const link = ethernet ? ETHERNET : Buffer.alloc(0);
          const pieces = cut(Buffer.concat([link, packet]), header(gsoType | GSO_ECN, gsoSize, link.length + l3Bytes, 16), ethernet);
          if (typeof pieces === 'string') throw new Error(pieces);
          expect(pieces).toHaveLength(Math.max(1, Math.ceil(size / gsoSize)));
          const l4Bytes = 20 + options.length;
          let at = 0;
          pieces.forEach((piece, index) => {
            const ip = piece.subarray(link.length);
            expect(piece.subarray(0, link.length)).toEqual(link);
            expect(version === 4 ? ip.readUInt16BE(2) : ip.readUInt16BE(4) + 40).toBe(ip.length);
            if (version === 4) {
              expect(slowChecksum(ip.subarray(0, 20))).toBe(0);
              expect(ip.readUInt16BE(4)).toBe((0xffff + index) & 0xffff);
            }
            expect(l4ChecksumError(ip, 6, l3Bytes)).toBe(0);
            const tcp = ip.subarray(l3Bytes);
            expect(tcp.readUInt32BE(4)).toBe((0xffff_fff0 + at) >>> 0);
            const last = index === pieces.length - 1;
            expect(tcp[13]).toBe(0x10 | (last ? 0x09 : 0) | (index === 0 ? 0x80 : 0));
            const data = tcp.subarray(l4Bytes);
            expect(data).toEqual(payload.subarray(at, at + data.length));
            at += data.length;
          });
          expect(at).toBe(size);
        },
      ),
      { numRuns: 150 },
    );
  });
});

it('UDP is cut into datagrams', () => {
  for (const version of [4, 6] as const) {
    const l3Bytes = version === 4 ? 20 : 40;
    const payload = Buffer.from(random('udp').bytes(5000));
    const pieces = cut(udpPacket(version, payload), header(GSO_UDP_L4, 1400, l3Bytes, 6)) as Buffer[];
    expect(pieces.map((piece) => piece.length - l3Bytes - 8)).toEqual([1400, 1400, 1400, 800]);
    for (const piece of pieces) {
      expect(l4ChecksumError(piece, 17, l3Bytes)).toBe(0);
      expect(piece.readUInt16BE(l3Bytes + 4)).toBe(piece.length - l3Bytes);
    }
    expect(Buffer.concat(pieces.map((piece) => piece.subarray(l3Bytes + 8)))).toEqual(payload);
  }
});

it('a frame that is no super-frame goes as it is, with its checksum completed where asked', () => {
  const packet = tcpPacket({ version: 4, payload: Buffer.from('hello') });
  const [whole] = cut(packet, header(GSO_NONE, 0, 20, 16)) as Buffer[];
  expect(l4ChecksumError(whole as Buffer, 6, 20)).toBe(0);
  expect(cut(packet, plainVnetHeader())).toEqual([packet]);
  const short = Buffer.alloc(10);
  expect(completeChecksum(short, 0, 10, header(GSO_NONE, 0, 4, 6))).toBe(false);
  expect(completeChecksum(short, 0, 10, header(GSO_NONE, 0, 10, 0))).toBe(false);
});

it('what a header claims is not believed: 100,000 of them, on whole and cut frames', () => {
  const dice = random('claims');
  const frames = [
    tcpPacket({ version: 4, payload: Buffer.alloc(3000) }),
    tcpPacket({ version: 6, payload: Buffer.alloc(3000) }),
    udpPacket(4, Buffer.alloc(100)),
    Buffer.alloc(0),
  ];
  const counts = new Map<string, number>();
  const edges = Buffer.alloc(8, 0xaa);
  for (let round = 0; round < 100_000; round++) {
    const whole = dice.pick(frames);
    const frame = Buffer.from(whole.subarray(0, dice.next() < 0.5 ? whole.length : dice.integer(0, whole.length)));
    if (frame.length > 0 && dice.next() < 0.5) frame[dice.integer(0, Math.min(60, frame.length) - 1)] = dice.integer(0, 255);
    const room = Buffer.concat([edges, frame, edges]);
    const vnet: VnetHeader = {
      flags: dice.integer(0, 3),
      gsoType: dice.pick([0, 1, 3, 4, 5, 0x81, 0x84, dice.integer(0, 255)]),
      headerLength: dice.integer(0, 0xffff),
      gsoSize: dice.pick([0, 1, 1400, 0xffff]),
      checksumStart: dice.pick([20, 40, 0, 0xffff, dice.integer(0, 70)]),
      checksumOffset: dice.pick([16, 6, 0, 0xffff]),
    };
    let emitted = 0;
    const outcome = segment(room, 8, frame.length, vnet, dice.next() < 0.3, scratch, (_bytes, _start, length) => {
      emitted += length;
    });
    const kind = typeof outcome === 'string' ? outcome : 'cut';
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
    if (typeof outcome === 'string') expect(emitted).toBe(0);
    if (!room.subarray(0, 8).equals(edges) || !room.subarray(-8).equals(edges)) throw new Error('wrote beyond the frame');
  }
  expect([...counts.keys()].sort()).toEqual(['bad-header', 'cut', 'unsupported']);
});

it('a virtio header reads as it was written', () => {
  fc.assert(
    fc.property(
      fc.nat(255),
      fc.nat(255),
      fc.nat(0xffff),
      fc.nat(0xffff),
      fc.nat(0xffff),
      fc.nat(0xffff),
      (flags, gsoType, headerLength, gsoSize, checksumStart, checksumOffset) => {
        const bytes = Buffer.alloc(20, 0xff);
        const written = { flags, gsoType, headerLength, gsoSize, checksumStart, checksumOffset };
        writeVnetHeader(bytes, 3, written, 12);
        const read = plainVnetHeader();
        expect(readVnetHeader(bytes, 3, read)).toBe(true);
        expect(read).toEqual(written);
        expect([...bytes.subarray(13, 16)]).toEqual([0, 0, 0xff]);
        expect(readVnetHeader(bytes, 11, read)).toBe(false);
      },
    ),
  );
  // linux/virtio_net.h, little-endian: flags 1, gso TCPv4, header 54, size 1448, checksum at 34 + 16
  const bytes = Buffer.from('01013600a80522001000', 'hex');
  const read = plainVnetHeader();
  readVnetHeader(bytes, 0, read);
  expect(read).toEqual({ flags: 1, gsoType: 1, headerLength: 54, gsoSize: 1448, checksumStart: 34, checksumOffset: 16 });
});
