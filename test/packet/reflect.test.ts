import { describe, expect, it } from 'vitest';
import { PrefixSet } from '../../src/packet/prefix-set.ts';
import { reflect } from '../../src/packet/reflect.ts';
import { random } from '../harness/random.ts';
import { l4ChecksumError, slowChecksum } from './frames.ts';
import {
  type Answer,
  answerTo,
  ethernet,
  fuzz,
  hex,
  ipv4,
  ipv6,
  NODE_MAC,
  NODE_V4,
  NODE_V6,
  PEER_MAC,
  PEER_V4,
  PEER_V6,
} from './requests.ts';

const turn =
  (link = false, addresses?: PrefixSet): Answer =>
  (bytes, start, length, out) =>
    reflect(bytes, start, length, link, addresses, out);

const UDP = hex('9c40 0035 000a 1234 aabb');
const UDP_BACK = hex('0035 9c40 000a 1234 aabb');
const TCP = hex('9c40 01bb 00000001 00000063 5010 01f5 1234 0000 aa');
const TCP_BACK = hex('01bb 9c40 00000001 00000063 5010 01f5 1234 0000 aa');
const OPTIONS = hex('3c 00 0104 00000000  11 01 010c 0000000000000000 00000000');
const FRAGMENT = '11 00';

type V4 = Partial<Parameters<typeof ipv4>[0]>;
type V6 = Partial<Parameters<typeof ipv6>[0]>;
const there4 = (shape: V4 = {}) => ipv4({ protocol: 17, payload: UDP, ...shape });
const back4 = (shape: V4 = {}) => ipv4({ protocol: 17, payload: UDP_BACK, source: PEER_V4, destination: NODE_V4, ...shape });
const there6 = (shape: V6 = {}) => ipv6({ next: 17, payload: UDP, ...shape });
const back6 = (shape: V6 = {}) => ipv6({ next: 17, payload: UDP_BACK, source: PEER_V6, destination: NODE_V6, ...shape });
const behind = (extension: string | Buffer, rest: Buffer) => Buffer.concat([Buffer.isBuffer(extension) ? extension : hex(extension), rest]);

describe('a packet is turned round', () => {
  it('byte by byte', () => {
    const there = hex(`
      020000000002 020000000001 0800
      45 00 001e beef 4000 11 11 96dd 0a000001 0a000002      # TTL 17, UDP
      9c40 0035 000a 1234 aabb                               # from 40000 to 53`);
    const back = hex(`
      020000000001 020000000002 0800
      45 00 001e beef 4000 11 11 96dd 0a000002 0a000001
      0035 9c40 000a 1234 aabb`);
    expect(answerTo(turn(true), there)).toEqual(back);
  });

  it.each<[string, Buffer, Buffer]>([
    ['UDP over IPv4', there4(), back4()],
    ['TCP over IPv4', there4({ protocol: 6, payload: TCP }), back4({ protocol: 6, payload: TCP_BACK })],
    ['UDP over IPv6', there6({ flow: 0xb812345 }), back6({ flow: 0xb812345 })],
    ['TCP over IPv6', there6({ next: 6, payload: TCP }), back6({ next: 6, payload: TCP_BACK })],
    ['with IPv4 options', there4({ options: hex('94040000') }), back4({ options: hex('94040000') })],
    [
      'with extension headers',
      there6({ next: 60, payload: behind(OPTIONS, UDP) }),
      back6({ next: 60, payload: behind(OPTIONS, UDP_BACK) }),
    ],
    ['ICMP, without ports', there4({ protocol: 1 }), back4({ protocol: 1, payload: UDP })],
    ['SCTP, whose checksum is no sum', there4({ protocol: 132 }), back4({ protocol: 132, payload: UDP })],
    ['a first fragment', there4({ fragment: 0x2000 }), back4({ fragment: 0x2000 })],
    ['a later fragment', there4({ fragment: 0x2003 }), back4({ fragment: 0x2003, payload: UDP })],
    ['a last fragment', there4({ fragment: 3 }), back4({ fragment: 3, payload: UDP })],
    [
      'a first fragment of IPv6',
      there6({ next: 44, payload: behind(`${FRAGMENT} 0001 00000007`, UDP) }),
      back6({ next: 44, payload: behind(`${FRAGMENT} 0001 00000007`, UDP_BACK) }),
    ],
    [
      'a later fragment of IPv6',
      there6({ next: 44, payload: behind(`${FRAGMENT} 0009 00000007`, UDP) }),
      back6({ next: 44, payload: behind(`${FRAGMENT} 0009 00000007`, UDP) }),
    ],
    ['a datagram without all of its ports', there4({ payload: UDP.subarray(0, 3) }), back4({ payload: UDP.subarray(0, 3) })],
    ['nothing but a header', there6({ next: 59, payload: hex('') }), back6({ next: 59, payload: hex('') })],
    ['ESP, not looked into', there6({ next: 50 }), back6({ next: 50, payload: UDP })],
  ])('%s', (_, there, back) => {
    expect(answerTo(turn(), there)).toEqual(back);
    expect(answerTo(turn(), there, there.length)).toEqual(back);
    const type = (there[0] as number) >> 4 === 4 ? '0800' : '86dd';
    for (const tags of ['', '8100 e005', '88a8 0007 8100 0005']) {
      // Padding stays.
      const pad = hex('0000aa');
      const expected = Buffer.concat([ethernet(type, back, tags, NODE_MAC, PEER_MAC), pad]);
      expect(answerTo(turn(true), Buffer.concat([ethernet(type, there, tags), pad]))).toEqual(expected);
    }
  });

  it('twice is as it was, and checksums are right all the way', () => {
    const dice = random('reflect');
    for (let round = 0; round < 2000; round++) {
      const payload = Buffer.concat([hex('0000 0000 0000 0000'), Buffer.from(dice.bytes(dice.integer(0, 100)))]);
      payload.writeUInt16BE(dice.integer(0, 0xffff), 0);
      payload.writeUInt16BE(dice.integer(0, 0xffff), 2);
      payload.writeUInt16BE(payload.length, 4);
      const v4 = round % 2 === 0;
      const host = () => Buffer.from([v4 ? dice.integer(1, 223) : 0xfd, ...dice.bytes(v4 ? 3 : 15)]).toString('hex');
      const addresses = { source: host(), destination: host() };
      const packet = v4 ? ipv4({ protocol: 17, payload, ...addresses }) : ipv6({ next: 17, payload, ...addresses });
      const l4 = v4 ? 20 : 40;
      packet.writeUInt16BE(l4ChecksumError(packet, 17, l4), l4 + 6);
      const back = answerTo(turn(), packet) as Buffer;
      expect(l4ChecksumError(back, 17, l4)).toBe(0);
      if (v4) expect(slowChecksum(back.subarray(0, 20))).toBe(0);
      expect(answerTo(turn(), back)).toEqual(packet);
    }
  });
});

describe('nothing comes back', () => {
  const broken = there4();
  broken[8] = 99;
  // Both with a right checksum.
  const fourWords = Buffer.concat([there4({ payload: hex('') }), UDP]);
  fourWords[0] = 0x44;
  fourWords.writeUInt16BE(0, 10);
  fourWords.writeUInt16BE(slowChecksum(fourWords.subarray(0, 16)), 10);
  const short = there4({ payload: hex('') });
  short.writeUInt16BE(19, 2);
  short.writeUInt16BE(0, 10);
  short.writeUInt16BE(slowChecksum(short), 10);
  it.each<[string, Buffer]>([
    ['to multicast', there4({ destination: 'e00000fb' })],
    ['to broadcast', there4({ destination: 'ffffffff' })],
    ['from 0.0.0.0', there4({ source: '00000000' })],
    ['from broadcast', there4({ source: 'ffffffff' })],
    ['to IPv6 multicast', there6({ destination: 'ff020000000000000000000000000001' })],
    ['from ::', there6({ source: '00'.repeat(16) })],
    ['with a wrong header checksum', broken],
    ['behind a routing header with way to go', there6({ next: 43, payload: behind('11 00 04 01 00000000', UDP) })],
    ['behind nine extension headers', there6({ next: 60, payload: behind(`${'3c 00 0104 00000000'.repeat(8)} 11 00 0104 00000000`, UDP) })],
    ['behind one that is cut off', there6({ next: 60, payload: hex('11 05 0104 00000000') })],
    ['behind one that is not there', there6({ next: 60, payload: hex('') })],
    ['of a packet that is cut off', there4().subarray(0, -1)],
    ['of an IPv6 packet that is cut off', there6().subarray(0, -1)],
    ['of an IPv6 header that is cut off', there6({ payload: hex('') }).subarray(0, 39)],
    ['of a header of four words', fourWords],
    ['of a packet shorter than its header', short],
    ['of nothing', Buffer.alloc(0)],
  ])('%s', (_, packet) => expect(answerTo(turn(), packet)).toBeUndefined());

  it.each<[string, Buffer]>([
    ['to a group', ethernet('0800', there4(), '', '01005e000001')],
    ['from a group', ethernet('0800', there4(), '', PEER_MAC, '030000000001')],
    ['of ARP', ethernet('0806', hex('0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002'))],
    ['of another type', ethernet('0800', there6())],
  ])('of an Ethernet frame %s', (_, frame) => expect(answerTo(turn(true), frame)).toBeUndefined());

  it('for addresses that are not asked for, nor where there is no room', () => {
    const set = new PrefixSet([{ bytes: hex(PEER_V4), length: 31 }]);
    expect(answerTo(turn(false, set), there4())).toEqual(back4());
    expect(answerTo(turn(false, set), there4({ destination: '0a000004' }))).toBeUndefined();
    expect(answerTo(turn(false, set), there6())).toBeUndefined();
    expect(answerTo(turn(), there4(), there4().length - 1)).toBeUndefined();
  });
});

it('whatever comes, nothing is thrown, nothing read or written beyond', () => {
  const packets = [
    there4({ options: hex('94040000') }),
    there6({ next: 60, payload: behind(OPTIONS, UDP) }),
    there6({ next: 44, payload: behind(`${FRAGMENT} 0001 00000007`, UDP) }),
  ];
  fuzz(turn(), packets, 30_000, 'reflect on TUN');
  fuzz(
    turn(true),
    packets.map((packet) => ethernet((packet[0] as number) >> 4 === 4 ? '0800' : '86dd', packet, '88a8 0005')),
    30_000,
    'reflect on TAP',
  );
});
