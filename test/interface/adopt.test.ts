import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { adoptedSpec, adoptionProblem } from '../../src/interface/adopt.ts';
import { prepare } from '../../src/interface/canonical.ts';
import { desire } from '../../src/interface/desired.ts';
import { type Actual, nothing, plan } from '../../src/interface/plan.ts';
import { specProblems } from '../../src/interface/spec.ts';
import { commandLine } from '../../src/interface/step.ts';
import { applyToModel, desiredOf, freshLink, UID } from './model.ts';
import { address, allowAll, anySpec, mac, route, tap } from './specs.ts';

/** A device that somebody else made: as ours, without our marks. */
function foreign(spec: Parameters<typeof desiredOf>[0]): Actual {
  const { link, addresses, routes, neighbours, ...rest } = applyToModel(nothing, plan(desiredOf(spec), nothing));
  return {
    ...rest,
    link: link && { ...link, alias: '' },
    addresses: addresses.map((item) => ({ ...item, protocol: 0, flags: item.flags | 0x80 })),
    routes: routes.map((item) => ({ ...item, protocol: 3 })),
    neighbours: neighbours.map((item) => ({ ...item, protocol: 0 })),
  };
}

describe('a device that is taken over', () => {
  it('is described by a sound spec from which only the mark differs', () => {
    fc.assert(
      fc.property(fc.oneof(anySpec('tun'), anySpec('tap')), (asked) => {
        const actual = foreign(asked);
        const spec = prepare(adoptedSpec(actual, ''));
        expect(specProblems(spec, allowAll)).toEqual([]);
        const { owner, group } = actual.link?.tun ?? {};
        const desired = desire(spec, { name: 'tap0', uid: UID, owner, group, ageSeconds: () => 0 });
        expect(plan(desired, actual).map(commandLine)).toEqual([`ip link set dev tap0 alias taplane:${UID}`]);
      }),
      { numRuns: 300 },
    );
  });

  it('is described whole', () => {
    const asked = tap({
      up: true,
      multiQueue: true,
      packetInfo: true,
      vnetHeader: true,
      owner: '1000',
      group: '5',
      mtu: 1400,
      macAddress: mac(1),
      controller: 'br0',
      addresses: [address('10.0.0.1/24'), address('10.8.0.1', { peer: '10.8.0.2' })],
      routes: [route('10.1.0.0/16', { gateway: '10.0.0.9', metric: 7 })],
      neighbours: [{ address: '10.0.0.2', macAddress: mac(2) }],
    });
    expect(adoptedSpec(foreign(asked), 'blue')).toMatchObject({
      mode: asked.mode,
      multiQueue: true,
      packetInfo: true,
      vnetHeader: true,
      owner: '1000',
      group: '5',
      up: true,
      mtu: 1400,
      txQueueLength: 1000,
      macAddress: mac(1),
      controller: 'br0',
      networkNamespace: 'blue',
      addresses: [
        { cidr: '10.0.0.1/24', peer: '' },
        { cidr: '10.8.0.1/32', peer: '10.8.0.2/32' },
      ],
      routes: [{ destination: '10.1.0.0/16', gateway: '10.0.0.9', metric: 7 }],
      neighbours: [{ address: '10.0.0.2', macAddress: mac(2) }],
    });
  });

  it('keeps the scope of a link-local address that was added as global, as ip does', () => {
    const actual = foreign(tap({ addresses: [address('169.254.1.1/16', { scope: 1 })] }));
    const again = desiredOf(adoptedSpec(actual, ''));
    expect(again.addresses[0]?.scope).toBe(actual.addresses[0]?.scope);
  });

  it('does not bring along what the kernel, routers or time gave it', () => {
    const base = foreign(
      tap({
        up: true,
        addresses: [address('fd00::1/64')],
        routes: [route('fd01::/64'), route('fd02::/64'), route('fd03::/64')],
        neighbours: [{ address: '10.0.0.2', macAddress: mac(2) }],
      }),
    );
    const [own] = base.addresses;
    const [plain, second, third] = base.routes;
    const [entry] = base.neighbours;
    if (own === undefined || plain === undefined || second === undefined || third === undefined || entry === undefined)
      throw new Error('incomplete');
    const linkLocal = { ...own, local: Buffer.from('fe800000000000000000000000000001', 'hex'), scope: 253, protocol: 3 };
    const dynamic = { ...own, local: Buffer.from('fd000000000000000000000000000099', 'hex'), flags: 0, validLifetime: 600 };
    const spec = adoptedSpec(
      {
        ...base,
        addresses: [own, linkLocal, dynamic],
        routes: [plain, { ...second, protocol: 2 }, { ...third, protocol: 9 }],
        neighbours: [{ ...entry, state: 2 }],
      },
      '',
    );
    expect([spec.addresses.map(({ cidr }) => cidr), spec.routes.map(({ destination }) => destination), spec.neighbours]).toEqual([
      ['fd00::1/64'],
      ['fd01::/64'],
      [],
    ]);
  });
});

describe('what cannot be taken over', () => {
  const of = (fields: Parameters<typeof freshLink>[1]) => adoptionProblem({ ...nothing, link: freshLink('x', fields) });
  it('is no TUN or TAP, or ends with its program', () => {
    expect(of({})).toBeUndefined();
    expect(of({ kind: 'veth', tun: undefined })).toBe('is no TUN or TAP but veth');
    expect(of({ kind: '', tun: undefined })).toBe('is no TUN or TAP');
    expect(
      of({
        tun: {
          mode: 'tun',
          owner: undefined,
          group: undefined,
          packetInfo: false,
          vnetHeader: false,
          persistent: false,
          multiQueue: false,
        },
      }),
    ).toMatch(/^is not persistent/);
  });
});
