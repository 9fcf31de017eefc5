// The ledger and its batches against a book that is kept plainly: every record, at every tick, in every field; the account at every batch.

import { expect, it } from 'vitest';
import { MeterSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { type Flow, Flow_EndReason, Flow_Event, FlowBatch } from '../../src/gen/taplane/v1/flow.ts';
import { Direction } from '../../src/gen/taplane/v1/packet.ts';
import { FlowBatchWriter, FORCED_END } from '../../src/lane/flow-batch.ts';
import { FlowLedger } from '../../src/lane/flow-ledger.ts';
import { FlowPool } from '../../src/lane/flow-pool.ts';
import { CommunityId } from '../../src/packet/community-id.ts';
import { FlowKeyReader } from '../../src/packet/flow-key.ts';
import { type Random, random, seed } from '../harness/random.ts';
import { Book, type Told } from './flow-book.ts';
import { frameOf, type Talk, talks } from './flow-talk.ts';

console.log(`seed ${seed}`);

const EPOCH = '0123456789abcdef';
const START = 1_790_000_000n;
const HEAD = FlowBatch.encode(
  FlowBatch.fromPartial({ cluster: 'c', node: 'n', interface: 'tap0', interfaceUid: 'u', labels: { a: 'b' }, epoch: EPOCH }),
).finish();
const community = new CommunityId();

const nanosOf = (time: Flow['startTime']): bigint => (time?.seconds ?? 0n) * 1_000_000_000n + BigInt(time?.nanos ?? 0);
const countsOf = (flow: Flow): [number, number, number, number] =>
  [flow.forward?.packets, flow.forward?.bytes, flow.reverse?.packets, flow.reverse?.bytes].map((value) =>
    Number(value ?? 0n),
  ) as Told['delta'];
const totalsOf = (flow: Flow): [number, number, number, number] =>
  [flow.forward?.totalPackets, flow.forward?.totalBytes, flow.reverse?.totalPackets, flow.reverse?.totalBytes].map((value) =>
    Number(value ?? 0n),
  ) as Told['total'];

interface Trial {
  tap: boolean;
  any: Random;
  space: number;
  most: number;
  active: number;
  idle: number;
  sampling: number;
  steps: number;
}

/** All that a record of a flow says but for its number, its name and what follows from the rest. */
function expected({ event, reason, entry, delta, total }: Told, { tap, sampling }: Trial): object {
  const rest = { event: Flow_Event[event], endReason: reason, delta, total, sampling: sampling > 1 ? sampling : 0 };
  if (entry === undefined) return rest;
  const { talk, from } = entry;
  const to = (1 - from) as 0 | 1;
  return {
    ...rest,
    start: entry.start,
    end: entry.last,
    direction: from === talk.node ? Direction.OUTBOUND : Direction.INBOUND,
    source: talk.addresses[from].toString('hex'),
    destination: talk.addresses[to].toString('hex'),
    protocol: talk.protocol,
    ports: [talk.ports[from], talk.ports[to]],
    icmp: talk.icmp === undefined ? undefined : [talk.icmp.types[from], talk.icmp.code],
    ethernet: tap ? [talk.macs[from].toString('hex'), talk.macs[to].toString('hex'), talk.etherType, talk.vlan] : undefined,
    flags: entry.flags,
    ttl: talk.protocol === 0 ? 0 : entry.ttl,
    dscp: talk.protocol === 0 ? 0 : entry.dscp,
  };
}

function said(flow: Flow): object {
  const event = {
    event: flow.event,
    endReason: flow.endReason as number,
    delta: countsOf(flow),
    total: totalsOf(flow),
    sampling: flow.sampling,
  };
  if (flow.event === Flow_Event.OVERFLOW) return event;
  const { ethernet } = flow;
  return {
    ...event,
    start: nanosOf(flow.startTime),
    end: nanosOf(flow.endTime),
    direction: flow.direction,
    source: Buffer.from(flow.sourceAddress).toString('hex'),
    destination: Buffer.from(flow.destinationAddress).toString('hex'),
    protocol: flow.protocol,
    ports: [flow.sourcePort, flow.destinationPort],
    icmp: flow.icmp === undefined ? undefined : [flow.icmp.type, flow.icmp.code],
    ethernet: ethernet && [
      Buffer.from(ethernet.source).toString('hex'),
      Buffer.from(ethernet.destination).toString('hex'),
      ethernet.ethertype,
      ethernet.vlan,
    ],
    flags: [flow.tcpFlags, flow.reverseTcpFlags],
    ttl: flow.ttl,
    dscp: flow.dscp,
  };
}

const nameIn = (names: Record<string, number>, value: number): string => Object.keys(names).find((name) => names[name] === value) ?? '?';
const text = (value: object): string => JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? `${each}` : each));

/** The life of each flow by its records. */
class Lives {
  readonly #lives = new Map<string, { total: number[]; ended: boolean; start: bigint }>();
  readonly #ended = new Set<string>();

  add(flow: Flow): void {
    expect(flow.flowId).toMatch(/^0123456789abcdef-[1-9]\d*$/);
    let life = this.#lives.get(flow.flowId);
    if (life === undefined) {
      expect(flow.event, 'first of its flow').not.toBe(Flow_Event.UPDATE);
      life = { total: [0, 0, 0, 0], ended: false, start: nanosOf(flow.startTime) };
      this.#lives.set(flow.flowId, life);
    } else expect(flow.event, 'later of its flow').not.toBe(Flow_Event.START);
    expect(life.ended).toBe(false);
    life.ended = flow.event === Flow_Event.END;
    if (life.ended) this.#ended.add(flow.flowId);
    life.total = life.total.map((count, at) => count + (countsOf(flow)[at] as number));
    expect(totalsOf(flow)).toEqual(life.total);
    expect(nanosOf(flow.startTime)).toBe(life.start);
    expect(nanosOf(flow.endTime) >= life.start).toBe(true);
    const [source, destination] = [Buffer.from(flow.sourceAddress), Buffer.from(flow.destinationAddress)];
    const [first, second] = flow.icmp === undefined ? [flow.sourcePort, flow.destinationPort] : [flow.icmp.type, flow.icmp.code];
    const both = Buffer.concat([source, destination]);
    const size = source.length as 4 | 16;
    expect(flow.communityId).toBe(both.length === 0 ? '' : community.hash(both, 0, size, size, flow.protocol, first, second));
  }

  get counts(): { flows: number; ended: number } {
    return { flows: this.#lives.size, ended: this.#ended.size };
  }
}

/** Runs traffic through both, compares at every tick, and answers how often each event and reason came. */
function run(trial: Trial): Map<string, number> {
  const { any, tap, sampling } = trial;
  const all = talks(any, trial.space, tap);
  const book = new Book({ activeTicks: trial.active * 4, idleTicks: trial.idle * 4, most: trial.most });
  const writer = new FlowBatchWriter(EPOCH);
  const reader = new FlowKeyReader(tap);
  const lives = new Lives();
  const kinds = new Map<string, number>();
  const recorded = { packets: 0, bytes: 0 };
  let records: Flow[] = [];
  let [next, batches] = [1, 0];
  const setup = MeterSetup.fromPartial({ activeTimeout: trial.active, idleTimeout: trial.idle, tableEntries: trial.most, sampling });
  let ended = 0;
  const take = (): void => {
    const { bytes, firstSequence, records: count } = writer.take(HEAD, ledger.totals, 1_790_000_000, 5);
    const batch = FlowBatch.decode(bytes);
    batches++;
    expect(batch).toMatchObject({
      cluster: 'c',
      node: 'n',
      interface: 'tap0',
      interfaceUid: 'u',
      labels: { a: 'b' },
      epoch: EPOCH,
      lost: [],
    });
    expect([Number(batch.firstSequence), firstSequence, batch.flows.length]).toEqual([next, next, count]);
    for (const flow of batch.flows) {
      expect(Number(flow.sequence)).toBe(next++);
      const [packets, octets, reversePackets, reverseOctets] = countsOf(flow);
      recorded.packets += packets + reversePackets;
      recorded.bytes += octets + reverseOctets;
      if (flow.event !== Flow_Event.OVERFLOW) lives.add(flow);
      if (flow.event === Flow_Event.END) ended++;
      const kind = `${nameIn(Flow_Event, flow.event)} ${nameIn(Flow_EndReason, flow.endReason)}`;
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    }
    records.push(...batch.flows);
    const { totals } = batch;
    const told = (...fields: (keyof NonNullable<typeof totals>)[]): number[] => fields.map((field) => Number(totals?.[field]));
    expect(told('seenPackets', 'seenBytes')).toEqual([book.seen.packets, book.seen.bytes]);
    expect(told('recordedPackets', 'recordedBytes')).toEqual([recorded.packets, recorded.bytes]);
    expect(told('sampledOutPackets', 'sampledOutBytes')).toEqual([book.sampledOut.packets, book.sampledOut.bytes]);
    const rest = [book.seen.packets - recorded.packets - book.sampledOut.packets, book.seen.bytes - recorded.bytes - book.sampledOut.bytes];
    expect(told('inTablePackets', 'inTableBytes')).toEqual(rest);
  };
  const ledger = new FlowLedger(setup, { pool: new FlowPool(10_000) }, writer, take);
  const compare = (): void => {
    if (writer.records > 0) {
      take();
      expect(ledger.totals.activeFlows).toBe(book.flows.size);
    }
    const [ours, theirs] = [records.map((flow) => text(said(flow))).sort(), book.told.map((told) => text(expected(told, trial))).sort()];
    if (ours.join() !== theirs.join()) expect(ours).toEqual(theirs);
    records = [];
    book.told.length = 0;
  };
  let time = START * 1_000_000_000n;
  let busy = all;
  for (let step = 0; step < trial.steps; step++) {
    if (step % 20 === 0) busy = any.shuffled(all).slice(0, any.integer(1, all.length));
    for (let count = any.integer(0, 60); count > 0; count--) {
      const talk = any.pick(busy) as Talk;
      const from = talk.oneWay ? 0 : any.pick([0, 0, 1] as const);
      const flags = any.pick([0x10, 0x18, 0x10, 0x02, 0x12, 0x11, 0x04, 0x14, 0x06, 0xff]);
      const [ttl, dscp] = [any.pick([64, 63, 255, 1, 0]), any.integer(0, 63)];
      const sent = frameOf(any, talk, from, { flags, ttl, dscp, tap, gso: any.integer(0, 3) === 0 });
      time += BigInt(any.integer(0, 30_000_000));
      const tpid = talk.vlan !== 0 && talk.takenOff ? 0x8100 : 0;
      const outgoing = from === talk.node;
      reader.read(sent.bytes, 0, sent.bytes.length, sent.length, outgoing, tpid, talk.vlan, sent.gsoSize === 0 ? 0 : 1, sent.gsoSize);
      expect([reader.packets, reader.bytes]).toEqual([sent.packets, sent.wireBytes]);
      if (sampling > 1 && any.integer(1, sampling) > 1) {
        ledger.leaveOut(reader.packets, reader.bytes);
        book.leaveOut(sent);
        continue;
      }
      const seconds = Number(time / 1_000_000_000n);
      const nanos = Number(time % 1_000_000_000n);
      const { length } = sent;
      book.count(talk, from, sent, flags, ttl, dscp, time);
      ledger.count(reader, sent.bytes, {
        seconds,
        nanos,
        outgoing,
        start: 0,
        captured: sent.bytes.length,
        length,
        vlanTpid: tpid,
        vlanTci: talk.vlan,
      });
    }
    // The end comes in the midst of traffic.
    if (step === trial.steps - 1) break;
    for (let count = any.pick([1, 1, 1, 1, 9]); count > 0; count--) {
      book.tick();
      ledger.tick();
      while (ledger.sweep());
      compare();
    }
    if (any.integer(0, 50) === 0) {
      book.tellAll();
      ledger.tellAll();
      compare();
    }
  }
  book.endAll();
  while (ledger.endSome(FORCED_END));
  compare();
  // Nothing is left that was not told.
  expect(recorded.packets + book.sampledOut.packets).toBe(book.seen.packets);
  expect(recorded.bytes + book.sampledOut.bytes).toBe(book.seen.bytes);
  expect(lives.counts).toEqual({ flows: ended, ended });
  ledger.close();
  console.log(`${book.seen.packets} packets, ${batches} batches: ${[...kinds].map(([kind, count]) => `${count} ${kind}`).join(', ')}`);
  return kinds;
}

for (const tap of [true, false])
  for (const sampling of [1, 7])
    it(`tells what a plain book tells: ${tap ? 'TAP' : 'TUN'}, one packet in ${sampling}`, () => {
      const any = random(`book-${tap}-${sampling}`);
      const kinds = run({ tap, any, space: 120, most: 1000, active: 3, idle: 5, sampling, steps: 400 });
      expect([...kinds.keys()].sort()).toEqual([
        'END END_OF_FLOW',
        'END FORCED_END',
        'END IDLE_TIMEOUT',
        'START UNSPECIFIED',
        'UPDATE ACTIVE_TIMEOUT',
      ]);
    });

for (const sampling of [1, 7])
  it(`tells of what finds no room in records of overflow, one packet in ${sampling}`, () => {
    const any = random(`overflow-${sampling}`);
    const kinds = run({ tap: true, any, space: 120, most: sampling === 1 ? 40 : 6, active: 2, idle: 1, sampling, steps: 400 });
    expect(kinds.get('OVERFLOW LACK_OF_RESOURCES')).toBeGreaterThan(20);
  });
