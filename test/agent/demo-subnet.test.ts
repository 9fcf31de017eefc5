import { expect, test } from 'vitest';
import { freeName, freeSubnet, inFreeSubnet, readRoutes, usedNetworks } from '../../scripts/demo-subnet.ts';

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

test('a subnet that the agent refuses is not offered again', async () => {
  const asked: string[] = [];
  const found = await inFreeSubnet([net([10, 89, 1, 0], 24)], async (subnet) => {
    asked.push(subnet);
    if (asked.length < 3) throw Object.assign(new Error('in use'), { reason: 'ADDRESS_IN_USE' });
    return 'made';
  });
  expect(found).toEqual(['10.89.3', 'made']);
  expect(asked).toEqual(['10.89.0', '10.89.2', '10.89.3']);
  await expect(inFreeSubnet([], () => Promise.reject(new Error('other')))).rejects.toThrow('other');
});

test('a name that no device has', () => {
  expect(freeName('lab', new Set())).toBe('lab0');
  expect(freeName('lab', new Set(['lab0', 'lab1', 'lab3']))).toBe('lab2');
});
