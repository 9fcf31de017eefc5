// Agent and lane as two containers have them: apart, each the first process of its own pid namespace, with the chart's capabilities, no way
// to new ones, the shipped seccomp profile and a root that cannot be written. Neither starts nor ends the other; what passes goes on while the agent is away.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Condition_Status, ResponderSpec_Kind } from '../../src/gen/taplane/v1/interface.ts';
import { GetInterfaceRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { connectLane } from '../../src/rpc/lane-client.ts';
import { bound, SOON, whenStrict } from '../harness/bound.ts';
import { rightsOf, SECCOMP_PROFILE } from '../harness/confined.ts';
import { ConfinedNode } from '../harness/confined-node.ts';
import { createNamespace } from '../harness/namespace.ts';
import { untilAnswers } from '../harness/ping.ts';
import { creation, TUN } from './specs.ts';

const ANSWERER = '10.95.0.9';
const PING_MS = 20;
/** CAP_NET_ADMIN and CAP_NET_RAW (linux/capability.h). */
const CHART = '0000000000003000';

it('an agent that only speaks to its lane: absent, there, agent killed, lane killed', async () => {
  await using ns = createNamespace();
  await using node = new ConfinedNode(ns, { seccomp: SECCOMP_PROFILE });
  const ready = async (): Promise<string> => {
    const found = (await node.client.node.getNode()).conditions.find(({ type }) => type === 'LanesReady');
    return `${found?.status === Condition_Status.TRUE} ${found?.reason} ${found?.message}`;
  };

  let agent = await node.startAgent();
  await expect.poll(ready, SOON).toMatch(/^false LaneMissing .*lane-0\.sock is not there: .*--stay/);
  const doctor = await node.cli('doctor', '--runtime-dir', node.runtimeDir, '--state-dir', node.stateDir);
  expect(doctor.stdout).toMatch(/WARN +lane-0 .*is not there: .*\n.*cure: /);
  let lane = await node.startLane();
  await expect.poll(ready, SOON).toBe('true Answering ');

  const responders = [{ id: 'echo', kind: ResponderSpec_Kind.ICMP_ECHO }];
  const addresses = [{ cidr: '10.95.0.1/24' }];
  await node.client.interfaces.create(creation('r0', { mode: TUN, up: true, addresses, responders }));
  await untilAnswers(ns, ANSWERER);
  // The lane calls itself number 1, as the agent does itself: nobody takes the one for the other.
  const { lanes } = await node.client.node.getNode();
  expect(lanes.map(({ pid }) => pid)).toEqual([1]);
  const { status } = await node.client.interfaces.get(GetInterfaceRequest.fromPartial({ name: 'interfaces/r0' }));
  expect(status?.holders).toEqual([]);
  for (const part of [agent, lane])
    expect(rightsOf(node.pidOf(part))).toEqual([
      {
        ...{ CapInh: '0000000000000000', CapPrm: CHART, CapEff: CHART, CapBnd: CHART, CapAmb: '0000000000000000' },
        ...{ NoNewPrivs: '1', Seccomp: '2', Uid: '0' },
      },
    ]);

  // An agent killed, away for a while, and back.
  await using passing = ns.spawn(['ping', '-n', '-i', String(PING_MS / 1000), ANSWERER]);
  await node.kill(agent);
  await sleep(500);
  agent = await node.startAgent();
  await expect.poll(ready, SOON).toBe('true Answering ');
  passing.kill('SIGINT');
  const { stdout } = await passing.ended;
  const [, sent = 'none', answered = ''] = /^(\d+) packets transmitted, (\d+) received/m.exec(stdout) ?? [];
  // The last may be on its way.
  expect(Number(sent) - Number(answered)).toBeLessThanOrEqual(1);
  expect([...stdout.matchAll(/icmp_seq=(\d+)/g)].map((match) => Number(match[1]))).toEqual(
    Array.from({ length: Number(answered) }, (_, at) => at + 1),
  );

  // A lane killed, and started again by who keeps it running.
  const { restarts: before = 0n } = (await node.client.node.getNode()).lanes[0] ?? {};
  await node.kill(lane);
  lane = await node.startLane();
  const readyAt = performance.now();
  await untilAnswers(ns, ANSWERER);
  const answersAt = performance.now();
  // From the start of its process: how long it takes until somebody starts one is not ours.
  const { startTime } = (await node.client.node.getNode()).lanes[0] ?? {};
  const startedAt = Number(startTime?.seconds ?? 0n) * 1000 + (startTime?.nanos ?? 0) / 1e6;
  const gapMs = performance.timeOrigin + answersAt - startedAt;
  console.log(
    `lane killed: answers ${Math.round(gapMs)} ms after the start of another, ${Math.round(answersAt - readyAt)} ms after its word`,
  );
  expect(gapMs).toBeLessThan(bound(1_000, 30_000));
  expect(answersAt - readyAt).toBeLessThan(bound(500, 10_000));
  await expect.poll(async () => (await node.client.node.getNode()).lanes[0]?.restarts, SOON).toBe(before + 1n);

  // One that hangs is not ended: that is up to who keeps it running.
  process.kill(node.pidOf(lane), 'SIGSTOP');
  await expect.poll(ready, SOON).toMatch(/^false LaneMissing .*lane-0\.sock does not answer: /);
  process.kill(node.pidOf(lane), 'SIGCONT');
  await expect.poll(ready, SOON).toBe('true Answering ');
  await untilAnswers(ns, ANSWERER);

  expect((await node.terminate(agent)).code).toBe(0);
  await untilAnswers(ns, ANSWERER);
  await leaveAlone(node);
  await sleep(600);
  expect(lane.isRunning).toBe(true);
  expect((await node.terminate(lane)).code).toBe(0);
});

/** Tells the lane what ends one that an agent has started: that nothing is left to do. */
async function leaveAlone(node: ConfinedNode): Promise<void> {
  const lane = connectLane(join(node.runtimeDir, 'lane-0.sock'), 5000);
  expect((await lane.setAttachments([], false)).attachments).toEqual([]);
  lane.close();
}

whenStrict('as a user of its own, with ambient capabilities, as the shipped units have them', async () => {
  await using ns = createNamespace();
  await using node = new ConfinedNode(ns, { seccomp: SECCOMP_PROFILE, uid: 12345 });
  const [agent, lane] = [await node.startAgent(), await node.startLane()];
  const responders = [{ id: 'echo', kind: ResponderSpec_Kind.ICMP_ECHO }];
  const addresses = [{ cidr: '10.95.0.1/24' }];
  const sysctls = { 'ipv4/forwarding': '1' };
  await node.client.interfaces.create(creation('r0', { mode: TUN, up: true, multiQueue: true, addresses, responders, sysctls }));
  await untilAnswers(ns, ANSWERER);
  await using asking = ns.spawn(['ping', '-n', '-i', '0.1', ANSWERER]);
  expect(await node.cli('capture', 'r0', '--filter', 'icmp', '--count', '1', '-w', '/dev/null')).toMatchObject({ code: 0 });
  asking.kill('SIGINT');
  for (const part of [agent, lane])
    expect(rightsOf(node.pidOf(part))).toEqual([
      { CapInh: CHART, CapPrm: CHART, CapEff: CHART, CapBnd: CHART, CapAmb: CHART, NoNewPrivs: '1', Seccomp: '2', Uid: '12345' },
    ]);
  expect((await node.terminate(agent)).code).toBe(0);
  // Longer than a lane without --stay waits for an agent.
  await leaveAlone(node);
  await sleep(11_000);
  expect(lane.isRunning).toBe(true);
  expect((await node.terminate(lane)).code).toBe(0);
});
