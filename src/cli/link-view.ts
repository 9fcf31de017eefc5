// A link as people read it: as a row of a table, and whole. Pure.

import type { Duration } from '../gen/google/protobuf/duration.ts';
import type { Timestamp } from '../gen/google/protobuf/timestamp.ts';
import { condition_StatusToJSON } from '../gen/taplane/v1/interface.ts';
import {
  type Link,
  type LinkDrops,
  type LinkPeerStatus,
  type LinkTraffic,
  linkDrops_ReasonToJSON,
  linkSpec_ProtocolToJSON,
  linkSpec_TransportToJSON,
  linkStatus_StateToJSON,
} from '../gen/taplane/v1/link.ts';
import { age, human, idOf } from './interface-view.ts';
import { peerName } from './link-peer.ts';
import { byteSize } from './size.ts';
import { type Column, printable, table } from './table.ts';

export function linkId(name: string): string {
  return name.replace(/^links\//, '');
}

export function linkName(id: string): string {
  return id.startsWith('links/') ? id : `links/${id}`;
}

export const protocol = ({ spec }: Link) => (spec ? human(linkSpec_ProtocolToJSON(spec.protocol), 'PROTOCOL') : '');
const linkState = ({ status }: Link) => (status ? human(linkStatus_StateToJSON(status.state), 'STATE') : '');
/** `2/3`: peers that are up, of all. */
function peersUp({ spec, status }: Link): string {
  const all = status?.peers ?? [];
  return `${all.filter(({ up }) => up).length}/${all.length || (spec?.peers.length ?? 0)}`;
}

function labels(link: Link, between: string): string {
  const pairs = Object.entries(link.labels).map(([key, value]) => `${key}=${value}`);
  return pairs.join(between);
}

/** `udp`, or what else it is. */
function transport({ spec }: Link): string {
  return (spec && human(linkSpec_TransportToJSON(spec.transport), 'TRANSPORT')) || 'udp';
}

export function linkColumns(nowMs: number): Column<Link>[] {
  return [
    { head: 'NAME', cell: ({ name }) => linkId(name) },
    { head: 'INTERFACE', cell: ({ spec }) => idOf(spec?.interface ?? '') },
    { head: 'PROTOCOL', cell: protocol },
    { head: 'STATE', cell: linkState },
    { head: 'PEERS(UP/ALL)', cell: peersUp },
    { head: 'LISTEN', cell: ({ status, spec }) => status?.listen || (spec?.listen ?? '') },
    { head: 'AGE', cell: ({ createTime }) => (createTime ? age(createTime, nowMs) : '') },
    { head: 'TRANSPORT', wide: true, cell: transport },
    { head: 'MTU', wide: true, cell: ({ status, spec }) => String(status?.mtu || spec?.mtu || '') },
    { head: 'RECEIVED', wide: true, cell: ({ status }) => (status?.traffic ? size(status.traffic.receivedBytes) : '') },
    { head: 'SENT', wide: true, cell: ({ status }) => (status?.traffic ? size(status.traffic.sentBytes) : '') },
    { head: 'DROPPED', wide: true, cell: ({ status }) => String(dropped(status?.drops ?? [])) },
    { head: 'LABELS', wide: true, cell: (link) => labels(link, ',') },
    { head: 'REASON', wide: true, cell: ({ status }) => status?.reason ?? '' },
  ];
}

/** All there is to know: facts a line, then tables of peers, drops, addresses and conditions, those that are not empty. */
export function linkText(link: Link, nowMs: number, wide: boolean): string {
  const { spec, status } = link;
  const { socketMark, bindDevice } = spec ?? { socketMark: 0, bindDevice: '' };
  const facts: [string, string][] = [
    ['Link', linkId(link.name)],
    ['Interface', idOf(spec?.interface ?? '')],
    ['Protocol', `${protocol(link)} over ${transport(link)}${spec?.vxlan ? `, vni ${spec.vxlan.vni}` : ''}${spec?.tls ? ' with TLS' : ''}`],
    ['State', [linkState(link) || 'not known yet', status?.reason && `(${status.reason})`].filter(Boolean).join(' ')],
    ['Listen', status?.listen || (spec?.listen ?? '')],
    ['Public key', base64(status?.publicKey)],
    ['MTU', mtu(link)],
    ['Underlay', [socketMark > 0 && `mark ${socketMark}`, bindDevice && `device ${bindDevice}`].filter(Boolean).join(', ')],
    ['Traffic', trafficText(status?.traffic)],
    ['Labels', labels(link, ' ')],
    ['Age', link.createTime ? age(link.createTime, nowMs) : ''],
  ];
  const parts = [
    facts
      .filter(([, value]) => value !== '')
      .map(([key, value]) => `${`${key}:`.padEnd(14)}${printable(value)}\n`)
      .join(''),
  ];
  const rows = <Row>(columns: Column<Row>[], of: readonly Row[] | undefined) => {
    if (of && of.length > 0) parts.push(table(columns, of, wide));
  };
  rows(peerColumns(link, nowMs), status ? status.peers : undefined);
  rows(
    [
      { head: 'DROPPED', cell: ({ packets }) => String(packets) },
      { head: 'BECAUSE', cell: ({ reason }) => whyDropped(reason, spec?.vxlan !== undefined) },
    ],
    status?.drops.filter(({ packets }) => packets > 0n),
  );
  rows(
    [
      { head: 'MAC', cell: ({ macAddress }) => macAddress },
      { head: 'BEHIND', cell: ({ endpoint }) => endpoint },
      { head: 'KIND', cell: ({ static: isStatic }) => (isStatic ? 'static' : 'learned') },
      { head: 'IP', cell: ({ ipAddress }) => ipAddress },
    ],
    status?.addresses,
  );
  rows(
    [
      { head: 'CONDITION', cell: ({ type }) => type },
      { head: 'STATUS', cell: (condition) => human(condition_StatusToJSON(condition.status), 'STATUS') },
      { head: 'REASON', cell: ({ reason }) => reason },
      { head: 'MESSAGE', cell: ({ message }) => message },
    ],
    status?.conditions,
  );
  return parts.join('\n');
}

function peerColumns({ spec }: Link, nowMs: number): Column<LinkPeerStatus>[] {
  const allowed = ({ publicKey, endpoint }: LinkPeerStatus) =>
    spec?.peers.find((peer) => (publicKey.length > 0 ? peer.publicKey.equals(publicKey) : peer.endpoint === endpoint))?.allowedPrefixes ??
    [];
  return [
    { head: 'PEER', cell: (peer) => shortKey(peer) },
    { head: 'ENDPOINT', cell: ({ endpoint }) => endpoint },
    { head: 'UP', cell: ({ up }) => (up ? 'yes' : 'no') },
    { head: 'HANDSHAKE', cell: ({ lastHandshakeTime }) => ago(lastHandshakeTime, nowMs) },
    { head: 'RTT', cell: ({ roundTrip }) => (roundTrip ? milliseconds(roundTrip) : '') },
    { head: 'LOSS', cell: ({ roundTrip, loss }) => (roundTrip || loss > 0 ? percent(loss) : '') },
    { head: 'RECEIVED', cell: ({ traffic }) => (traffic ? size(traffic.receivedBytes) : '') },
    { head: 'SENT', cell: ({ traffic }) => (traffic ? size(traffic.sentBytes) : '') },
    { head: 'PUBLIC-KEY', wide: true, cell: ({ publicKey }) => base64(publicKey) },
    { head: 'ALLOWED', wide: true, cell: (peer) => allowed(peer).join(',') },
    { head: 'PATH-MTU', wide: true, cell: ({ pathMtu }) => String(pathMtu || '') },
    { head: 'HEARD', wide: true, cell: ({ lastReceivedTime }) => ago(lastReceivedTime, nowMs) },
    { head: 'REASON', cell: ({ reason }) => reason },
  ];
}

/** In the words of somebody who looks for the cause. */
const WHY_DROPPED: Record<string, string> = {
  malformed: 'not a message of the protocol',
  unauthenticated: 'it did not authenticate, or belongs to no session: do the keys match?',
  replayed: 'it came before, or too late',
  spoofed: 'its inner source is not among the allowed prefixes of its peer',
  'no-peer': 'no peer has its destination among its allowed prefixes',
  'not-connected': 'its peer is not connected, and no more may wait',
  'too-big': 'larger than the path takes; the sender was told',
  socket: 'the socket did not take it',
  device: 'the interface did not take it: is it up?',
  storm: 'over the storm limit: is there a loop?',
  stranger: 'its sender is no peer',
  'rate-limited': 'more handshakes than are answered',
  overflow: 'no room was left',
};

function whyDropped(reason: LinkDrops['reason'], hasVni: boolean): string {
  const word = human(linkDrops_ReasonToJSON(reason), 'REASON') || 'unknown';
  const why = WHY_DROPPED[word];
  const orVni = word === 'stranger' && hasVni ? ', or its VNI is another' : '';
  return why ? `${why}${orVni} (${word})` : word;
}

function dropped(drops: readonly LinkDrops[]): bigint {
  return drops.reduce((sum, { packets }) => sum + packets, 0n);
}

/** A public key is long: its first digits tell it from the others, as `wg` users know it. */
function shortKey(peer: LinkPeerStatus): string {
  return peer.displayName || (peer.publicKey.length > 0 ? `${base64(peer.publicKey).slice(0, 8)}...` : peerName(peer));
}

function mtu({ spec, status }: Link): string {
  const now = status?.mtu || spec?.mtu || 0;
  return now === 0 ? '' : `${now}${spec?.mtu ? '' : ' (computed)'}`;
}

function trafficText(traffic: LinkTraffic | undefined): string {
  if (!traffic) return '';
  const { receivedPackets, receivedBytes, sentPackets, sentBytes } = traffic;
  return `received ${receivedPackets} packets (${size(receivedBytes)}), sent ${sentPackets} packets (${size(sentBytes)})`;
}

const size = (bytes: bigint) => byteSize(Number(bytes));
const base64 = (key: Buffer | undefined) => (key && key.length > 0 ? key.toString('base64') : '');
const ago = (time: Timestamp | undefined, nowMs: number) => (time ? `${age(time, nowMs)} ago` : '');

/** `0.412 ms`, three digits that count. */
export function milliseconds({ seconds, nanos }: Duration): string {
  const ms = Number(seconds) * 1000 + nanos / 1e6;
  return `${ms < 1 ? ms.toFixed(3) : ms < 100 ? ms.toPrecision(3) : ms.toFixed(0)} ms`;
}

/** Of a share of 0 to 1: `0%`, `<0.1%`, `1.6%`, `100%`. */
export function percent(share: number): string {
  const value = share * 100;
  if (value > 0 && value < 0.05) return '<0.1%';
  return `${Number.isInteger(value) || value >= 10 ? value.toFixed(0) : value.toFixed(1)}%`;
}

/** A state of a link in a line, for a watch. */
export function linkLine(link: Link): string {
  const { spec, status } = link;
  const down = (status?.peers ?? []).filter(({ up }) => !up);
  const missing = down.length > 0 && down.length <= 3 ? `down: ${down.map((peer) => shortKey(peer)).join(', ')}` : '';
  return [
    protocol(link),
    `on ${idOf(spec?.interface ?? '')}`,
    linkState(link),
    `peers=${peersUp(link)}`,
    status?.listen && `listen=${status.listen}`,
    missing,
    status?.reason && `(${status.reason})`,
  ]
    .filter(Boolean)
    .join(' ');
}
