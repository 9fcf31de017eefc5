// The law of every batch of records, as a lane gives them: the account is exact at each, numbers have no gap, and records come in time.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Attachment_Kind, MeterSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { Flow_Event as Event, type Flow, type FlowBatch, Flow_EndReason as Reason } from '../../src/gen/taplane/v1/flow.ts';
import { startAgent } from '../harness/agent.ts';
import { bound } from '../harness/bound.ts';
import { counted, FlowDriver, watched } from '../harness/flow-driver.ts';
import { msOf } from '../harness/flow-observer.ts';
import { everything, tcpSession, udpExchange } from '../harness/flow-traffic.ts';
import { TUN_WIRE } from '../harness/frame-layers.ts';
import { stopLanes } from '../harness/lanes.ts';
import { createNamespace } from '../harness/namespace.ts';
import { OwnLane } from '../harness/own-lane.ts';
import { random } from '../harness/random.ts';
import { creation, TUN, updating } from './specs.ts';

const ACTIVE_S = 2;
const IDLE_S = 1;
const SLOW_PORT = 38_000;
const TELLING_MS = 400;
/** A frame may be read so much later than it came. */
const RING_MS = 110;
/** How many times the frames of the flow that goes on are sent, every TELLING_MS. */
const TIMES = 14;
/** Beside the timeout: a second until the sweep has come round, half of one until the batch goes. */
const LATE_MS = bound(2000, 5000);

/** Adds up the account from the records alone, and compares at each batch. */
class Law {
  readonly flows: (Flow & { exportMs: number })[] = [];
  readonly problems: string[] = [];
  batches = 0;
  last: FlowBatch | undefined;
  #packets = 0n;
  #bytes = 0n;
  #next = 1n;
  #epoch = '';

  take(batch: FlowBatch): void {
    const { epoch, firstSequence, flows, totals, exportTime, lost } = batch;
    const complain = (what: string): void => void this.problems.push(`batch from ${firstSequence}: ${what}`);
    this.batches++;
    this.last = batch;
    if (this.#epoch !== '' && epoch !== this.#epoch) complain(`another epoch: ${epoch}`);
    this.#epoch = epoch;
    if (lost.length > 0) complain('records were lost');
    if (firstSequence !== this.#next) complain(`${this.#next} was due`);
    for (const flow of flows) {
      if (flow.sequence !== this.#next) complain(`record ${flow.sequence}, ${this.#next} was due`);
      this.#next++;
      for (const traffic of [flow.forward, flow.reverse]) {
        this.#packets += traffic?.packets ?? 0n;
        this.#bytes += traffic?.bytes ?? 0n;
      }
      this.flows.push({ ...flow, exportMs: msOf(exportTime) });
    }
    if (totals === undefined) {
      complain('no account');
      return;
    }
    if (totals.recordedPackets !== this.#packets || totals.recordedBytes !== this.#bytes)
      complain(`recorded ${totals.recordedPackets} (${totals.recordedBytes} bytes), told ${this.#packets} (${this.#bytes})`);
    if (totals.seenPackets !== totals.recordedPackets + totals.inTablePackets + totals.sampledOutPackets) complain('packets do not add up');
    if (totals.seenBytes !== totals.recordedBytes + totals.inTableBytes + totals.sampledOutBytes) complain('bytes do not add up');
  }
}

it('holds for all packets, with sampling, and with a table that is too small', async () => {
  const meters = { l0: { sampling: 1, tableEntries: 0 }, l1: { sampling: 3, tableEntries: 0 }, l2: { sampling: 1, tableEntries: 20 } };
  const chance = random('law');
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  try {
    await using lane = await OwnLane.start(agent, ns);
    const laws: Record<string, Law> = {};
    const held: Parameters<OwnLane['hold']>[0][] = [];
    for (const [name, setup] of Object.entries(meters)) {
      const spec = { mode: TUN, up: false, sysctls: { 'ipv6/disable_ipv6': '1' }, flowMetering: { disabled: true } };
      const { uid } = await agent.client().interfaces.create(creation(name, spec));
      laws[name] = new Law();
      const meter = MeterSetup.fromPartial({ activeTimeout: ACTIVE_S, idleTimeout: IDLE_S, ...setup });
      held.push({ kind: Attachment_Kind.METER, device: { uid, interface: name }, meter });
    }
    using _flows = lane.flows((batch) => laws[batch.interface]?.take(batch));
    await lane.hold(...held);
    const drivers: FlowDriver[] = [];
    await using _drivers = {
      [Symbol.asyncDispose]: async () => void (await Promise.all(drivers.map((driver) => driver[Symbol.asyncDispose]()))),
    };
    for (const name of Object.keys(meters)) {
      await watched(ns, name);
      drivers.push(await FlowDriver.hold(ns, name, 'tun'));
      await agent.client().interfaces.update(updating(name, { up: true }, ['spec.up']));
    }
    const all = everything(TUN_WIRE);
    const begun = Date.now();
    for (let time = 0; time < TIMES; time++) {
      const next = sleep(TELLING_MS);
      const sent = [...udpExchange(TUN_WIRE, 4, { port: 39_000 }), ...all.slice(0, chance.integer(0, all.length))];
      // Just within the idle timeout.
      if (time % 2 === 0) sent.push(...udpExchange(TUN_WIRE, 4, { port: SLOW_PORT }));
      if (time === 0) sent.push(...tcpSession(TUN_WIRE, 4, { port: 39_001 }));
      await Promise.all([next, ...drivers.map((driver) => driver.send(sent))]);
    }
    for (const [name, law] of Object.entries(laws)) {
      await expect.poll(() => law.last?.totals?.activeFlows, { timeout: 20_000, interval: 50 }).toBe(0n);
      const { inbound, outbound } = counted(ns, name);
      const { totals } = law.last as FlowBatch;
      expect(law.problems).toEqual([]);
      // What is in the table is told as the rest: without a flow there must be none.
      expect([totals?.seenPackets, totals?.seenBytes, totals?.droppedFrames, totals?.inTablePackets, totals?.inTableBytes]).toEqual(
        [inbound.packets + outbound.packets, inbound.bytes + outbound.bytes, 0, 0, 0].map(BigInt),
      );
      console.log(`${name}: ${law.batches} batches, ${law.flows.length} records, ${totals?.seenPackets} packets`);
      expect(law.batches).toBeGreaterThan(8);
      if (name === 'l1') expect(totals?.sampledOutPackets).toBeGreaterThan(0n);
      else expect(totals?.sampledOutPackets).toBe(0n);
      expect(law.flows.some(({ event }) => event === Event.OVERFLOW)).toBe(name === 'l2');
    }
    // Of the flow that went on, with all its packets metered.
    const steady = laws['l0']?.flows.filter(({ sourcePort }) => sourcePort === 39_000) ?? [];
    expect(new Set(steady.map(({ flowId }) => flowId)).size).toBe(1);
    const [start, ...rest] = steady;
    const events = steady.map(({ event, endReason }) => [event, endReason]);
    expect(events.slice(0, 3)).toEqual([
      [Event.START, Reason.UNSPECIFIED],
      [Event.UPDATE, Reason.ACTIVE_TIMEOUT],
      [Event.UPDATE, Reason.ACTIVE_TIMEOUT],
    ]);
    expect(events.at(-1)).toEqual([Event.END, Reason.IDLE_TIMEOUT]);
    const first = msOf(start?.startTime);
    expect(first).toBeGreaterThanOrEqual(begun - 1);
    expect((start?.exportMs ?? Number.NaN) - first).toBeLessThan(LATE_MS);
    for (const [index, record] of rest.entries()) {
      if (record.event !== Event.UPDATE) continue;
      const since = record.exportMs - (steady[index]?.exportMs ?? Number.NaN);
      expect(since).toBeGreaterThan(ACTIVE_S * 1000 - 800);
      expect(since).toBeLessThan(ACTIVE_S * 1000 + LATE_MS);
    }
    const end = steady.at(-1);
    expect((end?.exportMs ?? Number.NaN) - msOf(end?.endTime)).toBeGreaterThan(IDLE_S * 1000 - 1);
    expect((end?.exportMs ?? Number.NaN) - msOf(end?.endTime)).toBeLessThan(1000 + LATE_MS);
    expect(end?.forward?.totalPackets).toBe(BigInt(TIMES));
    // Nothing that came within the timeout began another flow.
    const slow = laws['l0']?.flows.filter(({ sourcePort }) => sourcePort === SLOW_PORT) ?? [];
    expect(slow.length).toBeGreaterThan(2);
    for (const [index, { flowId, startTime }] of slow.entries()) {
      const before = slow[index - 1];
      if (before !== undefined && before.flowId !== flowId)
        expect(msOf(startTime) - msOf(before.endTime)).toBeGreaterThan(IDLE_S * 1000 - RING_MS);
    }
    // A connection that is over is told as that, soon.
    const session = laws['l0']?.flows.filter(({ sourcePort }) => sourcePort === 39_001) ?? [];
    expect(session.at(-1)).toMatchObject({ event: Event.END, endReason: Reason.END_OF_FLOW });
    expect((session.at(-1)?.exportMs ?? Number.NaN) - msOf(session.at(-1)?.endTime)).toBeLessThan(1000 + LATE_MS);
  } finally {
    await stopLanes(agent);
  }
});
