// Batches at their bounds: the largest record, batches that are full, numbers of flows beyond 32 bits, parts without ports.

import { expect, it } from 'vitest';
import { MeterSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { Flow_Event, FlowBatch } from '../../src/gen/taplane/v1/flow.ts';
import { BATCH_BYTES, END, FlowBatchWriter, FORCED_END, IDLE_TIMEOUT, type Totals } from '../../src/lane/flow-batch.ts';
import { FlowLedger } from '../../src/lane/flow-ledger.ts';
import { FLOW_WORDS, FlowPool } from '../../src/lane/flow-pool.ts';
import {
  COUNTERS,
  ETHERNET,
  FIRST_NANOS,
  FLAGS,
  FRAGMENTS,
  IN_USE,
  LAST_NANOS,
  NUMBER,
  OUTGOING,
  STATE,
  TYPES,
} from '../../src/lane/flow-table.ts';
import { CommunityId } from '../../src/packet/community-id.ts';
import { FlowKeyReader, KIND_V6, KIND_WORD } from '../../src/packet/flow-key.ts';

const EPOCH = 'fedcba9876543210';
const MOST = 2 ** 53 - 1;
const TOTALS: Totals = {
  seenPackets: MOST,
  seenBytes: MOST,
  recordedPackets: 1,
  recordedBytes: 1,
  sampledOutPackets: 1,
  sampledOutBytes: 1,
  droppedFrames: MOST,
  activeFlows: MOST,
};

/** A flow all of whose fields are as long as they can be. */
function largest(protocol: number): { words: Int32Array; counters: Float64Array } {
  const memory = new ArrayBuffer(FLOW_WORDS * 4);
  const [words, counters] = [new Int32Array(memory).fill(-1), new Float64Array(memory)];
  words[KIND_WORD] = KIND_V6 | (protocol << 3) | (0xfff << 12);
  words[STATE] = IN_USE | ETHERNET | FRAGMENTS;
  words[FIRST_NANOS] = 999_999_999;
  words[LAST_NANOS] = 999_999_999;
  words[FLAGS] = -1;
  words[TYPES] = -1;
  words[NUMBER + 1] = 2 ** 21 - 1;
  counters.set([MOST, MOST, MOST, MOST, 0, 0, 0, 0], COUNTERS);
  return { words, counters };
}

it('has room for the largest records until it is full', () => {
  let longest = 0;
  for (const protocol of [6, 58, 17]) {
    const writer = new FlowBatchWriter(EPOCH);
    const link = `links/${'l'.repeat(63)}`;
    writer.link = link;
    writer.peerOf = () => 'p'.repeat(80);
    const { words, counters } = largest(protocol);
    let count = 0;
    while (!writer.isFull) {
      counters.fill(0, COUNTERS + 4, COUNTERS + 8);
      writer.add(words, counters, 0, END, IDLE_TIMEOUT, 2 ** 32 - 1);
      count++;
    }
    const { bytes, records } = writer.take(new Uint8Array(0), TOTALS, 2 ** 32 - 1, 999_999_999);
    expect([records, count > 100]).toEqual([count, true]);
    const batch = FlowBatch.decode(bytes);
    expect(batch.flows).toHaveLength(count);
    for (const [index, flow] of batch.flows.entries()) {
      expect(Number(flow.sequence)).toBe(index + 1);
      expect(flow.flowId).toBe(`${EPOCH}-${MOST}`);
      expect([flow.link, flow.peer]).toEqual([link, 'p'.repeat(63)]);
      expect([flow.forward?.packets, flow.reverse?.totalBytes]).toEqual([BigInt(MOST), BigInt(MOST)]);
      expect([flow.ttl, flow.dscp, flow.ethernet?.vlan, flow.fragments, flow.sampling]).toEqual([255, 255, 0xfff, true, 2 ** 32 - 1]);
      expect(flow.icmp).toEqual(protocol === 58 ? { type: 255, code: 255 } : undefined);
    }
    longest = Math.max(longest, bytes.length / count);
    expect(bytes.length).toBeLessThan(BATCH_BYTES + 1024);
    expect(batch.totals?.seenPackets).toBe(BigInt(MOST));
  }
  console.log(`the largest record has ${Math.ceil(longest)} bytes`);
  expect(longest).toBeLessThan(512);
});

it('numbers flows beyond 32 bits, and records on from the batch before', () => {
  const writer = new FlowBatchWriter(EPOCH);
  const { words, counters } = largest(6);
  for (const [number, name] of [
    [1, '1'],
    [2 ** 32 - 1, '4294967295'],
    [2 ** 32 + 5, '4294967301'],
  ] as const) {
    // biome-ignore format: a table
    words[NUMBER] = number;
    words[NUMBER + 1] = number / 2 ** 32;
    writer.add(words, counters, 0, END, IDLE_TIMEOUT, 1);
    const first = writer.next - 1;
    const { bytes, firstSequence } = writer.take(new Uint8Array(0), TOTALS, 1, 0);
    expect(FlowBatch.decode(bytes)).toMatchObject({
      firstSequence: BigInt(first),
      flows: [{ flowId: `${EPOCH}-${name}`, sequence: BigInt(first) }],
    });
    expect(firstSequence).toBe(first);
  }
  const empty = writer.take(new Uint8Array(0), TOTALS, 1, 0);
  expect([empty.records, empty.firstSequence, FlowBatch.decode(empty.bytes).flows]).toEqual([0, 4, []]);
});

it('hands full batches on in the midst of a sweep, one after another, and loses nothing', () => {
  const batches: FlowBatch[] = [];
  const writer = new FlowBatchWriter(EPOCH);
  const ledger = new FlowLedger(MeterSetup.fromPartial({ tableEntries: 20_000 }), { pool: new FlowPool(20_000) }, writer, () => take());
  const take = (): void => {
    const { bytes } = writer.take(new Uint8Array(0), ledger.totals, 1, 0);
    expect(bytes.length).toBeLessThan(BATCH_BYTES + 1024);
    batches.push(FlowBatch.decode(bytes));
  };
  const reader = new FlowKeyReader(false);
  const packet = Buffer.from('4500001c00010000401100000a0000010a00000200010002000800000000', 'hex');
  const frame = { seconds: 1, nanos: 0, outgoing: true, start: 0, captured: packet.length, length: packet.length, vlanTpid: 0, vlanTci: 0 };
  for (let flow = 0; flow < 10_000; flow++) {
    packet.writeUInt32BE(0x0a000000 | flow, 12);
    reader.read(packet, 0, packet.length, packet.length, true, 0, 0, 0, 0);
    ledger.count(reader, packet, frame);
  }
  for (let tick = 0; tick < 5; tick++) for (ledger.tick(); ledger.sweep(); );
  const started = batches.reduce((sum, batch) => sum + batch.flows.length, writer.records);
  expect(started).toBe(10_000);
  while (ledger.endSome(FORCED_END));
  take();
  const flows = batches.flatMap((batch) => batch.flows);
  expect(flows.map(({ sequence }) => Number(sequence))).toEqual(Array.from({ length: 20_000 }, (_, index) => index + 1));
  expect(new Set(flows.map(({ flowId }) => flowId)).size).toBe(10_000);
  // The ones that a batch ends are not active in it any more, and those behind it are.
  for (const { flows: some, totals } of batches) {
    const ended = flows.filter(({ event, sequence }) => event === Flow_Event.END && sequence <= (some.at(-1)?.sequence ?? 0n)).length;
    expect(Number(totals?.activeFlows)).toBe(10_000 - ended);
  }
  expect(batches.length).toBeGreaterThan(20);
});

it('tells of parts without their first one that their ports are not known, in the Community ID too', () => {
  const batches: FlowBatch[] = [];
  const writer = new FlowBatchWriter(EPOCH);
  const ledger = new FlowLedger(MeterSetup.fromPartial({}), { pool: new FlowPool(100) }, writer, () => {});
  const reader = new FlowKeyReader(false);
  for (const protocol of ['11', '01', '2f']) {
    const packet = Buffer.from(`4500001c0001000340${protocol}00000a0000010a0000020800000200080000`, 'hex');
    reader.read(packet, 0, packet.length, packet.length, true, 0, 0, 0, 0);
    ledger.count(reader, packet, { seconds: 1, nanos: 0, outgoing: true, start: 0, captured: 28, length: 28, vlanTpid: 0, vlanTci: 0 });
  }
  while (ledger.endSome(FORCED_END));
  batches.push(FlowBatch.decode(writer.take(new Uint8Array(0), ledger.totals, 1, 0).bytes));
  const addresses = Buffer.from('0a0000010a000002', 'hex');
  const without = (protocol: number) => new CommunityId().hash(addresses, 0, 4, 4, protocol, -1, -1);
  const told = batches[0]?.flows.map(({ protocol, sourcePort, destinationPort, icmp, communityId, fragments }) => {
    expect(fragments).toBe(true);
    return [protocol, sourcePort, destinationPort, icmp, communityId];
  });
  expect(told).toEqual([17, 1, 47].map((protocol) => [protocol, 0, 0, undefined, without(protocol)]));
});

it('names the link from the moment on that there is one, and no longer', () => {
  const writer = new FlowBatchWriter(EPOCH);
  const { words, counters } = largest(6);
  for (const link of ['', 'links/a', 'links/b', '']) {
    writer.link = link;
    writer.add(words, counters, 0, END, IDLE_TIMEOUT, 1);
  }
  const { flows } = FlowBatch.decode(writer.take(new Uint8Array(0), TOTALS, 1, 1).bytes);
  expect(flows.map(({ link }) => link)).toEqual(['', 'links/a', 'links/b', '']);
});

it("names the peer behind the link, by the address that is not the node's own", () => {
  const writer = new FlowBatchWriter(EPOCH);
  const asked: string[] = [];
  writer.peerOf = (bytes, at, size) => {
    asked.push(Buffer.from(bytes.subarray(at, at + size)).toString('hex'));
    return asked.length === 2 ? '' : `peer ${asked.length}`;
  };
  const { words, counters } = largest(6);
  for (let byte = 0; byte < 4; byte++) [words[byte], words[byte + 4]] = [0x0a0a0a0a, 0x0b0b0b0b];
  for (const [link, outgoing] of [
    ['', true],
    ['links/a', true],
    ['links/a', true],
    ['links/a', false],
  ] as const) {
    writer.link = link;
    words[STATE] = outgoing ? (words[STATE] as number) | OUTGOING : (words[STATE] as number) & ~OUTGOING;
    writer.add(words, counters, 0, END, IDLE_TIMEOUT, 1);
  }
  const { flows } = FlowBatch.decode(writer.take(new Uint8Array(0), TOTALS, 1, 1).bytes);
  expect(flows.map(({ peer }) => peer)).toEqual(['', 'peer 1', '', 'peer 3']);
  const far = flows.slice(1).map(({ sourceAddress, destinationAddress }, index) => (index < 2 ? destinationAddress : sourceAddress));
  expect(asked).toEqual(far.map((address) => Buffer.from(address).toString('hex')));
});
