import { describe, expect, it } from 'vitest';
import { prepare } from '../../src/interface/canonical.ts';
import { addressIdentity, aliasOf, desire, FOREVER, routeIdentity, stableMac } from '../../src/interface/desired.ts';
import { address, route, tap, tun } from './specs.ts';

const context = { name: 'tap0', uid: 'u', owner: undefined, group: undefined, ageSeconds: () => 0 };
const desired = (spec: Parameters<typeof prepare>[0], more = {}) => desire(prepare(spec), { ...context, ...more });

describe('addresses', () => {
  it.each([
    ['10.0.0.1/24', 0, '0a000001', 24, 0],
    ['169.254.1.1/16', 0, 'a9fe0101', 16, 253],
    ['fe80::1/64', 0, 'fe800000000000000000000000000001', 64, 253],
    ['febf::1/64', 0, 'febf0000000000000000000000000001', 64, 253],
    ['fec0::1/64', 0, 'fec00000000000000000000000000001', 64, 0],
    ['10.0.0.1/24', 2, '0a000001', 24, 253],
    ['10.0.0.1/24', 3, '0a000001', 24, 254],
    ['169.254.1.1/16', 1, 'a9fe0101', 16, 0],
  ])('%s with scope %i', (cidr, scope, bytes, prefixLength, kernelScope) => {
    const [found] = desired(tun({ addresses: [address(cidr, { scope: scope as 0 })] })).addresses;
    expect([found?.local.toString('hex'), found?.prefixLength, found?.scope, found?.protocol]).toEqual([
      bytes,
      prefixLength,
      kernelScope,
      76,
    ]);
  });

  it('with a far end have its prefix length', () => {
    const [found] = desired(tun({ addresses: [address('10.0.0.1/24', { peer: '10.9.0.2/30' })] })).addresses;
    expect([found?.prefixLength, found?.peer?.toString('hex')]).toEqual([30, '0a090002']);
  });

  it('with a lifetime have what is left of it, and none once the kernel may have removed it', () => {
    const left = (validLifetime: number, age: number) =>
      desired(tun({ addresses: [address('10.0.0.1/24', { validLifetime })] }), { ageSeconds: () => age }).addresses.map(
        (item) => item.validLifetime,
      );
    expect(left(0, 1e9)).toEqual([FOREVER]);
    expect(left(60, 0)).toEqual([60]);
    expect(left(60, 20.4)).toEqual([40]);
    expect(left(60, 59.7)).toEqual([1]);
    // The kernel counts in ticks and may be a little early; putting the address back would double its last second.
    expect([left(60, 59.98), left(60, 60), left(60, 1e6)]).toEqual([[], [], []]);
  });
});

describe('routes', () => {
  it('have the defaults of the kernel written out', () => {
    const routes = [
      route('10.1.0.0/16'),
      route('10.2.0.0/16', { gateway: '10.0.0.9' }),
      route('fd01::/48'),
      route('fd02::/48', { metric: 7, table: 1000, gateway: 'fd00::9' }),
    ];
    expect(
      desired(tun({ routes })).routes.map(({ scope, metric, table, type, protocol }) => [scope, metric, table, type, protocol]),
    ).toEqual([
      [253, 0, 254, 1, 76],
      [0, 0, 254, 1, 76],
      [0, 1024, 254, 1, 76],
      [0, 7, 1000, 1, 76],
    ]);
  });
});

describe('identity', () => {
  it('of addresses and routes is what the kernel tells them apart by', () => {
    const of = (cidr: string, more = {}) => desired(tun({ addresses: [address(cidr, more)] })).addresses.map(addressIdentity)[0];
    expect(new Set([of('10.0.0.1/24'), of('10.0.0.1/16'), of('10.0.0.2/24'), of('10.0.0.1/24', { peer: '10.0.0.9' })]).size).toBe(4);
    expect(of('10.0.0.1/24', { scope: 2, validLifetime: 60 })).toBe(of('10.0.0.1/24'));
    const to = (destination: string, more = {}) => desired(tun({ routes: [route(destination, more)] })).routes.map(routeIdentity)[0];
    expect(new Set([to('10.1.0.0/16'), to('10.1.0.0/17'), to('10.1.0.0/16', { metric: 1 }), to('10.1.0.0/16', { table: 7 })]).size).toBe(4);
    expect(to('10.1.0.0/16', { gateway: '10.0.0.9', mtu: 1300 })).toBe(to('10.1.0.0/16'));
  });

  it('of a device is in its alias, and its MAC follows from it: unicast, local, always the same', () => {
    expect(aliasOf('u')).toBe('taplane:u');
    const macs = Array.from({ length: 1000 }, (_, n) => stableMac(`uid-${n}`));
    for (const mac of macs) expect((mac[0] ?? 0) & 3).toBe(2);
    expect(new Set(macs.map((mac) => mac.toString('hex'))).size).toBe(1000);
    expect(stableMac('uid-1')).toEqual(macs[1]);
    expect(desired(tap()).mac).toEqual(stableMac('u'));
    expect(desired(tun()).mac).toBeUndefined();
  });
});
