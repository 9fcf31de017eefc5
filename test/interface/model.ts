// A kernel of one device, small enough to read: it takes steps as the real one does and answers what it then has. It knows the
// habits that plans must foresee: secondary addresses go with their primary one, a link that goes down loses its routes and IPv6
// addresses, IPv4 routes go with the last IPv4 address, neighbours with the MAC. Pure: every step answers a new model.

import type { InterfaceSpec } from '../../src/gen/taplane/v1/interface.ts';
import { prepare } from '../../src/interface/canonical.ts';
import { addressIdentity, type Desired, type DesiredAddress, desire, routeIdentity } from '../../src/interface/desired.ts';
import { type Actual, nothing } from '../../src/interface/plan.ts';
import { commandLine, type Step } from '../../src/interface/step.ts';
import { networkOf } from '../../src/resource/inet.ts';
import type { LinkAddress } from '../../src/sys/netlink/address.ts';
import type { Link } from '../../src/sys/netlink/link.ts';

const SECONDARY = 1;
const INDEX = 7;
const PROMOTE = 'ipv4/promote_secondaries';
export const UID = '00000000-0000-4000-8000-000000000001';

export function desiredOf(spec: InterfaceSpec, name = 'tap0'): Desired {
  const id = (text: string) => (text === '' ? undefined : Number(text));
  const prepared = prepare(spec);
  return desire(prepared, { name, uid: UID, owner: id(prepared.owner), group: id(prepared.group), ageSeconds: () => 0 });
}

/** A device as `ip tuntap add` leaves it. */
export function freshLink(name: string, fields: Partial<Link> = {}): Link {
  return {
    index: INDEX,
    name,
    flags: 0,
    up: false,
    carrier: false,
    operState: 2,
    mtu: 1500,
    txQueueLength: 1000,
    address: Buffer.from('3a0102030405', 'hex'),
    alias: '',
    controller: 0,
    kind: 'tun',
    tun: { mode: 'tap', owner: undefined, group: undefined, packetInfo: false, vnetHeader: false, persistent: true, multiQueue: false },
    counters: undefined,
    carrierChanges: 0,
    ...fields,
  };
}

const isV4 = (item: { family: number }) => item.family === 2;
const sameBytes = (a: Buffer | undefined, b: Buffer | undefined) => (a === undefined || b === undefined ? a === b : a.equals(b));

function subnet(item: DesiredAddress | LinkAddress): string {
  return `${item.prefixLength} ${networkOf({ family: 2, bytes: item.peer ?? item.local, prefixLength: item.prefixLength }).toString('hex')}`;
}

/** Runs the steps; throws with the command for what the real kernel would refuse. */
export function applyToModel(before: Actual, steps: readonly Step[]): Actual {
  return steps.reduce(applyStep, before);
}

function applyStep(model: Actual, step: Step): Actual {
  const refuse = (why: string): never => {
    throw new Error(`${commandLine(step)}: ${why}`);
  };
  const { link } = model;
  if (step.kind === 'create-link') {
    if (link !== undefined) return refuse('EBUSY');
    const { mode, owner, group, packetInfo, vnetHeader, multiQueue } = step.device;
    const address = mode === 'tap' ? Buffer.from('3a0102030405', 'hex') : Buffer.alloc(0);
    const tun = { mode, owner, group, packetInfo, vnetHeader, multiQueue, persistent: true };
    return { ...nothing, sysctls: new Map(model.sysctls), link: freshLink(step.device.name, { alias: step.alias, tun, address }) };
  }
  if (link === undefined) return refuse('ENODEV');
  switch (step.kind) {
    case 'delete-link':
      return { ...nothing, sysctls: new Map() };
    case 'set-owner':
      return {
        ...model,
        link: { ...link, tun: link.tun && { ...link.tun, owner: step.owner ?? link.tun.owner, group: step.group ?? link.tun.group } },
      };
    case 'set-link': {
      if (step.name !== link.name) return refuse('ENODEV');
      if (step.controller !== undefined) return { ...model, controller: step.controller };
      const { name, alias, mtu, txQueueLength, address, up } = step.change;
      const changed = {
        ...link,
        name: name ?? link.name,
        alias: alias ?? link.alias,
        mtu: mtu ?? link.mtu,
        txQueueLength: txQueueLength ?? link.txQueueLength,
        up: up ?? link.up,
        address: Buffer.from(address ?? link.address),
      };
      const falls = link.up && !changed.up;
      return {
        ...model,
        link: changed,
        routes: falls ? [] : model.routes,
        neighbours: falls || address !== undefined ? [] : model.neighbours,
        addresses: falls && !model.keepsAddresses ? model.addresses.filter(isV4) : model.addresses,
      };
    }
    case 'add-address': {
      const { address } = step;
      const same = model.addresses.find((item) => addressIdentity(item) === addressIdentity(address));
      if (step.replace)
        return same === undefined
          ? refuse('not there')
          : {
              ...model,
              addresses: model.addresses.map((item) => (item === same ? { ...item, validLifetime: address.validLifetime } : item)),
            };
      const clash = model.addresses.some(
        (item) => item.local.equals(address.local) && (isV4(item) ? subnet(item) === subnet(address) : true),
      );
      if (clash) return refuse('EEXIST');
      const flags = isV4(address) && model.addresses.some((item) => isV4(item) && subnet(item) === subnet(address)) ? SECONDARY : 0;
      return { ...model, addresses: [...model.addresses, { ...address, index: INDEX, flags }] };
    }
    case 'delete-address': {
      const gone = model.addresses.find((item) => addressIdentity(item) === addressIdentity(step.address));
      if (gone === undefined) return model;
      let left = model.addresses.filter((item) => item !== gone);
      if (isV4(gone) && (gone.flags & SECONDARY) === 0) {
        const followers = left.filter((item) => isV4(item) && subnet(item) === subnet(gone));
        const [first] = followers;
        const promoted = model.promotesSecondaries || model.sysctls.get(PROMOTE) === '1';
        left = promoted
          ? left.map((item) => (item === first ? { ...item, flags: item.flags & ~SECONDARY } : item))
          : left.filter((item) => !followers.includes(item));
      }
      const lastV4 = isV4(gone) && !left.some(isV4);
      const kept = <T extends { family: number }>(items: T[]) => (lastV4 ? items.filter((item) => !isV4(item)) : items);
      return { ...model, addresses: left, routes: kept(model.routes), neighbours: kept(model.neighbours) };
    }
    case 'add-route':
      if (!link.up) return refuse('ENETDOWN');
      if (model.routes.some((item) => routeIdentity(item) === routeIdentity(step.route))) return refuse('EEXIST');
      return { ...model, routes: [...model.routes, { ...step.route, index: INDEX }] };
    case 'delete-route':
      return {
        ...model,
        routes: model.routes.filter(
          (item) => !(routeIdentity(item) === routeIdentity(step.route) && sameBytes(item.gateway, step.route.gateway)),
        ),
      };
    case 'set-neighbour':
      if (!link.up) return refuse('ENETDOWN');
      return {
        ...model,
        neighbours: [
          ...model.neighbours.filter((item) => !item.address.equals(step.neighbour.address)),
          { ...step.neighbour, index: INDEX },
        ],
      };
    case 'delete-neighbour':
      return { ...model, neighbours: model.neighbours.filter((item) => !item.address.equals(step.neighbour.address)) };
    case 'set-sysctl':
      return { ...model, sysctls: new Map(model.sysctls).set(step.key, step.value) };
  }
}

/** What a model has, as lines in one order; which address of a subnet is the primary one does not count. */
export function picture({ link, controller, addresses, routes, neighbours, sysctls }: Actual): string[] {
  if (link === undefined) return [];
  const hex = (bytes: Buffer | undefined) => bytes?.toString('hex') ?? '-';
  const { owner, group } = link.tun ?? {};
  const keys = [...sysctls].filter(([key]) => key !== PROMOTE).map(([key, value]) => `sysctl ${key}=${value}`);
  return [
    `link ${link.name} alias=${link.alias} up=${link.up} mtu=${link.mtu} txq=${link.txQueueLength} mac=${hex(link.address)} owner=${owner} group=${group} master=${controller}`,
    ...addresses
      .map((item) => `address ${addressIdentity(item)} scope=${item.scope} lifetime=${item.validLifetime} proto=${item.protocol}`)
      .sort(),
    ...routes
      .map(
        (item) =>
          `route ${routeIdentity(item)} via=${hex(item.gateway)} src=${hex(item.source)} mtu=${item.mtu} onlink=${item.onlink} proto=${item.protocol}`,
      )
      .sort(),
    ...neighbours.map((item) => `neighbour ${hex(item.address)} ${hex(item.hardwareAddress)}`).sort(),
    ...keys.sort(),
  ];
}
