// Flow records as people and programs read them: a line, an object for JSON, cells of a table. Pure, but for the colours, which go by what
// stdout is.

import { styleText } from 'node:util';
import ipaddr from 'ipaddr.js';
import type { Timestamp } from '../gen/google/protobuf/timestamp.ts';
import { Flow, Flow_EndReason, Flow_Event, type FlowBatch, flow_EndReasonToJSON, flow_EventToJSON } from '../gen/taplane/v1/flow.ts';
import { Direction, directionToJSON } from '../gen/taplane/v1/packet.ts';
import { human } from './interface-view.ts';
import { isoTime } from './packet-line.ts';
import { printable } from './table.ts';

/** A record with what its batch says of all. */
export interface SeenFlow {
  batch: FlowBatch;
  flow: Flow;
}

const PROTOCOLS: Record<number, string> = {
  1: 'icmp',
  2: 'igmp',
  4: 'ipip',
  6: 'tcp',
  17: 'udp',
  33: 'dccp',
  41: 'ipv6',
  47: 'gre',
  50: 'esp',
  51: 'ah',
  58: 'icmpv6',
  89: 'ospf',
  132: 'sctp',
  136: 'udplite',
};
const WITH_PORTS = new Set([6, 17, 33, 132, 136]);
const ETHERTYPES: Record<number, string> = { 0: '802.3', 2054: 'arp', 34525: 'ipv6', 2048: 'ipv4', 35020: 'lldp', 33024: 'vlan' };
const FLAGS = 'FSRPAUEC';
const REASONS: Partial<Record<Flow['endReason'], string>> = {
  [Flow_EndReason.IDLE_TIMEOUT]: 'idle',
  [Flow_EndReason.END_OF_FLOW]: 'closed',
  [Flow_EndReason.FORCED_END]: 'forced',
};

/** Pads words so that lines stand below each other: a column is as wide as its widest word so far. */
export class Columns {
  readonly #widths: number[];

  constructor(widths: readonly number[]) {
    this.#widths = [...widths];
  }

  pad(column: number, word: string, style?: (text: string) => string): string {
    const width = Math.max(this.#widths[column] ?? 0, Math.min(word.length, 80));
    this.#widths[column] = width;
    return `${style ? style(word) : word}${' '.repeat(Math.max(0, width - word.length))}`;
  }
}

/**
 * `18:20:01.123 tap0 out START tcp 10.0.0.1:40000 -> 10.0.0.2:80 S/SA fwd 3p/180B rev 2p/120B`, the time of day where this runs. An end has
 * the counts of the whole flow, all others those since the record before.
 */
export function compactLines(showNode: boolean): (seen: SeenFlow) => string {
  const columns = new Columns([12, 4, 3, 6, 4, 30, 3, 12, 12]);
  return ({ batch, flow }) => {
    const { event, endReason, sampling, fragments, link, peer, ethernet } = flow;
    const rest = [
      event === Flow_Event.END ? (REASONS[endReason] ?? '') : '',
      ethernet && ethernet.vlan > 0 ? `vlan ${ethernet.vlan}` : '',
      fragments ? 'fragments' : '',
      sampling > 1 ? `1/${sampling}` : '',
      link === '' ? '' : `link ${link}`,
      peer === '' ? '' : `peer ${peer}`,
    ];
    const words = [
      columns.pad(0, timeOfDay(timeOf(flow)), dim),
      columns.pad(1, printable(showNode ? `${batch.node}/${batch.interface}` : batch.interface)),
      columns.pad(2, way(flow.direction)),
      columns.pad(3, human(flow_EventToJSON(event), 'EVENT').toUpperCase(), EVENT_STYLES[event]),
      columns.pad(4, protocolOf(flow)),
      columns.pad(5, between(flow)),
      columns.pad(6, flagsOf(flow)),
      columns.pad(7, `fwd ${counts(flow, flow.forward)}`),
      columns.pad(8, `rev ${counts(flow, flow.reverse)}`),
      printable(rest.filter(Boolean).join(' ')),
    ];
    return words.join(' ').trimEnd();
  };
}

const dim = (text: string): string => styleText('dim', text, { stream: process.stdout });
const EVENT_STYLES: Partial<Record<Flow['event'], (text: string) => string>> = {
  [Flow_Event.START]: (text) => styleText('green', text, { stream: process.stdout }),
  [Flow_Event.END]: (text) => styleText('cyan', text, { stream: process.stdout }),
  [Flow_Event.OVERFLOW]: (text) => styleText('red', text, { stream: process.stdout }),
};

/** A start is told by its first packet, all others by their last. */
function timeOf({ event, startTime, endTime }: Flow): Timestamp | undefined {
  return event === Flow_Event.START ? (startTime ?? endTime) : (endTime ?? startTime);
}

function timeOfDay(time: Timestamp | undefined): string {
  const date = new Date(time ? Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6) : Number.NaN);
  if (Number.isNaN(date.getTime())) return '--:--:--.---';
  const parts = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, '0'));
  return `${parts.join(':')}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

export function way(direction: Direction): string {
  return direction === Direction.INBOUND ? 'in' : direction === Direction.OUTBOUND ? 'out' : '-';
}

export function protocolOf({ sourceAddress, protocol, ethernet, event }: Flow): string {
  if (sourceAddress.length > 0) return PROTOCOLS[protocol] ?? `ip/${protocol}`;
  if (ethernet === undefined || event === Flow_Event.OVERFLOW) return '-';
  return ETHERTYPES[ethernet.ethertype] ?? `0x${ethernet.ethertype.toString(16).padStart(4, '0')}`;
}

/** `10.0.0.1:40000 -> 10.0.0.2:80`; MAC addresses where there are no others. */
export function between(flow: Flow): string {
  return flow.event === Flow_Event.OVERFLOW ? 'no room in the table' : `${sourceOf(flow)} -> ${destinationOf(flow)}`;
}

export function sourceOf({ sourceAddress, sourcePort, protocol, ethernet }: Flow): string {
  return sourceAddress.length > 0 ? end(sourceAddress, protocol, sourcePort) : mac(ethernet?.source);
}

export function destinationOf({ destinationAddress, destinationPort, protocol, ethernet }: Flow): string {
  return destinationAddress.length > 0 ? end(destinationAddress, protocol, destinationPort) : mac(ethernet?.destination);
}

function end(address: Buffer, protocol: number, port: number): string {
  const text = addressText(address);
  if (!WITH_PORTS.has(protocol)) return text;
  return text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`;
}

/** What is no address, as a message from NATS may hold, is shown in part. */
export function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  return bytes.length === 16 ? new ipaddr.IPv6([...bytes]).toRFC5952String() : bytes.toString('hex', 0, 16);
}

export function mac(bytes: Buffer | undefined): string {
  return bytes && bytes.length > 0 ? (bytes.toString('hex', 0, 16).match(/../g) ?? []).join(':') : '-';
}

/** Letters of forward and reverse flags, `S/SA`; of ICMP its type and code. */
function flagsOf({ tcpFlags, reverseTcpFlags, icmp }: Flow): string {
  if (icmp !== undefined) return `${icmp.type}/${icmp.code}`;
  const letters = (bits: number): string => [...FLAGS].filter((_, bit) => (bits & (1 << bit)) !== 0).join('');
  return reverseTcpFlags === 0 ? letters(tcpFlags) || '-' : `${letters(tcpFlags)}/${letters(reverseTcpFlags)}`;
}

function counts(flow: Flow, traffic: Flow['forward']): string {
  const [packets, bytes] = told(flow, traffic);
  return `${amount(packets)}p/${amount(bytes)}B`;
}

/** What people want to know of a direction: what came since the record before, and of a flow that is over all of it. */
function told({ event }: Flow, traffic: Flow['forward']): [packets: bigint, bytes: bigint] {
  if (traffic === undefined) return [0n, 0n];
  return event === Flow_Event.END ? [traffic.totalPackets, traffic.totalBytes] : [traffic.packets, traffic.bytes];
}

/** `999`, `1.2k`, `34M`: powers of 1000. */
export function amount(value: bigint | number): string {
  let rest = Number(value);
  if (rest < 1000) return String(Math.round(rest));
  for (const unit of 'kMGTPE') {
    rest /= 1000;
    if (rest < 9.95) return `${rest.toFixed(1)}${unit}`;
    if (rest < 999.5 || unit === 'E') return `${Math.round(rest)}${unit}`;
  }
  return String(value);
}

/** The record as one object that says all: proto3 JSON of the API, but addresses, and times with all their digits, as text. */
export function flowDocument({ batch, flow }: SeenFlow): Record<string, unknown> {
  const { startTime, endTime, ethernet, sourceAddress, destinationAddress, event, endReason, direction, ...plain } = flow;
  const rest = Flow.toJSON({ ...Flow.create(), ...plain }) as Record<string, unknown>;
  return {
    time: documentTime(timeOf(flow)),
    cluster: batch.cluster,
    node: batch.node,
    interface: batch.interface,
    interfaceUid: batch.interfaceUid,
    labels: batch.labels,
    epoch: batch.epoch,
    sequence: String(flow.sequence),
    event: event === Flow_Event.UNSPECIFIED ? undefined : flow_EventToJSON(event),
    endReason: endReason === Flow_EndReason.UNSPECIFIED ? undefined : flow_EndReasonToJSON(endReason),
    startTime: documentTime(startTime),
    endTime: documentTime(endTime),
    direction: direction === Direction.UNSPECIFIED ? undefined : directionToJSON(direction),
    ethernet: ethernet && { ...ethernet, source: mac(ethernet.source), destination: mac(ethernet.destination) },
    sourceAddress: sourceAddress.length > 0 ? addressText(sourceAddress) : undefined,
    destinationAddress: destinationAddress.length > 0 ? addressText(destinationAddress) : undefined,
    ...rest,
  };
}

/** Undefined for what is no time: records from NATS may hold anything. */
function documentTime(time: Timestamp | undefined): string | undefined {
  if (time === undefined || time.seconds < 0n || time.seconds > 253_402_300_799n) return undefined;
  return isoTime(time.seconds * 1_000_000_000n + BigInt(time.nanos));
}

/** Each value of a document on a line of its own, under its path. */
export function dictionaryLines(document: Record<string, unknown>): string {
  const lines: string[] = [];
  const walk = (value: unknown, path: string): void => {
    if (value === undefined) return;
    if (typeof value !== 'object' || value === null) lines.push(`${`${path}:`.padEnd(24)}${printable(String(value))}\n`);
    else for (const [key, part] of Object.entries(value)) walk(part, path === '' ? printable(key) : `${path}.${printable(key)}`);
  };
  walk(document, '');
  return lines.join('');
}

export const TABLE_HEADS = ['TIME', 'INTERFACE', 'DIR', 'EVENT', 'PROTO', 'SOURCE', 'DESTINATION', 'FLAGS', 'PACKETS', 'BYTES'];

/** Cells below TABLE_HEADS, not yet printable, packets and bytes of both directions together, of an end those of the whole flow. */
export function tableCells({ batch, flow }: SeenFlow): string[] {
  const isFlow = flow.event !== Flow_Event.OVERFLOW;
  const forward = told(flow, flow.forward);
  const reverse = told(flow, flow.reverse);
  return [
    timeOfDay(timeOf(flow)),
    batch.interface,
    way(flow.direction),
    human(flow_EventToJSON(flow.event), 'EVENT'),
    protocolOf(flow),
    isFlow ? sourceOf(flow) : '-',
    isFlow ? destinationOf(flow) : '-',
    flagsOf(flow),
    String(forward[0] + reverse[0]),
    String(forward[1] + reverse[1]),
  ];
}
