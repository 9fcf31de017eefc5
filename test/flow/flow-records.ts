// Random flow records of every kind that a meter makes: TUN and TAP, IPv4, IPv6 and neither, ICMP, fragments, VLANs, overflow.

import {
  Flow_EndReason as EndReason,
  Flow_Event as Event,
  type Flow,
  type FlowBatch,
  type Traffic,
} from '../../src/gen/taplane/v1/flow.ts';
import { Direction } from '../../src/gen/taplane/v1/packet.ts';
import type { Random } from '../harness/random.ts';

export const EPOCH = '0123456789abcdef';
/** 2026-01-02T03:04:05Z. */
export const TIME_S = 1_767_323_045;

export function aFlow(about: Partial<Flow> = {}): Flow {
  return {
    sequence: 1n,
    flowId: `${EPOCH}-1`,
    communityId: '',
    event: Event.END,
    endReason: EndReason.IDLE_TIMEOUT,
    startTime: { seconds: BigInt(TIME_S), nanos: 250_000_000 },
    endTime: { seconds: BigInt(TIME_S + 1), nanos: 999_999_999 },
    direction: Direction.INBOUND,
    ethernet: undefined,
    sourceAddress: Buffer.alloc(0),
    destinationAddress: Buffer.alloc(0),
    protocol: 0,
    sourcePort: 0,
    destinationPort: 0,
    icmp: undefined,
    tcpFlags: 0,
    reverseTcpFlags: 0,
    dscp: 0,
    ttl: 0,
    fragments: false,
    forward: undefined,
    reverse: undefined,
    sampling: 0,
    link: '',
    peer: '',
    ...about,
  };
}

export function aBatch(flows: Flow[], about: Partial<FlowBatch> = {}): FlowBatch {
  return {
    cluster: 'default',
    node: 'node-1',
    interface: 'tap0',
    interfaceUid: 'uid-1',
    labels: { tenant: 'blue' },
    epoch: EPOCH,
    firstSequence: 1n,
    flows,
    lost: [],
    totals: undefined,
    exportTime: { seconds: BigInt(TIME_S + 2), nanos: 0 },
    ...about,
  };
}

export function traffic(packets: number | bigint, bytes: number | bigint): Traffic {
  return { packets: BigInt(packets), bytes: BigInt(bytes), totalPackets: BigInt(packets), totalBytes: BigInt(bytes) };
}

/** `sequence` from 1. */
export function randomFlow(random: Random, sequence: number): Flow {
  const kind = random.pick(['tcp4', 'tcp6', 'udp4', 'udp6', 'icmp4', 'icmp6', 'esp4', 'fragment6', 'arp', 'lldp', 'overflow'] as const);
  const bytes = (length: number) => Buffer.from(random.bytes(length));
  const hasIp = !['arp', 'lldp', 'overflow'].includes(kind);
  const isV6 = kind.endsWith('6');
  const isTap = kind === 'arp' || kind === 'lldp' || (hasIp && random.next() < 0.5);
  const counts = (): Traffic => {
    const packets = random.next() < 0.15 ? 0 : random.integer(1, 10 ** random.integer(1, 6));
    return traffic(packets, packets * random.integer(64, 1500));
  };
  const hasPorts = kind.startsWith('tcp') || kind.startsWith('udp');
  const protocols = { tcp4: 6, tcp6: 6, udp4: 17, udp6: 17, icmp4: 1, icmp6: 58, esp4: 50, fragment6: 17, arp: 0, lldp: 0, overflow: 0 };
  const start = TIME_S + random.integer(0, 100);
  const event = kind === 'overflow' ? Event.OVERFLOW : random.pick([Event.START, Event.UPDATE, Event.END]);
  return aFlow({
    sequence: BigInt(sequence),
    flowId: kind === 'overflow' ? '' : `${EPOCH}-${sequence}`,
    communityId: hasIp ? `1:${bytes(20).toString('base64')}` : '',
    event,
    endReason: { [Event.START]: 0, [Event.UPDATE]: 2, [Event.END]: random.pick([1, 3, 4] as const), [Event.OVERFLOW]: 5 }[
      event
    ] as EndReason,
    startTime: { seconds: BigInt(start), nanos: random.integer(0, 999_999_999) },
    endTime: { seconds: BigInt(start + random.integer(1, 60)), nanos: random.integer(0, 999_999_999) },
    direction: random.pick([Direction.INBOUND, Direction.OUTBOUND]),
    ethernet: isTap
      ? {
          source: bytes(6),
          destination: bytes(6),
          ethertype: kind === 'arp' ? 0x0806 : kind === 'lldp' ? 0x88cc : isV6 ? 0x86dd : 0x0800,
          vlan: random.next() < 0.3 ? random.integer(1, 4094) : 0,
        }
      : undefined,
    sourceAddress: hasIp ? bytes(isV6 ? 16 : 4) : Buffer.alloc(0),
    destinationAddress: hasIp ? bytes(isV6 ? 16 : 4) : Buffer.alloc(0),
    protocol: protocols[kind],
    sourcePort: hasPorts ? random.integer(1, 65535) : 0,
    destinationPort: hasPorts ? random.integer(1, 65535) : 0,
    icmp: kind.startsWith('icmp') ? { type: random.integer(0, 255), code: random.integer(0, 255) } : undefined,
    tcpFlags: kind.startsWith('tcp') ? random.integer(1, 255) : 0,
    reverseTcpFlags: kind.startsWith('tcp') ? random.integer(1, 255) : 0,
    dscp: hasIp ? random.integer(0, 63) : 0,
    ttl: hasIp ? random.integer(1, 255) : 0,
    fragments: kind === 'fragment6',
    forward: counts(),
    reverse: counts(),
    sampling: random.pick([0, 1, 10]),
  });
}

/** Flows in batches of up to 500. */
export function randomBatches(random: Random, count: number): FlowBatch[] {
  const batches: FlowBatch[] = [];
  for (let made = 0; made < count; ) {
    const size = Math.min(count - made, random.integer(1, 500));
    const flows = Array.from({ length: size }, (_, i) => randomFlow(random, made + i + 1));
    batches.push(aBatch(flows, { firstSequence: BigInt(made + 1), interface: random.pick(['tap0', 'tun0']) }));
    made += size;
  }
  return batches;
}

/** Indices of the interfaces of `randomBatches`. */
export const INTERFACES: Record<string, number> = { tap0: 11, tun0: 12 };

/** As people and tools write it. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, i) => (((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0)).toString(16));
  // What URL makes of it is the text form of RFC 5952.
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}
