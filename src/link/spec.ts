// Rules for what a client may ask of a link. Every violation is told at once, with its path. Pure.

import type { FieldViolation } from '../errors.ts';
import {
  type LinkSpec,
  LinkSpec_Protocol as Protocol,
  type TlsSpec,
  LinkSpec_Transport as Transport,
  type VxlanSpec,
} from '../gen/taplane/v1/link.ts';
import { rangeOf } from '../resource/inet.ts';
import { known, Report } from '../resource/report.ts';
import { type Endpoint, parseEndpoint } from './endpoint.ts';
import { hasIpv6, type Joined } from './joined.ts';
import { isZero, KEY_BYTES, publicKeyOf } from './keys.ts';
import { joinedId } from './name.ts';
import { type PeerScene, peerRules } from './peer-rules.ts';

const MTU_MIN = 576;
const MTU_MAX = 65_535;
const MTU_MIN_IPV6 = 1280;
const PATH_MOST = 4095;
const PEER_NAME_MOST = 255;
const VXLAN_MOST = { vni: 0xffffff, age: 86_400, addresses: 65_536, storm: 1_000_000 };
const PEERS_MOST: Readonly<Record<number, number>> = { [Protocol.FRAMES]: 1, [Protocol.VXLAN]: 1024, [Protocol.WIREGUARD]: 4096 };

/** UDP is the usual of every protocol. */
export function transportOf({ transport }: Pick<LinkSpec, 'transport'>): Transport {
  return transport === Transport.UNSPECIFIED ? Transport.UDP : transport;
}

/** Violations of a spec, with the secrets that it keeps; `path` is where it stands in the request. */
export function specProblems(spec: LinkSpec, path = 'link.spec'): FieldViolation[] {
  const report = new Report(path);
  const { protocol } = spec;
  const isKnown = protocol !== Protocol.UNSPECIFIED && known(Protocol, protocol);
  const interfaceId = joinedId(spec.interface);
  if (interfaceId === undefined) report.at('interface').say('must have the form interfaces/{interface}');
  if (!isKnown) report.at('protocol').say('must be PROTOCOL_FRAMES, PROTOCOL_VXLAN or PROTOCOL_WIREGUARD');
  if (!known(Transport, spec.transport)) report.at('transport').say('must be TRANSPORT_UDP or TRANSPORT_TCP');
  const isTcp = spec.transport === Transport.TCP;
  if (isTcp && isKnown && protocol !== Protocol.FRAMES) report.at('transport').say('TRANSPORT_TCP carries PROTOCOL_FRAMES only');
  const listen = listenRule(spec.listen, report.at('listen'));
  if (spec.mtu !== 0 && (spec.mtu < MTU_MIN || spec.mtu > MTU_MAX))
    report.at('mtu').say(`must be 0 or ${MTU_MIN} to ${MTU_MAX}, got ${spec.mtu}`);
  deviceRule(spec.bindDevice, interfaceId, report.at('bind_device'));
  if (isKnown) {
    const isServer = isTcp && spec.listen !== '';
    countRule(spec, isServer, report.at('peers'));
    partRules(spec, isTcp, report);
    const scene: PeerScene = { protocol, listen, publicKey: ownKey(spec) };
    if (spec.peers.length <= (PEERS_MOST[protocol] as number)) peerRules(spec.peers, scene, report.at('peers'));
  }
  return report.violations;
}

/** Violations that only show beside the interface. */
export function joinedProblems(spec: LinkSpec, joined: Joined, path = 'link.spec'): FieldViolation[] {
  if (spec.mtu === 0 || spec.mtu >= MTU_MIN_IPV6 || !hasIpv6(joined)) return [];
  const description = `IPv6 needs at least ${MTU_MIN_IPV6} bytes, got ${spec.mtu}, and the interface has IPv6 addresses`;
  return [{ field: `${path}.mtu`, description }];
}

/** Fields that cannot change while a link lives. */
export function immutableProblems(before: LinkSpec, after: LinkSpec, path = 'link.spec'): FieldViolation[] {
  const fixed: [field: string, isSame: boolean][] = [
    ['interface', before.interface === after.interface],
    ['protocol', before.protocol === after.protocol],
    ['transport', transportOf(before) === transportOf(after)],
  ];
  const description = 'cannot be changed; delete the link and create it anew';
  return fixed.flatMap(([field, isSame]) => (isSame ? [] : [{ field: `${path}.${field}`, description }]));
}

function listenRule(text: string, report: Report): Endpoint | undefined {
  if (text === '') return undefined;
  const listen = parseEndpoint(text);
  const range = listen?.ip && rangeOf(listen.ip);
  if (listen === undefined)
    report.say(`must be an address and a port, such as 192.0.2.1:51820, [2001:db8::1]:51820 or :51820, got '${cut(text)}'`);
  else if (range === 'multicast' || range === 'broadcast') report.say(`is a ${range} address; nothing can be bound to it`);
  else if (range === 'ipv4Mapped') report.say('is an IPv4 address in IPv6 clothes; write it as IPv4');
  return listen;
}

function deviceRule(name: string, interfaceId: string | undefined, report: Report): void {
  if (name === '') return;
  if (/[\s/\0]/.test(name) || Buffer.byteLength(name) > 15 || name === '.' || name === '..')
    report.say('must be the name of a network device, 1 to 15 bytes');
  else if (name === interfaceId) report.say('is the interface that the link joins: outer packets would go into the link');
}

function countRule({ protocol, peers, listen }: LinkSpec, isServer: boolean, report: Report): void {
  const most = PEERS_MOST[protocol] as number;
  if (protocol !== Protocol.FRAMES) {
    if (peers.length > most) report.say(`at most ${most}, got ${peers.length}`);
  } else if (peers.length > 1) report.say(`frames have one peer, got ${peers.length}`);
  else if (peers.length === 0 && !isServer) {
    const cure =
      listen === ''
        ? '; only a server of TRANSPORT_TCP, which has listen, can do without'
        : '; over UDP also the end that listens must name it';
    report.say(`frames need the one peer that they go to${cure}`);
  }
}

/** The parts that belong to one protocol. */
function partRules(spec: LinkSpec, isTcp: boolean, report: Report): void {
  const { protocol, wireguard, vxlan, tls } = spec;
  if (wireguard !== undefined) {
    const at = report.at('wireguard');
    const { privateKey } = wireguard;
    if (protocol !== Protocol.WIREGUARD) at.say('belongs to PROTOCOL_WIREGUARD');
    else if (privateKey.length !== 0 && privateKey.length !== KEY_BYTES)
      at.at('private_key').say(`must have ${KEY_BYTES} bytes, got ${privateKey.length}`);
    else if (privateKey.length !== 0 && isZero(privateKey)) at.at('private_key').say('must not be zero; leave it out, and one is made');
  }
  if (protocol === Protocol.VXLAN) vxlanRule(vxlan, report.at('vxlan'));
  else if (vxlan !== undefined) report.at('vxlan').say('belongs to PROTOCOL_VXLAN');
  if (tls === undefined) return;
  if (protocol !== Protocol.FRAMES || !isTcp) report.at('tls').say('belongs to PROTOCOL_FRAMES over TRANSPORT_TCP');
  else tlsRule(tls, report.at('tls'));
}

function vxlanRule(vxlan: VxlanSpec | undefined, report: Report): void {
  const { vni = 0, ageSeconds = 0, maxAddresses = 0, stormLimit = 0 } = vxlan ?? {};
  if (vni < 1 || vni > VXLAN_MOST.vni) report.at('vni').say(`must be 1 to ${VXLAN_MOST.vni}, got ${vni}`);
  if (ageSeconds > VXLAN_MOST.age) report.at('age_seconds').say(`must be 0 or 1 to ${VXLAN_MOST.age}, got ${ageSeconds}`);
  if (maxAddresses > VXLAN_MOST.addresses) report.at('max_addresses').say(`must be 0 or 1 to ${VXLAN_MOST.addresses}, got ${maxAddresses}`);
  if (stormLimit > VXLAN_MOST.storm) report.at('storm_limit').say(`must be 0 or 1 to ${VXLAN_MOST.storm}, got ${stormLimit}`);
}

function tlsRule({ certificateFile, privateKeyFile, caFile, peerName }: TlsSpec, report: Report): void {
  fileRule(certificateFile, report.at('certificate_file'));
  fileRule(privateKeyFile, report.at('private_key_file'));
  fileRule(caFile, report.at('ca_file'));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  if (/[\u0000-\u0020\u007f]/.test(peerName) || Buffer.byteLength(peerName) > PEER_NAME_MOST)
    report.at('peer_name').say(`must be a DNS name or URI of at most ${PEER_NAME_MOST} bytes`);
}

function fileRule(path: string, report: Report): void {
  if (path === '') report.say('must be given');
  else if (!path.startsWith('/') || /(^|\/)\.\.?(\/|$)|\0/.test(path) || path.endsWith('/') || Buffer.byteLength(path) > PATH_MOST)
    report.say('must be the absolute path of a file, without . and ..');
}

/** The public key of this end, where a sound private key is given. */
function ownKey({ protocol, wireguard }: LinkSpec): Buffer | undefined {
  if (protocol !== Protocol.WIREGUARD || wireguard?.privateKey.length !== KEY_BYTES) return undefined;
  return publicKeyOf(wireguard.privateKey);
}

export function cut(text: string): string {
  return text.slice(0, 64);
}
