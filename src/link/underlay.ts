// Whether the outer packets of a link would be led into the link itself, by what is asked of its interface: a route or the prefix of an address that
// covers a peer's endpoint. A mark or a bound device of the sockets keeps them off, whatever the routes. Pure.

import type { InterfaceSpec } from '../gen/taplane/v1/interface.ts';
import type { LinkPeer, LinkSpec } from '../gen/taplane/v1/link.ts';
import { type Prefix, parsePrefix } from '../resource/inet.ts';
import { parseEndpoint } from './endpoint.ts';

export interface Loop {
  /** The route or address, as in the spec of the interface. */
  through: string;
  endpoint: string;
  /** Number of the peer, or -1 for an endpoint that was learned. */
  peer: number;
}

/** Endpoints as bytes, by the peers of a spec: specs do not change, they are replaced. */
const parsed = new WeakMap<readonly LinkPeer[], readonly Target[]>();
/** What was found of the endpoints of a spec: there may be thousands of them, and of routes. */
const judged = new WeakMap<readonly LinkPeer[], Pick<InterfaceSpec, 'routes' | 'addresses'> & { loop: Loop | undefined }>();

interface Target {
  endpoint: string;
  bytes: Buffer;
  peer: number;
}

function targetsOf(peers: readonly LinkPeer[]): readonly Target[] {
  const known = parsed.get(peers);
  if (known !== undefined) return known;
  const targets = peers.flatMap(({ endpoint }, peer) => target(endpoint, peer));
  parsed.set(peers, targets);
  return targets;
}

function target(endpoint: string, peer: number): Target[] {
  const bytes = endpoint === '' ? undefined : parseEndpoint(endpoint)?.ip?.bytes;
  return bytes === undefined ? [] : [{ endpoint, bytes, peer }];
}

/** The first endpoint that is led into the link; undefined when there is none. `learned` are endpoints in use that the spec does not have. */
export function loopOf(
  spec: Pick<LinkSpec, 'peers' | 'socketMark' | 'bindDevice'>,
  { routes, addresses }: Pick<InterfaceSpec, 'routes' | 'addresses'>,
  learned: readonly string[] = [],
): Loop | undefined {
  if (spec.socketMark !== 0 || spec.bindDevice !== '') return undefined;
  const own = new Set(spec.peers.map(({ endpoint }) => endpoint));
  const more = learned.flatMap((endpoint) => (own.has(endpoint) ? [] : target(endpoint, -1)));
  const known = judged.get(spec.peers);
  const isKnown = known?.routes === routes && known.addresses === addresses;
  if (isKnown && (known.loop !== undefined || more.length === 0)) return known.loop;
  const covers: Cover[] = [];
  // An address with a peer brings a route to the peer, one without a route to its prefix.
  for (const text of [...routes.map(({ destination }) => destination), ...addresses.map(({ cidr, peer }) => peer || cidr)]) {
    const prefix = parsePrefix(text);
    if (prefix !== undefined) covers.push([text, prefix]);
  }
  const loop = isKnown ? known.loop : firstLoop(targetsOf(spec.peers), covers);
  judged.set(spec.peers, { routes, addresses, loop });
  return loop ?? firstLoop(more, covers);
}

/** Addresses of the endpoints of a link whose packets follow the routes of the node; none where a mark or a bound device keeps them off. */
export function endpointsOf({ peers, socketMark, bindDevice }: Pick<LinkSpec, 'peers' | 'socketMark' | 'bindDevice'>): Buffer[] {
  return socketMark !== 0 || bindDevice !== '' ? [] : targetsOf(peers).map(({ bytes }) => bytes);
}

type Cover = [text: string, prefix: Prefix];

function firstLoop(targets: readonly Target[], covers: readonly Cover[]): Loop | undefined {
  for (const { endpoint, bytes, peer } of targets)
    for (const [through, prefix] of covers) if (isWithin(bytes, prefix)) return { through, endpoint, peer };
  return undefined;
}

function isWithin(address: Buffer, { bytes, prefixLength }: Prefix): boolean {
  if (address.length !== bytes.length) return false;
  const whole = prefixLength >> 3;
  if (address.compare(bytes, 0, whole, 0, whole) !== 0) return false;
  const rest = prefixLength & 7;
  return rest === 0 || (((address[whole] as number) ^ (bytes[whole] as number)) & (0xff00 >> rest) & 0xff) === 0;
}
