import { describe, expect, it } from 'vitest';
import { Device } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { InterfaceSpec } from '../../src/gen/taplane/v1/interface.ts';
import { LinkSpec } from '../../src/gen/taplane/v1/link.ts';
import { type Joined, obstacle, wrongMode } from '../../src/link/joined.ts';
import { makePrivateKey, publicKeyOf } from '../../src/link/keys.ts';
import { prepare, withoutSecrets, withSecretsOf } from '../../src/link/prepared.ts';
import { immutableProblems, joinedProblems, specProblems } from '../../src/link/spec.ts';
import { loopOf } from '../../src/link/underlay.ts';
import { formatIp, formatPrefix, networkOf } from '../../src/resource/inet.ts';
import { random, seed } from '../harness/random.ts';
import { FRAMES, type PartialLink, somebody, TCP, VXLAN, WIREGUARD } from './links.ts';

const whole = (spec: PartialLink): LinkSpec => LinkSpec.fromPartial({ interface: 'interfaces/tun0', ...(spec as object) });
const fieldsOf = (spec: PartialLink): string[] => specProblems(whole(spec)).map(({ field }) => field.replace(/^link\.spec\.?/, ''));
const key = publicKeyOf(Buffer.alloc(32, 7));
const other = publicKeyOf(Buffer.alloc(32, 8));
const peer = { publicKey: key };
const at = { endpoint: '192.0.2.1:55555' };
const frames: PartialLink = { protocol: FRAMES, peers: [at] };
const tcp: PartialLink = { ...frames, transport: TCP };
const vxlan: PartialLink = { protocol: VXLAN, vxlan: { vni: 42 }, peers: [at, { endpoint: '192.0.2.2:4789' }] };
const wg: PartialLink = { protocol: WIREGUARD, peers: [peer] };
const files = { certificateFile: '/etc/a.pem', privateKeyFile: '/etc/a.key', caFile: '/etc/ca.pem' };
const many = (count: number): { endpoint: string }[] =>
  Array.from({ length: count }, (_, index) => ({ endpoint: `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}:4789` }));

describe('what may be asked', () => {
  it.each<[string, PartialLink]>([
    ['frames over UDP', frames],
    ['frames to IPv6', { ...frames, peers: [{ endpoint: '[2001:db8::1]:1' }] }],
    ['frames over TCP, the client', tcp],
    ['frames over TCP, a server for anybody', { ...tcp, listen: ':55555', peers: [] }],
    ['frames over TCP, a server for one', { ...tcp, listen: '127.0.0.1:55555' }],
    ['frames over TLS', { ...tcp, tls: { ...files, peerName: 'node-b.example' } }],
    ['vxlan', vxlan],
    ['vxlan without remotes', { ...vxlan, peers: [] }],
    [
      'vxlan with all that it can',
      {
        ...vxlan,
        vxlan: {
          vni: 0xffffff,
          noLearning: true,
          ageSeconds: 86_400,
          maxAddresses: 65_536,
          stormLimit: 1_000_000,
          suppressNeighbours: true,
        },
        peers: [{ ...at, macAddresses: ['02:00:00:00:00:01', '02:00:00:00:00:02'] }],
      },
    ],
    ['1024 remotes', { ...vxlan, peers: many(1024) }],
    ['wireguard without peers', { ...wg, peers: [] }],
    ['wireguard with a peer that is waited for', wg],
    [
      'wireguard with all that it can',
      {
        ...wg,
        listen: '[::]:51820',
        mtu: 1420,
        socketMark: 0xffffffff,
        bindDevice: 'eth0',
        wireguard: { privateKey: Buffer.alloc(32, 9) },
        peers: [
          {
            ...peer,
            ...at,
            allowedPrefixes: ['10.1.0.0/16', 'fd00::/8', '10.2.3.4', '0.0.0.0/0', '::/0'],
            keepalive: 65_535,
            presharedKey: Buffer.alloc(32),
          },
          { publicKey: other, presharedKey: Buffer.alloc(32, 1), probeAddress: '10.9.0.1', displayName: 'büro west' },
        ],
      },
    ],
    [
      'a prefix within that of another peer',
      {
        ...wg,
        peers: [
          { ...peer, allowedPrefixes: ['10.0.0.0/8'] },
          { publicKey: other, allowedPrefixes: ['10.1.0.0/16'] },
        ],
      },
    ],
    ['least and largest MTU', { ...frames, mtu: 576 }],
    ['largest MTU', { ...frames, mtu: 65_535 }],
  ])('%s', (_, spec) => {
    expect(specProblems(whole(spec))).toEqual([]);
    // What is kept is sound too, and stays as it is.
    const kept = prepare(whole(spec));
    expect(specProblems(kept)).toEqual([]);
    expect(prepare(kept)).toEqual(kept);
  });
});

describe('what may not be asked, and where it says so', () => {
  it.each<[string, PartialLink, string[]]>([
    ['nothing', { interface: '' }, ['interface', 'protocol']],
    ['an interface that is none', { ...frames, interface: 'tun0' }, ['interface']],
    ['an interface of a bad name', { ...frames, interface: 'interfaces/../x' }, ['interface']],
    ['an unknown protocol', { protocol: 9 as never }, ['protocol']],
    ['an unknown transport', { ...frames, transport: 9 as never }, ['transport']],
    ['vxlan over TCP', { ...vxlan, transport: TCP }, ['transport']],
    ['wireguard over TCP', { ...wg, transport: TCP }, ['transport']],
    ...[
      'localhost:1',
      '127.0.0.1',
      '127.0.0.1:',
      '127.0.0.1:65536',
      '127.0.0.1:01',
      '::1:1',
      '[127.0.0.1]:1',
      '1.2.3:1',
      '[fe80::1%lo]:1',
      ' :1',
      '224.0.0.1:1',
      '[::ffff:1.2.3.4]:1',
    ].map((listen): [string, PartialLink, string[]] => [`listen ${listen}`, { ...wg, listen }, ['listen']]),
    ...[
      'example.org:1',
      '192.0.2.1',
      '192.0.2.1:0',
      ':5',
      '0.0.0.0:5',
      '[::]:5',
      '255.255.255.255:5',
      '239.0.0.1:5',
      '[ff02::1]:5',
      '[::ffff:1.2.3.4]:5',
      '2001:db8::1:5',
      '0x7f.1:5',
      '192.0.2.1:1e3',
    ].map((endpoint): [string, PartialLink, string[]] => [
      `endpoint ${endpoint}`,
      { ...frames, peers: [{ endpoint }] },
      ['peers[0].endpoint'],
    ]),
    [
      'an endpoint of another family than listen',
      { ...frames, listen: '192.0.2.9:1', peers: [{ endpoint: '[2001:db8::1]:1' }] },
      ['peers[0].endpoint'],
    ],
    ['no peer over UDP', { protocol: FRAMES, listen: ':1' }, ['peers']],
    ['no peer of a TCP client', { protocol: FRAMES, transport: TCP }, ['peers']],
    ['two peers', { ...frames, peers: many(2) }, ['peers']],
    ['1025 remotes', { ...vxlan, peers: many(1025) }, ['peers']],
    ['a remote without endpoint', { ...vxlan, peers: [{}] }, ['peers[0].endpoint']],
    ['a remote twice', { ...vxlan, peers: [at, at] }, ['peers[1].endpoint']],
    [
      'a remote twice in other spelling',
      { ...vxlan, peers: [{ endpoint: '[2001:db8::1]:1' }, { endpoint: '[2001:DB8:0::1]:1' }] },
      ['peers[1].endpoint'],
    ],
    ['no VNI', { ...vxlan, vxlan: undefined }, ['vxlan.vni']],
    ['a VNI of 25 bits', { ...vxlan, vxlan: { vni: 0x1000000 } }, ['vxlan.vni']],
    [
      'vxlan beyond its limits',
      { ...vxlan, vxlan: { vni: 1, ageSeconds: 86_401, maxAddresses: 65_537, stormLimit: 1_000_001 } },
      ['vxlan.age_seconds', 'vxlan.max_addresses', 'vxlan.storm_limit'],
    ],
    [
      'bad MAC addresses',
      { ...vxlan, peers: [{ ...at, macAddresses: ['x', '01:00:5e:00:00:01', '00:00:00:00:00:00'] }] },
      [0, 1, 2].map((n) => `peers[0].mac_addresses[${n}]`),
    ],
    [
      'a MAC address behind two remotes',
      { ...vxlan, peers: many(2).map((one) => ({ ...one, macAddresses: ['02:00:00:00:00:0A'] })) },
      ['peers[1].mac_addresses[0]'],
    ],
    ['vxlan of another protocol', { ...frames, vxlan: { vni: 1 } }, ['vxlan']],
    ['a peer without key', { ...wg, peers: [{}] }, ['peers[0].public_key']],
    ['a key of 31 bytes', { ...wg, peers: [{ publicKey: Buffer.alloc(31, 1) }] }, ['peers[0].public_key']],
    ['a key of zeros', { ...wg, peers: [{ publicKey: Buffer.alloc(32) }] }, ['peers[0].public_key']],
    [
      'a key of small order',
      { ...wg, peers: [{ publicKey: Buffer.from('e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b880', 'hex') }] },
      ['peers[0].public_key'],
    ],
    ['a peer twice', { ...wg, peers: [peer, peer] }, ['peers[1].public_key']],
    ['itself as a peer', { ...wg, wireguard: { privateKey: Buffer.alloc(32, 7) } }, ['peers[0].public_key']],
    [
      'a prefix of two peers',
      {
        ...wg,
        peers: [
          { ...peer, allowedPrefixes: ['10.1.0.0/16'] },
          { publicKey: other, allowedPrefixes: ['10.2.0.0/16', '10.1.0.0/16'] },
        ],
      },
      ['peers[1].allowed_prefixes[1]'],
    ],
    [
      'a prefix twice in other spelling',
      { ...wg, peers: [{ ...peer, allowedPrefixes: ['fd00::/64', 'FD00:0::/64'] }] },
      ['peers[0].allowed_prefixes[1]'],
    ],
    ...['10.0.0.1/24', '10.0.0.0/33', '10.1/16', 'x', '', '::ffff:0:0/96', 'fd00::1/64', '010.0.0.0/8'].map(
      (prefix): [string, PartialLink, string[]] => [
        `prefix ${prefix}`,
        { ...wg, peers: [{ ...peer, allowedPrefixes: [prefix] }] },
        ['peers[0].allowed_prefixes[0]'],
      ],
    ),
    [
      '1025 prefixes',
      { ...wg, peers: [{ ...peer, allowedPrefixes: many(1025).map(({ endpoint }) => endpoint.split(':')[0] ?? '') }] },
      ['peers[0].allowed_prefixes'],
    ],
    ['keepalive', { ...wg, peers: [{ ...peer, keepalive: 65_536 }] }, ['peers[0].keepalive']],
    ['a preshared key of 16 bytes', { ...wg, peers: [{ ...peer, presharedKey: Buffer.alloc(16, 1) }] }, ['peers[0].preshared_key']],
    ['a private key of 33 bytes', { ...wg, wireguard: { privateKey: Buffer.alloc(33, 1) } }, ['wireguard.private_key']],
    ['a private key of zeros', { ...wg, wireguard: { privateKey: Buffer.alloc(32) } }, ['wireguard.private_key']],
    ['wireguard of another protocol', { ...frames, wireguard: { privateKey: Buffer.alloc(0) } }, ['wireguard']],
    [
      'parts of wireguard elsewhere',
      { ...frames, peers: [{ ...at, publicKey: key, allowedPrefixes: ['10.0.0.0/8'], keepalive: 5, presharedKey: Buffer.alloc(32, 1) }] },
      ['public_key', 'allowed_prefixes', 'keepalive', 'preshared_key'].map((name) => `peers[0].${name}`),
    ],
    ['MAC addresses elsewhere', { ...wg, peers: [{ ...peer, macAddresses: ['02:00:00:00:00:01'] }] }, ['peers[0].mac_addresses']],
    ['a bad probe address', { ...wg, peers: [{ ...peer, probeAddress: '10.0.0.1/32' }] }, ['peers[0].probe_address']],
    ['a multicast probe address', { ...wg, peers: [{ ...peer, probeAddress: '224.0.0.1' }] }, ['peers[0].probe_address']],
    ['a display name of 64 bytes', { ...wg, peers: [{ ...peer, displayName: 'ü'.repeat(32) }] }, ['peers[0].display_name']],
    ['a display name with a line end', { ...wg, peers: [{ ...peer, displayName: 'a\nb' }] }, ['peers[0].display_name']],
    ['MTU 575', { ...frames, mtu: 575 }, ['mtu']],
    ['MTU 65536', { ...frames, mtu: 65_536 }, ['mtu']],
    ['a device of a bad name', { ...frames, bindDevice: 'a b' }, ['bind_device']],
    ['a device of a long name', { ...frames, bindDevice: 'sixteen-bytes-xx' }, ['bind_device']],
    ['bound to itself', { ...frames, bindDevice: 'tun0' }, ['bind_device']],
    ['TLS over UDP', { ...frames, tls: files }, ['tls']],
    ['TLS of wireguard', { ...wg, tls: files }, ['tls']],
    ['TLS without files', { ...tcp, tls: {} }, ['tls.certificate_file', 'tls.private_key_file', 'tls.ca_file']],
    [
      'TLS with relative files',
      { ...tcp, tls: { certificateFile: 'a.pem', privateKeyFile: '/etc/../key', caFile: '/etc/' } },
      ['tls.certificate_file', 'tls.private_key_file', 'tls.ca_file'],
    ],
    ['TLS with a bad name', { ...tcp, tls: { ...files, peerName: 'a b' } }, ['tls.peer_name']],
  ])('%s', (_, spec, fields) => {
    expect(fieldsOf(spec)).toEqual(fields);
  });

  it('tells all at once', () => {
    expect(
      fieldsOf({ interface: 'x', protocol: WIREGUARD, transport: TCP, listen: 'y', mtu: 1, bindDevice: '/', peers: [{ endpoint: 'z' }] }),
    ).toEqual(['interface', 'transport', 'listen', 'mtu', 'bind_device', 'peers[0].endpoint', 'peers[0].public_key']);
  });

  it('tells no key', () => {
    const secret = Buffer.alloc(31, 0x53);
    const text = JSON.stringify(
      specProblems(whole({ ...wg, wireguard: { privateKey: secret }, peers: [{ ...peer, presharedKey: secret }] })),
    );
    for (const form of [secret.toString('hex'), secret.toString('base64').slice(0, 20), 'SSSS']) expect(text).not.toContain(form);
  });
});

describe('secrets', () => {
  const privateKey = makePrivateKey();
  const psk = Buffer.alloc(32, 0x42);
  const before = prepare(whole({ ...wg, wireguard: { privateKey }, peers: [{ ...peer, presharedKey: psk }, { publicKey: other }] }));

  it('that are not given again stay; zeros take a preshared key away', () => {
    const stays = withSecretsOf(before, whole({ ...wg, peers: [{ publicKey: other }, peer] }));
    expect(stays.wireguard?.privateKey).toEqual(privateKey);
    expect(stays.peers.map(({ presharedKey }) => presharedKey.length)).toEqual([0, 32]);
    const taken = prepare(withSecretsOf(before, whole({ ...wg, peers: [{ ...peer, presharedKey: Buffer.alloc(32) }] })));
    expect(taken.peers[0]?.presharedKey).toHaveLength(0);
    const given = prepare(withSecretsOf(before, whole({ ...wg, wireguard: { privateKey: Buffer.alloc(32, 1) } })));
    expect(Buffer.from(given.wireguard?.privateKey ?? [])).toEqual(
      prepare(whole({ ...wg, wireguard: { privateKey: Buffer.alloc(32, 1) } })).wireguard?.privateKey,
    );
    // A peer of another key has another secret, or none.
    expect(withSecretsOf(before, whole({ ...wg, peers: [{ publicKey: somebody() }] })).peers[0]?.presharedKey).toHaveLength(0);
  });

  it('are not shown, only whether there is a preshared key', () => {
    const shown = withoutSecrets(before);
    expect(shown.wireguard?.privateKey).toHaveLength(0);
    expect(shown.peers.map(({ presharedKey, hasPresharedKey }) => [presharedKey.length, hasPresharedKey])).toEqual([
      [0, true],
      [0, false],
    ]);
    const bytes = Buffer.from(LinkSpec.encode(shown).finish());
    for (const secret of [privateKey, psk]) expect(bytes.includes(secret)).toBe(false);
    // The look finds them where they are.
    for (const secret of [privateKey, psk]) expect(Buffer.from(LinkSpec.encode(before).finish()).includes(secret)).toBe(true);
  });

  it('are made where none are given, and are not the same twice', () => {
    const keys = [1, 2].map(() => Buffer.from(prepare(whole(wg)).wireguard?.privateKey ?? []).toString('hex'));
    expect(new Set(keys).size).toBe(2);
    for (const made of keys) expect(made).toHaveLength(64);
  });
});

it('what a link is made of cannot change', () => {
  const before = whole(frames);
  const changed = (spec: PartialLink): string[] => immutableProblems(before, whole(spec)).map(({ field }) => field);
  expect(changed({ ...frames, transport: 1, mtu: 1400, peers: [] })).toEqual([]);
  expect(changed({ ...tcp, interface: 'interfaces/tun1', protocol: VXLAN })).toEqual([
    'link.spec.interface',
    'link.spec.protocol',
    'link.spec.transport',
  ]);
});

describe('beside its interface', () => {
  const joined = (spec: Partial<InterfaceSpec>, tap = false, isThere = true): Joined => ({
    device: Device.fromPartial({ uid: 'u', interface: 'tun0', tap }),
    spec: InterfaceSpec.fromPartial(spec),
    isThere,
    mtu: 1500,
  });
  const addresses = (...all: string[]): Partial<InterfaceSpec> => InterfaceSpec.fromPartial({ addresses: all.map((cidr) => ({ cidr })) });

  it('an MTU below 1280 is refused where there are addresses of IPv6', () => {
    const six = joined(addresses('10.0.0.1/24', 'fd00::1/64'));
    expect(joinedProblems(whole({ ...frames, mtu: 1279 }), six).map(({ field }) => field)).toEqual(['link.spec.mtu']);
    expect(joinedProblems(whole({ ...frames, mtu: 1280 }), six)).toEqual([]);
    expect(joinedProblems(whole(frames), six)).toEqual([]);
    expect(joinedProblems(whole({ ...frames, mtu: 576 }), joined(addresses('10.0.0.1/24')))).toEqual([]);
  });

  it('vxlan needs a TAP and wireguard a TUN; frames take either', () => {
    const works = [FRAMES, VXLAN, WIREGUARD].map((protocol) =>
      [true, false].map((tap) => wrongMode(protocol, joined({}, tap)) === undefined),
    );
    expect(works).toEqual([
      [true, true],
      [true, false],
      [false, true],
    ]);
  });

  it('what stands in the way is told', () => {
    expect(obstacle('interfaces/tun0', FRAMES, undefined)).toContain('not there');
    expect(obstacle('interfaces/tun0', FRAMES, joined({}, false, false))).toContain('no device');
    expect(obstacle('interfaces/tun0', VXLAN, joined({}))).toContain('needs a TAP');
    expect(obstacle('interfaces/tun0', FRAMES, joined({}))).toBeUndefined();
  });

  it.each<[string, Partial<InterfaceSpec>, PartialLink, string | undefined]>([
    ['a route that covers the endpoint', { routes: [{ destination: '192.0.2.0/24' }] as never }, frames, '192.0.2.0/24'],
    ['the default route', { routes: [{ destination: '0.0.0.0/0' }] as never }, frames, '0.0.0.0/0'],
    ['a route beside it', { routes: [{ destination: '192.0.3.0/24' }, { destination: '::/0' }] as never }, frames, undefined],
    ['the prefix of an address', addresses('192.0.2.77/24'), frames, '192.0.2.77/24'],
    ['the far end of an address', { addresses: [{ cidr: '10.0.0.1/32', peer: '192.0.2.1/32' }] as never }, frames, '192.0.2.1/32'],
    [
      'an address whose prefix means nothing beside a far end',
      { addresses: [{ cidr: '192.0.2.9/24', peer: '10.0.0.1/32' }] as never },
      frames,
      undefined,
    ],
    [
      'IPv6',
      { routes: [{ destination: '2001:db8::/32' }] as never },
      { ...frames, peers: [{ endpoint: '[2001:db8:1::5]:1' }] },
      '2001:db8::/32',
    ],
    ['a mark keeps it off', { routes: [{ destination: '0.0.0.0/0' }] as never }, { ...frames, socketMark: 1 }, undefined],
    ['a device keeps it off', { routes: [{ destination: '0.0.0.0/0' }] as never }, { ...frames, bindDevice: 'eth0' }, undefined],
    ['a peer that is waited for', { routes: [{ destination: '0.0.0.0/0' }] as never }, wg, undefined],
    ['the last of several', { routes: [{ destination: '192.0.2.2/32' }] as never }, vxlan, '192.0.2.2/32'],
  ])('a way into itself: %s', (_, spec, link, through) => {
    expect(loopOf(whole(link), InterfaceSpec.fromPartial(spec))?.through).toBe(through);
  });

  it('of any prefix and address, as the bits say', () => {
    console.log(`TAPLANE_SEED=${seed}`);
    const dice = random('underlay');
    let inside = 0;
    for (let round = 0; round < 2000; round++) {
      const size = dice.pick([4, 16]);
      const bits = dice.integer(0, size * 8);
      const endpoint = Buffer.from(dice.bytes(size));
      const destination = Buffer.from(endpoint);
      if (dice.integer(0, 1) === 1) destination[dice.integer(0, size - 1)] = dice.integer(0, 255);
      const prefix = { family: size === 4 ? 2 : 10, bytes: destination, prefixLength: bits } as const;
      const network = networkOf(prefix);
      const expected = networkOf({ ...prefix, bytes: endpoint }).equals(network);
      inside += Number(expected);
      const host = size === 4 ? formatIp(endpoint) : `[${formatIp(endpoint)}]`;
      const found = loopOf(whole({ ...frames, peers: [{ endpoint: `${host}:1` }] }), {
        routes: InterfaceSpec.fromPartial({ routes: [{ destination: formatPrefix(network, bits) }] }).routes,
        addresses: [],
      });
      expect(found !== undefined, `${host} in ${formatPrefix(network, bits)}`).toBe(expected);
    }
    expect(inside).toBeGreaterThan(200);
  });

  it('also endpoints that were learned count', () => {
    const routes = InterfaceSpec.fromPartial({ routes: [{ destination: '198.51.100.0/24' }] });
    expect(loopOf(whole(wg), routes, ['198.51.100.7:51820'])).toMatchObject({ endpoint: '198.51.100.7:51820', peer: -1 });
  });
});
