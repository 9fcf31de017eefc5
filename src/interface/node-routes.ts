// Keeps an interface from taking what belongs to the node: the addresses and networks of its other devices, the ends of the underlay of links, and the
// metadata service of clouds. A route in the main table takes what it covers, and an address what lies in its prefix. Pure.
//
// Only what is new is judged: what an interface has may stay when the node or its links have changed since. Default routes are a matter of
// `routeRule`, other tables of whoever writes rules for them. Messages do not name devices of tenants.

import { type FieldViolation, TaplaneError } from '../errors.ts';
import { formatPrefix, networkOf } from '../resource/inet.ts';
import type { LinkAddress } from '../sys/netlink/address.ts';
import { RT_TABLE_MAIN } from '../sys/netlink/route.ts';
import { addressIdentity, type Desired, routeIdentity } from './desired.ts';

/** Where a peer of a link is. */
export interface Underlay {
  address: Buffer;
}

/** A global address of the namespace. */
export interface Connected {
  link: string;
  /** The device carries the mark of Taplane. */
  isOurs: boolean;
  isLoopback: boolean;
  address: Pick<LinkAddress, 'local' | 'peer' | 'prefixLength'>;
}

export interface NodeRoutesQuestion {
  name: string;
  desired: Pick<Desired, 'addresses' | 'routes'>;
  /** As it was; undefined for a new interface. */
  before: Pick<Desired, 'addresses' | 'routes'> | undefined;
  /** Asked only when there is something to judge. */
  connected: () => readonly Connected[];
  peers: readonly Underlay[];
  /** Where the spec stands in the request. */
  path: string;
}

const METADATA = Buffer.from([169, 254, 169, 254]);
const CURE = 'take a narrower one, or have the agent configured with policy.allowNodeRoutes';

interface Taken {
  field: string;
  bytes: Buffer;
  prefixLength: number;
}

/** Throws FAILED_PRECONDITION with every violation: ROUTE_COVERS_NODE, or ROUTE_COVERS_PEER where no other is. */
export function checkNodeRoutes({ name, desired, before, connected, peers, path }: NodeRoutesQuestion): void {
  const taken = takenBy(desired, before, path);
  if (taken.length === 0) return;
  const foreign = connected().filter((one) => !one.isOurs && !one.isLoopback && one.link !== name);
  const violations: (FieldViolation & { reason: string })[] = [];
  for (const prefix of taken) {
    const { field } = prefix;
    const what = formatPrefix(prefix.bytes, prefix.prefixLength);
    const device = foreign.find(
      ({ address }) =>
        overlap(prefix, { bytes: address.peer ?? address.local, prefixLength: address.prefixLength }) || contains(prefix, address.local),
    );
    if (device !== undefined)
      violations.push({
        field,
        reason: 'ROUTE_COVERS_NODE',
        description: `${what} takes from ${device.link} what is in its network; ${CURE}`,
      });
    else if (contains(prefix, METADATA))
      violations.push({ field, reason: 'ROUTE_COVERS_NODE', description: `${what} takes the metadata service of clouds; ${CURE}` });
    else if (peers.some(({ address }) => contains(prefix, address)))
      violations.push({
        field,
        reason: 'ROUTE_COVERS_PEER',
        description: `${what} covers the end of a link, whose packets would not leave the node; ${CURE}`,
      });
  }
  const [first] = violations;
  if (first === undefined) return;
  const fields = violations.map(({ field, description }) => ({ field, description }));
  const reason = violations.some((one) => one.reason === 'ROUTE_COVERS_NODE') ? 'ROUTE_COVERS_NODE' : 'ROUTE_COVERS_PEER';
  throw new TaplaneError('FAILED_PRECONDITION', reason, `${first.field}: ${first.description}`, { fields, metadata: { interface: name } });
}

function takenBy(desired: NodeRoutesQuestion['desired'], before: NodeRoutesQuestion['before'], path: string): Taken[] {
  const addresses = new Set(before?.addresses.map(addressIdentity));
  const routes = new Set(before?.routes.map(routeIdentity));
  return [
    ...desired.addresses.flatMap((address, at) =>
      addresses.has(addressIdentity(address))
        ? []
        : [{ field: `${path}.addresses[${at}].cidr`, bytes: address.peer ?? address.local, prefixLength: address.prefixLength }],
    ),
    ...desired.routes.flatMap((route, at) =>
      routes.has(routeIdentity(route)) || route.table !== RT_TABLE_MAIN || route.prefixLength < 2
        ? []
        : [{ field: `${path}.routes[${at}].destination`, bytes: route.destination, prefixLength: route.prefixLength }],
    ),
  ].map((one) => ({ ...one, bytes: networkOf({ ...one, family: one.bytes.length === 4 ? 2 : 10 }) }));
}

function overlap(a: Omit<Taken, 'field'>, b: Omit<Taken, 'field'>): boolean {
  return same(a.bytes, b.bytes, Math.min(a.prefixLength, b.prefixLength));
}

function contains({ bytes, prefixLength }: Omit<Taken, 'field'>, address: Buffer): boolean {
  return same(bytes, address, prefixLength);
}

/** Whether the first bits are the same. */
function same(a: Buffer, b: Buffer, bits: number): boolean {
  if (a.length !== b.length) return false;
  const whole = bits >> 3;
  if (a.compare(b, 0, whole, 0, whole) !== 0) return false;
  const rest = bits & 7;
  return rest === 0 || (((a[whole] as number) ^ (b[whole] as number)) & (0xff00 >> rest) & 0xff) === 0;
}
