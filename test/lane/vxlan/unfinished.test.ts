import { describe, expect, it } from 'vitest';
import { LinkCounts } from '../../../src/lane/link/counts.ts';
import { Inward } from '../../../src/lane/vxlan/inward.ts';
import { readUnfinished, statedBytes } from '../../../src/packet/unfinished.ts';
import { plainVnetHeader, VNET_HEADER_BYTES } from '../../../src/packet/vnet-header.ts';
import { random, seed } from '../../harness/random.ts';
import { l4ChecksumError, slowChecksum, tcpPacket, udpPacket } from '../../packet/frames.ts';
import { hex } from '../../packet/requests.ts';

const MOST = 1450;
const LINK = '020000000001 020000000002';
const dice = random('unfinished');

const framed = (packet: Buffer, tags = '') =>
  Buffer.concat([hex(`${LINK} ${tags} ${(packet[0] as number) >> 4 === 4 ? '0800' : '86dd'}`), packet]);

/** With the transport checksum that it should have. */
function finished(packet: Buffer, protocol: number): Buffer {
  const copy = Buffer.from(packet);
  const l4 = (copy[0] as number) >> 4 === 4 ? 20 : 40;
  const field = l4 + (protocol === 6 ? 16 : 6);
  copy.writeUInt16BE(0, field);
  copy.writeUInt16BE(l4ChecksumError(copy, protocol, l4) || 0xffff, field);
  return copy;
}

/** What the device is given of frames from a remote, without virtio headers. */
function arrived(frames: Buffer[], { offload = false, pieceBytes = 1000 } = {}): Buffer[] {
  const written: Buffer[] = [];
  const write = (bytes: Buffer, start: number, length: number) => {
    written.push(Buffer.from(bytes.subarray(start + VNET_HEADER_BYTES, start + length)));
    return 0 as const;
  };
  const inward = new Inward({ ethernet: true, offload, write }, new LinkCounts());
  for (const frame of frames) inward.add(Buffer.concat([hex('eeeeee'), frame]), 3, frame.length, MOST, pieceBytes);
  inward.flush();
  return written;
}

describe.each([4, 6] as const)('of IPv%i', (version) => {
  const [linkAt, l4At] = [14, version === 4 ? 34 : 54];

  it.each<[string, number, Buffer]>([
    ['TCP', 6, tcpPacket({ version, payload: Buffer.from(dice.bytes(101)) })],
    ['UDP', 17, udpPacket(version, Buffer.from(dice.bytes(64)))],
  ])('a checksum of %s that was left undone is finished; one that was not stays, right or wrong', (_, protocol, packet) => {
    const right = finished(packet, protocol);
    const wrong = Buffer.from(right);
    wrong[wrong.length - 1] = (wrong.at(-1) as number) ^ 1;
    for (const tags of ['', '8100 0005']) {
      const padding = Buffer.from(dice.bytes(9));
      const given = [packet, right, wrong].map((one) => Buffer.concat([framed(one, tags), padding]));
      const expected = [right, right, wrong].map((one) => Buffer.concat([framed(one, tags), padding]));
      expect(arrived(given)).toEqual(expected);
    }
  });

  it('a super-frame of TCP becomes segments that the link takes, with all of the payload', () => {
    const payload = Buffer.from(dice.bytes(30_001));
    const pieces = arrived([framed(tcpPacket({ version, payload }))]);
    for (const piece of pieces) {
      expect(piece.length - linkAt).toBeLessThanOrEqual(MOST);
      expect(l4ChecksumError(piece.subarray(linkAt), 6, l4At - linkAt)).toBe(0);
      if (version === 4) expect(slowChecksum(piece.subarray(14, 34))).toBe(0);
    }
    expect(pieces.map((piece) => piece.readUInt32BE(l4At + 4) - 1)[1]).toBe((pieces[0]?.length ?? 0) - l4At - 20);
    expect(Buffer.concat(pieces.map((piece) => piece.subarray(l4At + 20)))).toEqual(payload);
  });

  it('a super-frame of UDP becomes the datagrams that its sender made, of which the socket tells the size', () => {
    const payload = Buffer.from(dice.bytes(5500));
    const pieces = arrived([framed(udpPacket(version, payload))], { pieceBytes: 1000 });
    expect(pieces.map((piece) => piece.length - l4At - 8)).toEqual([1000, 1000, 1000, 1000, 1000, 500]);
    for (const piece of pieces) expect(l4ChecksumError(piece.subarray(linkAt), 17, l4At - linkAt)).toBe(0);
    expect(Buffer.concat(pieces.map((piece) => piece.subarray(l4At + 8)))).toEqual(payload);
  });
});

it('tells how long a frame says it is', () => {
  const frame = framed(udpPacket(4, Buffer.alloc(100)));
  expect(statedBytes(Buffer.concat([frame, Buffer.alloc(7)]), 0, frame.length + 7)).toBe(frame.length);
  expect(statedBytes(frame, 0, frame.length - 1)).toBe(0);
  expect(statedBytes(hex(`${LINK} 0806 ${'00'.repeat(60)}`), 0, 74)).toBe(0);
});

it(`never throws, and never changes what is not unfinished (seed ${seed})`, () => {
  const header = plainVnetHeader();
  const frames = ([4, 6] as const).flatMap((version) => [
    framed(tcpPacket({ version, payload: Buffer.alloc(60, 7) })),
    framed(udpPacket(version, Buffer.alloc(60, 7))),
  ]);
  let unfinished = 0;
  for (let round = 0; round < 3000; round++) {
    const frame = Buffer.from(dice.pick(frames));
    const length = dice.next() < 0.3 ? dice.integer(0, frame.length) : frame.length;
    for (let count = dice.integer(0, 2); count > 0; count--) frame[dice.integer(12, frame.length - 1)] = dice.integer(0, 255);
    const before = Buffer.from(frame);
    const size = readUnfinished(frame, 0, length, dice.pick([MOST, 50]), dice.integer(0, 100), header);
    expect(frame.equals(before)).toBe(true);
    expect(size).toBeLessThanOrEqual(length);
    if (size > 0) unfinished++;
    arrived([frame.subarray(0, length)]);
  }
  expect(unfinished).toBeGreaterThan(300);
});
