// Rules for the peers of a link: each by itself, and that none takes what belongs to another. Pure.

import { type LinkPeer, LinkSpec_Protocol as Protocol } from '../gen/taplane/v1/link.ts';
import { formatPrefix, networkOf, parseIp, parseMac, parsePrefix, rangeOf } from '../resource/inet.ts';
import type { Report } from '../resource/report.ts';
import { type Endpoint, formatEndpoint, parseEndpoint } from './endpoint.ts';
import { isWeakKey, KEY_BYTES } from './keys.ts';

const PREFIXES_MOST = 1024;
const MACS_MOST = 1024;
const KEEPALIVE_MOST = 65_535;
const DISPLAY_NAME_MOST = 63;

export interface PeerScene {
  protocol: Protocol;
  /** What the socket is bound to, where it is given. */
  listen: Endpoint | undefined;
  /** Public key of this end, where it is known. */
  publicKey: Buffer | undefined;
}

/** What peers have taken already, by number. */
interface Taken {
  endpoints: Map<string, number>;
  keys: Map<string, number>;
  prefixes: Map<string, number>;
  macs: Map<string, number>;
}

/** Says what is wrong with each peer, and what two of them both claim. */
export function peerRules(peers: readonly LinkPeer[], scene: PeerScene, report: Report): void {
  const taken: Taken = { endpoints: new Map(), keys: new Map(), prefixes: new Map(), macs: new Map() };
  for (const [index, peer] of peers.entries()) peerRule(peer, index, scene, taken, report.at(`[${index}]`));
}

function peerRule(peer: LinkPeer, index: number, scene: PeerScene, taken: Taken, report: Report): void {
  const isWireguard = scene.protocol === Protocol.WIREGUARD;
  endpointRule(peer.endpoint, index, scene, taken, report.at('endpoint'));
  if (isWireguard) {
    keyRule(peer.publicKey, index, scene, taken, report.at('public_key'));
    prefixRules(peer.allowedPrefixes, index, taken, report.at('allowed_prefixes'));
    if (peer.keepalive > KEEPALIVE_MOST) report.at('keepalive').say(`must be 0 to ${KEEPALIVE_MOST} seconds, got ${peer.keepalive}`);
    const { length } = peer.presharedKey;
    if (length !== 0 && length !== KEY_BYTES) report.at('preshared_key').say(`must have ${KEY_BYTES} bytes, got ${length}`);
  } else {
    const foreign = 'belongs to PROTOCOL_WIREGUARD';
    if (peer.publicKey.length > 0) report.at('public_key').say(foreign);
    if (peer.allowedPrefixes.length > 0) report.at('allowed_prefixes').say(foreign);
    if (peer.keepalive !== 0) report.at('keepalive').say(foreign);
    if (peer.presharedKey.length > 0) report.at('preshared_key').say(foreign);
  }
  if (scene.protocol === Protocol.VXLAN) macRules(peer.macAddresses, index, taken, report.at('mac_addresses'));
  else if (peer.macAddresses.length > 0) report.at('mac_addresses').say('belongs to PROTOCOL_VXLAN');
  if (peer.probeAddress !== '') probeRule(peer.probeAddress, report.at('probe_address'));
  const bytes = Buffer.byteLength(peer.displayName);
  if (bytes > DISPLAY_NAME_MOST) report.at('display_name').say(`has ${bytes} bytes; at most ${DISPLAY_NAME_MOST}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  if (/[\u0000-\u001f\u007f]/.test(peer.displayName)) report.at('display_name').say('must not hold control characters');
}

function endpointRule(text: string, index: number, { protocol, listen }: PeerScene, { endpoints }: Taken, report: Report): void {
  if (text === '') {
    if (protocol !== Protocol.WIREGUARD) report.say('must be given');
    return;
  }
  const endpoint = parseEndpoint(text);
  if (endpoint?.ip === undefined) {
    report.say(`must be an address and a port, such as 192.0.2.1:51820 or [2001:db8::1]:51820, got '${text.slice(0, 64)}'`);
    return;
  }
  const range = rangeOf(endpoint.ip);
  if (endpoint.port === 0) report.say('port 0 cannot be sent to');
  if (range === 'multicast' || range === 'broadcast' || range === 'unspecified') report.say(`is a ${range} address; give that of one host`);
  else if (range === 'ipv4Mapped') report.say('is an IPv4 address in IPv6 clothes; write it as IPv4');
  else if (listen?.ip !== undefined && !isAny(listen.ip.bytes) && listen.ip.family !== endpoint.ip.family)
    report.say('is of another family than the address that the link listens on');
  once(endpoints, formatEndpoint(endpoint), index, report);
}

function keyRule(key: Uint8Array, index: number, { publicKey }: PeerScene, { keys }: Taken, report: Report): void {
  if (key.length !== KEY_BYTES) report.say(key.length === 0 ? 'must be given' : `must have ${KEY_BYTES} bytes, got ${key.length}`);
  else if (isWeakKey(key)) report.say('is a key with which nothing can be kept secret');
  else if (publicKey?.equals(key)) report.say('is the public key of this end itself');
  else once(keys, Buffer.from(key).toString('base64'), index, report);
}

function prefixRules(texts: readonly string[], index: number, { prefixes }: Taken, report: Report): void {
  if (texts.length > PREFIXES_MOST) {
    report.say(`at most ${PREFIXES_MOST}, got ${texts.length}`);
    return;
  }
  texts.forEach((text, at) => {
    const place = report.at(`[${at}]`);
    const prefix = parsePrefix(text);
    if (prefix === undefined) place.say(`must be a prefix, such as 10.1.0.0/16, got '${text.slice(0, 64)}'`);
    else if (!networkOf(prefix).equals(prefix.bytes))
      place.say(`has host bits; did you mean ${formatPrefix(networkOf(prefix), prefix.prefixLength)}?`);
    else if (rangeOf(prefix) === 'ipv4Mapped') place.say('is an IPv4 prefix in IPv6 clothes; write it as IPv4');
    else once(prefixes, formatPrefix(prefix.bytes, prefix.prefixLength), index, place);
  });
}

function macRules(texts: readonly string[], index: number, { macs }: Taken, report: Report): void {
  if (texts.length > MACS_MOST) {
    report.say(`at most ${MACS_MOST}, got ${texts.length}`);
    return;
  }
  texts.forEach((text, at) => {
    const place = report.at(`[${at}]`);
    const bytes = parseMac(text);
    if (bytes === undefined) place.say('must be six hexadecimal octets with colons, such as 02:00:00:00:00:01');
    else if (((bytes[0] as number) & 1) === 1) place.say('is a group address; the lowest bit of the first octet must be 0');
    else if (bytes.every((byte) => byte === 0)) place.say('must not be zero');
    else once(macs, bytes.toString('hex'), index, place);
  });
}

function probeRule(text: string, report: Report): void {
  const ip = parseIp(text);
  const range = ip && rangeOf(ip);
  if (ip === undefined) report.say(`must be an address, got '${text.slice(0, 64)}'`);
  else if (range === 'multicast' || range === 'broadcast' || range === 'unspecified' || range === 'ipv4Mapped')
    report.say('must be the address of one host');
}

/** What belongs to one peer only. */
function once(taken: Map<string, number>, key: string, index: number, report: Report): void {
  const first = taken.get(key);
  if (first === undefined) taken.set(key, index);
  else report.say(first === index ? 'is there twice' : `is that of peers[${first}] too`);
}

function isAny(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}
