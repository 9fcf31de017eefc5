// A spec in the kernel's terms: bytes, numbers and ids in place of text and names. Pure.

import { createHash } from 'node:crypto';
import { Address_Scope, type InterfaceSpec, InterfaceSpec_Mode, Route_Scope } from '../gen/taplane/v1/interface.ts';
import { formatPrefix, parseIp, parseMac, parsePrefix } from '../resource/inet.ts';
import { AF_INET, type LinkAddress } from '../sys/netlink/address.ts';
import { type LinkNeighbour, NUD_PERMANENT } from '../sys/netlink/neighbour.ts';
import { type LinkRoute, RT_TABLE_MAIN } from '../sys/netlink/route.ts';
import type { TunDevice } from '../sys/tun.ts';

/** Marks what we add: IFA_PROTO, RTM protocol, NDA_PROTOCOL. Free in iproute2's rt_protos. */
export const TAPLANE_PROTOCOL = 76;
/** Seconds that mean for ever. */
export const FOREVER = 0xffffffff;
/** Seconds by which the kernel may remove an address early: it counts in ticks. */
const EXPIRY_SLACK = 0.25;
const SCOPE_LINK = 253;
const SCOPE_HOST = 254;
const UNICAST = 1;
const IPV6_DEFAULT_METRIC = 1024;

/** Objects without the index of their link, which is known only once the link is there. */
export type DesiredAddress = Omit<LinkAddress, 'index' | 'flags'>;
export type DesiredRoute = Omit<LinkRoute, 'index'>;
export type DesiredNeighbour = Omit<LinkNeighbour, 'index'>;

/** What an interface should be. Undefined fields are left as they are. */
export interface Desired {
  device: TunDevice;
  /** Mark of ownership, `taplane:<uid>`. */
  alias: string;
  up: boolean;
  mtu: number | undefined;
  txQueueLength: number | undefined;
  mac: Buffer | undefined;
  /** Name of the bridge; '' for none. */
  controller: string;
  addresses: DesiredAddress[];
  /** Identities of all addresses that were asked for with a lifetime: when they end is the kernel's to say, to the tick. */
  lapsing: Set<string>;
  routes: DesiredRoute[];
  neighbours: DesiredNeighbour[];
  sysctls: [key: string, value: string][];
}

/** What `desire` cannot know by itself. */
export interface DesireContext {
  name: string;
  uid: string;
  /** Resolved ids of owner and group. */
  owner: number | undefined;
  group: number | undefined;
  /** Seconds since the address with this canonical CIDR was asked for, for those with a lifetime. */
  ageSeconds(cidr: string): number;
}

/** What every mark of ownership begins with, also those of other agents. */
export const MARK = 'taplane:';

/** The mark of ownership of an interface. */
export function aliasOf(uid: string): string {
  return `${MARK}${uid}`;
}

/** A locally administered MAC that stays with the interface when its device is made anew: neighbours keep their entries. */
export function stableMac(uid: string): Buffer {
  const mac = createHash('sha256').update(uid).digest().subarray(0, 6);
  mac[0] = ((mac[0] ?? 0) & 0xfc) | 0x02;
  return mac;
}

/** Translates a prepared spec. */
export function desire(spec: InterfaceSpec, context: DesireContext): Desired {
  return {
    device: {
      name: context.name,
      mode: spec.mode === InterfaceSpec_Mode.TAP ? 'tap' : 'tun',
      multiQueue: spec.multiQueue,
      packetInfo: spec.packetInfo,
      vnetHeader: spec.vnetHeader,
      ...(context.owner === undefined ? {} : { owner: context.owner }),
      ...(context.group === undefined ? {} : { group: context.group }),
    },
    alias: aliasOf(context.uid),
    up: spec.up,
    mtu: spec.mtu,
    txQueueLength: spec.txQueueLength,
    mac: spec.macAddress !== '' ? parseMac(spec.macAddress) : spec.mode === InterfaceSpec_Mode.TAP ? stableMac(context.uid) : undefined,
    controller: spec.controller,
    addresses: spec.addresses.flatMap((item) => desiredAddress(item, context.ageSeconds(item.cidr))),
    lapsing: new Set(
      spec.addresses.filter(({ validLifetime }) => validLifetime > 0).flatMap((item) => desiredAddress(item, 0).map(addressIdentity)),
    ),
    routes: spec.routes.flatMap(desiredRoute),
    neighbours: spec.neighbours.flatMap((item) => {
      const ip = parseIp(item.address);
      const hardwareAddress = parseMac(item.macAddress);
      if (ip === undefined || hardwareAddress === undefined) return [];
      return { family: ip.family, address: ip.bytes, hardwareAddress, state: NUD_PERMANENT, protocol: TAPLANE_PROTOCOL };
    }),
    sysctls: Object.entries(spec.sysctls),
  };
}

function desiredAddress(item: InterfaceSpec['addresses'][number], ageSeconds: number): DesiredAddress[] {
  const own = parsePrefix(item.cidr);
  const peer = item.peer === '' ? undefined : parsePrefix(item.peer);
  if (own === undefined) return [];
  const remaining = item.validLifetime === 0 ? FOREVER : item.validLifetime - ageSeconds;
  if (remaining <= EXPIRY_SLACK) return []; // the kernel has removed it, as asked
  const linkLocal =
    own.family === AF_INET ? own.bytes[0] === 169 && own.bytes[1] === 254 : own.bytes[0] === 0xfe && ((own.bytes[1] ?? 0) & 0xc0) === 0x80;
  const scopes = { [Address_Scope.LINK]: SCOPE_LINK, [Address_Scope.HOST]: SCOPE_HOST, [Address_Scope.GLOBAL]: 0 } as Record<
    number,
    number
  >;
  return [
    {
      family: own.family,
      // The prefix length belongs to the far end where there is one, as in `ip addr add A peer B/len`.
      prefixLength: peer?.prefixLength ?? own.prefixLength,
      scope: scopes[item.scope] ?? (linkLocal ? SCOPE_LINK : 0),
      local: own.bytes,
      peer: peer?.bytes,
      // Beyond what was asked only when the clock was set back.
      validLifetime: Math.min(Math.ceil(remaining), item.validLifetime || FOREVER),
      protocol: TAPLANE_PROTOCOL,
    },
  ];
}

function desiredRoute(item: InterfaceSpec['routes'][number]): DesiredRoute[] {
  const destination = parsePrefix(item.destination);
  if (destination === undefined) return [];
  const v4 = destination.family === AF_INET;
  const gateway = item.gateway === '' ? undefined : parseIp(item.gateway)?.bytes;
  const scopes = { [Route_Scope.LINK]: SCOPE_LINK, [Route_Scope.HOST]: SCOPE_HOST, [Route_Scope.GLOBAL]: 0 } as Record<number, number>;
  return [
    {
      family: destination.family,
      destination: destination.bytes,
      prefixLength: destination.prefixLength,
      table: item.table || RT_TABLE_MAIN,
      protocol: TAPLANE_PROTOCOL,
      scope: v4 ? (scopes[item.scope] ?? (gateway === undefined ? SCOPE_LINK : 0)) : 0,
      type: UNICAST,
      metric: item.metric !== 0 || v4 ? item.metric : IPV6_DEFAULT_METRIC,
      gateway,
      source: item.source === '' ? undefined : parseIp(item.source)?.bytes,
      mtu: item.mtu,
      onlink: item.onlink,
    },
  ];
}

/** What makes an address the same on a link. */
export function addressIdentity(address: Pick<LinkAddress, 'local' | 'peer' | 'prefixLength'>): string {
  return `${formatPrefix(address.local, address.prefixLength)} ${address.peer?.toString('hex') ?? ''}`;
}

/** What makes a route the same for the kernel. */
export function routeIdentity(route: Pick<LinkRoute, 'destination' | 'prefixLength' | 'table' | 'metric'>): string {
  return `${formatPrefix(route.destination, route.prefixLength)} ${route.table} ${route.metric}`;
}
