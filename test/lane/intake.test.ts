// From what a device gives to whole frames. Cutting and sums themselves are tested with packet/segment.ts.

import { expect, it } from 'vitest';
import { Intake } from '../../src/lane/intake.ts';
import { l4ChecksumError, tcpPacket, udpPacket } from '../packet/frames.ts';

const ETHERNET = Buffer.from('0200000000020200000000010800', 'hex');

/** A virtio header in front of a frame, with other bytes around. */
function input(header: number[], frame: Buffer): { bytes: Buffer; start: number } {
  const vnet = Buffer.alloc(10);
  vnet.set(header.slice(0, 2));
  for (const [at, value] of header.slice(2).entries()) vnet.writeUInt16LE(value, 2 + at * 2);
  return { bytes: Buffer.concat([Buffer.alloc(4, 0xee), vnet, frame, Buffer.alloc(8, 0xee)]), start: 14 };
}

function taken(ethernet: boolean, header: number[], frame: Buffer): { fits: boolean; frames: Buffer[] } {
  const frames: Buffer[] = [];
  const intake = new Intake(ethernet, (bytes, start, length) => void frames.push(Buffer.from(bytes.subarray(start, start + length))));
  const { bytes, start } = input(header, frame);
  const fits = intake.withHeader(bytes, start, frame.length);
  expect(bytes.subarray(start + frame.length)).toEqual(Buffer.alloc(8, 0xee));
  return { fits, frames };
}

it('offers a frame as it is when nothing is left to do', () => {
  const frame = udpPacket(4, Buffer.from('payload'));
  expect(taken(false, [0, 0], frame)).toEqual({ fits: true, frames: [frame] });
});

it('offers a frame as it is when its checksum has been verified by others', () => {
  const frame = udpPacket(4, Buffer.from('payload'));
  expect(taken(false, [2, 0], frame)).toEqual({ fits: true, frames: [frame] });
});

it.each([
  [false, 4],
  [false, 6],
  [true, 4],
] as const)('completes a checksum (Ethernet %s, IPv%i)', (ethernet, version) => {
  const packet = udpPacket(version, Buffer.from('odd'));
  const link = ethernet ? ETHERNET.length : 0;
  const l4 = link + (version === 4 ? 20 : 40);
  const frame = ethernet ? Buffer.concat([ETHERNET, packet]) : packet;
  const { fits, frames } = taken(ethernet, [1, 0, 0, 0, l4, 6], frame);
  expect(fits).toBe(true);
  expect(frames.length).toBe(1);
  expect(l4ChecksumError((frames[0] as Buffer).subarray(link), 17, l4 - link)).toBe(0);
});

it('cuts a super-frame, one after another through the same memory', () => {
  const frames: Buffer[] = [];
  const intake = new Intake(false, (bytes, start, length) => void frames.push(Buffer.from(bytes.subarray(start, start + length))));
  for (const letter of ['a', 'b']) {
    const { bytes, start } = input([1, 1, 40, 1000, 20, 16], tcpPacket({ version: 4, payload: Buffer.alloc(2500, letter) }));
    expect(intake.withHeader(bytes, start, 2540)).toBe(true);
  }
  expect(frames.map(({ length }) => length)).toEqual([1040, 1040, 540, 1040, 1040, 540]);
  expect(frames.map((frame) => l4ChecksumError(frame, 6, 20))).toEqual([0, 0, 0, 0, 0, 0]);
  expect(frames.map((frame) => String.fromCharCode(frame[40] as number)).join('')).toBe('aaabbb');
});

it('offers nothing of a frame whose header does not fit, and says so', () => {
  const frame = udpPacket(4, Buffer.alloc(100));
  expect(taken(false, [1, 0, 0, 0, 900, 6], frame)).toEqual({ fits: false, frames: [] });
  // TCP over IPv6, of an IPv4 packet; a type that nobody knows; pieces of nothing.
  expect(taken(false, [1, 4, 0, 1000, 20, 16], frame)).toEqual({ fits: false, frames: [] });
  expect(taken(false, [1, 3, 0, 1000, 20, 6], frame)).toEqual({ fits: false, frames: [] });
  expect(taken(false, [1, 5, 0, 0, 20, 6], frame)).toEqual({ fits: false, frames: [] });
});
