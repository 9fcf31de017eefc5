import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  Address_Scope,
  type InterfaceSpec,
  InterfaceSpec_Carrier,
  InterfaceSpec_Drift,
  InterfaceSpec_Mode,
  Route_Scope,
} from '../../src/gen/taplane/v1/interface.ts';
import { prepare } from '../../src/interface/canonical.ts';
import { immutableProblems, specProblems } from '../../src/interface/spec.ts';
import { address, allowAll, anySpec, mac, route, strict, tap, tun } from './specs.ts';

const fieldsOf = (spec: InterfaceSpec, policy = strict): string[] =>
  specProblems(spec, policy).map(({ field }) => field.replace(/^interface\.spec\.?/, ''));
const unknown = 99 as never;

describe('what may be asked', () => {
  it.each<[string, InterfaceSpec]>([
    ['the least', tun()],
    ['the lowest MTU', tun({ mtu: 68 })],
    ['the highest MTU of a TUN', tun({ mtu: 65_535 })],
    ['the highest MTU of a TAP', tap({ mtu: 65_521 })],
    ['256 queues', tun({ queues: 256, multiQueue: true })],
    ['an empty transmit queue', tun({ txQueueLength: 0 })],
    ['both ends of a /31', tun({ addresses: [address('10.0.0.0/31'), address('10.0.0.1/31')] })],
    ['a host prefix by its address alone', tun({ addresses: [address('10.0.0.1'), address('fd00::1')] })],
    ['a point-to-point pair', tun({ addresses: [address('10.0.0.1', { peer: '10.9.9.9' })] })],
    ['the same address with two lengths', tun({ addresses: [address('10.0.0.1/24'), address('10.0.0.1/16')] })],
    ['the longest lifetime', tun({ addresses: [address('10.0.0.1/24', { validLifetime: 0xfffffffe })] })],
    [
      'the same destination with two metrics and in two tables',
      tun({ routes: [route('10.1.0.0/16'), route('10.1.0.0/16', { metric: 1 }), route('10.1.0.0/16', { table: 7 })] }),
    ],
    ['a namespace by name or path', tun({ networkNamespace: '/proc/1/ns/net' })],
    ['a bridge port with a neighbour', tap({ controller: 'br0', neighbours: [{ address: '10.0.0.2', macAddress: mac(2) }] })],
    ['settings at the ends of their ranges', tun({ sysctls: { 'ipv6/keep_addr_on_down': '-1', 'ipv6/dad_transmits': '255' } })],
  ])('%s', (_, spec) => {
    expect(specProblems(spec, strict)).toEqual([]);
  });
});

describe('what is refused, by field', () => {
  it.each<[string, InterfaceSpec, string[]]>([
    ['no mode', tun({ mode: InterfaceSpec_Mode.UNSPECIFIED }), ['mode']],
    ['an unknown mode', tun({ mode: unknown }), ['mode']],
    ['an unrecognized enum', tun({ mode: -1 as never, carrier: -1 as never, drift: -1 as never }), ['mode', 'carrier', 'drift']],
    ['an unknown carrier and drift', tun({ carrier: unknown, drift: unknown }), ['carrier', 'drift']],
    ['MTU 0', tun({ mtu: 0 }), ['mtu']],
    ['MTU 67', tun({ mtu: 67 }), ['mtu']],
    ['MTU 65536 of a TUN', tun({ mtu: 65_536 }), ['mtu']],
    ['MTU 65535 of a TAP', tap({ mtu: 65_535 }), ['mtu']],
    ['MTU 65522 of a TAP', tap({ mtu: 65_522 }), ['mtu']],
    ['MTU 1279 with IPv6', tun({ mtu: 1279, addresses: [address('fd00::1/64')] }), ['mtu']],
    ['MTU 1279 with an IPv6 setting, which goes with IPv6', tun({ mtu: 1279, sysctls: { 'ipv6/accept_ra': '0' } }), ['mtu']],
    ['257 queues', tun({ queues: 257, multiQueue: true }), ['queues']],
    ['2 queues without multi_queue', tun({ queues: 2 }), ['queues']],
    ['a transmit queue of a million and one', tun({ txQueueLength: 1_000_001 }), ['tx_queue_length']],
    ['users that are none', tun({ owner: 'a b', group: '../x' }), ['owner', 'group']],
    ['a MAC on a TUN', tun({ macAddress: mac(1) }), ['mac_address']],
    ['a MAC that is none', tap({ macAddress: '02:00' }), ['mac_address']],
    ['a group MAC', tap({ macAddress: '01:00:5e:00:00:01' }), ['mac_address']],
    ['the zero MAC', tap({ macAddress: '00:00:00:00:00:00' }), ['mac_address']],
    ['a bridge for a TUN', tun({ controller: 'br0' }), ['controller']],
    ['a bridge name with a slash', tap({ controller: 'br/0' }), ['controller']],
    ['a bridge name of 16 bytes', tap({ controller: 'b'.repeat(16) }), ['controller']],
    ['a bridge name of 16 bytes in 8 characters', tap({ controller: 'é'.repeat(8) }), ['controller']],
    ['a bridge name with a NUL, which the kernel would cut', tap({ controller: 'br0\0x' }), ['controller']],
    ['a namespace that climbs', tun({ networkNamespace: '/run/netns/../../etc/passwd' }), ['network_namespace']],
    ['a namespace of two dots', tun({ networkNamespace: '..' }), ['network_namespace']],
    ['a namespace with a slash inside', tun({ networkNamespace: 'a/b' }), ['network_namespace']],
    ['a namespace path with a NUL', tun({ networkNamespace: '/run/netns/a\0b' }), ['network_namespace']],
    ['neighbours of a TUN', tun({ neighbours: [{ address: '10.0.0.2', macAddress: mac(2) }] }), ['neighbours[0]']],
    [
      'a neighbour that is none',
      tap({ neighbours: [{ address: 'x', macAddress: 'y' }] }),
      ['neighbours[0].address', 'neighbours[0].mac_address'],
    ],
    ['an unknown setting', tun({ sysctls: { 'ipv4/route_localnet': '1' } }), ['sysctls["ipv4/route_localnet"]']],
    ['a setting that climbs', tun({ sysctls: { '../../kernel/x': '1' } }), ['sysctls["../../kernel/x"]']],
    [
      'settings out of range',
      tun({ sysctls: { 'ipv4/rp_filter': '3', 'ipv4/forwarding': '-1' } }),
      ['sysctls["ipv4/rp_filter"]', 'sysctls["ipv4/forwarding"]'],
    ],
    [
      'settings that are no numbers',
      tun({ sysctls: { 'ipv4/rp_filter': '1 ', 'ipv4/forwarding': '0x1', 'ipv4/arp_filter': '' } }),
      ['sysctls["ipv4/rp_filter"]', 'sysctls["ipv4/forwarding"]', 'sysctls["ipv4/arp_filter"]'],
    ],
    [
      'names of Object.prototype as settings',
      tun({ sysctls: JSON.parse('{"__proto__":"1","constructor":"1","toString":"1"}') }),
      ['sysctls["__proto__"]', 'sysctls["constructor"]', 'sysctls["toString"]'],
    ],
    [
      'IPv6 addresses where IPv6 is off',
      tun({ addresses: [address('fd00::1/64')], sysctls: { 'ipv6/disable_ipv6': '1' } }),
      ['sysctls["ipv6/disable_ipv6"]'],
    ],
    [
      'timeouts beyond a day',
      tun({ flowMetering: { disabled: false, activeTimeout: 86_401, idleTimeout: 86_401, sampling: 0 } }),
      ['flow_metering.active_timeout', 'flow_metering.idle_timeout'],
    ],
    ['257 addresses', tun({ addresses: Array.from({ length: 257 }, () => address('10.0.0.1/24')) }), ['addresses']],
    ['1025 routes', tun({ routes: Array.from({ length: 1025 }, () => route('10.0.0.0/24')) }), ['routes']],
  ])('%s', (_, spec, expected) => {
    expect(fieldsOf(spec)).toEqual(expected);
  });

  it.each([
    'junk',
    '',
    '10.0.0.1/33',
    'fd00::1/129',
    '0.0.0.0/0',
    '::/0',
    '10.0.0.0/24',
    'fd00::/64',
    '::ffff:10.0.0.1/120',
    '224.0.0.1/24',
    'ff02::1/64',
    '127.0.0.1/8',
    '::1/128',
    '240.0.0.1/8',
    '255.255.255.255/32',
    '0.1.2.3/8',
    '::/128',
    '10.0.0.1/24/24',
    '10.0.0.1%lo/24',
    'fe80::1%tap0/64',
  ])('the address %j', (cidr) => {
    expect(fieldsOf(tun({ addresses: [address('10.7.7.7/24'), address(cidr)] }))).toEqual(['addresses[1].cidr']);
  });

  it.each<[string, Parameters<typeof address>[1], string[]]>([
    ['a peer of the other family', { peer: 'fd00::1' }, ['peer']],
    ['a peer that is the address', { peer: '10.0.0.1' }, ['peer']],
    ['a multicast peer', { peer: '224.0.0.1' }, ['peer']],
    ['a peer that is the Internet', { peer: '10.0.0.2/0' }, ['peer']],
    ['an unknown scope', { scope: unknown }, ['scope']],
    ['a lifetime that means for ever', { validLifetime: 0xffffffff }, ['valid_lifetime']],
  ])('an address with %s', (_, fields, expected) => {
    expect(fieldsOf(tun({ addresses: [address('10.0.0.1/24', fields)] }))).toEqual(expected.map((field) => `addresses[0].${field}`));
  });

  it('a scope of IPv6, which follows from the address', () => {
    expect(
      fieldsOf(
        tun({
          addresses: [address('fd00::1/64', { scope: Address_Scope.LINK })],
          routes: [route('fd01::/64', { scope: Route_Scope.LINK })],
        }),
      ),
    ).toEqual(['addresses[0].scope', 'routes[0].scope']);
  });

  it.each<[string, string, Parameters<typeof route>[1], string[]]>([
    ['junk', 'junk', {}, ['destination']],
    ['host bits', '10.1.2.3/16', {}, ['destination']],
    ['multicast', '224.0.0.0/4', {}, ['destination']],
    ['loopback', '127.0.0.0/8', {}, ['destination']],
    ['IPv4 in IPv6', '::ffff:0:0/96', {}, ['destination']],
    ['everything', '0.0.0.0/0', {}, ['destination']],
    ['half of everything', '128.0.0.0/1', {}, ['destination']],
    ['everything of IPv6', '::/0', {}, ['destination']],
    ['a gateway that is none', '10.1.0.0/16', { gateway: 'x' }, ['gateway']],
    ['a gateway of the other family', '10.1.0.0/16', { gateway: 'fd00::1' }, ['gateway']],
    ['a gateway and a source that no host has', '10.1.0.0/16', { gateway: '224.0.0.1', source: '127.0.0.1' }, ['gateway', 'source']],
    ['on-link without a gateway', '10.1.0.0/16', { onlink: true }, ['onlink']],
    ['the local table', '10.1.0.0/16', { table: 255 }, ['table']],
    ['an MTU of 67', '10.1.0.0/16', { mtu: 67 }, ['mtu']],
    ['an unknown scope', '10.1.0.0/16', { scope: unknown }, ['scope']],
    ['link scope with a gateway', '10.1.0.0/16', { gateway: '10.0.0.1', scope: Route_Scope.LINK }, ['scope']],
  ])('a route with %s', (_, destination, fields, expected) => {
    expect(fieldsOf(tun({ routes: [route(destination, fields)] }))).toEqual(expected.map((field) => `routes[0].${field}`));
  });

  it('default routes unless the operator allows them, or the interface has them already', () => {
    const spec = tun({ routes: [route('0.0.0.0/0')] });
    expect(fieldsOf(spec, allowAll)).toEqual([]);
    expect(specProblems(spec, strict, 'spec', spec)).toEqual([]);
    expect(specProblems(spec, strict, 'spec', tun())).toHaveLength(1);
  });

  it('the same thing twice, however it is written', () => {
    const twice = tap({
      addresses: [
        address('FD00::1/64'),
        address('fd00:0::1/64'),
        address('10.0.0.1/24', { peer: '10.9.0.2' }),
        address('10.0.0.1/32', { peer: '10.9.0.2/32' }),
      ],
      routes: [
        route('10.1.0.0/16'),
        route('10.1.0.0/16', { table: 254, gateway: '10.0.0.2' }),
        route('fd01::/64'),
        route('fd01::/64', { metric: 1024 }),
      ],
      neighbours: [
        { address: 'FD00::2', macAddress: mac(2) },
        { address: 'fd00::2', macAddress: mac(3) },
      ],
    });
    expect(fieldsOf(twice)).toEqual(['addresses[1]', 'addresses[3]', 'routes[1]', 'routes[3]', 'neighbours[1]']);
  });
});

describe('every violation', () => {
  it('is told at once, under the path of the request', () => {
    const spec = tun({
      mode: unknown,
      mtu: 1,
      queues: 999,
      addresses: [address('x'), address('10.0.0.1/24', { peer: 'y' })],
      routes: [route('z')],
      sysctls: { a: '1' },
      carrier: unknown,
    });
    expect(specProblems(spec, strict, 'spec').map(({ field }) => field)).toEqual([
      'spec.mode',
      'spec.carrier',
      'spec.queues',
      'spec.queues',
      'spec.mtu',
      'spec.addresses[0].cidr',
      'spec.addresses[1].peer',
      'spec.routes[0].destination',
      'spec.sysctls["a"]',
    ]);
  });

  it('quotes no more of the request than fits a line', () => {
    const [first] = specProblems(tun({ addresses: [address('x'.repeat(100_000))] }), strict);
    expect(first?.description.length).toBeLessThan(200);
  });
});

describe('what cannot change while the device lives', () => {
  it('is told field by field', () => {
    const before = tap({ owner: '1000', group: '1000' });
    const after = tun({ multiQueue: true, packetInfo: true, vnetHeader: true, ephemeral: true, networkNamespace: 'a' });
    expect(immutableProblems(before, after).map(({ field }) => field.slice('interface.spec.'.length))).toEqual([
      'mode',
      'multi_queue',
      'packet_info',
      'vnet_header',
      'ephemeral',
      'network_namespace',
      'owner',
      'group',
    ]);
    expect(immutableProblems(tap(), tap({ group: '5' })).map(({ field }) => field)).toEqual(['interface.spec.group']);
    expect(immutableProblems(tap(), tap({ owner: '5', group: '5' })).map(({ field }) => field)).toEqual(['interface.spec.group']);
    expect(immutableProblems(tap({ group: '5' }), tap({ owner: '5', group: '5' })).map(({ field }) => field)).toEqual([
      'interface.spec.owner',
    ]);
    expect(immutableProblems(tap(), tap({ owner: '5' }))).toEqual([]);
    expect(immutableProblems(before, tap({ owner: '0', group: '5', up: true, mtu: 1400 }))).toEqual([]);
  });
});

describe('prepare', () => {
  it('makes sound specs of sound specs, twice is once, and defaults are filled in', () => {
    fc.assert(
      fc.property(fc.oneof(anySpec('tun'), anySpec('tap')), (spec) => {
        expect(specProblems(spec, strict)).toEqual([]);
        const once = prepare(spec);
        expect(specProblems(once, strict)).toEqual([]);
        expect(prepare(once)).toEqual(once);
        expect(once.queues).toBeGreaterThan(0);
        expect([once.carrier, once.drift]).toEqual([InterfaceSpec_Carrier.FOLLOW, InterfaceSpec_Drift.REPAIR]);
      }),
    );
  });

  it('writes everything canonically', () => {
    const spec = tap({
      macAddress: '02:AA:BB:CC:DD:EE',
      addresses: [address('FD00:0::1/64'), address('10.0.0.1', { peer: '10.0.0.2' })],
      routes: [route('FD01:0::/64', { gateway: 'FD00::0:2', source: 'FD00::1' })],
      neighbours: [{ address: 'FD00::2', macAddress: '02:AA:BB:CC:DD:EF' }],
      sysctls: { 'ipv6/accept_ra': '00', 'ipv4/rp_filter': '01', 'ipv4/arp_filter': '-0' },
    });
    expect(prepare(spec)).toMatchObject({
      macAddress: '02:aa:bb:cc:dd:ee',
      addresses: [{ cidr: 'fd00::1/64' }, { cidr: '10.0.0.1/32', peer: '10.0.0.2/32' }],
      routes: [{ destination: 'fd01::/64', gateway: 'fd00::2', source: 'fd00::1' }],
      neighbours: [{ address: 'fd00::2', macAddress: '02:aa:bb:cc:dd:ef' }],
    });
    // As the kernel prints them, or they would differ for ever; sorted, or equal specs would differ.
    expect(Object.entries(prepare(spec).sysctls)).toEqual([
      ['ipv4/arp_filter', '0'],
      ['ipv4/rp_filter', '1'],
      ['ipv6/accept_ra', '0'],
    ]);
  });
});
