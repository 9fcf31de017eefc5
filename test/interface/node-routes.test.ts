// What belongs to the node, against a reading of it bit by bit.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TaplaneError } from '../../src/errors.ts';
import { desire } from '../../src/interface/desired.ts';
import { type Connected, checkNodeRoutes } from '../../src/interface/node-routes.ts';
import { parsePrefix } from '../../src/resource/inet.ts';
import { seed } from '../harness/random.ts';
import { address, route, tun } from './specs.ts';

const desired = (addresses: string[], routes: string[], table = 0, peer = '') =>
  desire(tun({ addresses: addresses.map((cidr) => address(cidr, { peer })), routes: routes.map((one) => route(one, { table })) }), {
    name: 'tun0',
    uid: 'u',
    owner: undefined,
    group: undefined,
    ageSeconds: () => 0,
  });
const at = (cidr: string, more: Partial<Connected> = {}): Connected => {
  const prefix = parsePrefix(cidr);
  if (prefix === undefined) throw new Error(cidr);
  const { bytes: local, prefixLength } = prefix;
  return { link: 'eth0', isOurs: false, isLoopback: false, address: { local, peer: undefined, prefixLength }, ...more };
};
interface Scene {
  connected?: Connected[];
  peers?: string[];
  before?: ReturnType<typeof desired>;
}

/** Reason and fields; undefined when nothing is refused. */
function refused(wanted: ReturnType<typeof desired>, { connected = [], peers = [], before }: Scene = {}): [string, string[]] | undefined {
  try {
    const underlay = peers.map((text) => ({ address: parsePrefix(text)?.bytes as Buffer }));
    checkNodeRoutes({ name: 'tun0', desired: wanted, before, connected: () => connected, peers: underlay, path: 'interface.spec' });
    return undefined;
  } catch (error) {
    if (!(error instanceof TaplaneError)) throw error;
    return [error.reason, error.fields.map(({ field }) => field)];
  }
}

describe('networks of the node', () => {
  const connected = [at('10.1.2.3/24'), at('2001:db8:1::5/64')];
  const route0 = ['ROUTE_COVERS_NODE', ['interface.spec.routes[0].destination']];
  const address0 = ['ROUTE_COVERS_NODE', ['interface.spec.addresses[0].cidr']];

  it.each(['10.1.2.3/32', '10.1.2.0/24', '10.1.2.128/25', '10.0.0.0/8', '2001:db8:1::/64', '2001:db8::/32'])('%s is refused', (prefix) => {
    expect(refused(desired([], [prefix]), { connected })).toEqual(route0);
  });

  it.each(['10.1.2.9/24', '10.1.0.1/16', '10.1.2.200/32', '2001:db8:1::9/64'])('and so is the address %s', (cidr) => {
    expect(refused(desired([cidr], []), { connected })).toEqual(address0);
  });

  it('all at once, each with its field', () => {
    expect(refused(desired(['10.1.2.9/24', '10.7.0.1/24'], ['10.8.0.0/16', '10.1.0.0/16']), { connected })).toEqual([
      'ROUTE_COVERS_NODE',
      ['interface.spec.addresses[0].cidr', 'interface.spec.routes[1].destination'],
    ]);
  });

  it('of an address with a peer the peer counts', () => {
    expect(refused(desired(['10.7.0.1/32'], [], 0, '10.1.2.77/32'), { connected })).toEqual(address0);
  });

  it('others are fine, and so are other tables, default routes, loopback, ours, and what was there', () => {
    expect(refused(desired(['10.1.3.1/24'], ['10.1.3.0/24', '10.2.0.0/16']), { connected })).toBeUndefined();
    expect(refused(desired([], ['10.1.2.0/24'], 77), { connected })).toBeUndefined();
    expect(refused(desired([], ['0.0.0.0/0', '::/0', '0.0.0.0/1']), { connected })).toBeUndefined();
    for (const more of [{ isLoopback: true }, { isOurs: true }, { link: 'tun0' }])
      expect(refused(desired([], ['10.1.2.0/24']), { connected: [at('10.1.2.3/24', more)] })).toBeUndefined();
    const before = desired(['10.1.2.9/24'], ['10.1.0.0/16']);
    expect(refused(before, { connected, before })).toBeUndefined();
    expect(refused(desired(['10.1.2.9/24'], ['10.1.0.0/16', '10.1.2.0/24']), { connected, before })?.[1]).toEqual([
      'interface.spec.routes[1].destination',
    ]);
  });

  it('and the metadata service, also where the node knows nothing of it', () => {
    expect(refused(desired([], ['169.254.0.0/16']))).toEqual(route0);
    expect(refused(desired(['169.254.1.1/16'], []))).toEqual(address0);
    expect(refused(desired(['169.254.1.1/30'], ['169.254.2.0/24']))).toBeUndefined();
  });
});

it('ends of links', () => {
  expect(refused(desired([], ['192.0.2.0/24']), { peers: ['192.0.2.7'] })).toEqual([
    'ROUTE_COVERS_PEER',
    ['interface.spec.routes[0].destination'],
  ]);
  expect(refused(desired(['192.0.2.1/24'], []), { peers: ['192.0.2.7'] })?.[0]).toBe('ROUTE_COVERS_PEER');
  expect(refused(desired(['192.0.2.1/32'], ['192.0.3.0/24']), { peers: ['192.0.2.7'] })).toBeUndefined();
  expect(refused(desired([], ['2001:db8::/32']), { peers: ['2001:db8::7', '192.0.2.7'] })?.[0]).toBe('ROUTE_COVERS_PEER');
});

it('of any networks and routes, as the bits say', () => {
  const bits = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  const v4 = fc.tuple(
    fc.constantFrom(10, 11),
    fc.constantFrom(0, 1),
    fc.constantFrom(0, 128),
    fc.constantFrom(1, 77),
    fc.integer({ min: 2, max: 32 }),
  );
  fc.assert(
    fc.property(v4, v4, ([a, b, c, d, own], [e, f, g, h, length]) => {
      const network = at(`${a}.${b}.${c}.${d}/${own}`);
      const wanted = bits(Buffer.from([e, f, g, h]));
      const have = bits(network.address.local);
      const taken = Math.min(own, length);
      const isTaken = wanted.slice(0, taken) === have.slice(0, taken);
      return (refused(desired([], [`${e}.${f}.${g}.${h}/${length}`]), { connected: [network] }) !== undefined) === isTaken;
    }),
    { seed, numRuns: 500 },
  );
});
