// Flow records as goflow2's `FlowMessage`, for the many consumers that read it from a stream or a queue. Pure. Each message comes behind
// its length, a varint, as goflow2 writes them; a record becomes one message for each direction that had packets, forward first.

import { FlowMessage, FlowMessage_FlowType as FlowType } from '../gen/taplane/goflow/v1/flow_message.ts';
import type { FlowBatch } from '../gen/taplane/v1/flow.ts';
import { type InterfaceIndex, type OneWay, oneWays } from './one-way.ts';

export interface GoflowOptions {
  /** None: 0, not known. */
  interfaceIndex?: InterfaceIndex;
  /** 0 to 2^32 - 1. */
  observationDomainId?: number;
  /** Address of the node, 4 or 16 bytes. */
  samplerAddress?: Uint8Array;
}

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const NONE = new Uint8Array(0);

/** All records of a batch that have packets, as a stream of messages behind their lengths; empty when there are none. */
export function encodeGoflow(batch: FlowBatch, options: GoflowOptions = {}): Buffer {
  return Buffer.concat(goflowMessages(batch, options).flatMap((bytes) => [varint(bytes.length), bytes]));
}

/** The same, as messages without their lengths. */
export function goflowMessages(batch: FlowBatch, options: GoflowOptions = {}): Uint8Array[] {
  const index = (options.interfaceIndex?.(batch.interface) ?? 0) >>> 0;
  const messages: Uint8Array[] = [];
  for (const flow of batch.flows) {
    for (const way of oneWays(flow, index)) messages.push(FlowMessage.encode(message(batch, way, options)).finish());
  }
  return messages;
}

function message(batch: FlowBatch, way: OneWay, { observationDomainId = 0, samplerAddress = NONE }: GoflowOptions): FlowMessage {
  const { flow, ethernet } = way;
  return {
    type: FlowType.IPFIX,
    // A rate of 0 would make nothing of counts that a consumer multiplies with it.
    samplingRate: BigInt(Math.max(1, flow.sampling)),
    sequenceNum: Number(BigInt.asUintN(32, flow.sequence)),
    srcAddr: buffer(way.sourceAddress),
    dstAddr: buffer(way.destinationAddress),
    bytes: way.payloadBytes,
    packets: way.packets,
    samplerAddress: buffer(samplerAddress),
    inIf: way.ingressInterface,
    outIf: way.egressInterface,
    proto: flow.protocol,
    srcPort: way.sourcePort,
    dstPort: way.destinationPort,
    ipTos: way.trafficClass,
    ipTtl: way.ttl,
    tcpFlags: way.tcpFlags,
    srcMac: number48(ethernet?.source),
    dstMac: number48(ethernet?.destination),
    vlanId: ethernet?.vlan ?? 0,
    etype: etherType(way),
    icmpType: way.icmp?.type ?? 0,
    icmpCode: way.icmp?.code ?? 0,
    observationDomainId: observationDomainId >>> 0,
    timeReceivedNs: nanoseconds(batch.exportTime),
    timeFlowStartNs: nanoseconds(flow.startTime),
    timeFlowEndNs: nanoseconds(flow.endTime),
    cluster: batch.cluster,
    node: batch.node,
    interface: batch.interface,
    interfaceUid: batch.interfaceUid,
    labels: batch.labels,
    epoch: batch.epoch,
    sequence: flow.sequence,
    flowId: flow.flowId,
    communityId: flow.communityId,
    event: flow.event,
    endReason: flow.endReason,
    direction: way.direction,
    reverse: way.isReverse,
    frameBytes: way.frameBytes,
    fragments: flow.fragments,
    link: flow.link,
    peer: flow.peer,
  };
}

function etherType({ ethernet, sourceAddress }: OneWay): number {
  if (ethernet) return ethernet.ethertype;
  return sourceAddress.length === 4 ? ETHERTYPE_IPV4 : sourceAddress.length === 16 ? ETHERTYPE_IPV6 : 0;
}

/** A MAC address as a number, first byte highest. */
function number48(mac: Uint8Array | undefined): bigint {
  return mac?.length === 6 ? BigInt(buffer(mac).readUIntBE(0, 6)) : 0n;
}

function nanoseconds(time: { seconds: bigint; nanos: number } | undefined): bigint {
  return time ? time.seconds * 1_000_000_000n + BigInt(time.nanos) : 0n;
}

/** A view of the same bytes. */
function buffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return Uint8Array.from(bytes);
}
