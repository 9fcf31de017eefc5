import { expect, it } from 'vitest';
import { type Carriage, defaultMtu, largestMtu, linkOverhead } from '../../src/packet/link-overhead.ts';

it.each([
  // carriage, outer family, Ethernet inside: bytes, MTU that fits 1500, default
  ['frames-udp', 4, false, 28, 1472, 1472],
  ['frames-udp', 6, false, 48, 1452, 1452],
  ['frames-udp', 4, true, 42, 1458, 1458],
  ['frames-udp', 6, true, 62, 1438, 1438],
  ['frames-tcp', 4, false, 2, 1500, 1500],
  ['frames-tcp', 6, true, 16, 1500, 1500],
  ['vxlan', 4, true, 50, 1450, 1450],
  ['vxlan', 6, true, 70, 1430, 1430],
  ['wireguard', 4, false, 60, 1440, 1420],
  ['wireguard', 6, false, 80, 1420, 1420],
] as [Carriage, 4 | 6, boolean, number, number, number][])('%s over IPv%i, Ethernet %s', (carriage, outer, ethernet, bytes, mtu, usual) => {
  expect(linkOverhead(carriage, outer, ethernet)).toBe(bytes);
  expect(largestMtu(carriage, outer, ethernet)).toBe(mtu);
  expect(defaultMtu(carriage, outer, ethernet)).toBe(usual);
});

it('follows the path', () => {
  expect(largestMtu('wireguard', 6, false, 1400)).toBe(1320);
});
