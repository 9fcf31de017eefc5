// Both directions of a flow record as records of one direction each, as IPFIX and goflow2 tell of flows: addresses and ports swapped for
// reverse packets, bytes counted from the IP header on. Pure. Borrows the record.

import { Flow_Event as Event, type Flow, type FlowBatch, type FlowEthernet } from '../gen/taplane/v1/flow.ts';
import { Direction } from '../gen/taplane/v1/packet.ts';

/** Index of an interface by its kernel name, 1 to 2^32 - 1; 0 when it is not known. */
export type InterfaceIndex = (name: string) => number;

export interface OneWay {
  flow: Flow;
  isReverse: boolean;
  packets: bigint;
  /** As the interface carries them, Ethernet header included. */
  frameBytes: bigint;
  /** What is behind the Ethernet header. All bytes of an overflow record: of what kinds its packets were is not known. */
  payloadBytes: bigint;
  /** 4 or 16 bytes, or none. */
  sourceAddress: Uint8Array;
  destinationAddress: Uint8Array;
  sourcePort: number;
  destinationPort: number;
  /** Type and code; for reverse packets the answer to the type of the first packet, if it is one that is answered. */
  icmp: { type: number; code: number } | undefined;
  tcpFlags: number;
  /** As in the header, without the bits of ECN; 0 for reverse packets, of which it is not known. */
  trafficClass: number;
  /** The smallest; 0 for reverse packets, of which it is not known. */
  ttl: number;
  direction: Direction;
  /** The interface for what the node receives, else 0. What has no direction is told as received. */
  ingressInterface: number;
  /** The interface for what the node sends, else 0. */
  egressInterface: number;
  ethernet: FlowEthernet | undefined;
}

const ETHERNET_HEADER = 14n;
const TAGGED_HEADER = 18n;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

/** Requests and their answers, in both directions (IANA icmp-parameters, icmpv6-parameters). */
const ICMP_ANSWERS = bothWays([
  [8, 0], // echo
  [10, 9], // router solicitation and advertisement
  [13, 14], // timestamp
  [15, 16], // information
  [17, 18], // address mask
]);
const ICMPV6_ANSWERS = bothWays([
  [128, 129], // echo
  [130, 131], // multicast listener query and report
  [133, 134], // router solicitation and advertisement
  [135, 136], // neighbour solicitation and advertisement
  [139, 140], // node information
  [144, 145], // home agent address discovery
]);

/** The directions that had packets, forward first: none, one or two. `index` is that of the interface, 0 when it is not known. */
export function oneWays(flow: Flow, index: number): OneWay[] {
  const ways: OneWay[] = [];
  if ((flow.forward?.packets ?? 0n) > 0n) ways.push(forward(flow, index));
  if ((flow.reverse?.packets ?? 0n) > 0n) ways.push(reverse(flow, index));
  return ways;
}

/** How many `oneWays` of its records gives. */
export function countOneWays(batch: FlowBatch): number {
  let count = 0;
  for (const { forward, reverse } of batch.flows) {
    if ((forward?.packets ?? 0n) > 0n) count += 1;
    if ((reverse?.packets ?? 0n) > 0n) count += 1;
  }
  return count;
}

function forward(flow: Flow, index: number): OneWay {
  const { packets, bytes } = flow.forward ?? { packets: 0n, bytes: 0n };
  const isSent = flow.direction === Direction.OUTBOUND;
  return {
    flow,
    isReverse: false,
    packets,
    frameBytes: bytes,
    payloadBytes: payloadBytes(flow, packets, bytes),
    sourceAddress: flow.sourceAddress,
    destinationAddress: flow.destinationAddress,
    sourcePort: flow.sourcePort,
    destinationPort: flow.destinationPort,
    icmp: flow.icmp,
    tcpFlags: flow.tcpFlags,
    trafficClass: flow.dscp << 2,
    ttl: flow.ttl,
    direction: flow.direction,
    ingressInterface: isSent ? 0 : index,
    egressInterface: isSent ? index : 0,
    ethernet: flow.ethernet,
  };
}

function reverse(flow: Flow, index: number): OneWay {
  const { packets, bytes } = flow.reverse ?? { packets: 0n, bytes: 0n };
  const direction = opposite(flow.direction);
  const isSent = direction === Direction.OUTBOUND;
  const { ethernet } = flow;
  return {
    flow,
    isReverse: true,
    packets,
    frameBytes: bytes,
    payloadBytes: payloadBytes(flow, packets, bytes),
    sourceAddress: flow.destinationAddress,
    destinationAddress: flow.sourceAddress,
    sourcePort: flow.destinationPort,
    destinationPort: flow.sourcePort,
    icmp: flow.icmp && answer(flow),
    tcpFlags: flow.reverseTcpFlags,
    trafficClass: 0,
    ttl: 0,
    direction,
    ingressInterface: isSent ? 0 : index,
    egressInterface: isSent ? index : 0,
    ethernet: ethernet && { ...ethernet, source: ethernet.destination, destination: ethernet.source },
  };
}

/** The count is of what the interface carries: on a TAP with Ethernet header, and with a tag in the flows of a VLAN. */
function payloadBytes(flow: Flow, packets: bigint, bytes: bigint): bigint {
  if (flow.ethernet === undefined || flow.event === Event.OVERFLOW) return bytes;
  const headers = packets * (flow.ethernet.vlan === 0 ? ETHERNET_HEADER : TAGGED_HEADER);
  return bytes > headers ? bytes - headers : 0n;
}

function opposite(direction: Direction): Direction {
  if (direction === Direction.INBOUND) return Direction.OUTBOUND;
  if (direction === Direction.OUTBOUND) return Direction.INBOUND;
  return Direction.UNSPECIFIED;
}

function answer({ protocol, icmp }: Flow): { type: number; code: number } {
  const { type = 0, code = 0 } = icmp ?? {};
  const answers = protocol === IPPROTO_ICMP ? ICMP_ANSWERS : protocol === IPPROTO_ICMPV6 ? ICMPV6_ANSWERS : undefined;
  return { type: answers?.get(type) ?? type, code };
}

function bothWays(pairs: [request: number, answer: number][]): Map<number, number> {
  return new Map(pairs.flatMap(([a, b]) => [[a, b] as const, [b, a] as const]));
}
