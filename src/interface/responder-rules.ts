// Rules for the responders and the packet mirror of a spec. Each says what is wrong to a report. Pure.

import { type PacketMirror, type ResponderSpec, ResponderSpec_Kind } from '../gen/taplane/v1/interface.ts';
import { formatPrefix, networkOf, parsePrefix, rangeOf } from '../resource/inet.ts';
import { known, list, type Report } from '../resource/report.ts';
import { AF_INET, AF_INET6 } from '../sys/netlink/address.ts';
import { canonicalPrefix } from './canonical.ts';
import { macRule } from './object-rules.ts';

const RESPONDERS_MOST = 16;
const ADDRESSES_MOST = 256;
const FILTER_MOST = 2048;
/** A frame of the largest MTU with its Ethernet header. */
const SNAP_LENGTH_MOST = 65_549;

const { UNSPECIFIED, ICMP_ECHO, ARP, ND, SINK, REFLECT } = ResponderSpec_Kind;

/** Words of the kinds: what people type, and the id of a responder without one. */
export const RESPONDER_WORDS: ReadonlyMap<ResponderSpec_Kind, string> = new Map([
  [ICMP_ECHO, 'icmp-echo'],
  [ARP, 'arp'],
  [ND, 'nd'],
  [SINK, 'sink'],
  [REFLECT, 'reflect'],
]);

/** What is wrong with the id of a responder; undefined for nothing. */
export function responderIdProblem(id: string): string | undefined {
  return /^[a-z][a-z0-9-]{0,62}$/.test(id) ? undefined : "must be 1 to 63 lower-case letters, digits and '-', a letter first";
}

/** All responders of an interface; `tap` where it carries Ethernet frames. */
export function responderRules(items: readonly ResponderSpec[], tap: boolean, report: Report): void {
  if (items.length > RESPONDERS_MOST) {
    report.say(`at most ${RESPONDERS_MOST}, got ${items.length}`);
    return;
  }
  const seen = new Map<string, number>();
  items.forEach((item, index) => {
    const at = report.at(`[${index}]`);
    responderRule(item, tap, at);
    const first = seen.get(item.id);
    if (first !== undefined) at.at('id').say(`is the id of number ${first} too`);
    else seen.set(item.id, index);
  });
}

/** One responder. */
export function responderRule(item: ResponderSpec, tap: boolean, report: Report): void {
  const problem = responderIdProblem(item.id);
  if (problem !== undefined) report.at('id').say(problem);
  if (item.kind === UNSPECIFIED || !known(ResponderSpec_Kind, item.kind)) {
    report.at('kind').say('must be KIND_ICMP_ECHO, KIND_ARP, KIND_ND, KIND_SINK or KIND_REFLECT');
    return;
  }
  const resolves = item.kind === ARP || item.kind === ND;
  const at = report.at('addresses');
  if (resolves && !tap) report.at('kind').say('needs MODE_TAP; a TUN has no neighbours');
  if (resolves && item.addresses.length === 0)
    at.say(`at least one ${item.kind === ARP ? 'IPv4' : 'IPv6'} address or prefix to answer for`);
  if (item.kind === SINK && item.addresses.length > 0) at.say('KIND_SINK takes every frame; leave them out');
  else list(item.addresses, ADDRESSES_MOST, at, canonicalPrefix, (text, each) => prefixRule(text, item.kind, each));
  if (item.macAddress === '') return;
  if (resolves) macRule(item.macAddress, report.at('mac_address'));
  else report.at('mac_address').say('only KIND_ARP and KIND_ND give one; leave it out');
}

function prefixRule(text: string, kind: ResponderSpec_Kind, report: Report): void {
  const prefix = parsePrefix(text);
  if (prefix === undefined) {
    report.say(`must be an address or a prefix, such as 10.0.0.0/24, got '${text.slice(0, 64)}'`);
    return;
  }
  const range = rangeOf(prefix);
  if (kind === ARP && prefix.family !== AF_INET) report.say('must be IPv4: ARP asks for nothing else');
  else if (kind === ND && prefix.family !== AF_INET6) report.say('must be IPv6: neighbour discovery asks for nothing else');
  else if (range === 'ipv4Mapped') report.say('is IPv4 in IPv6 clothes; write it as IPv4');
  else if (range === 'multicast') report.say('is multicast, which nobody answers for');
  else if (!networkOf(prefix).equals(prefix.bytes))
    report.say(`has host bits; did you mean ${formatPrefix(networkOf(prefix), prefix.prefixLength)}?`);
}

/** The packet mirror of an interface. Whether the filter compiles is for the data plane to say. */
export function mirrorRule(mirror: PacketMirror, report: Report): void {
  if (Buffer.byteLength(mirror.filter) > FILTER_MOST)
    report.at('filter').say(`has ${Buffer.byteLength(mirror.filter)} bytes; at most ${FILTER_MOST}`);
  else if (!/^[\x20-\x7e]*$/.test(mirror.filter)) report.at('filter').say('must be printable ASCII on one line');
  if (mirror.snapLength > SNAP_LENGTH_MOST)
    report.at('snap_length').say(`must be 1 to ${SNAP_LENGTH_MOST}, or 0 for the default, got ${mirror.snapLength}`);
}
