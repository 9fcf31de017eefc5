// A checked spec in the form in which it is kept: canonical text, what was left to us decided, secrets that were not given again kept. And without
// secrets, as clients see it. Pure but for new keys.

import { type LinkPeer, LinkSpec, LinkSpec_Protocol as Protocol, type WireguardSpec } from '../gen/taplane/v1/link.ts';
import { formatIp, formatMac, formatPrefix, parseIp, parseMac, parsePrefix } from '../resource/inet.ts';
import { formatEndpoint, parseEndpoint } from './endpoint.ts';
import { clamp, isZero, makePrivateKey } from './keys.ts';
import { transportOf } from './spec.ts';

const NONE = Buffer.alloc(0);

/** The spec with the secrets of `before` where it does not give new ones. Not yet checked. */
export function withSecretsOf(before: LinkSpec | undefined, spec: LinkSpec): LinkSpec {
  if (before === undefined || spec.protocol !== Protocol.WIREGUARD) return spec;
  const known = new Map(before.peers.map((peer) => [Buffer.from(peer.publicKey).toString('base64'), peer.presharedKey]));
  const peers = spec.peers.map((peer): LinkPeer => {
    if (peer.presharedKey.length > 0) return peer;
    return { ...peer, presharedKey: known.get(Buffer.from(peer.publicKey).toString('base64')) ?? NONE };
  });
  const given = spec.wireguard?.privateKey.length ? spec.wireguard : before.wireguard;
  return { ...spec, peers, ...(given === undefined ? {} : { wireguard: given }) };
}

/** The form in which a sound spec is kept; a private key that is missing is made. */
export function prepare(spec: LinkSpec): LinkSpec {
  return {
    ...spec,
    transport: transportOf(spec),
    listen: canonicalEndpoint(spec.listen),
    peers: spec.peers.map(preparePeer),
    wireguard: spec.protocol === Protocol.WIREGUARD ? prepareWireguard(spec.wireguard) : undefined,
  };
}

/** As clients see it. */
export function withoutSecrets(spec: LinkSpec): LinkSpec {
  return {
    ...spec,
    wireguard: spec.wireguard && { privateKey: NONE },
    peers: spec.peers.map((peer) => ({ ...peer, presharedKey: NONE, hasPresharedKey: peer.presharedKey.length > 0 })),
  };
}

/** Equal in all fields, keys included. */
export function sameSpec(a: LinkSpec, b: LinkSpec): boolean {
  return Buffer.compare(LinkSpec.encode(a).finish(), LinkSpec.encode(b).finish()) === 0;
}

function preparePeer(peer: LinkPeer): LinkPeer {
  const { presharedKey } = peer;
  const probe = parseIp(peer.probeAddress);
  return {
    ...peer,
    endpoint: canonicalEndpoint(peer.endpoint),
    allowedPrefixes: peer.allowedPrefixes.map((text) => {
      const prefix = parsePrefix(text);
      return prefix === undefined ? text : formatPrefix(prefix.bytes, prefix.prefixLength);
    }),
    presharedKey: isZero(presharedKey) ? NONE : presharedKey,
    hasPresharedKey: false,
    macAddresses: peer.macAddresses.map((text) => formatMac(parseMac(text) ?? NONE)),
    probeAddress: probe === undefined ? '' : formatIp(probe.bytes),
  };
}

function prepareWireguard(spec: WireguardSpec | undefined): WireguardSpec {
  return { privateKey: spec?.privateKey.length ? clamp(spec.privateKey) : makePrivateKey() };
}

function canonicalEndpoint(text: string): string {
  const endpoint = parseEndpoint(text);
  return endpoint === undefined ? text : formatEndpoint(endpoint);
}
