// Responders of a spec, as programs of the node see them: who asks gets an answer, whatever becomes of agents.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { ResponderSpec_Kind as Kind, ResponderSpec } from '../../src/gen/taplane/v1/interface.ts';
import {
  CreateResponderRequest,
  DeleteResponderRequest,
  ListRespondersRequest,
  type ResponderStatus,
} from '../../src/gen/taplane/v1/responder_service.ts';
import type { Agent } from '../harness/agent.ts';
import { suiteConfinement } from '../harness/confined.ts';
import { lanesOf } from '../harness/lanes.ts';
import type { Namespace } from '../harness/namespace.ts';
import { floodPings, pings, untilAnswers } from '../harness/ping.ts';
import { shareAgent } from '../harness/shared-agent.ts';
import { link } from '../harness/truth.ts';
import { creation, type PartialSpec, TAP, TUN, updating } from './specs.ts';

const V4 = '10.94.0.9';
const V6 = 'fd94::9';
const MAC = '02:00:00:00:94:09';
const FLOOD = 10_000;
const addresses = [{ cidr: '10.94.0.1/24' }, { cidr: 'fd94::1/64' }];
const echo = responder('echo', Kind.ICMP_ECHO);

function responder(id: string, kind: Kind, more: Partial<ResponderSpec> = {}): ResponderSpec {
  return ResponderSpec.fromPartial({ id, kind, ...more });
}

async function withInterface(spec: PartialSpec, work: (agent: Agent, ns: Namespace) => Promise<void>): Promise<void> {
  await using shared = await shareAgent();
  const { agent, ns } = shared;
  await agent.client().interfaces.create(creation('r0', { mode: TUN, up: true, addresses, ...spec }));
  await work(agent, ns);
}

/** What responders have done, by their ids. */
async function counts(agent: Agent): Promise<Record<string, Pick<ResponderStatus, 'attached' | 'received' | 'answered' | 'failed'>>> {
  const client = agent.client();
  try {
    const { responders } = await client.responders.list(ListRespondersRequest.fromPartial({ parent: 'interfaces/r0' }));
    return Object.fromEntries(
      responders.map(({ spec, status }) => {
        const { attached = false, received = 0n, answered = 0n, failed = 0n } = status ?? {};
        return [spec?.id ?? '', { attached, received, answered, failed }];
      }),
    );
  } finally {
    client.close();
  }
}

const answered = async (agent: Agent, id: string): Promise<number> => Number((await counts(agent))[id]?.answered ?? -1n);
/** The agent asks its lanes twice a second. */
const patience = { timeout: 20_000, interval: 100 };

async function isSilent(ns: Namespace, address: string): Promise<boolean> {
  const { code } = await ns.exec(['ping', '-n', '-c', '2', '-i', '0.1', '-W', '0.3', address]);
  return code !== 0;
}

it('answers echo requests on a TUN, 10,000 of each family, and counts its answers', async () => {
  await withInterface({ responders: [echo] }, async (agent, ns) => {
    for (const address of [V4, V6]) await untilAnswers(ns, address);
    for (const address of [V4, V6]) expect(await floodPings(ns, address, FLOOD)).toMatchObject({ received: FLOOD, lost: 0, more: '' });
    for (const [address, bytes] of [
      ['10.94.0.200', '1472'],
      ['fd94::200', '1452'],
      ['10.94.0.201', '0'],
    ] as const)
      expect(await pings(ns, address, 20, '-i', '0.01', '-s', bytes)).toMatchObject({ received: 20, lost: 0, more: '' });
    await expect.poll(() => answered(agent, 'echo'), patience).toBeGreaterThanOrEqual(2 * FLOOD + 60);
    const { attached, failed } = (await counts(agent)).echo ?? {};
    expect({ attached, failed }).toEqual({ attached: true, failed: 0n });
  });
});

it('answers on a TAP, where it is also asked who has the address', async () => {
  const responders = [
    responder('arp', Kind.ARP, { addresses: ['10.94.0.0/25'], macAddress: MAC }),
    responder('nd', Kind.ND, { addresses: [V6], macAddress: MAC }),
    echo,
  ];
  await withInterface({ mode: TAP, responders }, async (agent, ns) => {
    for (const address of [V4, V6]) {
      await untilAnswers(ns, address);
      expect(await floodPings(ns, address, FLOOD)).toMatchObject({ received: FLOOD, lost: 0, more: '' });
      expect(ns.ip(`-j neighbour show dev r0 to ${address}`)).toMatchObject([{ lladdr: MAC }]);
    }
    // Nobody answers for these.
    for (const address of ['10.94.0.200', 'fd94::8']) expect(await isSilent(ns, address)).toBe(true);
    await expect.poll(() => answered(agent, 'echo'), patience).toBeGreaterThanOrEqual(2 * FLOOD);
    const seen = await counts(agent);
    for (const id of ['arp', 'nd']) expect(Number(seen[id]?.answered)).toBeGreaterThanOrEqual(1);
    for (const each of Object.values(seen)) expect(each).toMatchObject({ attached: true, failed: 0n });
  });
});

it('takes every frame that was sent as a sink, and says nothing', async () => {
  await withInterface({ responders: [responder('sink', Kind.SINK)], txQueueLength: 10_000 }, async (agent, ns) => {
    const taken = (): number => (ns.ip('-j -s link show dev r0') as [{ stats64: { tx: { packets: number } } }])[0].stats64.tx.packets;
    const script = `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(5000):
    s.sendto(b'x' * 100, ('${V4}', 9))
    if n % 500 == 499: time.sleep(0.02)
`;
    await expect.poll(async () => (await counts(agent)).sink?.attached, patience).toBe(true);
    await sleep(1200);
    expect((await ns.exec(['/usr/bin/python3', '-c', script])).stderr).toBe('');
    // Also what the node sent of its own accord.
    await expect.poll(() => answered(agent, 'sink'), patience).toBe(taken());
    expect(taken()).toBeGreaterThanOrEqual(5000);
    expect((await counts(agent)).sink).toMatchObject({ received: BigInt(taken()), failed: 0n });
    expect(await isSilent(ns, V4)).toBe(true);
  });
});

it('sends packets back to the socket that they come from', async () => {
  await withInterface({ responders: [responder('reflect', Kind.REFLECT, { addresses: ['10.94.0.0/28', V6] })] }, async (agent, ns) => {
    const script = `
import os, socket, time
def ask(family, address, port, payload):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(0.3)
    for attempt in range(50):
        s.sendto(payload, (address, port))
        try: data, sender = s.recvfrom(65536)
        except TimeoutError: continue
        return sender[:2] == (address, port) and data == payload
    return False
for size in (0, 1, 100, 1400, 8000):
    port, payload = 4000 + size, os.urandom(size)
    print(ask(socket.AF_INET, '${V4}', port, payload), ask(socket.AF_INET6, '${V6}', port, payload))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.3)
s.sendto(b'nobody', ('10.94.0.99', 9))
try: print('heard', s.recv(100))
except TimeoutError: print('silence')
`;
    const { stdout, stderr } = await ns.exec(['/usr/bin/python3', '-c', script]);
    expect(stderr).toBe('');
    expect(stdout.trim().split('\n')).toEqual([...Array(5).fill('True True'), 'silence']);
    await expect.poll(() => answered(agent, 'reflect'), patience).toBeGreaterThanOrEqual(10);
  });
});

it('loses no ping while the agent is killed five times', async () => {
  await withInterface({ responders: [echo] }, async (agent, ns) => {
    await untilAnswers(ns, V4);
    const [lane] = await lanesOf(agent);
    let over = false;
    // A confined one takes longer to start.
    const count = suiteConfinement === undefined ? 3000 : 12_000;
    const pinging = pings(ns, V4, count, '-i', '0.002').finally(() => {
      over = true;
    });
    // Nothing for it to read again.
    process.kill(lane as number, 'SIGHUP');
    for (let kill = 0; kill < 5; kill++) {
      await sleep(200);
      await agent.kill9();
      expect(over).toBe(false);
      await agent.restart();
    }
    // Faults that fired while it ran.
    expect(over).toBe(false);
    expect(await pinging).toMatchObject({ received: count, lost: 0, more: '' });
    expect(await lanesOf(agent)).toEqual([lane]);
    // The count went on too.
    await expect.poll(() => answered(agent, 'echo'), patience).toBeGreaterThanOrEqual(count);
  });
});

it('answers again when its lane was killed, on the same device', async () => {
  await withInterface({ responders: [echo] }, async (agent, ns) => {
    const index = link(ns, 'r0')?.ifindex;
    for (let kill = 0; kill < 3; kill++) {
      await untilAnswers(ns, V4);
      const [lane = 0] = await lanesOf(agent);
      process.kill(lane, 'SIGKILL');
      await untilAnswers(ns, V4);
      expect(await lanesOf(agent)).not.toContain(lane);
      expect(link(ns, 'r0')?.ifindex).toBe(index);
    }
  });
});

it('follows what the spec says, without a break for those that stay', async () => {
  await withInterface({ responders: [echo] }, async (agent, ns) => {
    const { interfaces } = agent.client();
    // What keeps the lane.
    await interfaces.create(creation('r1', { mode: TUN, up: true, responders: [echo] }));
    const set = (responders: ResponderSpec[]) => interfaces.update(updating('r0', { responders }, ['spec.responders']));
    await untilAnswers(ns, V4);
    await set([responder('echo', Kind.ICMP_ECHO, { addresses: ['10.94.0.8'] })]);
    await untilAnswers(ns, '10.94.0.8');
    expect(await isSilent(ns, V4)).toBe(true);
    await set([echo]);
    await untilAnswers(ns, V4);
    let over = false;
    const pinging = pings(ns, V4, 1000, '-i', '0.002').finally(() => {
      over = true;
    });
    for (let change = 0; change < 10; change++) {
      await set(change % 2 === 0 ? [echo, responder('sink', Kind.SINK)] : [echo]);
      await sleep(50);
    }
    expect(over).toBe(false);
    expect(await pinging).toMatchObject({ received: 1000, lost: 0, more: '' });
    await expect.poll(() => answered(agent, 'echo'), patience).toBeGreaterThanOrEqual(1000);
    await set([]);
    await expect.poll(() => isSilent(ns, V4), patience).toBe(true);
    // With the last of them the queue is let go, and with it the carrier.
    await expect.poll(() => link(ns, 'r0')?.flags.includes('LOWER_UP'), patience).toBe(false);
    await set([echo]);
    await untilAnswers(ns, V4);
  });
});

it('is created, listed, read and deleted by itself', async () => {
  await withInterface({}, async (agent, ns) => {
    const { responders } = agent.client();
    const create = (spec: Partial<ResponderSpec>, responderId = '') =>
      responders.create(CreateResponderRequest.fromPartial({ parent: 'interfaces/r0', responderId, responder: { spec } }));
    const remove = (id: string, allowMissing = false) =>
      responders.delete(DeleteResponderRequest.fromPartial({ name: `interfaces/r0/responders/${id}`, allowMissing }));
    expect(await isSilent(ns, V4)).toBe(true);
    expect(await create({ kind: Kind.ICMP_ECHO })).toMatchObject({ name: 'interfaces/r0/responders/icmp-echo', spec: { id: 'icmp-echo' } });
    await untilAnswers(ns, V4);
    await create({ kind: Kind.REFLECT, addresses: [V6] }, 'back');
    await expect(create({ kind: Kind.SINK }, 'back')).rejects.toMatchObject({ code: 'ALREADY_EXISTS', reason: 'RESPONDER_EXISTS' });
    await expect(create({ kind: Kind.ARP, addresses: [V4] })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      fields: [{ field: 'responder.spec.kind' }],
    });
    await expect
      .poll(async () => Object.entries(await counts(agent)).map(([id, { attached }]) => `${id} ${attached}`), patience)
      .toEqual(['back true', 'icmp-echo true']);
    await expect
      .poll(async () => (await responders.get({ name: 'interfaces/r0/responders/icmp-echo' })).status?.answered ?? 0n, patience)
      .toBeGreaterThan(0n);
    await remove('icmp-echo');
    await expect.poll(() => isSilent(ns, V4), patience).toBe(true);
    await expect(remove('icmp-echo')).rejects.toMatchObject({ code: 'NOT_FOUND', reason: 'RESPONDER_NOT_FOUND' });
    await remove('icmp-echo', true);
    expect(Object.keys(await counts(agent))).toEqual(['back']);
    // What was made by itself is part of the interface, and is there after a restart.
    await agent.restart();
    expect(Object.keys(await counts(agent))).toEqual(['back']);
  });
});
