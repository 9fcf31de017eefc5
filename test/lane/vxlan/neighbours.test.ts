import { expect, it } from 'vitest';
import { Neighbours } from '../../../src/lane/vxlan/neighbours.ts';
import { random, seed } from '../../harness/random.ts';
import { l4ChecksumError } from '../../packet/frames.ts';
import { ethernet, hex, icmpv6, ipv6, NODE_MAC, NODE_V4, NODE_V6, PEER_MAC, PEER_V4, PEER_V6 } from '../../packet/requests.ts';

const ALL = 'ffffffffffff';
const AGE_MS = 300_000;
const GROUP = 'ff0200000000000000000001ff000002';
const GROUP_MAC = '3333ff000002';

const arp = (operation: number, from: string, fromIp: string, to: string, toIp: string, destination = ALL, tags = '') =>
  ethernet('0806', hex(`0001 0800 06 04 000${operation} ${from} ${fromIp} ${to} ${toIp}`), tags, destination, from);
const nd = (payload: string, source: string, destination: string, to: string, from: string, hopLimit = 255) =>
  ethernet('86dd', ipv6({ next: 58, hopLimit, source, destination, payload: icmpv6(hex(payload), source, destination) }), '', to, from);
/** Of the remote: who it is, to all. */
const advertisement = (flags: string, mac = PEER_MAC, hopLimit = 255) =>
  nd(`8800 0000 ${flags}000000 ${PEER_V6} 0201 ${mac}`, PEER_V6, 'ff020000000000000000000000000001', '333300000001', PEER_MAC, hopLimit);
/** Of our own side: who has the address of the remote? */
const solicitation = (destination = GROUP, mac = GROUP_MAC) =>
  nd(`8700 0000 00000000 ${PEER_V6} 0101 ${NODE_MAC}`, NODE_V6, destination, mac, NODE_MAC);
const QUESTION = arp(1, NODE_MAC, NODE_V4, '000000000000', PEER_V4);
const HELLO = arp(1, PEER_MAC, PEER_V4, '000000000000', PEER_V4);

function made({ most = 4096, isThere = (_: string): boolean => true } = {}) {
  const neighbours = new Neighbours({ most, ageMs: AGE_MS });
  const framed = (frame: Buffer) => Buffer.concat([hex('eeee'), frame, hex('ee')]);
  const out = Buffer.alloc(128);
  return {
    neighbours,
    heard: (frame: Buffer, nowMs = 0) => neighbours.heard(framed(frame), 2, frame.length, nowMs),
    answer: (frame: Buffer, nowMs = 0) => {
      const size = neighbours.answer(framed(frame), 2, frame.length, nowMs, (mac) => isThere(mac.toString('hex')), out);
      return size === 0 ? undefined : Buffer.from(out.subarray(0, size));
    },
  };
}

it('answers a question of ARP for a pair that a remote has shown, by request or reply, while it is fresh', () => {
  const { neighbours, heard, answer } = made();
  expect(answer(QUESTION)).toBeUndefined();
  heard(arp(2, PEER_MAC, PEER_V4, NODE_MAC, NODE_V4, NODE_MAC), 0);
  const reply = `${NODE_MAC} ${PEER_MAC} 0806 0001 0800 06 04 0002 ${PEER_MAC} ${PEER_V4} ${NODE_MAC} ${NODE_V4}`;
  expect(answer(QUESTION, AGE_MS)).toEqual(hex(reply));
  expect(answer(QUESTION, AGE_MS + 1)).toBeUndefined();
  heard(HELLO, AGE_MS + 1);
  expect(answer(QUESTION, AGE_MS + 1)).toEqual(hex(reply));
  expect(neighbours.answered).toBe(2);
  expect([...neighbours.addresses(AGE_MS + 1)]).toEqual([[Number.parseInt(PEER_MAC, 16), hex(PEER_V4)]]);
  neighbours.sweep(3 * AGE_MS);
  expect(neighbours.size).toBe(0);
});

it.each([
  ['a host', '00', '60'],
  ['a router', '80', 'e0'],
])('answers a solicitation for %s that advertised itself as such', (_, flags, expected) => {
  const { heard, answer } = made();
  heard(advertisement(flags));
  const found = answer(solicitation()) as Buffer;
  expect(found.subarray(54 + 4, 54 + 8).toString('hex')).toBe(`${expected}000000`);
  expect(found.subarray(54 + 26).toString('hex')).toBe(PEER_MAC);
  expect(l4ChecksumError(found.subarray(14), 58, 40)).toBe(0);
});

it('of IPv6 only advertisements teach: solicitations do not tell routers from hosts; but they show that a pair is no more', () => {
  const { neighbours, heard, answer } = made();
  const asks = (mac: string) =>
    nd(`8700 0000 00000000 ${NODE_V6} 0101 ${mac}`, PEER_V6, 'ff0200000000000000000001ff000001', '3333ff000001', mac);
  heard(asks(PEER_MAC));
  expect(neighbours.size).toBe(0);
  heard(advertisement('20'));
  heard(asks(PEER_MAC));
  expect(answer(solicitation())).toBeDefined();
  heard(asks('020000000077'));
  expect(answer(solicitation())).toBeUndefined();
});

it('is silent to what asks one station, whether it is still there', () => {
  const { heard, answer } = made();
  heard(HELLO);
  heard(advertisement('20'));
  expect(answer(arp(1, NODE_MAC, NODE_V4, PEER_MAC, PEER_V4, PEER_MAC))).toBeUndefined();
  expect(answer(solicitation(PEER_V6, PEER_MAC))).toBeUndefined();
  expect([answer(QUESTION), answer(solicitation())]).not.toContain(undefined);
});

it('is silent where the MAC address is not behind a remote now', () => {
  let there = [PEER_MAC];
  const { heard, answer } = made({ isThere: (mac) => there.includes(mac) });
  heard(HELLO);
  expect(answer(QUESTION)).toBeDefined();
  there = [];
  expect(answer(QUESTION)).toBeUndefined();
});

it.each([
  ['a reply', arp(2, NODE_MAC, PEER_V4, PEER_MAC, NODE_V4, PEER_MAC)],
  ['an announcement', arp(1, NODE_MAC, PEER_V4, '000000000000', PEER_V4)],
])('forgets an address that %s shows on our own side', (_, frame) => {
  const { heard, answer } = made();
  heard(HELLO);
  expect(answer(frame)).toBeUndefined();
  expect(answer(QUESTION)).toBeUndefined();
});

it('the same for IPv6', () => {
  const { heard, answer } = made();
  heard(advertisement('20'));
  answer(advertisement('20', NODE_MAC));
  expect(answer(solicitation())).toBeUndefined();
});

it.each<[string, Buffer]>([
  ['with a VLAN tag', arp(1, PEER_MAC, PEER_V4, '000000000000', PEER_V4, ALL, '8100 0005')],
  ['of no host', arp(1, PEER_MAC, '00000000', '000000000000', PEER_V4)],
  ['of a group of stations', arp(1, '010000000002', PEER_V4, '000000000000', PEER_V4)],
  ['that is cut off', HELLO.subarray(0, 41)],
  ['with another operation', arp(3, PEER_MAC, PEER_V4, '000000000000', PEER_V4)],
  ['that came over a router', advertisement('20', PEER_MAC, 254)],
  ['with a wrong checksum', Buffer.from(advertisement('20').map((value, index) => (index === 57 ? value ^ 1 : value)))],
  ['without a MAC address', nd(`8800 0000 20000000 ${PEER_V6}`, PEER_V6, GROUP, GROUP_MAC, PEER_MAC)],
  ['whose option has no length', nd(`8800 0000 20000000 ${PEER_V6} 0200 ${PEER_MAC}`, PEER_V6, GROUP, GROUP_MAC, PEER_MAC)],
])('learns nothing from a message %s', (_, frame) => {
  const { neighbours, heard } = made();
  heard(frame);
  expect(neighbours.size).toBe(0);
});

it('when it is full learns nothing more, until something ages', () => {
  const { neighbours, heard } = made({ most: 2 });
  const hello = (last: number) => arp(1, PEER_MAC, `0a00000${last}`, '000000000000', PEER_V4);
  heard(hello(1), 0);
  heard(hello(2), 10);
  heard(hello(3), 20);
  expect(neighbours.size).toBe(2);
  heard(hello(1), 30);
  heard(hello(3), 11 + AGE_MS);
  expect([...neighbours.addresses(11 + AGE_MS).values()]).toEqual([hex('0a000003')]);
  expect(neighbours.size).toBe(2);
});

it(`never throws and never looks beyond the frame, whatever comes (seed ${seed})`, () => {
  const dice = random('neighbours');
  const { neighbours, heard, answer } = made({ most: 100 });
  const frames = [QUESTION, HELLO, advertisement('a0'), solicitation()];
  for (let round = 0; round < 20_000; round++) {
    const frame = Buffer.from(dice.pick(frames).subarray(0, dice.integer(0, 90)));
    for (let count = dice.integer(0, 3); count > 0 && frame.length > 0; count--)
      frame[dice.integer(0, frame.length - 1)] = dice.integer(0, 255);
    if (dice.next() < 0.5) heard(frame, round);
    else answer(frame, round);
  }
  expect(neighbours.size).toBeLessThanOrEqual(100);
});
