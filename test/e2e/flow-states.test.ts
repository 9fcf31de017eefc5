// Flow records while things change: devices that go down, away and come back, agents and lanes that die, settings that are edited.

import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Attachment_Kind } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { Flow_Event as Event, FlowBatch, Flow_EndReason as Reason } from '../../src/gen/taplane/v1/flow.ts';
import { type Condition, Condition_Status, InterfaceSpec_Carrier } from '../../src/gen/taplane/v1/interface.ts';
import { UpdateInterfaceRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { connectLane } from '../../src/rpc/lane-client.ts';
import { type Agent, type AgentOptions, startAgent } from '../harness/agent.ts';
import { counted, FlowDriver, together, watched } from '../harness/flow-driver.ts';
import { FlowObserver, meterStats, type Seen, type Sums } from '../harness/flow-observer.ts';
import { everything, type Sent, udpExchange } from '../harness/flow-traffic.ts';
import { TAP_WIRE, TUN_WIRE } from '../harness/frame-layers.ts';
import { lanesOf, stopLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { OwnLane } from '../harness/own-lane.ts';
import { counters, sendNumbered } from '../harness/traffic.ts';
import { link } from '../harness/truth.ts';
import { creation, type PartialSpec, TAP, TUN, updating } from './specs.ts';

const QUEUED = 16;
const SOON = { timeout: 20_000, interval: 50 };
const flowMetering = { idleTimeout: 1, activeTimeout: 2 };
/** The kernel has nothing to say on it by itself. */
const silent: PartialSpec = { up: true, sysctls: { 'ipv6/disable_ipv6': '1' }, flowMetering };

async function withAgent(options: AgentOptions, work: (agent: Agent, ns: Namespace) => Promise<void>): Promise<void> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns, ...options });
  try {
    await work(agent, ns);
  } finally {
    await stopLanes(agent);
  }
}

const packetsOf = ({ inbound, outbound }: Sums): number => inbound.packets + outbound.packets;

function sumsOf(sent: readonly Sent[], times = 1): Sums {
  const of = (from: string) => {
    const frames = sent.filter((each) => each.from === from).map(({ frame }) => frame.length * times);
    return { packets: frames.length * times, bytes: frames.reduce((sum, length) => sum + length, 0) };
  };
  return { inbound: of('inbound'), outbound: of('outbound') };
}

it('meters a device that goes down and up, and one that is made again, in whatever namespace', async () => {
  await using other = createNamespace();
  await withAgent({}, async (agent, home) => {
    await using observer = await FlowObserver.follow(agent);
    const devices = [
      { name: 's0', ns: home, mode: TUN, sent: everything(TUN_WIRE), networkNamespace: '' },
      { name: 's1', ns: other, mode: TAP, sent: everything(TAP_WIRE), networkNamespace: other.path },
    ];
    await together(
      devices.map(async ({ name, ns, mode, sent, networkNamespace }) => {
        const { interfaces } = agent.client();
        await interfaces.create(creation(name, { ...silent, mode, networkNamespace }));
        await watched(ns, name);
        const index = link(ns, name)?.ifindex;
        {
          await using driver = await FlowDriver.hold(ns, name, mode === TUN ? 'tun' : 'tap');
          await driver.send(sent);
          for (let times = 0; times < 3; times++) {
            await interfaces.update(updating(name, { up: false }, ['spec.up']));
            await interfaces.update(updating(name, { up: true }, ['spec.up']));
          }
          await driver.send(sent);
          expect(counted(ns, name)).toEqual(sumsOf(sent, 2));
        }
        // Nothing of what has just passed is lost with it.
        ns.ip(`link del ${name}`);
        await expect.poll(() => link(ns, name)?.ifindex, SOON).not.toBe(index);
        await expect.poll(() => link(ns, name)?.flags.includes('UP') ?? false, SOON).toBe(true);
        await watched(ns, name);
        await using driver = await FlowDriver.hold(ns, name, mode === TUN ? 'tun' : 'tap');
        await driver.send(sent);
        expect(counted(ns, name)).toEqual(sumsOf(sent));
        const all = sumsOf(sent, 3);
        const over = () => packetsOf(observer.sums(name)) >= packetsOf(all) && observer.open(name).length === 0;
        await observer.until(over, `all flows of ${name} to end`);
        expect(observer.sums(name)).toEqual(all);
      }),
    );
    expect([observer.problems, observer.missed, observer.lost]).toEqual([[], 0, 0]);
  });
});

it('meters what goes out though nobody reads it', async () => {
  await withAgent({}, async (agent, ns) => {
    await using observer = await FlowObserver.follow(agent);
    const spec = {
      ...silent,
      mode: TUN,
      carrier: InterfaceSpec_Carrier.KEEP,
      txQueueLength: QUEUED,
      addresses: [{ cidr: '10.94.0.1/24' }],
    };
    await agent.client().interfaces.create(creation('s0', spec));
    await watched(ns, 's0');
    await expect.poll(() => link(ns, 's0')?.flags.includes('LOWER_UP') ?? false, SOON).toBe(true);
    await sendNumbered(ns, '10.94.0.9', 300, { bytes: 100 });
    await observer.until(() => packetsOf(observer.sums('s0')) >= 300 && observer.open('s0').length === 0, 'the datagrams');
    // The rest waits in the queue, and is counted once somebody takes it.
    expect(counters(ns, 's0')).toEqual({ rxPackets: 0, txPackets: 0, txDropped: 300 - QUEUED });
    expect(observer.sums('s0')).toEqual({ inbound: { packets: 0, bytes: 0 }, outbound: { packets: 300, bytes: 300 * 128 } });
    expect([observer.problems, observer.missed, observer.lost]).toEqual([[], 0, 0]);
  });
});

it('loses and doubles no record when the agent dies, and goes on in another epoch when the lane does', async () => {
  await withAgent({}, async (agent, ns) => {
    await agent.client().interfaces.create(creation('s0', { ...silent, mode: TUN }));
    await watched(ns, 's0');
    await using driver = await FlowDriver.hold(ns, 's0', 'tun');
    let port = 30_000;
    const send = async (): Promise<void> => {
      const sent = Array.from({ length: 20 }, () => udpExchange(TUN_WIRE, 4, { port: port++ })).flat();
      await driver.send([...sent, ...udpExchange(TUN_WIRE, 4, { port: 29_999 })]);
    };
    const stop = { now: false };
    const sending = (async () => {
      while (!stop.now) await send();
    })();
    // Told where it is awaited.
    sending.catch(() => {});
    const before = await (async () => {
      await using observer = await FlowObserver.follow(agent, { last: 1_000_000n });
      await sleep(1000);
      // Between two batches: what came has been acknowledged, and what is next has not been sent.
      const count = observer.records.length;
      await observer.until(() => observer.records.length > count, 'a batch');
      await sleep(100);
      await agent.kill9();
      return observer.records;
    })();
    await sleep(500);
    await agent.start();
    await using observer = await FlowObserver.follow(agent, { last: 1_000_000n });
    await sleep(500);
    stop.now = true;
    await sending;
    const union = (): Seen[] => [...before, ...observer.records];
    const device = counted(ns, 's0');
    await observer.until(() => packetsOf(observer.sums('s0', union())) >= packetsOf(device), 'all packets to be told');
    const epochs = new Set(union().map(({ epoch }) => epoch));
    expect(epochs.size).toBe(1);
    const numbers = union().map(({ sequence }) => Number(sequence));
    console.log(`${before.length} records before, ${observer.records.length} after`);
    expect(before.length).toBeGreaterThan(100);
    expect(observer.records.length).toBeGreaterThan(100);
    expect(numbers).toEqual(numbers.map((_, index) => index + 1));
    expect(observer.sums('s0', union())).toEqual(device);
    const oldLanes = await lanesOf(agent);
    for (const pid of oldLanes) process.kill(pid, 'SIGKILL');
    await expect.poll(() => lanesOf(agent).then((pids) => pids.some((pid) => !oldLanes.includes(pid))), SOON).toBe(true);
    await watched(ns, 's0');
    const atDeath = counted(ns, 's0');
    await send();
    const anew = (): Seen[] => observer.records.filter(({ epoch }) => !epochs.has(epoch));
    const after = counted(ns, 's0');
    const grown = packetsOf(after) - packetsOf(atDeath);
    await observer.until(() => packetsOf(observer.sums('s0', anew())) >= grown, 'the packets of the new epoch');
    expect(packetsOf(observer.sums('s0', anew()))).toBe(grown);
    expect(new Set(anew().map(({ epoch }) => epoch)).size).toBe(1);
    expect(anew()[0]?.sequence).toBe(1n);
    expect([observer.missed, observer.lost]).toEqual([0, 0]);
  });
});

it('tells of the last flows of a lane that is told to end', async () => {
  await withAgent({}, async (agent, ns) => {
    await using observer = await FlowObserver.follow(agent);
    const spec = { ...silent, mode: TUN, flowMetering: { idleTimeout: 60, activeTimeout: 60 } };
    await agent.client().interfaces.create(creation('s0', spec));
    await watched(ns, 's0');
    await using driver = await FlowDriver.hold(ns, 's0', 'tun');
    await driver.send(everything(TUN_WIRE));
    await observer.until(() => observer.open('s0').length > 0, 'the starts');
    await driver.send(everything(TUN_WIRE));
    const device = counted(ns, 's0');
    const lanes = await lanesOf(agent);
    for (const pid of lanes) process.kill(pid, 'SIGTERM');
    await expect.poll(() => lanesOf(agent).then((pids) => pids.some((pid) => !lanes.includes(pid))), SOON).toBe(true);
    await observer.until(() => packetsOf(observer.sums('s0')) >= packetsOf(device), 'the ends');
    expect(observer.sums('s0')).toEqual(device);
    expect(observer.open('s0')).toEqual([]);
    expect([observer.problems, observer.missed, observer.lost]).toEqual([[], 0, 0]);
  });
});

it('takes nothing more while it ends, and ends', async () => {
  await withAgent({}, async (agent, ns) => {
    const { uid } = await agent.client().interfaces.create(creation('s0', { ...silent, mode: TUN, flowMetering: { disabled: true } }));
    await using lane = await OwnLane.start(agent, ns);
    const hold = () => lane.hold({ kind: Attachment_Kind.METER, device: { uid, interface: 's0' } });
    await hold();
    let ended = false;
    const ending = lane.end().then(() => {
      ended = true;
    });
    const begun = performance.now();
    // An agent that goes on telling it what to hold.
    while (!ended && performance.now() - begun < 15_000) await Promise.all([sleep(20), hold().catch(() => {})]);
    expect(ended).toBe(true);
    await ending;
    expect(performance.now() - begun).toBeLessThan(5000);
  });
});

it('ends the flows of ephemeral interfaces with the agent, and has their records on disk', async () => {
  await withAgent({ args: ['--nats', 'nats://127.0.0.1:1'] }, async (agent, ns) => {
    const { interfaces } = agent.client();
    const slow = { ...silent, mode: TUN, flowMetering: { idleTimeout: 60, activeTimeout: 60 } };
    await interfaces.create(creation('s0', slow));
    await interfaces.create(creation('s1', { ...slow, ephemeral: true }));
    await watched(ns, 's0');
    await watched(ns, 's1');
    {
      await using driver = await FlowDriver.hold(ns, 's1', 'tun');
      await driver.send(everything(TUN_WIRE));
    }
    await agent.stop();
    expect(ns.has('s1')).toBe(false);
    const client = connectLane(join(agent.runtimeDir, 'lane-0.sock'), 2000);
    const { attachments } = await client.getLane();
    client.close();
    expect(attachments).toMatchObject([{ kind: Attachment_Kind.METER, attached: true }]);
    const spool = new DatabaseSync(join(agent.stateDir, 'spool', 'flows.db'), { readOnly: true });
    const rows = spool.prepare("SELECT data FROM payload NATURAL JOIN message JOIN subject ON id = subject WHERE kind = 'flow'").all();
    spool.close();
    const flows = rows.flatMap(({ data }) => FlowBatch.decode(data as Uint8Array).flows);
    const ended = new Set(flows.filter(({ event }) => event === Event.END).map(({ flowId }) => flowId));
    expect(ended.size).toBeGreaterThan(0);
    expect(flows.map(({ flowId }) => flowId).filter((id) => !ended.has(id))).toEqual([]);
  });
});

it('samples, turns on and off, and tells new labels, as the spec says', async () => {
  await withAgent({}, async (agent, ns) => {
    const { interfaces } = agent.client();
    await using observer = await FlowObserver.follow(agent);
    await interfaces.create(creation('s0', { ...silent, mode: TUN, flowMetering: { ...flowMetering, sampling: 10 } }));
    await watched(ns, 's0');
    await using driver = await FlowDriver.hold(ns, 's0', 'tun');
    const sent = Array.from({ length: 100 }, (_, index) => udpExchange(TUN_WIRE, 6, { port: 30_000 + index, rounds: 20 })).flat();
    await driver.send(sent);
    await expect.poll(() => meterStats(agent, 's0').then(({ totals }) => totals?.activeFlows), SOON).toBe(0n);
    const { totals, records, epoch } = await meterStats(agent, 's0');
    expect(Number(totals?.seenPackets)).toBe(sent.length);
    expect([totals?.inTablePackets, totals?.inTableBytes]).toEqual([0n, 0n]);
    await observer.until(() => observer.records.length >= Number(records), 'its records');
    const { inbound, outbound } = observer.sums('s0');
    expect([inbound.packets + outbound.packets, inbound.bytes + outbound.bytes]).toEqual(
      [totals?.recordedPackets, totals?.recordedBytes].map(Number),
    );
    expect(totals?.seenPackets).toBe((totals?.recordedPackets ?? 0n) + (totals?.sampledOutPackets ?? 0n));
    expect(totals?.seenBytes).toBe((totals?.recordedBytes ?? 0n) + (totals?.sampledOutBytes ?? 0n));
    console.log(`${totals?.recordedPackets} of ${totals?.seenPackets} packets sampled`);
    // The mean is 400; gaps are 1 to 19, so that six standard deviations are about 70.
    expect(Math.abs(Number(totals?.recordedPackets) - sent.length / 10)).toBeLessThan(80);
    expect(new Set(observer.records.map(({ sampling }) => sampling))).toEqual(new Set([10]));

    // Off: what is open ends, and nothing more is told.
    await interfaces.update(updating('s0', { flowMetering }, ['spec.flow_metering']));
    const few = udpExchange(TUN_WIRE, 6, { port: 20_000, rounds: 5 });
    await driver.send(few);
    await interfaces.update(updating('s0', { flowMetering: { ...flowMetering, disabled: true } }, ['spec.flow_metering']));
    const last = () => observer.records.at(-1);
    await observer.until(() => last()?.sourcePort === 20_000 && last()?.event === Event.END, 'the forced end');
    expect([last()?.endReason, last()?.sampling ?? 0, last()?.epoch]).toEqual([Reason.FORCED_END, expect.toBeOneOf([0, 1]), epoch]);
    expect(
      packetsOf(
        observer.sums(
          's0',
          observer.records.filter(({ sourcePort }) => sourcePort === 20_000),
        ),
      ),
    ).toBe(10);
    await watched(ns, 's0', 0);
    await expect(meterStats(agent, 's0')).rejects.toThrow('nothing of s0');
    const count = observer.records.length;
    await driver.send(few);
    await sleep(1500);
    expect(observer.records.length).toBe(count);

    // On again, with labels that change while a flow goes on.
    const labelled = (labels: Record<string, string>) =>
      interfaces.update(UpdateInterfaceRequest.fromPartial({ interface: { name: 'interfaces/s0', labels }, updateMask: ['labels'] }));
    await labelled({ team: 'red' });
    await interfaces.update(updating('s0', { flowMetering }, ['spec.flow_metering']));
    await watched(ns, 's0');
    await driver.send(few);
    const anew = (): Seen[] => observer.records.filter((record) => record.epoch !== epoch);
    await observer.until(() => anew().length > 0, 'a record of the new epoch');
    await labelled({ team: 'blue', floor: '2' });
    await driver.send(few);
    await observer.until(() => anew().at(-1)?.event === Event.END, 'the end');
    expect(anew().map(({ labels }) => labels)[0]).toEqual({ team: 'red' });
    expect(anew().at(-1)?.labels).toEqual({ team: 'blue', floor: '2' });
    expect(new Set(anew().map(({ flowId }) => flowId)).size).toBe(1);
    expect(packetsOf(observer.sums('s0', anew()))).toBe(20);
    expect([observer.problems, observer.missed, observer.lost]).toEqual([[], 0, 0]);
  });
});

it('says why it does not meter, and everything else works', async () => {
  const metering = async (agent: Agent, name: string): Promise<Condition | undefined> =>
    (await agent.client().interfaces.get({ name: `interfaces/${name}` })).status?.conditions.find(({ type }) => type === 'Metering');
  const without = withAgent({ under: ['setpriv', '--bounding-set', '-net_raw', '--inh-caps', '-net_raw'] }, async (agent) => {
    const { interfaces } = agent.client();
    // Also where it was not asked for.
    await interfaces.create(creation('s0', { mode: TUN, up: true }));
    await interfaces.create(creation('s1', { mode: TUN, up: true, flowMetering: { disabled: true } }));
    await expect.poll(() => metering(agent, 's0').then((found) => found?.status), SOON).toBe(Condition_Status.FALSE);
    const { reason, message } = (await metering(agent, 's0')) as Condition;
    console.log(`${reason}: ${message}`);
    expect(reason).toBe('NotMetered');
    expect(message).toMatch(/CAP_NET_RAW/);
    expect(await metering(agent, 's1')).toBeUndefined();
    const stats = await meterStats(agent, 's0');
    expect([stats.active, stats.reason]).toEqual([false, message]);
    await interfaces.update(updating('s0', { mtu: 1400 }, ['spec.mtu']));
  });
  const having = withAgent({}, async (agent) => {
    const { interfaces } = agent.client();
    await interfaces.create(creation('s0', { mode: TUN, up: true }));
    await interfaces.create(creation('s1', { mode: TUN, up: true, flowMetering }));
    await expect.poll(() => metering(agent, 's1').then((found) => found?.status), SOON).toBe(Condition_Status.TRUE);
    expect(await metering(agent, 's0')).toBeUndefined();
    expect((await meterStats(agent, 's0')).active).toBe(true);
  });
  await together([without, having]);
});
