// Which elements an IPFIX data record has, in which order, and how each is written. Names, numbers and lengths are those of IANA's
// registry "IPFIX Information Elements". Pure; writes into the caller's buffer.
//
// A template is the elements that its records can fill: of IPv4, IPv6 or neither, ports or ICMP, with or without Ethernet header. Reverse
// packets have no class of service and no TTL, since a flow record does not know them. Its number is always the same:
// 256 + 16 x way + 4 x family + 2 x (ICMP) + (Ethernet).

import { Flow_EndReason as EndReason, Flow_Event as Event, type Flow } from '../gen/taplane/v1/flow.ts';
import { Direction } from '../gen/taplane/v1/packet.ts';
import type { OneWay } from './one-way.ts';

/** A data record: one direction, or with `back` both. */
export interface IpfixRecord {
  way: OneWay;
  /** Reverse packets of the same record (RFC 5103). */
  back?: OneWay;
}

export interface Element {
  id: number;
  /** Length of the field. */
  bytes: number;
  /** Private enterprise number; 0 for IANA's own elements. */
  enterprise: number;
  write(out: Buffer, at: number, record: IpfixRecord): void;
}

export interface Template {
  id: number;
  elements: Element[];
  /** Bytes of a record. */
  recordBytes: number;
  /** The template record that announces it (RFC 7011 section 3.4.1). */
  announcement: Buffer;
}

/** Elements that count packets of the other direction have the same numbers under this one (RFC 5103 section 6.1). */
const REVERSE_PEN = 29305;
const FIRST_TEMPLATE = 256;
const ENTERPRISE_BIT = 0x8000;

const FORWARD = 0;
const REVERSE = 1;
const BIFLOW = 2;
const IPV4 = 0;
const IPV6 = 1;
const NO_IP = 2;

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

/** flowDirection has 0 and 1; this one is not assigned. */
const DIRECTION_NOT_KNOWN = 255;

type Write = Element['write'];
const element = (id: number, bytes: number, write: Write, enterprise = 0): Element => ({ id, bytes, enterprise, write });
const u8 = (id: number, read: (way: OneWay) => number) => element(id, 1, (out, at, { way }) => void out.writeUInt8(read(way) & 0xff, at));
const u16 = (id: number, read: (way: OneWay) => number) =>
  element(id, 2, (out, at, { way }) => void out.writeUInt16BE(read(way) & 0xffff, at));
const u32 = (id: number, read: (way: OneWay) => number) =>
  element(id, 4, (out, at, { way }) => void out.writeUInt32BE(read(way) >>> 0, at));
const u64 = (id: number, read: (way: OneWay) => bigint) =>
  element(id, 8, (out, at, { way }) => void out.writeBigUInt64BE(BigInt.asUintN(64, read(way)), at));
const octets = (id: number, bytes: number, read: (way: OneWay) => Uint8Array | undefined) =>
  element(id, bytes, (out, at, { way }) => copy(out, at, bytes, read(way)));

const octetDeltaCount = u64(1, (way) => way.payloadBytes);
const packetDeltaCount = u64(2, (way) => way.packets);
const protocolIdentifier = u8(4, ({ flow }) => flow.protocol);
const ipClassOfService = u8(5, (way) => way.trafficClass);
/** 16 bits since RFC 7125. */
const tcpControlBits = u16(6, (way) => way.tcpFlags);
const sourceTransportPort = u16(7, (way) => way.sourcePort);
const sourceIPv4Address = octets(8, 4, (way) => way.sourceAddress);
const ingressInterface = u32(10, (way) => way.ingressInterface);
const destinationTransportPort = u16(11, (way) => way.destinationPort);
const destinationIPv4Address = octets(12, 4, (way) => way.destinationAddress);
const egressInterface = u32(14, (way) => way.egressInterface);
const sourceIPv6Address = octets(27, 16, (way) => way.sourceAddress);
const destinationIPv6Address = octets(28, 16, (way) => way.destinationAddress);
const icmpTypeCodeIPv4 = u16(32, typeAndCode);
const minimumTTL = u8(52, (way) => way.ttl);
const sourceMacAddress = octets(56, 6, (way) => way.ethernet?.source);
const vlanId = u16(58, (way) => way.ethernet?.vlan ?? 0);
const flowDirection = u8(61, ({ direction }) =>
  direction === Direction.INBOUND ? 0 : direction === Direction.OUTBOUND ? 1 : DIRECTION_NOT_KNOWN,
);
const destinationMacAddress = octets(80, 6, (way) => way.ethernet?.destination);
const flowEndReason = u8(136, ({ flow }) => endReason(flow));
const icmpTypeCodeIPv6 = u16(139, typeAndCode);
const flowId = element(148, 8, writeFlowId);
const flowStartMilliseconds = element(152, 8, (out, at, { way }) => writeMilliseconds(out, at, way.flow.startTime));
const flowEndMilliseconds = element(153, 8, (out, at, { way }) => writeMilliseconds(out, at, way.flow.endTime));
const ethernetType = u16(256, (way) => way.ethernet?.ethertype ?? 0);
/** The whole frame, without its checksum. */
const layer2OctetDeltaCount = u64(352, (way) => way.frameBytes);

/** All that can be sent: what a collector must know before data. Announcements of two-way records only with `biflow`. */
export function templates(biflow: boolean): Template[] {
  const ways = biflow ? [FORWARD, REVERSE, BIFLOW] : [FORWARD, REVERSE];
  return TEMPLATES.filter((template) => template !== undefined && ways.includes((template.id - FIRST_TEMPLATE) >> 4)) as Template[];
}

/** The template that fits a record. */
export function templateOf({ way, back }: IpfixRecord): Template {
  const { flow } = way;
  const family = flow.sourceAddress.length === 4 ? IPV4 : flow.sourceAddress.length === 16 ? IPV6 : NO_IP;
  const isIcmp = way.icmp !== undefined && flow.protocol === (family === IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) && family !== NO_IP;
  // Without IP there is nothing that reverse packets lack.
  const direction = back ? BIFLOW : way.isReverse && family !== NO_IP ? REVERSE : FORWARD;
  return TEMPLATES[numberOf(direction, family, isIcmp, way.ethernet !== undefined)] as Template;
}

/** By number, less 256; built once. */
const TEMPLATES = allTemplates();

function numberOf(way: number, family: number, isIcmp: boolean, hasEthernet: boolean): number {
  return 16 * way + 4 * family + (isIcmp ? 2 : 0) + (hasEthernet ? 1 : 0);
}

function allTemplates(): (Template | undefined)[] {
  const all: (Template | undefined)[] = [];
  for (const way of [FORWARD, REVERSE, BIFLOW]) {
    for (const family of [IPV4, IPV6, NO_IP]) {
      for (const isIcmp of [false, true]) {
        for (const hasEthernet of [false, true]) {
          if (family === NO_IP && (isIcmp || way === REVERSE)) continue;
          const number = numberOf(way, family, isIcmp, hasEthernet);
          all[number] = template(FIRST_TEMPLATE + number, elementsOf(way, family, isIcmp, hasEthernet));
        }
      }
    }
  }
  return all;
}

function elementsOf(way: number, family: number, isIcmp: boolean, hasEthernet: boolean): Element[] {
  const elements: Element[] = [octetDeltaCount, packetDeltaCount];
  if (way === BIFLOW) elements.push(ofReverse(octetDeltaCount), ofReverse(packetDeltaCount));
  if (family !== NO_IP) {
    elements.push(...(family === IPV4 ? [sourceIPv4Address, destinationIPv4Address] : [sourceIPv6Address, destinationIPv6Address]));
    elements.push(protocolIdentifier);
    if (way !== REVERSE) elements.push(ipClassOfService, minimumTTL);
    if (isIcmp) elements.push(family === IPV4 ? icmpTypeCodeIPv4 : icmpTypeCodeIPv6);
    else {
      elements.push(sourceTransportPort, destinationTransportPort, tcpControlBits);
      if (way === BIFLOW) elements.push(ofReverse(tcpControlBits));
    }
  }
  elements.push(ingressInterface, egressInterface, flowDirection, flowEndReason, flowId, flowStartMilliseconds, flowEndMilliseconds);
  if (!hasEthernet) return elements;
  elements.push(sourceMacAddress, destinationMacAddress, vlanId, ethernetType, layer2OctetDeltaCount);
  if (way === BIFLOW) elements.push(ofReverse(layer2OctetDeltaCount));
  return elements;
}

function ofReverse({ id, bytes, write }: Element): Element {
  return element(id, bytes, (out, at, { way, back }) => write(out, at, { way: back ?? way }), REVERSE_PEN);
}

function template(id: number, elements: Element[]): Template {
  const announcement = Buffer.alloc(4 + elements.reduce((sum, { enterprise }) => sum + (enterprise === 0 ? 4 : 8), 0));
  announcement.writeUInt16BE(id, 0);
  announcement.writeUInt16BE(elements.length, 2);
  let at = 4;
  for (const { id, bytes, enterprise } of elements) {
    at = announcement.writeUInt16BE(enterprise === 0 ? id : id | ENTERPRISE_BIT, at);
    at = announcement.writeUInt16BE(bytes, at);
    if (enterprise !== 0) at = announcement.writeUInt32BE(enterprise, at);
  }
  return { id, elements, recordBytes: elements.reduce((sum, { bytes }) => sum + bytes, 0), announcement };
}

/** Type x 256 + code. */
function typeAndCode({ icmp }: OneWay): number {
  return icmp ? (icmp.type << 8) | (icmp.code & 0xff) : 0;
}

/**
 * A start is no end, but every IPFIX record has one: "terminated for reporting purposes while it was still active" (2) is what it is.
 * 0, which IANA has reserved, for what is not known.
 */
function endReason({ event, endReason }: Flow): number {
  if (event === Event.START) return EndReason.ACTIVE_TIMEOUT;
  return endReason === EndReason.UNRECOGNIZED ? 0 : endReason;
}

/** `<epoch>-<number>` in 64 bits: both halves of the epoch folded into the upper 32, the number below. 0 for what is not so made. */
function writeFlowId(out: Buffer, at: number, { way }: IpfixRecord): void {
  const { flowId: text } = way.flow;
  const isId = text.length > 17 && text.charCodeAt(16) === 0x2d;
  const upper = isId ? Number.parseInt(text.slice(0, 8), 16) ^ Number.parseInt(text.slice(8, 16), 16) : 0;
  out.writeUInt32BE(upper >>> 0, at);
  // ToUint32 keeps the lower half of a larger number.
  out.writeUInt32BE(isId ? Number(text.slice(17)) >>> 0 : 0, at + 4);
}

function writeMilliseconds(out: Buffer, at: number, time: { seconds: bigint; nanos: number } | undefined): void {
  const ms = time ? Number(time.seconds) * 1000 + Math.floor(time.nanos / 1_000_000) : 0;
  out.writeUInt32BE(Math.floor(ms / 0x1_0000_0000) >>> 0, at);
  out.writeUInt32BE(ms >>> 0, at + 4);
}

function copy(out: Buffer, at: number, length: number, from: Uint8Array | undefined): void {
  if (from?.length === length) out.set(from, at);
  else out.fill(0, at, at + length);
}
