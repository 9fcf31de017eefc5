// Specs in canonical text, so that equal specs are equal bytes, and the keys by which the kernel tells objects apart. Call only
// for what the rules have let through. Pure.

import {
  type Address,
  type InterfaceSpec,
  InterfaceSpec_Carrier,
  InterfaceSpec_Drift,
  type ResponderSpec,
  type Route,
} from '../gen/taplane/v1/interface.ts';
import { formatIp, formatPrefix, parseIp, parsePrefix } from '../resource/inet.ts';

/** The spec in canonical text, defaults filled in. Call only without violations. */
export function prepare(spec: InterfaceSpec): InterfaceSpec {
  return {
    ...spec,
    queues: Math.max(1, spec.queues),
    carrier: spec.carrier === InterfaceSpec_Carrier.UNSPECIFIED ? InterfaceSpec_Carrier.FOLLOW : spec.carrier,
    drift: spec.drift === InterfaceSpec_Drift.UNSPECIFIED ? InterfaceSpec_Drift.REPAIR : spec.drift,
    macAddress: spec.macAddress.toLowerCase(),
    addresses: spec.addresses.map(prepareAddress),
    routes: spec.routes.map(prepareRoute),
    responders: spec.responders.map(prepareResponder),
    neighbours: spec.neighbours.map((item) => ({ address: canonicalIp(item.address), macAddress: item.macAddress.toLowerCase() })),
    // As the kernel prints numbers: 01 or -0 would differ from what it says for ever.
    sysctls: Object.fromEntries(
      Object.entries(spec.sysctls)
        .map(([key, value]) => [key, String(Number(value))] as const)
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    ),
  };
}

/** An address in canonical text. */
export function prepareAddress(item: Address): Address {
  return { ...item, cidr: canonicalPrefix(item.cidr), peer: item.peer === '' ? '' : canonicalPrefix(item.peer) };
}

/** A route in canonical text. */
export function prepareRoute(item: Route): Route {
  return { ...item, destination: canonicalPrefix(item.destination), gateway: canonicalIp(item.gateway), source: canonicalIp(item.source) };
}

/** A responder in canonical text. */
export function prepareResponder(item: ResponderSpec): ResponderSpec {
  return { ...item, addresses: item.addresses.map(canonicalPrefix), macAddress: item.macAddress.toLowerCase() };
}

/** What makes an address the same address: with a peer, the length of its own prefix means nothing. */
export function addressKey(item: Address): string {
  return item.peer === '' ? canonicalPrefix(item.cidr) : `${canonicalPrefix(item.cidr).split('/')[0]} ${canonicalPrefix(item.peer)}`;
}

/** What makes a route the same route for the kernel: one route for a destination, table and metric. */
export function routeKey(item: Route): string {
  const destination = canonicalPrefix(item.destination);
  return `${destination} ${item.table || 254} ${item.metric || (destination.includes(':') ? 1024 : 0)}`;
}

/** As `ip` writes it; text that is no prefix stays. */
export function canonicalPrefix(text: string): string {
  const prefix = parsePrefix(text);
  return prefix === undefined ? text : formatPrefix(prefix.bytes, prefix.prefixLength);
}

/** As `ip` writes it; text that is no address stays. */
export function canonicalIp(text: string): string {
  const ip = parseIp(text);
  return ip === undefined ? text : formatIp(ip.bytes);
}
