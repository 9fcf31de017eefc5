// Rules for the addresses, routes, neighbours and MAC addresses of a spec. Each says what is wrong to a report. Pure.

import { type Address, Address_Scope, type InterfaceSpec, type Neighbour, type Route, Route_Scope } from '../gen/taplane/v1/interface.ts';
import { formatPrefix, networkOf, type Prefix, parseIp, parseMac, parsePrefix, rangeOf } from '../resource/inet.ts';
import { known, type Report } from '../resource/report.ts';
import { AF_INET, AF_INET6 } from '../sys/netlink/address.ts';
import { routeKey } from './canonical.ts';

/** What the operator of the node allows. */
export interface Policy {
  allowDefaultRoutes: boolean;
  /** Routes and addresses that take traffic of the node itself, see `node-routes.ts`. */
  allowNodeRoutes?: boolean;
}

const MTU_MIN = 68;
const MTU_MAX = 65_535;
const LOCAL_TABLE = 255;

/** Who has one of them is asked for the credentials of the node by whatever runs on it. */
const METADATA = [Buffer.from([169, 254, 169, 254]), Buffer.from('fd000ec2000000000000000000000254', 'hex')];

/** An address brings a route to its whole prefix along: a wide one would take over much of the Internet. */
const TOO_WIDE = 'the prefix is too wide: at least /8 for IPv4 and /16 for IPv6';

function tooWide(prefix: Prefix): boolean {
  return prefix.prefixLength < (prefix.family === AF_INET ? 8 : 16);
}

/** Says what keeps `text` from being the MAC address of one host. */
export function macRule(text: string, report: Report): void {
  const bytes = parseMac(text);
  if (bytes === undefined) report.say('must be six hexadecimal octets with colons, such as 02:00:00:00:00:01');
  else if (((bytes[0] ?? 0) & 1) === 1) report.say('is a group address; the lowest bit of the first octet must be 0');
  else if (bytes.every((byte) => byte === 0)) report.say('must not be zero');
}

/** Says what is wrong with an address that a host may have. */
function hostAddress(prefix: Prefix, report: Report): void {
  const range = rangeOf(prefix);
  if (range === 'ipv4Mapped') report.say('is an IPv4 address in IPv6 clothes; write it as IPv4');
  else if (range === 'multicast') report.say('is a multicast address; a host cannot have it');
  else if (range === 'unspecified') report.say('is the unspecified address');
  else if (range === 'loopback') report.say('is a loopback address, which belongs to lo');
  else if (range === 'broadcast') report.say('is the broadcast address');
  else if (METADATA.some((bytes) => bytes.equals(prefix.bytes))) report.say('is the address of the metadata service of clouds');
  else if (prefix.family === AF_INET && (prefix.bytes[0] ?? 0) === 0) report.say("is in 0.0.0.0/8, 'this network'");
  else if (prefix.family === AF_INET && (prefix.bytes[0] ?? 0) >= 240) report.say('is in the reserved range 240.0.0.0/4');
}

/** Says what keeps an address from being one that a host may have. */
export function addressRule(item: Address, report: Report): void {
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

/** Says what keeps a route from being set: its form, and a default route where policy does not allow it and `before` had none. */
export function routeRule(item: Route, report: Report, policy: Policy, before?: InterfaceSpec): void {
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
  if (item.mtu !== 0 && (item.mtu < MTU_MIN || item.mtu > MTU_MAX))
    report.at('mtu').say(`must be 0 or ${MTU_MIN} to ${MTU_MAX}, got ${item.mtu}`);
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

/** Says what keeps a neighbour from being set; a TUN has none. */
export function neighbourRule(item: Neighbour, tap: boolean, report: Report): void {
  if (!tap) {
    report.say('a TUN has no neighbours; use MODE_TAP');
    return;
  }
  const ip = parseIp(item.address);
  if (ip === undefined) report.at('address').say('must be an address');
  else hostAddress({ ...ip, prefixLength: ip.bytes.length * 8 }, report.at('address'));
  macRule(item.macAddress, report.at('mac_address'));
}
