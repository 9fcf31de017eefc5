import { describe, expect, it } from 'vitest';
import { decode } from '../../../src/sys/netlink/message.ts';
import { addRoute, deleteRoute, dumpRoutes, type LinkRoute, lookUpRoute, readRoute } from '../../../src/sys/netlink/route.ts';
import { captured } from './captured.ts';
import { bytes } from './hex.ts';
import { expectSameRequest } from './same-request.ts';

const HEADER = 12;

const viaGateway: LinkRoute = {
  index: 2,
  family: 2,
  destination: bytes('c6336400'),
  prefixLength: 24,
  table: 254,
  protocol: 76,
  scope: 0,
  type: 1,
  metric: 7,
  gateway: bytes('0a000002'),
  source: undefined,
  mtu: 0,
  onlink: false,
};

describe('reading routes', () => {
  it('reads those that ip -4 route showed', () => {
    const routes = decode(captured.ROUTES4).map(({ payload }) => readRoute(payload));
    expect(routes).toHaveLength(6);
    expect(routes[0]).toEqual({
      ...viaGateway,
      destination: bytes('0a000000'),
      protocol: 2,
      scope: 253,
      metric: 0,
      gateway: undefined,
      source: bytes('0a000001'),
    });
    expect(routes[2]).toEqual(viaGateway);
    expect(routes.slice(3).map((route) => [route?.table, route?.type])).toEqual([
      [255, 2], // local
      [255, 3], // broadcast
      [255, 2],
    ]);
  });

  it('reads those that ip -6 route showed: a table beyond a byte, an MTU, the metric', () => {
    const [first] = decode(captured.ROUTES6).map(({ payload }) => readRoute(payload));
    expect(first).toEqual({
      ...viaGateway,
      family: 10,
      destination: bytes('20010db8000100000000000000000000'),
      prefixLength: 48,
      table: 1000,
      protocol: 3,
      metric: 1024,
      gateway: undefined,
      mtu: 1300,
    });
  });

  it('reads a default route, which has no destination, and on-link', () => {
    const payload = bytes('02 00 00 00 fe 4c 00 01 04000000  0800 0500 0a000002  0800 0400 02000000');
    expect(readRoute(payload)).toMatchObject({ destination: bytes('00000000'), prefixLength: 0, gateway: bytes('0a000002'), onlink: true });
  });

  it.each([
    ['a cut header', '02 18 00 00 fe 4c 00 01 0000'],
    ['another family (MPLS)', '1c 18 00 00 fe 4c 00 01 00000000'],
    ['a destination of another size', '02 18 00 00 fe 4c 00 01 00000000  0700 0100 c63364 00'],
    ['a gateway of another size', '02 18 00 00 fe 4c 00 01 00000000  1400 0500 fd000000000000000000000000000001'],
    ['a source of another size', '0a 18 00 00 fe 4c 00 01 00000000  0800 0700 0a000001'],
  ])('does not read %s', (_, text) => {
    expect(readRoute(bytes(text))).toBeUndefined();
  });
});

describe('changing routes', () => {
  it.each([
    [
      'add 198.51.100.0/24 via 10.0.0.2 dev tap0 metric 7 proto 76',
      addRoute(viaGateway),
      '3c000000 1800 0506 f053026b 00000000  02 18 00 00 fe 4c 00 01 00000000  0800 0100 c6336400  0800 0500 0a000002  0800 0600 07000000  0800 0400 02000000',
      { 15: 'fe000000' },
    ],
    [
      'add 2001:db8:1::/48 dev tap0 table 1000 mtu 1300',
      addRoute({
        ...viaGateway,
        family: 10,
        destination: bytes('20010db8000100000000000000000000'),
        prefixLength: 48,
        table: 1000,
        protocol: 3,
        metric: 0,
        gateway: undefined,
        mtu: 1300,
      }),
      `4c000000 1800 0506 f053026b 00000000  0a 30 00 00 00 03 00 01 00000000
       1400 0100 20010db8000100000000000000000000  0800 0f00 e8030000  0800 0400 02000000  0c00 0800 0800 0200 14050000`,
      {},
    ],
    [
      'add 203.0.113.0/24 via 10.0.0.2 dev tap0 onlink src 10.0.0.1 proto 76',
      addRoute({ ...viaGateway, destination: bytes('cb007100'), metric: 0, source: bytes('0a000001'), onlink: true }),
      '3c000000 1800 0506 f053026b 00000000  02 18 00 00 fe 4c 00 01 04000000  0800 0100 cb007100  0800 0500 0a000002  0800 0700 0a000001  0800 0400 02000000',
      { 15: 'fe000000' },
    ],
  ])('ip route %s', (_, request, recorded, ours) => {
    expectSameRequest(request, bytes(recorded), HEADER, ours);
  });

  it('deletes exactly the route that was read: protocol, scope and all', () => {
    expect(deleteRoute(viaGateway)).toEqual({
      type: 25,
      flags: 4,
      payload: bytes(`
        02 18 00 00 fe 4c 00 01 00000000  // AF_INET, /24, main, protocol 76, universe, unicast
        0800 0400 02000000                // RTA_OIF 2
        0800 0f00 fe000000                // RTA_TABLE 254
        0800 0100 c6336400                // RTA_DST
        0800 0500 0a000002                // RTA_GATEWAY
        0800 0600 07000000                // RTA_PRIORITY 7
      `),
    });
  });

  it('lists as ip does, and looks up an address', () => {
    expectSameRequest(
      dumpRoutes(2, 2),
      bytes('24000000 1a00 0103 f153026b 00000000  02 00 00 00 00 00 00 00 00000000  0800 0400 02000000'),
      HEADER,
    );
    expect(dumpRoutes(10, 0).payload).toEqual(bytes('0a 00 00 00 00 00 00 00 00000000'));
    expect(lookUpRoute(2, bytes('0a000001')).payload).toEqual(bytes('02 20 00 00 00 00 00 00 00000000  0800 0100 0a000001'));
  });
});
