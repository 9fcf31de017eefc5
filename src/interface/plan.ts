// Declare, diff, apply: the steps from what is to what should be. Pure; creation, update, repair, start-up and `validate_only`
// all go through here. What others put on the device is left alone: only objects that carry our protocol number, or that the
// spec before had, are removed.
//
// Order: link attributes, settings, bridge, routes and neighbours that go, addresses that come, addresses that go, up, routes, neighbours.
// What the kernel itself drops along with an object is foreseen, so that one plan is enough.

import { networkOf } from '../resource/inet.ts';
import { AF_INET, AF_INET6, type LinkAddress } from '../sys/netlink/address.ts';
import type { Link } from '../sys/netlink/link.ts';
import { type LinkNeighbour, NUD_PERMANENT } from '../sys/netlink/neighbour.ts';
import { type LinkRoute, RTPROT_KERNEL } from '../sys/netlink/route.ts';
import {
  addressIdentity,
  type Desired,
  type DesiredAddress,
  type DesiredRoute,
  FOREVER,
  routeIdentity,
  TAPLANE_PROTOCOL,
} from './desired.ts';
import type { Step } from './step.ts';

/** What the kernel has of an interface. */
export interface Actual {
  link: Link | undefined;
  /** Name of the bridge that it is a port of, '' for none. */
  controller: string;
  addresses: LinkAddress[];
  routes: LinkRoute[];
  neighbours: LinkNeighbour[];
  /** Settings by key, for those that the spec names. */
  sysctls: Map<string, string>;
  /** When a primary IPv4 address goes, the next of its subnet takes its place instead of going too. */
  promotesSecondaries: boolean;
  /** IPv6 addresses stay when the link goes down. */
  keepsAddresses: boolean;
}

export const nothing: Actual = {
  link: undefined,
  controller: '',
  addresses: [],
  routes: [],
  neighbours: [],
  sysctls: new Map(),
  promotesSecondaries: false,
  keepsAddresses: false,
};

const IFA_F_SECONDARY = 0x01;
const PROMOTE = 'ipv4/promote_secondaries';
/** Seconds by which the kernel's count of a lifetime may differ from ours. */
const LIFETIME_SLACK = 5;

/** Steps from `actual` to `desired`; empty when there is nothing to do. `before` is the spec that was in force. */
export function plan(desired: Desired, actual: Actual, before?: Desired): Step[] {
  const { name } = desired.device;
  const steps: Step[] = [];
  const link = actual.link;
  if (link === undefined) steps.push({ kind: 'create-link', device: unlessOpen(desired.device), alias: desired.alias });
  else {
    if (link.name !== name) steps.push({ kind: 'set-link', name: link.name, change: { name } });
    if (link.alias !== desired.alias) steps.push({ kind: 'set-link', name, change: { alias: desired.alias } });
    const owner = desired.device.owner !== undefined && desired.device.owner !== link.tun?.owner ? desired.device.owner : undefined;
    const group = desired.device.group !== undefined && desired.device.group !== link.tun?.group ? desired.device.group : undefined;
    if (owner !== undefined || group !== undefined) steps.push({ kind: 'set-owner', device: desired.device, owner, group });
  }
  if (desired.mtu !== undefined && desired.mtu !== link?.mtu) steps.push({ kind: 'set-link', name, change: { mtu: desired.mtu } });
  if (desired.txQueueLength !== undefined && desired.txQueueLength !== link?.txQueueLength) {
    steps.push({ kind: 'set-link', name, change: { txQueueLength: desired.txQueueLength } });
  }
  if (desired.mac !== undefined && !(link !== undefined && desired.mac.equals(link.address))) {
    steps.push({ kind: 'set-link', name, change: { address: desired.mac } });
  }
  // After the MTU: below 1280 bytes there are no IPv6 settings.
  for (const [key, value] of desired.sysctls) {
    const is = actual.sysctls.get(key);
    if (is !== value) steps.push({ kind: 'set-sysctl', name, key, value, before: is });
  }
  if (desired.controller !== actual.controller) {
    const leaves = desired.controller === '';
    // A bridge that we did not ask for is somebody else's doing.
    if (!leaves || before?.controller === actual.controller)
      steps.push({ kind: 'set-link', name, change: {}, controller: desired.controller });
  }
  const goesDown = link?.up === true && !desired.up;
  const removed = removals(desired, actual, before, name);
  // Secondary ones first: a primary one would take them along.
  const gone = removed
    .filter((step) => step.kind === 'delete-address')
    .sort((a, b) => Number(isSecondary(b.address)) - Number(isSecondary(a.address)));
  steps.push(...removed.filter((step) => step.kind !== 'delete-address'));
  if (goesDown) steps.push({ kind: 'set-link', name, change: { up: false } });
  const added = addressSteps(desired, goesDown ? staying(actual) : actual.addresses, name);
  // New addresses come before old ones go, so that the interface is never without, except where the kernel takes both for one.
  if (takesAlong(gone, actual, desired) && !actual.promotesSecondaries) {
    steps.push({ kind: 'set-sysctl', name, key: PROMOTE, value: '1', before: '0' });
  }
  const first = gone.filter((step) => added.some((other) => clash(step, other)));
  steps.push(...first, ...added, ...gone.filter((step) => !first.includes(step)));
  if (desired.up) {
    if (link?.up !== true) steps.push({ kind: 'set-link', name, change: { up: true } });
    steps.push(...routeAndNeighbourSteps(desired, surviving(desired, actual, steps, first), name));
  }
  return steps;
}

/** A device without owner and group may be attached by anybody who can open /dev/net/tun (drivers/net/tun.c): give it to root. */
function unlessOpen(device: Desired['device']): Desired['device'] {
  return device.owner === undefined && device.group === undefined ? { ...device, owner: 0 } : device;
}

/** Removes what is ours, or was asked for before, and is asked for no more. */
function removals(desired: Desired, actual: Actual, before: Desired | undefined, name: string): Step[] {
  const steps: Step[] = [];
  const neighbours = new Set(desired.neighbours.map((item) => item.address.toString('hex')));
  const neighboursBefore = new Set(before?.neighbours.map((item) => item.address.toString('hex')));
  for (const neighbour of actual.neighbours) {
    const key = neighbour.address.toString('hex');
    const ours = neighbour.protocol === TAPLANE_PROTOCOL || neighboursBefore.has(key);
    if (ours && !neighbours.has(key)) steps.push({ kind: 'delete-neighbour', name, neighbour });
  }
  const routes = new Map(desired.routes.map((item) => [routeIdentity(item), item]));
  const routesBefore = new Set(before?.routes.map(routeIdentity));
  for (const route of actual.routes) {
    if (route.protocol === RTPROT_KERNEL) continue;
    const key = routeIdentity(route);
    // In repair there is no spec before: then what has the place of a wanted route was put there instead of ours.
    const ours = route.protocol === TAPLANE_PROTOCOL || routesBefore.has(key) || (before === undefined && routes.has(key));
    const wanted = routes.get(key);
    if (ours && (wanted === undefined || !sameRoute(wanted, route))) steps.push({ kind: 'delete-route', name, route });
  }
  const addresses = new Set(desired.addresses.map(addressIdentity));
  const addressesBefore = new Set(before?.addresses.map(addressIdentity));
  for (const address of actual.addresses) {
    const key = addressIdentity(address);
    const ours = address.protocol === TAPLANE_PROTOCOL || addressesBefore.has(key);
    const lapses = address.validLifetime !== FOREVER && desired.lapsing.has(key);
    if (ours && !lapses && !addresses.has(key)) steps.push({ kind: 'delete-address', name, address });
  }
  return steps;
}

/** The addresses that are still there when the link has gone down. */
function staying(actual: Actual): LinkAddress[] {
  return actual.addresses.filter((address) => address.family !== AF_INET6 || actual.keepsAddresses);
}

/** Whether an IPv4 address that goes is the primary one of a subnet in which others stay: they would go with it. */
function takesAlong(gone: Step[], actual: Actual, desired: Desired): boolean {
  return gone.some((step) => {
    const address = step.kind === 'delete-address' ? step.address : undefined;
    if (address === undefined || address.family !== AF_INET || isSecondary(address)) return false;
    const same = (other: DesiredAddress | LinkAddress): boolean =>
      other.family === AF_INET && other.prefixLength === address.prefixLength && subnet(other) === subnet(address);
    const leaving = new Set(gone.map((item) => (item.kind === 'delete-address' ? addressIdentity(item.address) : '')));
    return [...actual.addresses, ...desired.addresses].some((other) => same(other) && !leaving.has(addressIdentity(other)));
  });
}

/** Whether the address that goes and the one that comes cannot be there together: for IPv6 the prefix length makes no difference, for IPv4 the peer of one subnet does not. */
function clash(goes: Step, comes: Step): boolean {
  if (goes.kind !== 'delete-address' || comes.kind !== 'add-address' || !goes.address.local.equals(comes.address.local)) return false;
  return (
    goes.address.family === AF_INET6 ||
    (goes.address.prefixLength === comes.address.prefixLength && subnet(goes.address) === subnet(comes.address))
  );
}

function isSecondary(address: object): boolean {
  return 'flags' in address && (Number(address.flags) & IFA_F_SECONDARY) !== 0;
}

function subnet(address: DesiredAddress | LinkAddress): string {
  return networkOf({ family: AF_INET, bytes: address.peer ?? address.local, prefixLength: address.prefixLength }).toString('hex');
}

/** Routes and neighbours that are left when the steps so far have run: the kernel drops IPv4 ones with the last IPv4 address, and all neighbours with the MAC. */
function surviving(desired: Desired, actual: Actual, steps: Step[], first: Step[]): Pick<Actual, 'routes' | 'neighbours'> {
  const isV4 = (item: { family: number }): boolean => item.family === AF_INET;
  const leaving = new Set(steps.map((step) => (step.kind === 'delete-address' ? addressIdentity(step.address) : '')));
  const firstLeaving = new Set(first.map((step) => (step.kind === 'delete-address' ? addressIdentity(step.address) : '')));
  const without = (gone: Set<string>): boolean =>
    actual.addresses.some(isV4) && actual.addresses.every((item) => !isV4(item) || gone.has(addressIdentity(item)));
  const lastV4 = without(firstLeaving) || (without(leaving) && !desired.addresses.some(isV4));
  const newMac = steps.some((step) => step.kind === 'set-link' && step.change.address !== undefined);
  return {
    routes: lastV4 ? actual.routes.filter((item) => !isV4(item)) : actual.routes,
    neighbours: newMac ? [] : lastV4 ? actual.neighbours.filter((item) => !isV4(item)) : actual.neighbours,
  };
}

function addressSteps(desired: Desired, present: LinkAddress[], name: string): Step[] {
  const byKey = new Map(present.map((address) => [addressIdentity(address), address]));
  const steps: Step[] = [];
  for (const address of desired.addresses) {
    const is = byKey.get(addressIdentity(address));
    if (is === undefined) steps.push({ kind: 'add-address', name, address, replace: false });
    else if (!sameLifetime(address.validLifetime, is.validLifetime)) steps.push({ kind: 'add-address', name, address, replace: true });
  }
  return steps;
}

function sameLifetime(wanted: number, is: number): boolean {
  return wanted === FOREVER || is === FOREVER ? wanted === is : Math.abs(wanted - is) <= LIFETIME_SLACK;
}

function routeAndNeighbourSteps(desired: Desired, { routes, neighbours }: Pick<Actual, 'routes' | 'neighbours'>, name: string): Step[] {
  const present = new Map(routes.filter((route) => route.protocol !== RTPROT_KERNEL).map((route) => [routeIdentity(route), route]));
  const wanted = desired.routes.filter((route) => {
    const is = present.get(routeIdentity(route));
    return is === undefined || !sameRoute(route, is);
  });
  // On-link routes first: gateways of the others may be reached through them.
  const steps: Step[] = [
    ...wanted.filter((route) => route.gateway === undefined),
    ...wanted.filter((route) => route.gateway !== undefined),
  ].map((route) => ({ kind: 'add-route', name, route }));
  for (const neighbour of desired.neighbours) {
    const is = neighbours.find((item) => item.address.equals(neighbour.address));
    if (is !== undefined && (is.state & NUD_PERMANENT) !== 0 && is.hardwareAddress.equals(neighbour.hardwareAddress)) continue;
    steps.push({ kind: 'set-neighbour', name, neighbour, existing: is !== undefined });
  }
  return steps;
}

function sameRoute(wanted: DesiredRoute, is: LinkRoute): boolean {
  const same = (a: Buffer | undefined, b: Buffer | undefined): boolean => (a === undefined || b === undefined ? a === b : a.equals(b));
  return (
    same(wanted.gateway, is.gateway) &&
    same(wanted.source, is.source) &&
    wanted.mtu === is.mtu &&
    wanted.onlink === is.onlink &&
    wanted.scope === is.scope &&
    wanted.type === is.type
  );
}
