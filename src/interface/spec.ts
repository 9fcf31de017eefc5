// Rules for what a client may ask of an interface. Every violation is told at once, with its path. Pure.
// `prepare` answers the spec in canonical text, so that equal specs are equal bytes.

import type { FieldViolation } from '../errors.ts';
import {
  type Address,
  Address_Scope,
  type InterfaceSpec,
  InterfaceSpec_Carrier,
  InterfaceSpec_Drift,
  InterfaceSpec_Mode,
  type Neighbour,
  type Route,
  Route_Scope,
} from '../gen/taplane/v1/interface.ts';
import { AF_INET, AF_INET6 } from '../sys/netlink/address.ts';
import { formatIp, formatPrefix, networkOf, type Prefix, parseIp, parseMac, parsePrefix, rangeOf } from './inet.ts';
import { nameProblem } from './name.ts';
import { sysctlProblem } from './sysctls.ts';

/** What the operator of the node allows. */
export interface Policy {
  allowDefaultRoutes: boolean;
}

const limits = { addresses: 256, routes: 1024, neighbours: 1024, labels: 64, queues: 256, txQueueLength: 1_000_000 };
const MTU_MIN = 68;
const MTU_MIN_IPV6 = 1280;
const MTU_MAX_TUN = 65_535;
const MTU_MAX_TAP = 65_521;
const LOCAL_TABLE = 255;

/** Collects violations under a path. */
class Report {
  readonly violations: FieldViolation[];
  readonly #path: string;

  constructor(path: string, violations: FieldViolation[] = []) {
    this.#path = path;
    this.violations = violations;
  }

  at(field: string): Report {
    return new Report(`${this.#path}${field.startsWith('[') ? '' : '.'}${field}`, this.violations);
  }

  say(description: string): void {
    this.violations.push({ field: this.#path, description });
  }
}

const known = (values: Record<string, number>, value: number): boolean => value >= 0 && Object.values(values).includes(value);

/** Violations of a spec; `path` is where it stands in the request. `before` is the spec in force: what it has already is not judged by policy again. */
export function specProblems(spec: InterfaceSpec, policy: Policy, path = 'interface.spec', before?: InterfaceSpec): FieldViolation[] {
  const report = new Report(path);
  const tap = spec.mode === InterfaceSpec_Mode.TAP;
  if (spec.mode === InterfaceSpec_Mode.UNSPECIFIED || !known(InterfaceSpec_Mode, spec.mode))
    report.at('mode').say('must be MODE_TUN or MODE_TAP');
  if (!known(InterfaceSpec_Carrier, spec.carrier)) report.at('carrier').say('must be CARRIER_FOLLOW or CARRIER_KEEP');
  if (!known(InterfaceSpec_Drift, spec.drift)) report.at('drift').say('must be DRIFT_REPAIR, DRIFT_REPORT or DRIFT_IGNORE');
  if (spec.queues > limits.queues) report.at('queues').say(`must be 1 to ${limits.queues}, got ${spec.queues}`);
  if (spec.queues > 1 && !spec.multiQueue) report.at('queues').say('more than one queue needs multi_queue');
  identity(spec.owner, report.at('owner'));
  identity(spec.group, report.at('group'));
  mtu(spec, tap, report.at('mtu'));
  if (spec.txQueueLength !== undefined && spec.txQueueLength > limits.txQueueLength) {
    report.at('tx_queue_length').say(`must be 0 to ${limits.txQueueLength}, got ${spec.txQueueLength}`);
  }
  if (spec.macAddress !== '') {
    if (tap) mac(spec.macAddress, report.at('mac_address'));
    else report.at('mac_address').say('a TUN has no MAC address; leave it out or use MODE_TAP');
  }
  namespace(spec.networkNamespace, report.at('network_namespace'));
  if (spec.controller !== '') {
    if (!tap) report.at('controller').say('only a TAP can be a port of a bridge');
    else if (/[\s/\0]/.test(spec.controller) || Buffer.byteLength(spec.controller) > 15)
      report.at('controller').say('must be the name of a bridge, 1 to 15 bytes');
  }
  list(spec.addresses, limits.addresses, report.at('addresses'), addressKey, address);
  list(spec.routes, limits.routes, report.at('routes'), routeKey, (item, at) => route(item, at, policy, before));
  list(
    spec.neighbours,
    limits.neighbours,
    report.at('neighbours'),
    (item) => canonicalIp(item.address),
    (item, at) => neighbour(item, tap, at),
  );
  for (const [key, value] of Object.entries(spec.sysctls)) {
    const problem = sysctlProblem(key, value);
    if (problem !== undefined) report.at(`sysctls[${JSON.stringify(key.slice(0, 64))}]`).say(problem);
  }
  if (spec.sysctls['ipv6/disable_ipv6'] === '1' && spec.addresses.some((item) => item.cidr.includes(':'))) {
    report.at('sysctls["ipv6/disable_ipv6"]').say('IPv6 addresses are asked for, which this setting forbids');
  }
  const metering = spec.flowMetering;
  if (metering !== undefined) {
    if (metering.activeTimeout > 86_400) report.at('flow_metering.active_timeout').say('must be 1 to 86400 seconds');
    if (metering.idleTimeout > 86_400) report.at('flow_metering.idle_timeout').say('must be 1 to 86400 seconds');
  }
  return report.violations;
}

/** Violations of labels. */
export function labelProblems(labels: Record<string, string>, path = 'interface.labels'): FieldViolation[] {
  const report = new Report(path);
  const entries = Object.entries(labels);
  if (entries.length > limits.labels) report.say(`at most ${limits.labels} labels, got ${entries.length}`);
  for (const [key, value] of entries) {
    const at = report.at(`[${JSON.stringify(key.slice(0, 63))}]`);
    if (!/^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$/.test(key))
      at.say("a key has 1 to 63 letters, digits, '.', '_', '/' or '-', a letter or digit at both ends");
    if (Buffer.byteLength(value) > 255) at.say('a value has at most 255 bytes');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
    if (/[\u0000-\u001f\u007f]/.test(value)) at.say('a value must not hold control characters');
  }
  return report.violations;
}

/** Fields that a device cannot change while it lives. */
export function immutableProblems(before: InterfaceSpec, after: InterfaceSpec, path = 'interface.spec'): FieldViolation[] {
  const fixed: [keyof InterfaceSpec, string][] = [
    ['mode', 'mode'],
    ['multiQueue', 'multi_queue'],
    ['packetInfo', 'packet_info'],
    ['vnetHeader', 'vnet_header'],
    ['ephemeral', 'ephemeral'],
    ['networkNamespace', 'network_namespace'],
  ];
  const found = fixed
    .filter(([key]) => before[key] !== after[key])
    .map(([, field]) => ({ field: `${path}.${field}`, description: 'cannot be changed; delete the interface and create it anew' }));
  for (const key of ['owner', 'group'] as const) {
    if (before[key] !== '' && after[key] === '') {
      found.push({
        field: `${path}.${key}`,
        description: 'the kernel cannot take it back; name another, or delete the interface and create it anew',
      });
    }
  }
  if (before.owner === '' && before.group === '' && after.owner === '' && after.group !== '') {
    // Root owns it (see kernel.ts), and the kernel wants owner and group to match.
    const description = 'the device belongs to root; name an owner too, or delete the interface and create it anew';
    found.push({ field: `${path}.group`, description });
  }
  return found;
}

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

/** What makes an address the same address: with a peer, the length of its own prefix means nothing. */
export function addressKey(item: Address): string {
  return item.peer === '' ? canonicalPrefix(item.cidr) : `${canonicalPrefix(item.cidr).split('/')[0]} ${canonicalPrefix(item.peer)}`;
}

/** What makes a route the same route for the kernel: one route for a destination, table and metric. */
export function routeKey(item: Route): string {
  const destination = canonicalPrefix(item.destination);
  return `${destination} ${item.table || 254} ${item.metric || (destination.includes(':') ? 1024 : 0)}`;
}

/** Violations of one address. */
export function addressProblems(item: Address | undefined, path: string): FieldViolation[] {
  const report = new Report(path);
  if (item === undefined) report.say('must be given');
  else address(item, report);
  return report.violations;
}

/** Violations of one route. */
export function routeProblems(item: Route | undefined, path: string, policy: Policy): FieldViolation[] {
  const report = new Report(path);
  if (item === undefined) report.say('must be given');
  else route(item, report, policy);
  return report.violations;
}

function canonicalPrefix(text: string): string {
  const prefix = parsePrefix(text);
  return prefix === undefined ? text : formatPrefix(prefix.bytes, prefix.prefixLength);
}

function canonicalIp(text: string): string {
  const ip = parseIp(text);
  return ip === undefined ? text : formatIp(ip.bytes);
}

function list<T>(items: T[], most: number, report: Report, key: (item: T) => string, check: (item: T, at: Report) => void): void {
  if (items.length > most) {
    report.say(`at most ${most}, got ${items.length}`);
    return;
  }
  const seen = new Map<string, number>();
  items.forEach((item, index) => {
    const at = report.at(`[${index}]`);
    check(item, at);
    const first = seen.get(key(item));
    if (first !== undefined) at.say(`is the same as number ${first}`);
    else seen.set(key(item), index);
  });
}

function identity(name: string, report: Report): void {
  if (name !== '' && !/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/.test(name)) report.say('must be a name or a decimal id');
}

function mtu(spec: InterfaceSpec, tap: boolean, report: Report): void {
  if (spec.mtu === undefined) return;
  const most = tap ? MTU_MAX_TAP : MTU_MAX_TUN;
  if (spec.mtu < MTU_MIN || spec.mtu > most) report.say(`must be ${MTU_MIN} to ${most}, got ${spec.mtu}`);
  else if (
    spec.mtu < MTU_MIN_IPV6 &&
    (spec.addresses.some((item) => item.cidr.includes(':')) || Object.keys(spec.sysctls).some((key) => key.startsWith('ipv6/')))
  ) {
    // Below it the kernel takes IPv6 off the device, settings and all.
    report.say(`IPv6 needs at least ${MTU_MIN_IPV6} bytes, got ${spec.mtu}; raise it or leave out the IPv6 addresses and settings`);
  }
}

function mac(text: string, report: Report): void {
  const bytes = parseMac(text);
  if (bytes === undefined) report.say('must be six hexadecimal octets with colons, such as 02:00:00:00:00:01');
  else if (((bytes[0] ?? 0) & 1) === 1) report.say('is a group address; the lowest bit of the first octet must be 0');
  else if (bytes.every((byte) => byte === 0)) report.say('must not be zero');
}

function namespace(text: string, report: Report): void {
  if (text === '') return;
  const problem = text.startsWith('/')
    ? /(^|\/)\.\.?(\/|$)|\0/.test(text) || text.length > 255
      ? 'must be an absolute path without . and ..'
      : undefined
    : undefined;
  if (problem !== undefined) report.say(problem);
  else if (!text.startsWith('/') && (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(text) || text.length > 255)) {
    report.say('must be a name under /run/netns or an absolute path');
  }
}

/** Says what is wrong with an address that a host may have. */
function hostAddress(prefix: Prefix, report: Report): void {
  const range = rangeOf(prefix);
  if (range === 'ipv4Mapped') report.say('is an IPv4 address in IPv6 clothes; write it as IPv4');
  else if (range === 'multicast') report.say('is a multicast address; a host cannot have it');
  else if (range === 'unspecified') report.say('is the unspecified address');
  else if (range === 'loopback') report.say('is a loopback address, which belongs to lo');
  else if (range === 'broadcast') report.say('is the broadcast address');
  else if (prefix.family === AF_INET && (prefix.bytes[0] ?? 0) === 0) report.say("is in 0.0.0.0/8, 'this network'");
  else if (prefix.family === AF_INET && (prefix.bytes[0] ?? 0) >= 240) report.say('is in the reserved range 240.0.0.0/4');
}

/** An address brings a route to its whole prefix along: a wide one would take over much of the Internet. */
const TOO_WIDE = 'the prefix is too wide: at least /8 for IPv4 and /16 for IPv6';

function tooWide(prefix: Prefix): boolean {
  return prefix.prefixLength < (prefix.family === AF_INET ? 8 : 16);
}

function address(item: Address, report: Report): void {
  const at = report.at('cidr');
  const prefix = parsePrefix(item.cidr);
  if (prefix === undefined) at.say(`must be an address with a prefix length, such as 10.0.0.1/24, got '${item.cidr.slice(0, 64)}'`);
  else if (tooWide(prefix)) at.say(TOO_WIDE);
  else {
    hostAddress(prefix, at);
    const hostBits = prefix.bytes.length * 8 - prefix.prefixLength;
    if (hostBits > 1 && networkOf(prefix).equals(prefix.bytes)) at.say('is the address of the network itself; choose one for the host');
  }
  if (item.peer !== '') {
    const peer = parsePrefix(item.peer);
    const peerAt = report.at('peer');
    if (peer === undefined) peerAt.say('must be an address');
    else if (prefix !== undefined && peer.family !== prefix.family) peerAt.say('must be of the same family as the address');
    else if (tooWide(peer)) peerAt.say(TOO_WIDE);
    else {
      hostAddress(peer, peerAt);
      if (prefix !== undefined && peer.bytes.equals(prefix.bytes)) peerAt.say('is the address itself');
    }
  }
  if (!known(Address_Scope, item.scope)) report.at('scope').say('must be SCOPE_GLOBAL, SCOPE_LINK or SCOPE_HOST');
  else if (item.scope !== Address_Scope.UNSPECIFIED && prefix?.family === AF_INET6)
    report.at('scope').say('cannot be chosen for IPv6; it follows from the address');
  if (item.validLifetime > 0xfffffffe) report.at('valid_lifetime').say('must be 0 to 4294967294 seconds');
}

function route(item: Route, report: Report, policy: Policy, before?: InterfaceSpec): void {
  const at = report.at('destination');
  const destination = parsePrefix(item.destination);
  if (destination === undefined) {
    at.say(`must be a prefix, such as 10.1.0.0/16, got '${item.destination.slice(0, 64)}'`);
    return;
  }
  const range = rangeOf(destination);
  if (!networkOf(destination).equals(destination.bytes)) {
    at.say(`has host bits; did you mean ${formatPrefix(networkOf(destination), destination.prefixLength)}?`);
  } else if (range === 'ipv4Mapped') at.say('is an IPv4 prefix in IPv6 clothes; write it as IPv4');
  else if (range === 'multicast') at.say('is multicast; unicast routes only');
  else if (destination.prefixLength > 0 && range === 'loopback') at.say('is loopback, which never leaves the node');
  else if (
    destination.prefixLength < 2 &&
    !policy.allowDefaultRoutes &&
    before?.routes.some((old) => routeKey(old) === routeKey(item)) !== true
  ) {
    at.say('takes all traffic of the node (or half of it); refused unless the agent is configured with policy.allowDefaultRoutes');
  }
  hop(item.gateway, destination.family, report.at('gateway'));
  hop(item.source, destination.family, report.at('source'));
  if (item.onlink && item.gateway === '') report.at('onlink').say('needs a gateway');
  if (item.table === LOCAL_TABLE) report.at('table').say('255 is the local table, which belongs to the kernel');
  if (item.mtu !== 0 && (item.mtu < MTU_MIN || item.mtu > MTU_MAX_TUN))
    report.at('mtu').say(`must be 0 or ${MTU_MIN} to ${MTU_MAX_TUN}, got ${item.mtu}`);
  if (!known(Route_Scope, item.scope)) report.at('scope').say('must be SCOPE_GLOBAL, SCOPE_LINK or SCOPE_HOST');
  else if (item.scope !== Route_Scope.UNSPECIFIED && destination.family === AF_INET6) report.at('scope').say('cannot be chosen for IPv6');
  else if ((item.scope === Route_Scope.LINK || item.scope === Route_Scope.HOST) && item.gateway !== '')
    report.at('scope').say('a route with a gateway has global scope');
}

function hop(text: string, family: number, report: Report): void {
  if (text === '') return;
  const ip = parseIp(text);
  if (ip === undefined) report.say(`must be an address, got '${text.slice(0, 64)}'`);
  else if (ip.family !== family) report.say('must be of the same family as the destination');
  else hostAddress({ ...ip, prefixLength: ip.bytes.length * 8 }, report);
}

function neighbour(item: Neighbour, tap: boolean, report: Report): void {
  if (!tap) {
    report.say('a TUN has no neighbours; use MODE_TAP');
    return;
  }
  const ip = parseIp(item.address);
  if (ip === undefined) report.at('address').say('must be an address');
  else hostAddress({ ...ip, prefixLength: ip.bytes.length * 8 }, report.at('address'));
  mac(item.macAddress, report.at('mac_address'));
}

/** Violations of an interface id given by a client. */
export function idProblems(id: string, pattern: boolean, field = 'interface_id'): FieldViolation[] {
  const problem = nameProblem(id, pattern);
  return problem === undefined ? [] : [{ field, description: problem }];
}
