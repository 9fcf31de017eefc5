import { expect, test } from 'vitest';
import { freeSubnet, readRoutes, usedNetworks } from '../../scripts/demo-subnet.ts';

const net = (octets: [number, number, number, number], bits: number) => {
  const mask = bits === 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0;
  return { base: (Buffer.from(octets).readUInt32BE() & mask) >>> 0, mask };
};

test('the first network that overlaps with nothing', () => {
  expect(freeSubnet([])).toBe('10.89.0');
  expect(freeSubnet([net([192, 168, 0, 1], 16)])).toBe('10.89.0');
  expect(freeSubnet([net([10, 89, 0, 7], 32)])).toBe('10.89.1');
  expect(freeSubnet([net([10, 89, 0, 0], 23), net([10, 89, 2, 128], 25)])).toBe('10.89.3');
  expect(freeSubnet([net([10, 88, 0, 0], 15)])).toBe('10.0.0');
  expect(freeSubnet([net([10, 0, 0, 0], 8)])).toBeUndefined();
});

test('the kernel table of routes', () => {
  const table = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000590A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
`;
  expect(readRoutes(table)).toEqual([net([10, 89, 0, 0], 24)]);
  expect(freeSubnet(readRoutes(table))).toBe('10.89.1');
  expect(usedNetworks()).toContainEqual(net([127, 0, 0, 0], 8));
});
