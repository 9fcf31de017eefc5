// What the kernel has of an interface, in the words of the API. Pure.

import {
  type Address,
  Address_Scope,
  type Condition,
  type InterfaceStatus,
  type InterfaceStatus_OperState,
  InterfaceStatus_State,
  type PacketMirrorStatus,
  type Route,
  Route_Scope,
} from '../gen/taplane/v1/interface.ts';
import { formatIp, formatMac, formatPrefix } from '../resource/inet.ts';
import { AF_INET, type LinkAddress } from '../sys/netlink/address.ts';
import type { LinkRoute } from '../sys/netlink/route.ts';
import { FOREVER } from './desired.ts';
import type { Actual } from './plan.ts';

const scopes: Record<number, Address_Scope> = { 0: Address_Scope.GLOBAL, 253: Address_Scope.LINK, 254: Address_Scope.HOST };

/** Status of an interface; `ready` tells whether it is as its spec says. */
export function statusOf(
  actual: Actual,
  ready: boolean,
  generation: number,
  conditions: Condition[],
  repairs = 0,
  packetMirror?: PacketMirrorStatus,
): InterfaceStatus {
  const link = actual.link;
  const counters = link?.counters;
  return {
    state: link === undefined ? InterfaceStatus_State.MISSING : ready ? InterfaceStatus_State.ACTIVE : InterfaceStatus_State.DEGRADED,
    observedGeneration: BigInt(generation),
    ifindex: link?.index ?? 0,
    // The kernel counts from 0, the API from 1.
    operState: (link === undefined ? 0 : Math.min(link.operState + 1, 7)) as InterfaceStatus_OperState,
    carrier: link?.carrier ?? false,
    up: link?.up ?? false,
    effectiveMtu: link?.mtu ?? 0,
    effectiveMacAddress: link === undefined ? '' : formatMac(link.address),
    effectiveTxQueueLength: link?.txQueueLength ?? 0,
    addresses: actual.addresses.map(statusAddress),
    routes: actual.routes.map(statusRoute),
    controller: actual.controller,
    holders: [],
    counters:
      counters === undefined
        ? undefined
        : {
            rxPackets: counters.rxPackets,
            rxBytes: counters.rxBytes,
            txPackets: counters.txPackets,
            txBytes: counters.txBytes,
            rxDropped: counters.rxDropped,
            txDropped: counters.txDropped,
            rxErrors: counters.rxErrors,
            txErrors: counters.txErrors,
            carrierChanges: link?.carrierChanges ?? 0,
          },
    conditions,
    repairs: BigInt(repairs),
    packetMirror,
  };
}

/** An address as the API tells it. */
export function statusAddress(address: LinkAddress): Address {
  return {
    cidr: formatPrefix(address.local, address.peer === undefined ? address.prefixLength : address.local.length * 8),
    peer: address.peer === undefined ? '' : formatPrefix(address.peer, address.prefixLength),
    scope: address.family === AF_INET ? (scopes[address.scope] ?? Address_Scope.UNSPECIFIED) : Address_Scope.UNSPECIFIED,
    validLifetime: address.validLifetime === FOREVER ? 0 : Math.max(1, address.validLifetime),
  };
}

/** A route as the API tells it. */
export function statusRoute(route: LinkRoute): Route {
  return {
    destination: formatPrefix(route.destination, route.prefixLength),
    gateway: route.gateway === undefined ? '' : formatIp(route.gateway),
    metric: route.metric,
    table: route.table,
    scope: route.family === AF_INET ? ((scopes[route.scope] ?? Route_Scope.UNSPECIFIED) as Route_Scope) : Route_Scope.UNSPECIFIED,
    source: route.source === undefined ? '' : formatIp(route.source),
    mtu: route.mtu,
    onlink: route.onlink,
  };
}

/** What of a status is worth telling watchers: all but counters, also those of a mirror, and remaining lifetimes. */
export function salient(status: InterfaceStatus): string {
  return JSON.stringify(
    {
      ...status,
      observedGeneration: '',
      counters: undefined,
      packetMirror: undefined,
      addresses: status.addresses.map(({ cidr, peer }) => [cidr, peer]),
    },
    (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value),
  );
}
