// "Too big" answers: to whom, from whom, with what, and to what there is none.

import { describe, expect, it } from 'vitest';
import { tooBig } from '../../src/packet/too-big.ts';
import { random } from '../harness/random.ts';
import { l4ChecksumError, slowChecksum } from './frames.ts';
import { ETHERNET4, ETHERNET6, fixIpv4, wholeTcp, wholeUdp } from './wire.ts';

const out = Buffer.alloc(1500);
const untouched = Buffer.alloc(1500, 0xee);

function answer(
  frame: Buffer,
  mtu = 1400,
  options: { ethernet?: boolean; source4?: Uint8Array; source6?: Uint8Array; room?: number } = {},
): Buffer {
  out.fill(0xee);
  const room = Buffer.concat([Buffer.alloc(3, 0xee), frame, Buffer.alloc(3, 0xee)]);
  const { ethernet = false, source4, source6 } = options;
  const size = tooBig(room, 3, frame.length, ethernet, mtu, source4, source6, out.subarray(0, options.room ?? out.length));
  if (!out.subarray(size).equals(untouched.subarray(size))) throw new Error('wrote beyond the answer');
  return Buffer.from(out.subarray(0, size));
}

function unfragmentable(packet: Buffer): Buffer {
  packet[6] = 0x40;
  return fixIpv4(packet);
}

const udp4 = (size = 1500) => unfragmentable(wholeUdp(4, Buffer.alloc(size, 5)));
const udp6 = (size = 1500) => wholeUdp(6, Buffer.alloc(size, 5));
const SOURCE4 = Uint8Array.of(10, 0, 0, 9);
const SOURCE6 = Uint8Array.from(Buffer.from('fd000000000000000000000000000009', 'hex'));

describe('IPv4', () => {
  it('goes to the sender, says the MTU, and quotes as much as fits 576 bytes', () => {
    const packet = udp4();
    const said = answer(packet, 1392, { source4: SOURCE4 });
    expect(said.length).toBe(576);
    expect(slowChecksum(said.subarray(0, 20))).toBe(0);
    expect(said.readUInt16BE(2)).toBe(576);
    expect(said[9]).toBe(1);
    expect([...said.subarray(12, 20)]).toEqual([10, 0, 0, 9, 10, 0, 0, 1]);
    expect(said.subarray(20, 22).toString('hex')).toBe('0304');
    expect(said.readUInt16BE(26)).toBe(1392);
    expect(slowChecksum(said.subarray(20))).toBe(0);
    expect(said.subarray(28).equals(packet.subarray(0, 548))).toBe(true);
    expect([...answer(packet).subarray(12, 20)]).toEqual([10, 0, 0, 2, 10, 0, 0, 1]);
  });

  it('is quoted whole when it is short', () => {
    expect(answer(udp4(100), 100)).toHaveLength(28 + 128);
  });
});

it('IPv6 goes to the sender, says the MTU, and quotes as much as fits 1280 bytes', () => {
  const packet = udp6();
  const said = answer(packet, 1372, { source6: SOURCE6 });
  expect(said.length).toBe(1280);
  expect(said.readUInt16BE(4)).toBe(1240);
  expect(said.subarray(8, 24)).toEqual(Buffer.from(SOURCE6));
  expect(said.subarray(24, 40)).toEqual(packet.subarray(8, 24));
  expect(said.subarray(40, 42).toString('hex')).toBe('0200');
  expect(said.readUInt32BE(44)).toBe(1372);
  expect(l4ChecksumError(said, 58, 40)).toBe(0);
  expect(said.subarray(48).equals(packet.subarray(0, 1232))).toBe(true);
  expect(answer(packet).subarray(8, 24)).toEqual(packet.subarray(24, 40));
});

it('on Ethernet it goes back the way that the frame came, tags and all', () => {
  const tagged = Buffer.concat([ETHERNET4.subarray(0, 12), Buffer.from('8100000707', 'hex').subarray(0, 4), ETHERNET4.subarray(12)]);
  const said = answer(Buffer.concat([tagged, udp4()]), 1400, { ethernet: true });
  expect(said.subarray(0, 18).toString('hex')).toBe('020000000001020000000002810000070800');
  expect(slowChecksum(said.subarray(18 + 20))).toBe(0);
  expect(answer(Buffer.concat([ETHERNET6, udp6()]), 1400, { ethernet: true })).toHaveLength(14 + 1280);
});

describe('there is no answer', () => {
  const silent: Record<string, Buffer> = {
    'to IPv4 that may be fragmented': wholeUdp(4, Buffer.alloc(1500)),
    'to fragments but the first': fixIpv4(change(udp4(), 7, 5)),
    'to multicast': fixIpv4(change(udp4(), 16, 224)),
    'to a wrong header': change(udp4(), 10, 1),
    'to an ICMP error': fixIpv4(change(change(udp4(), 9, 1), 20, 3)),
    'to multicast of IPv6': change(udp6(), 24, 0xff),
    'to an ICMPv6 error': change(change(udp6(), 6, 58), 40, 2),
    'to nobody': fixIpv4(change(udp4(), 12, 0)),
    'to what is no IP': Buffer.alloc(1500),
  };
  it.each(Object.entries(silent))('%s', (_name, frame) => {
    expect(answer(frame)).toHaveLength(0);
  });

  it('without room', () => {
    expect(answer(udp4(), 1400, { room: 575 })).toHaveLength(0);
    expect(answer(udp4(), 1400, { room: 576 })).toHaveLength(576);
  });
});

it('the first fragment and echo requests are answered', () => {
  expect(answer(fixIpv4(change(udp4(), 6, 0x60)))).toHaveLength(576);
  expect(answer(fixIpv4(change(change(udp4(), 9, 1), 20, 8)))).toHaveLength(576);
  expect(answer(change(change(udp6(), 6, 58), 40, 128))).toHaveLength(1280);
});

it('nothing is read or written beyond, whatever the frame says', () => {
  const dice = random('too big');
  const frames = [udp4(), udp6(), Buffer.concat([ETHERNET4, wholeTcp({ version: 4, payload: Buffer.alloc(900) })])];
  for (let round = 0; round < 20_000; round++) {
    const frame = Buffer.from(dice.pick(frames));
    for (let changes = dice.integer(0, 3); changes > 0; changes--) frame[dice.integer(0, 63)] = dice.integer(0, 255);
    answer(frame.subarray(0, dice.integer(0, frame.length)), dice.integer(0, 70_000), { ethernet: dice.next() < 0.5, room: 1300 });
  }
});

function change(frame: Buffer, at: number, value: number): Buffer {
  frame[at] = value;
  return frame;
}
