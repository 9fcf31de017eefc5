// What a request touches, read from the request alone: each thing with where it stands there. What a role must allow follows from it. Pure.
//
// The same whatever the update mask says: what stands in the message must be allowed, also where it would not be taken. Names are as the
// client wrote them; one that is malformed is in reach of nobody but those who may touch everything, and for them the handler refuses it.

import type { Address, Interface, InterfaceSpec, Route } from '../gen/taplane/v1/interface.ts';
import type { Link } from '../gen/taplane/v1/link.ts';
import { StreamOpen_Mode as Mode, type StreamOpen } from '../gen/taplane/v1/packet_service.ts';
import { takesAnybody } from '../link/anybody.ts';

/**
 * `interface`, `link`, `bridge`, `namespace`: a name. `address`, `route`, `inner`, `peer`: a prefix, of which all must be allowed; `inner`
 * where an address or a route would do. `use`: one of USES.
 */
export type DemandKind = 'interface' | 'link' | 'bridge' | 'namespace' | 'address' | 'route' | 'inner' | 'peer' | 'use' | 'method';

export interface Demand {
  readonly kind: DemandKind;
  readonly value: string;
  /** Path in the request. */
  readonly field: string;
}

/** What a role may do besides its methods, and why that is not free: each reaches beyond the interface. */
export const USES = {
  capture: 'see packets: CapturePackets, and StreamPackets that only observes',
  stream: 'take the packets of an interface, and send into it: StreamPackets',
  inject: 'only send into an interface: StreamPackets',
  mirror: 'have packets published on NATS',
  sysctls: 'set kernel settings of an interface, such as proxy_arp',
  owner: 'let a local user or group attach to an interface',
  metering: 'turn flow records of an interface off',
  underlay: 'choose mark and device of the sockets of a link',
  node: 'read and change what is of the whole node, whoever it belongs to: audit log, support bundle, log level',
  'tls-files': 'have the agent read certificates and keys from its disk for a link',
} as const;
export type Use = keyof typeof USES;

/** The agent's own network namespace, where others have a name or path. */
export const OWN_NAMESPACE = 'self';

/** Any place of the underlay. */
export const ANYWHERE = ['0.0.0.0/0', '::/0'].map((value) => ({ kind: 'peer', value }) as const);

const demand = (kind: DemandKind, value: string, field: string): Demand => ({ kind, value, field });
const use = (value: Use, field: string): Demand => ({ kind: 'use', value, field });

/** `interfaces/tun0` is `tun0`, and so is `interfaces/tun0/responders/x`. */
export function interfaceDemand(name: string, field: string): Demand {
  return demand('interface', idIn(name, 'interfaces/'), field);
}

/** The link that a request names, `links/{link}` or the id alone. */
export function linkDemand(name: string, field: string): Demand {
  return demand('link', idIn(name, 'links/'), field);
}

/** The responders of all interfaces. */
const ALL_PARENTS = 'interfaces/-';

/** Nothing for an empty name, which asks for all: the answer then holds what the caller may see. */
export function ifNamed(make: (name: string, field: string) => Demand, name: string, field: string): Demand[] {
  return name === '' || name === ALL_PARENTS ? [] : [make(name, field)];
}

function idIn(name: string, collection: string): string {
  const id = name.startsWith(collection) ? name.slice(collection.length) : name;
  const slash = id.indexOf('/');
  return slash < 0 ? id : id.slice(0, slash);
}

/** `isNew`: what is left out gets its usual value, which must be allowed too. */
export function interfaceDemands({ spec }: Pick<Interface, 'spec'>, isNew: boolean): Demand[] {
  const path = 'interface.spec';
  if (spec === undefined) return isNew ? [namespaceDemand('', `${path}.network_namespace`)] : [];
  const { networkNamespace, controller, addresses, routes } = spec;
  return [
    ...(isNew || networkNamespace !== '' ? [namespaceDemand(networkNamespace, `${path}.network_namespace`)] : []),
    ...(controller === '' ? [] : [demand('bridge', controller, `${path}.controller`)]),
    ...addresses.flatMap((item, at) => addressDemands(item, `${path}.addresses[${at}]`)),
    ...routes.map((item, at) => routeDemand(item, `${path}.routes[${at}]`)),
    ...usesOf(spec, path),
  ];
}

function usesOf({ owner, group, sysctls, packetMirror, flowMetering }: InterfaceSpec, path: string): Demand[] {
  return [
    ...(owner === '' ? [] : [use('owner', `${path}.owner`)]),
    ...(group === '' ? [] : [use('owner', `${path}.group`)]),
    ...(Object.keys(sysctls).length === 0 ? [] : [use('sysctls', `${path}.sysctls`)]),
    ...(packetMirror === undefined ? [] : [use('mirror', `${path}.packet_mirror`)]),
    ...(flowMetering?.disabled === true ? [use('metering', `${path}.flow_metering.disabled`)] : []),
  ];
}

/** `name` as in `InterfaceSpec.network_namespace`: empty is the agent's own, which roles call OWN_NAMESPACE; another that is called so is told by its path. */
export function namespaceDemand(name: string, field: string): Demand {
  return demand('namespace', name === '' ? OWN_NAMESPACE : name === OWN_NAMESPACE ? `/run/netns/${name}` : name, field);
}

/** An address brings a route to its whole prefix along, and one with a peer a route to the peer. */
export function addressDemands({ cidr, peer }: Address, path: string): Demand[] {
  return [demand('address', cidr, `${path}.cidr`), ...(peer === '' ? [] : [demand('inner', peer, `${path}.peer`)])];
}

/** A route is asked for as the whole of its destination. */
export function routeDemand({ destination }: Route, path: string): Demand {
  return demand('route', destination, `${path}.destination`);
}

/** What a link would touch. `isNew`: it is created, so that its interface counts also where none is given. */
export function linkDemands({ spec }: Pick<Link, 'spec'>, isNew: boolean): Demand[] {
  const path = 'link.spec';
  if (spec === undefined) return [];
  const { interface: joined, peers, socketMark, bindDevice, tls } = spec;
  return [
    ...(isNew || joined !== '' ? [interfaceDemand(joined, `${path}.interface`)] : []),
    ...peers.flatMap(({ endpoint, allowedPrefixes }, at) => [
      ...(endpoint === '' ? [] : [demand('peer', hostOf(endpoint), `${path}.peers[${at}].endpoint`)]),
      // What a peer may send from is taken into the node as if it came from there.
      ...allowedPrefixes.map((prefix, index) => demand('inner', prefix, `${path}.peers[${at}].allowed_prefixes[${index}]`)),
    ]),
    ...(takesAnybody(spec) ? ANYWHERE.map(({ kind, value }) => demand(kind, value, `${path}.listen`)) : []),
    ...(socketMark === 0 ? [] : [use('underlay', `${path}.socket_mark`)]),
    ...(bindDevice === '' ? [] : [use('underlay', `${path}.bind_device`)]),
    ...(tls === undefined ? [] : [use('tls-files', `${path}.tls`)]),
  ];
}

/** The address in `192.0.2.1:51820` and `[2001:db8::1]:51820`; other text stays, and is no address. */
function hostOf(endpoint: string): string {
  const host = endpoint.slice(0, Math.max(0, endpoint.lastIndexOf(':')));
  return host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
}

/** Without `open` the handler refuses the call. */
export function streamDemands(open: StreamOpen | undefined): Demand[] {
  if (open === undefined) return [];
  const wanted = open.mode === Mode.OBSERVE ? 'capture' : open.mode === Mode.INJECT ? 'inject' : 'stream';
  return [interfaceDemand(open.interface, 'open.interface'), use(wanted, 'open.mode')];
}

/** To capture is a use of its own, beside the interface. */
export function captureDemands({ interface: name }: { interface: string }): Demand[] {
  return [interfaceDemand(name, 'interface'), use('capture', 'interface')];
}

/** For methods that have no name to ask for and tell of everybody. */
export const nodeDemands = (): Demand[] => [use('node', 'method')];

/** What is created where it is missing needs that method too. */
export function creating(allowMissing: boolean, path: string): Demand[] {
  return allowMissing ? [demand('method', path, 'allow_missing')] : [];
}
