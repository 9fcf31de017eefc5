// Plans as lines of ip and sysctl: what an operator reads in `plan`.

import { describe, expect, it } from 'vitest';
import type { InterfaceSpec } from '../../src/gen/taplane/v1/interface.ts';
import { type Actual, nothing, plan } from '../../src/interface/plan.ts';
import { commandLine, planStep } from '../../src/interface/step.ts';
import { applyToModel, desiredOf, freshLink, UID } from './model.ts';
import { address, mac, route, tap, tun } from './specs.ts';

const lines = (spec: InterfaceSpec, actual: Actual, before?: InterfaceSpec): string[] =>
  plan(desiredOf(spec), actual, before && desiredOf(before)).map(commandLine);
/** A device as the plan of this spec leaves it. */
const made = (spec: InterfaceSpec): Actual => applyToModel(nothing, plan(desiredOf(spec), nothing));
const full = tap({
  up: true,
  owner: '1000',
  group: '100',
  multiQueue: true,
  vnetHeader: true,
  mtu: 1400,
  txQueueLength: 77,
  macAddress: mac(1),
  controller: 'br0',
  addresses: [address('10.0.0.1/24'), address('10.8.0.1', { peer: '10.8.0.2' }), address('fd00::1/64', { validLifetime: 3600 })],
  routes: [
    route('10.1.0.0/16', { gateway: '10.0.0.9', metric: 7, mtu: 1300 }),
    route('10.0.9.0/24', { source: '10.0.0.1' }),
    route('fd01::/48', { gateway: 'fd00::9', onlink: true, table: 1000 }),
  ],
  neighbours: [{ address: '10.0.0.2', macAddress: mac(2) }],
  sysctls: { 'ipv6/accept_ra': '0', 'ipv4/rp_filter': '2' },
});

describe('creation', () => {
  it('reads from top to bottom', () => {
    expect(lines(full, nothing)).toEqual([
      `ip tuntap add dev tap0 mode tap user 1000 group 100 vnet_hdr multi_queue # alias taplane:${UID}`,
      'ip link set dev tap0 mtu 1400',
      'ip link set dev tap0 txqueuelen 77',
      'ip link set dev tap0 address 02:00:00:00:00:01',
      'sysctl -w net.ipv4.conf.tap0.rp_filter=2',
      'sysctl -w net.ipv6.conf.tap0.accept_ra=0',
      'ip link set dev tap0 master br0',
      'ip addr add 10.0.0.1/24 dev tap0',
      'ip addr add 10.8.0.1 peer 10.8.0.2/32 dev tap0',
      'ip addr add fd00::1/64 valid_lft 3600 preferred_lft 3600 dev tap0',
      'ip link set dev tap0 up',
      // On-link routes first: gateways may be reached through them.
      'ip route add 10.0.9.0/24 dev tap0 proto 76 scope link src 10.0.0.1',
      'ip route add 10.1.0.0/16 via 10.0.0.9 dev tap0 proto 76 metric 7 mtu 1300',
      'ip -6 route add fd01::/48 via fd00::9 dev tap0 proto 76 metric 1024 table 1000 onlink',
      'ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev tap0 nud permanent protocol 76',
    ]);
  });

  it('of the least is one line, or two with the MAC that follows from the uid', () => {
    expect(lines(tun(), nothing)).toEqual([`ip tuntap add dev tap0 mode tun user 0 # alias taplane:${UID}`]);
    expect(lines(tap(), nothing)).toEqual([
      `ip tuntap add dev tap0 mode tap user 0 # alias taplane:${UID}`,
      'ip link set dev tap0 address 12:e5:94:f4:81:95',
    ]);
  });

  it('keeps routes and neighbours back until the interface is up', () => {
    const down = { ...full, up: false };
    expect(lines(down, nothing).filter((line) => /route|neigh|up$/.test(line))).toEqual([]);
    expect(lines(full, made(down)).map((line) => line.split(' ').slice(0, 3).join(' '))).toEqual([
      'ip link set',
      'ip route add',
      'ip route add',
      'ip -6 route',
      'ip neigh replace',
    ]);
  });

  it('writes a dot in the name as sysctl wants it', () => {
    const spec = tun({ sysctls: { 'ipv4/rp_filter': '1' } });
    expect(plan(desiredOf(spec, 'a.b'), nothing).map(commandLine)[1]).toBe('sysctl -w net.ipv4.conf.a/b.rp_filter=1');
  });
});

describe('one difference, one line', () => {
  it('none is none', () => {
    expect(lines(full, made(full))).toEqual([]);
    expect(lines(full, made(full), full)).toEqual([]);
  });

  it.each<[string, Partial<InterfaceSpec>, string[]]>([
    ['MTU', { mtu: 1300 }, ['ip link set dev tap0 mtu 1300']],
    ['transmit queue', { txQueueLength: 0 }, ['ip link set dev tap0 txqueuelen 0']],
    ['bridge', { controller: 'br1' }, ['ip link set dev tap0 master br1']],
    ['no bridge', { controller: '' }, ['ip link set dev tap0 nomaster']],
    ['owner', { owner: '5' }, ['tunctl -t tap0 -u 5']],
    ['owner and group', { owner: '5', group: '6' }, ['tunctl -t tap0 -u 5 -g 6']],
    ['setting', { sysctls: { ...full.sysctls, 'ipv4/rp_filter': '1' } }, ['sysctl -w net.ipv4.conf.tap0.rp_filter=1']],
    [
      'lifetime',
      { addresses: [...full.addresses.slice(0, 2), address('fd00::1/64', { validLifetime: 60 })] },
      ['ip addr change fd00::1/64 valid_lft 60 preferred_lft 60 dev tap0'],
    ],
    [
      'lifetime within what clocks differ by',
      { addresses: [...full.addresses.slice(0, 2), address('fd00::1/64', { validLifetime: 3596 })] },
      [],
    ],
    [
      'an address less',
      { addresses: [full.addresses[0], full.addresses[2]].flatMap((item) => item ?? []) },
      ['ip addr del 10.8.0.1 peer 10.8.0.2/32 dev tap0'],
    ],
    [
      'another gateway',
      { routes: [route('10.1.0.0/16', { gateway: '10.0.0.8', metric: 7, mtu: 1300 }), ...full.routes.slice(1)] },
      [
        'ip route del 10.1.0.0/16 via 10.0.0.9 dev tap0 proto 76 metric 7 mtu 1300',
        'ip route add 10.1.0.0/16 via 10.0.0.8 dev tap0 proto 76 metric 7 mtu 1300',
      ],
    ],
    [
      'a neighbour with another MAC',
      { neighbours: [{ address: '10.0.0.2', macAddress: mac(9) }] },
      ['ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:09 dev tap0 nud permanent protocol 76'],
    ],
    ['no neighbour', { neighbours: [] }, ['ip neigh del 10.0.0.2 dev tap0']],
    [
      'IPv6 prefix, which the kernel takes for the same address',
      { addresses: [...full.addresses.slice(0, 2), address('fd00::1/48', { validLifetime: 3600 })] },
      [
        'ip addr del fd00::1/64 valid_lft 3600 preferred_lft 3600 dev tap0',
        'ip addr add fd00::1/48 valid_lft 3600 preferred_lft 3600 dev tap0',
      ],
    ],
    [
      'IPv4 prefix, where the new one can come first',
      { addresses: [address('10.0.0.1/16'), ...full.addresses.slice(1)] },
      ['ip addr add 10.0.0.1/16 dev tap0', 'ip addr del 10.0.0.1/24 dev tap0'],
    ],
  ])('%s', (_, change, expected) => {
    expect(lines({ ...full, ...change }, made(full), full)).toEqual(expected);
  });

  it('neighbours go with the MAC', () => {
    expect(lines({ ...full, macAddress: mac(7) }, made(full), full)).toEqual([
      'ip link set dev tap0 address 02:00:00:00:00:07',
      'ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev tap0 nud permanent protocol 76',
    ]);
  });

  it('down: routes, IPv6 addresses and neighbours go; addresses that are still asked for come back', () => {
    expect(lines({ ...full, up: false }, made(full), full)).toEqual([
      'ip link set dev tap0 down',
      'ip addr add fd00::1/64 valid_lft 3600 preferred_lft 3600 dev tap0',
    ]);
    expect(lines({ ...full, up: false }, { ...made(full), keepsAddresses: true }, full)).toEqual(['ip link set dev tap0 down']);
  });

  it('a secondary address outlives its primary one', () => {
    const both = tun({ addresses: [address('10.0.0.1/24'), address('10.0.0.2/24')] });
    const second = tun({ addresses: [address('10.0.0.2/24')] });
    expect(lines(second, made(both), both)).toEqual([
      'sysctl -w net.ipv4.conf.tap0.promote_secondaries=1',
      'ip addr del 10.0.0.1/24 dev tap0',
    ]);
    expect(lines(second, { ...made(both), promotesSecondaries: true }, both)).toEqual(['ip addr del 10.0.0.1/24 dev tap0']);
    expect(lines(tun(), made(both), both)).toEqual(['ip addr del 10.0.0.2/24 dev tap0', 'ip addr del 10.0.0.1/24 dev tap0']);
  });
});

describe('what others did', () => {
  const actual = made(full);
  const with_ = (fields: Partial<Actual>): Actual => ({ ...actual, ...fields });

  it.each<[string, Actual, string[]]>([
    ['renamed it', with_({ link: actual.link && { ...actual.link, name: 'other' } }), ['ip link set dev other name tap0']],
    ['wiped our mark', with_({ link: actual.link && { ...actual.link, alias: '' } }), [`ip link set dev tap0 alias taplane:${UID}`]],
    ['took it from the bridge', with_({ controller: '' }), ['ip link set dev tap0 master br0']],
    ['removed an address', with_({ addresses: actual.addresses.slice(1) }), ['ip addr add 10.0.0.1/24 dev tap0']],
    [
      'made a neighbour learned',
      with_({ neighbours: actual.neighbours.map((item) => ({ ...item, state: 2 })) }),
      ['ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev tap0 nud permanent protocol 76'],
    ],
    [
      'added an address with our mark',
      with_({ addresses: [...actual.addresses, ...made(tun({ addresses: [address('10.5.0.1/24')] })).addresses] }),
      ['ip addr del 10.5.0.1/24 dev tap0'],
    ],
    [
      'added an address of their own',
      with_({
        addresses: [
          ...actual.addresses,
          ...made(tun({ addresses: [address('10.5.0.1/24')] })).addresses.map((item) => ({ ...item, protocol: 0 })),
        ],
      }),
      [],
    ],
    [
      'added a route and a neighbour of their own',
      with_({
        routes: actual.routes.flatMap((item) => [item, { ...item, metric: 99, protocol: 3 }]),
        neighbours: [
          ...actual.neighbours,
          ...actual.neighbours.map((item) => ({ ...item, address: Buffer.from([10, 0, 0, 77]), protocol: 0 })),
        ],
      }),
      [],
    ],
    [
      'changed our route in place',
      with_({ routes: actual.routes.map((item) => (item.mtu === 1300 ? { ...item, mtu: 0 } : item)) }),
      [
        'ip route del 10.1.0.0/16 via 10.0.0.9 dev tap0 proto 76 metric 7',
        'ip route add 10.1.0.0/16 via 10.0.0.9 dev tap0 proto 76 metric 7 mtu 1300',
      ],
    ],
  ])('%s', (_, is, expected) => {
    expect(lines(full, is)).toEqual(expected);
  });

  it('put it into a bridge that was never asked for: theirs to do', () => {
    const plain = tap({ macAddress: mac(1) });
    const enslaved = { ...made(plain), controller: 'br7' };
    expect(lines(plain, enslaved)).toEqual([]);
    expect(lines(plain, enslaved, { ...plain, controller: 'br7' })).toEqual(['ip link set dev tap0 nomaster']);
  });

  it('what the old spec had goes also without our mark, as after an adoption', () => {
    const old = tun({ addresses: [address('10.5.0.1/24')] });
    const adopted = { ...made(old), addresses: made(old).addresses.map((item) => ({ ...item, protocol: 0 })) };
    expect(lines(tun(), adopted)).toEqual([]);
    expect(lines(tun(), adopted, old)).toEqual(['ip addr del 10.5.0.1/24 dev tap0']);
  });

  it('routes of the kernel are never ours', () => {
    const kernels = { ...actual, routes: [...actual.routes, ...actual.routes.map((item) => ({ ...item, protocol: 2, metric: 5 }))] };
    expect(lines(full, kernels, { ...full, routes: [...full.routes, route('10.1.0.0/16', { metric: 5 })] })).toEqual([]);
  });
});

it('tells actions and objects of steps', () => {
  const kinds = plan(desiredOf(full), { ...nothing, link: freshLink('tap0') }).map(
    (step) => `${planStep(step).action} ${planStep(step).object}`,
  );
  expect([...new Set(kinds)]).toEqual(['2 link', '2 sysctl', '1 address', '1 route', '1 neighbour']);
});
