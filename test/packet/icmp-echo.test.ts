import { describe, expect, it } from 'vitest';
import { echoReply } from '../../src/packet/icmp-echo.ts';
import { PrefixSet } from '../../src/packet/prefix-set.ts';
import { random } from '../harness/random.ts';
import { l4ChecksumError, slowChecksum } from './frames.ts';
import {
  type Answer,
  answerTo,
  ethernet,
  fuzz,
  hex,
  icmp,
  icmpv6,
  ipv4,
  ipv6,
  NODE_MAC,
  NODE_V6,
  PEER_MAC,
  PEER_V4,
  PEER_V6,
} from './requests.ts';

const echo =
  (link = false, addresses?: PrefixSet): Answer =>
  (bytes, start, length, out) =>
    echoReply(bytes, start, length, link, addresses, out);

const REQUEST_V4 = hex(`
  45 b9 0023 beef 4000        # 5 words, DSCP 46 with ECT(1), 35 bytes, identification, do not fragment
  11 01 962f                  # TTL 17, ICMP, checksum
  0a000001 0a000002
  08 00 3a8e 1234 0001        # echo request, checksum, identifier, sequence
  7461706c616e65              # taplane
`);
const REPLY_V4 = hex(`
  45 b8 0023 beef 0000        # the DSCP without ECN; may be fragmented
  40 01 a730                  # TTL 64
  0a000002 0a000001
  00 00 428e 1234 0001        # echo reply
  7461706c616e65
`);
const REQUEST_V6 = hex(`
  6 b9 abcde 000f 3a 11       # DSCP 46 with ECT(1), flow label, 15 bytes, ICMPv6, hop limit 17
  fd000000000000000000000000000001 fd000000000000000000000000000002
  80 00 c83f 1234 0001
  7461706c616e65
`);
const REPLY_V6 = hex(`
  6 b8 00000 000f 3a 40
  fd000000000000000000000000000002 fd000000000000000000000000000001
  81 00 c73f 1234 0001
  7461706c616e65
`);
const MESSAGE = hex('0800 0000 0001 0001 aa');
const MESSAGE_V6 = hex('8000 0000 0001 0001 aa');
const v4 = (shape: Partial<Parameters<typeof ipv4>[0]> = {}) => ipv4({ protocol: 1, payload: icmp(MESSAGE), ...shape });
const v6 = (shape: Partial<Parameters<typeof ipv6>[0]> = {}) => ipv6({ next: 58, payload: icmpv6(MESSAGE_V6), ...shape });
const changed = (frame: Buffer, at: number, value: number) => {
  const copy = Buffer.from(frame);
  copy[at] = value;
  return copy;
};

describe('a request is replied to', () => {
  const turned = (type: string, reply: Buffer, tags = '') => ethernet(type, reply, tags, NODE_MAC, PEER_MAC);
  it.each<[string, boolean, Buffer, Buffer]>([
    ['IPv4', false, REQUEST_V4, REPLY_V4],
    ['IPv6', false, REQUEST_V6, REPLY_V6],
    ['IPv4 on Ethernet', true, ethernet('0800', REQUEST_V4), turned('0800', REPLY_V4)],
    ['IPv6 on Ethernet', true, ethernet('86dd', REQUEST_V6), turned('86dd', REPLY_V6)],
    ['in a VLAN', true, ethernet('0800', REQUEST_V4, '8100 e005'), turned('0800', REPLY_V4, '8100 e005')],
    ['in two', true, ethernet('86dd', REQUEST_V6, '88a8 0007 8100 0005'), turned('86dd', REPLY_V6, '88a8 0007 8100 0005')],
    ['and padding is left out', true, ethernet('0800', Buffer.concat([REQUEST_V4, Buffer.alloc(11)])), turned('0800', REPLY_V4)],
  ])('%s', (_, link, request, reply) => expect(answerTo(echo(link), request)).toEqual(reply));

  it('without the options of IPv4', () => {
    const plain = answerTo(echo(), v4());
    // Router alert (RFC 2113).
    expect(answerTo(echo(), v4({ options: hex('94040000') }))).toEqual(plain);
    expect(answerTo(echo(), v4({ options: Buffer.alloc(40, 1) }))).toEqual(plain);
    expect(plain).toHaveLength(29);
  });

  it.each<[string, number, string]>([
    ['hop-by-hop options', 0, '3a 00 0502 0000 0100'],
    ['two of destination options', 60, '3c 00 0104 00000000  3a 00 0104 00000000'],
    ['a routing header at its end', 43, '3a 00 04 00 00000000'],
    ['a fragment header of a whole packet', 44, '3a 00 0000 0000beef'],
  ])('without %s of IPv6', (_, next, extension) => {
    const request = v6({ next, payload: Buffer.concat([hex(extension), icmpv6(MESSAGE_V6)]) });
    expect(answerTo(echo(), request)).toEqual(answerTo(echo(), v6()));
  });

  it('with nothing in it, and all zeros', () => {
    // The sum of a reply without a bit is zero, its checksum ffff: 0000 would be taken for wrong.
    const reply = answerTo(echo(), ipv4({ protocol: 1, payload: icmp(hex('0800 0000 0000 0000 0000')) })) as Buffer;
    expect(reply.subarray(20)).toEqual(hex('0000 ffff 0000 0000 0000'));
    expect(answerTo(echo(), ipv4({ protocol: 1, payload: icmp(hex('0800 0000 0000 0000')) }))).toHaveLength(28);
  });

  it('of 65,507 bytes, into exactly the room that it takes', () => {
    const data = Buffer.from(random('data').bytes(65_507));
    const request = ipv4({ protocol: 1, payload: icmp(Buffer.concat([hex('0800 0000 1234 0001'), data])) });
    const reply = answerTo(echo(), request, 65_535) as Buffer;
    expect(reply).toHaveLength(65_535);
    expect(slowChecksum(reply.subarray(20))).toBe(0);
    expect(reply.subarray(28).equals(data)).toBe(true);
    expect(answerTo(echo(), request, 65_534)).toBeUndefined();
  });

  it('with right checksums, whatever is in it', () => {
    const dice = random('echo');
    for (let round = 0; round < 3000; round++) {
      // Few different bytes, for sums of 0000 and ffff.
      const data = Buffer.from(
        Array.from({ length: dice.integer(0, round % 10 === 0 ? 1500 : 6) }, () => dice.pick([0, 0, 255, dice.integer(0, 255)])),
      );
      const first = ipv4({ protocol: 1, payload: icmp(Buffer.concat([hex('0800 0000 0000 0000'), data])), tos: dice.integer(0, 255) });
      const reply = answerTo(echo(), first) as Buffer;
      const zeroed = Buffer.concat([reply.subarray(20, 22), Buffer.alloc(2), reply.subarray(24)]);
      expect([slowChecksum(reply.subarray(0, 20)), reply.readUInt16BE(22)]).toEqual([0, slowChecksum(zeroed)]);
      const second = ipv6({ next: 58, payload: icmpv6(Buffer.concat([hex('8000 0000 0000 0000'), data])) });
      expect(l4ChecksumError(answerTo(echo(), second) as Buffer, 58, 40)).toBe(0);
    }
  });
});

describe('no reply', () => {
  const multicast = 'ff020000000000000000000000000001';
  const zero = '00'.repeat(16);
  const to = (destination: string) => v6({ destination, payload: icmpv6(MESSAGE_V6, NODE_V6, destination) });
  const from = (source: string) => v6({ source, payload: icmpv6(MESSAGE_V6, source) });
  it.each<[string, Buffer]>([
    ['to a reply', v4({ payload: icmp(changed(MESSAGE, 0, 0)) })],
    ['to a request with a code', v4({ payload: icmp(changed(MESSAGE, 1, 1)) })],
    ['to a timestamp request', v4({ payload: icmp(changed(MESSAGE, 0, 13)) })],
    ['to UDP', v4({ protocol: 17 })],
    ['to ICMPv6 over IPv4', v4({ protocol: 58 })],
    ['to ICMP over IPv6', v6({ next: 1, payload: icmp(MESSAGE) })],
    ['to an IPv6 reply', v6({ payload: icmpv6(changed(MESSAGE_V6, 0, 129)) })],
    ['to a neighbour solicitation', v6({ payload: icmpv6(changed(MESSAGE_V6, 0, 135)) })],
    ['to 7 bytes', v4({ payload: icmp(MESSAGE.subarray(0, 7)) })],
    ['with a wrong ICMP checksum', changed(v4(), 28, 0xab)],
    ['with a wrong ICMPv6 checksum', changed(v6(), 48, 0xab)],
    ['with a wrong header checksum', changed(v4(), 8, 99)],
    ['to the first fragment', v4({ fragment: 0x2000 })],
    ['to a later fragment', v4({ fragment: 1 })],
    ['to the first fragment of IPv6', v6({ next: 44, payload: Buffer.concat([hex('3a 00 0001 0000beef'), icmpv6(MESSAGE_V6)]) })],
    ['to a later fragment of IPv6', v6({ next: 44, payload: Buffer.concat([hex('3a 00 0008 0000beef'), icmpv6(MESSAGE_V6)]) })],
    ['behind a routing header with way to go', v6({ next: 43, payload: Buffer.concat([hex('3a 00 04 01 00000000'), icmpv6(MESSAGE_V6)]) })],
    [
      'behind nine extension headers',
      v6({ next: 60, payload: Buffer.concat([hex(`${'3c 00 0104 00000000'.repeat(8)} 3a 00 0104 00000000`), icmpv6(MESSAGE_V6)]) }),
    ],
    ['behind an extension header that is cut off', v6({ next: 60, payload: hex('3a 09 0104 00000000 8000') })],
    ['behind an authentication header', v6({ next: 51, payload: Buffer.concat([hex('3a 00 0000 00000001'), icmpv6(MESSAGE_V6)]) })],
    ['to multicast', v4({ destination: 'e0000001' })],
    ['to broadcast', v4({ destination: 'ffffffff' })],
    ['to 0.0.0.0', v4({ destination: '00000000' })],
    ['from multicast', v4({ source: 'efffffff' })],
    ['from broadcast', v4({ source: 'ffffffff' })],
    ['from 0.0.0.0', v4({ source: '00000000' })],
    ['to IPv6 multicast', to(multicast)],
    ['to ::', to(zero)],
    ['from IPv6 multicast', from(multicast)],
    ['from ::', from(zero)],
    ['to a packet that is cut off', v4().subarray(0, -1)],
    ['to an IPv6 packet that is cut off', v6().subarray(0, -1)],
    ['to a header that is cut off', v4().subarray(0, 19)],
    ['to an IPv6 header that is cut off', v6().subarray(0, 39)],
    ['to a header of four words', changed(v4(), 0, 0x44)],
    ['to version 5', changed(v4(), 0, 0x55)],
    ['to nothing', Buffer.alloc(0)],
  ])('%s', (_, request) => {
    expect(answerTo(echo(), request)).toBeUndefined();
    expect(answerTo(echo(true), ethernet((request[0] ?? 0) >> 4 === 6 ? '86dd' : '0800', request))).toBeUndefined();
  });

  it.each<[string, Buffer]>([
    ['to a group', ethernet('0800', REQUEST_V4, '', '01005e000001')],
    ['to all', ethernet('0800', REQUEST_V4, '', 'ffffffffffff')],
    ['from a group', ethernet('0800', REQUEST_V4, '', PEER_MAC, '030000000001')],
    ['of another type', ethernet('86dd', REQUEST_V4)],
    ['with three tags', ethernet('0800', REQUEST_V4, '8100 0001 8100 0002 8100 0003')],
    ['of 13 bytes', ethernet('0800', REQUEST_V4).subarray(0, 13)],
    ['cut off in its tag', ethernet('0800', REQUEST_V4, '8100 0001').subarray(0, 17)],
  ])('to an Ethernet frame %s', (_, frame) => expect(answerTo(echo(true), frame)).toBeUndefined());

  it('for addresses that are not asked for', () => {
    const set = new PrefixSet([
      { bytes: hex(PEER_V4), length: 32 },
      { bytes: hex(PEER_V6), length: 64 },
    ]);
    expect(answerTo(echo(false, set), REQUEST_V4)).toEqual(REPLY_V4);
    expect(answerTo(echo(false, set), REQUEST_V6)).toEqual(REPLY_V6);
    expect(answerTo(echo(false, set), v4({ source: PEER_V4, destination: '0a000003' }))).toBeUndefined();
    expect(answerTo(echo(false, new PrefixSet([])), REQUEST_V4)).toBeUndefined();
  });
});

it('whatever comes, nothing is thrown, nothing read or written beyond', () => {
  const packets = [
    REQUEST_V4,
    REQUEST_V6,
    v4({ options: Buffer.alloc(12, 1) }),
    v6({ next: 0, payload: Buffer.concat([hex('3a 00 0502 0000 0100'), icmpv6(MESSAGE_V6)]) }),
  ];
  fuzz(echo(), packets, 30_000, 'echo on TUN');
  fuzz(
    echo(true),
    packets.map((packet) => ethernet((packet[0] as number) >> 4 === 4 ? '0800' : '86dd', packet, '8100 0005')),
    30_000,
    'echo on TAP',
  );
});
