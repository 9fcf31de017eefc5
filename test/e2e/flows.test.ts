// Flow records of real devices, against what the kernel counts on them, what tcpdump sees beside, and what tshark calls it.

import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type Agent, startAgent } from '../harness/agent.ts';
import { counted, FlowDriver, watched } from '../harness/flow-driver.ts';
import { FlowObserver, type Seen } from '../harness/flow-observer.ts';
import { everything } from '../harness/flow-traffic.ts';
import { TAP_WIRE, TUN_WIRE, VLAN_WIRE } from '../harness/frame-layers.ts';
import { stopLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { amounts, communities } from '../harness/tshark-flows.ts';
import { Wiretap } from '../harness/wiretap.ts';
import { creation, deletion, type PartialSpec, TAP, TUN, updating } from './specs.ts';

/** The kernel has nothing to say on it by itself. */
const silent: PartialSpec = { up: false, sysctls: { 'ipv6/disable_ipv6': '1' }, flowMetering: { idleTimeout: 1, activeTimeout: 2 } };

/** Interfaces with their meters in place, but down: nothing passes unseen. */
async function withAgent(specs: Record<string, PartialSpec>, work: (agent: Agent, ns: Namespace) => Promise<void>): Promise<void> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  try {
    for (const [name, spec] of Object.entries(specs)) await agent.client().interfaces.create(creation(name, { ...silent, ...spec }));
    for (const name of Object.keys(specs)) await watched(ns, name);
    await work(agent, ns);
  } finally {
    await stopLanes(agent);
  }
}

async function putUp(agent: Agent, name: string): Promise<void> {
  await agent.client().interfaces.update(updating(name, { up: true }, ['spec.up']));
}

/** The records tell of the same packets, flow for flow, as a capture. Where tshark has no ID, all of these together. */
async function sameFlows(records: readonly Seen[], frames: readonly Buffer[], ethernet: boolean): Promise<string> {
  const named = await communities(frames, ethernet);
  const known = new Set(named.map(({ id }) => id));
  const seen = amounts(frames.map((frame, index) => [named[index]?.id || 'none', 1, frame.length]));
  const told = amounts(
    records.map(({ communityId, forward, reverse }) => [
      communityId !== '' && known.has(communityId) ? communityId : 'none',
      Number((forward?.packets ?? 0n) + (reverse?.packets ?? 0n)),
      Number((forward?.bytes ?? 0n) + (reverse?.bytes ?? 0n)),
    ]),
  );
  expect(told).toEqual(seen);
  const without = new Set(named.filter(({ id }) => id === '').map(({ protocols }) => protocols));
  return `${Object.keys(seen).length} IDs; tshark has none for ${[...without].join(' ')}`;
}

describe('what the records tell is what the device counts, and what tcpdump and tshark see', () => {
  it.each([
    ['TUN', TUN, TUN_WIRE],
    ['TAP', TAP, TAP_WIRE],
    ['TAP with two VLAN tags', TAP, VLAN_WIRE],
  ] as const)('of everything on a %s that another program holds', async (_, mode, wire) => {
    await withAgent({ f0: { mode } }, async (agent, ns) => {
      await using observer = await FlowObserver.follow(agent);
      await using driver = await FlowDriver.hold(ns, 'f0', mode === TUN ? 'tun' : 'tap');
      await putUp(agent, 'f0');
      await using wiretap = await Wiretap.listen(ns, 'f0');
      const sent = [...everything(wire), ...everything(wire, 'outbound')];
      await driver.send(sent);
      // A second time, within the same flows.
      await driver.send(sent);
      await wiretap.stop(sent.length * 2);
      const total = (): number => Object.values(observer.sums('f0')).reduce((sum, { packets }) => sum + packets, 0);
      if (mode === TUN) await agent.client().interfaces.delete(deletion('f0'));
      const device = mode === TUN ? undefined : counted(ns, 'f0');
      await observer.until(() => total() >= sent.length * 2 && observer.open('f0').length === 0, 'all flows to end');
      const bytes = (from: string) => sent.filter((each) => each.from === from).reduce((sum, { frame }) => sum + frame.length, 0);
      const packets = (from: string) => sent.filter((each) => each.from === from).length;
      const expected = (from: string) => ({ packets: packets(from) * 2, bytes: bytes(from) * 2 });
      expect(observer.sums('f0')).toEqual(device ?? { inbound: expected('inbound'), outbound: expected('outbound') });
      expect(wiretap.packets().length).toBe(total());
      console.log(await sameFlows(observer.of('f0'), wiretap.packets(), mode === TAP));
      expect([observer.problems, observer.missed, observer.lost]).toEqual([[], 0, 0]);
      await sleep(0);
    });
  });
});
