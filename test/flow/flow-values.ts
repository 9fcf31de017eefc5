// Flow records for tests: random ones for properties, and plain ones to look at.

import fc from 'fast-check';
import { Flow, FlowBatch, type Traffic } from '../../src/gen/taplane/v1/flow.ts';

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const time = fc.option(
  fc.record({ seconds: fc.bigInt({ min: 0n, max: 4_000_000_000n }), nanos: fc.integer({ min: 0, max: 999_999_999 }) }),
  {
    nil: undefined,
  },
);
const traffic: fc.Arbitrary<Traffic | undefined> = fc.option(fc.record({ packets: u64, bytes: u64, totalPackets: u64, totalBytes: u64 }), {
  nil: undefined,
});
const bytes = (...lengths: number[]) =>
  fc.oneof(...lengths.map((length) => fc.uint8Array({ minLength: length, maxLength: length }).map((value) => Buffer.from(value))));
/** Few values, so that filters meet them. */
const octets = fc.constantFrom(0, 1, 2, 10, 127, 128, 255);
const address = fc.oneof(
  fc.constant(Buffer.alloc(0)),
  fc.tuple(octets, octets, octets, octets).map((value) => Buffer.from(value)),
  fc.array(octets, { minLength: 16, maxLength: 16 }).map((value) => Buffer.from(value)),
);

export const someFlow: fc.Arbitrary<Flow> = fc
  .record({
    sequence: u64,
    flowId: fc.string(),
    communityId: fc.string({ unit: 'grapheme' }),
    event: fc.constantFrom(0, 1, 2, 3, 4) as fc.Arbitrary<Flow['event']>,
    endReason: fc.constantFrom(0, 1, 2, 3, 4, 5) as fc.Arbitrary<Flow['endReason']>,
    startTime: time,
    endTime: time,
    direction: fc.constantFrom(0, 1, 2) as fc.Arbitrary<Flow['direction']>,
    ethernet: fc.option(
      fc.record({
        source: bytes(6),
        destination: bytes(6),
        ethertype: fc.constantFrom(0, 0x800, 0x806, 0x86dd),
        vlan: fc.constantFrom(0, 1, 4094),
      }),
      { nil: undefined },
    ),
    sourceAddress: address,
    destinationAddress: address,
    protocol: fc.constantFrom(0, 1, 6, 17, 58),
    sourcePort: fc.constantFrom(0, 53, 80, 40_000, 65_535),
    destinationPort: fc.constantFrom(0, 53, 80, 40_000, 65_535),
    icmp: fc.option(fc.record({ type: fc.nat(255), code: fc.nat(255) }), { nil: undefined }),
    tcpFlags: fc.nat(255),
    reverseTcpFlags: fc.nat(255),
    dscp: fc.nat(63),
    ttl: fc.nat(255),
    fragments: fc.boolean(),
    forward: traffic,
    reverse: traffic,
    sampling: fc.nat(100),
  })
  .chain((flow) => fc.record({ link: fc.constantFrom('', 'a', 'b'), peer: fc.string() }).map((rest) => ({ ...flow, ...rest })));

export const someBatch: fc.Arbitrary<FlowBatch> = fc.record({
  cluster: fc.string({ unit: 'grapheme' }),
  node: fc.string(),
  interface: fc.string(),
  interfaceUid: fc.string(),
  labels: fc.dictionary(
    fc.string().filter((key) => key !== '__proto__'),
    fc.string(),
    { maxKeys: 4, noNullPrototype: true },
  ),
  epoch: fc.string(),
  firstSequence: u64,
  flows: fc.array(someFlow, { maxLength: 6 }),
  lost: fc.array(fc.record({ reason: fc.constantFrom(0, 1, 2, 3, 4, 5) as fc.Arbitrary<0>, count: u64 }), { maxLength: 3 }),
  totals: fc.option(
    fc.record({
      seenPackets: u64,
      seenBytes: u64,
      recordedPackets: u64,
      recordedBytes: u64,
      inTablePackets: u64,
      inTableBytes: u64,
      sampledOutPackets: u64,
      sampledOutBytes: u64,
      droppedFrames: u64,
      activeFlows: u64,
    }),
    { nil: undefined },
  ),
  exportTime: time,
});

/** Seconds since 1970 of a moment that tests count from: 2026-01-02T03:04:05Z. */
export const T0 = 1_767_323_045n;

/** A TCP flow of a second, from 10.0.0.1:40000 to 10.0.0.2:80. */
export function flow(partial: Partial<Flow> = {}): Flow {
  return Flow.fromPartial({
    sequence: 1n,
    flowId: '0123456789abcdef-1',
    communityId: '1:abc=',
    event: 1,
    startTime: { seconds: T0, nanos: 123_000_000 },
    endTime: { seconds: T0 + 1n, nanos: 0 },
    direction: 2,
    sourceAddress: Buffer.from([10, 0, 0, 1]),
    destinationAddress: Buffer.from([10, 0, 0, 2]),
    protocol: 6,
    sourcePort: 40_000,
    destinationPort: 80,
    tcpFlags: 2,
    forward: { packets: 3n, bytes: 180n, totalPackets: 3n, totalBytes: 180n },
    reverse: { packets: 2n, bytes: 120n, totalPackets: 2n, totalBytes: 120n },
    ...partial,
  });
}

/** Of tap0 of the node n1, beginning with record `first`; its flows are numbered. */
export function batch(first: number, flows: Partial<Flow>[], partial: Partial<FlowBatch> = {}): FlowBatch {
  return FlowBatch.fromPartial({
    cluster: 'c1',
    node: 'n1',
    interface: 'tap0',
    interfaceUid: 'uid-0',
    labels: { tenant: 'blue' },
    epoch: '0123456789abcdef',
    firstSequence: BigInt(first),
    flows: flows.map((one, index) => flow({ sequence: BigInt(first + index), ...one })),
    exportTime: { seconds: T0 + 2n, nanos: 0 },
    ...partial,
  });
}

export function encoded(value: FlowBatch): Buffer {
  return Buffer.from(FlowBatch.encode(value).finish());
}

/** All that comes until it ends. */
export async function collected<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const list: Item[] = [];
  for await (const item of items) list.push(item);
  return list;
}
