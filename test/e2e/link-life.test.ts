// A link between two agents, and what it survives: its agent killed and restarted, its lane killed, its interface gone. And its keys, which are
// nowhere that they do not belong.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Event, Event_Kind as Kind } from '../../src/gen/taplane/v1/event.ts';
import { ObserveFlowsRequest } from '../../src/gen/taplane/v1/flow_service.ts';
import { ListInterfacesRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { type Link, LinkStatus_State as State } from '../../src/gen/taplane/v1/link.ts';
import { ListLinksRequest, ProbeLinkRequest, type ProbeLinkResponse, WatchLinksRequest } from '../../src/gen/taplane/v1/link_service.ts';
import { publicKeyOf } from '../../src/link/keys.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { SOON } from '../harness/bound.ts';
import { lanesIn } from '../harness/lanes.ts';
import { createCable, createNamespace, type Namespace } from '../harness/namespace.ts';
import { untilAnswers } from '../harness/ping.ts';
import { NATS_PORT, readStream, startServer } from '../harness/raw-nats.ts';
import { linking, relinking, wireguard } from '../link/links.ts';
import { natsBinary } from '../nats/real-nats.ts';
import { creation, TUN } from './specs.ts';

/** Easily found again, in whatever spelling. */
const KEYS = [1, 2].map((n) => Buffer.from(`@KEYMARKER-${n}-@KEYMARKER-${n}-MARKE@`.slice(0, 32)));
const PSK = Buffer.from('PRESHAREDMARKERPRESHAREDMARKER!!');
const PORT = 51_820;
const underlay = (end: number): string => `192.0.2.${end + 1}`;
const inner = (end: number): string => `10.77.0.${end + 1}`;

interface End {
  ns: Namespace;
  agent: Agent;
}

async function twoEnds(stack: AsyncDisposableStack): Promise<[End, End]> {
  const spaces = [0, 1].map(() => stack.use(createNamespace())) as [Namespace, Namespace];
  createCable(
    { namespace: spaces[0], device: 'net0', address: `${underlay(0)}/24` },
    { namespace: spaces[1], device: 'net0', address: `${underlay(1)}/24` },
  );
  const store = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-nats-`));
  stack.defer(() => rmSync(store, { recursive: true, force: true }));
  stack.use(await startServer(spaces[0], { binary: natsBinary ?? 'nats-server', store }));
  const nats = [['--nats', `nats://127.0.0.1:${NATS_PORT}`, '--node', 'west'], []];
  const ends = await Promise.all(
    spaces.map(async (ns, end) => ({ ns, agent: stack.use(await startAgent({ namespace: ns, args: nats[end] as string[] })) })),
  );
  return ends as [End, End];
}

async function joinEnds(ends: [End, End]): Promise<void> {
  for (const [end, { agent }] of ends.entries()) {
    const { interfaces, links } = agent.client();
    const address = { cidr: `${inner(end)}/24` };
    await interfaces.create(creation('tun0', { mode: TUN, up: true, vnetHeader: true, mtu: 1420, addresses: [address] }));
    const peer = {
      publicKey: publicKeyOf(KEYS[1 - end] as Buffer),
      presharedKey: PSK,
      endpoint: `${underlay(1 - end)}:${PORT}`,
      allowedPrefixes: [`${inner(1 - end)}/32`],
    };
    await links.create(linking('mesh', wireguard('tun0', [peer], { listen: `:${PORT}`, wireguard: { privateKey: KEYS[end] as Buffer } })));
  }
}

const get = (agent: Agent): Promise<Link> => agent.client().links.get({ name: 'links/mesh' });

it('carries, is known to flows, and goes on through the deaths of agent and lane; its keys are nowhere else', async () => {
  await using stack = new AsyncDisposableStack();
  const ends = await twoEnds(stack);
  const [{ ns, agent }, other] = ends;
  const told: string[] = [];
  const abort = new AbortController();
  const watching = (async () => {
    for await (const message of agent.client().links.watch(WatchLinksRequest.fromPartial({}), abort.signal)) told.push(text(message));
  })().catch(() => 'it ends with the agent');
  const logs: string[] = [];
  await joinEnds(ends);
  await untilAnswers(ns, inner(1));
  await expect.poll(async () => (await get(agent)).status?.state, SOON).toBe(State.UP);
  const before = await get(agent);
  expect(before.status?.publicKey).toEqual(publicKeyOf(KEYS[0] as Buffer));
  expect(before.status?.peers[0]).toMatchObject({ up: true, endpoint: `${underlay(1)}:${PORT}` });

  // The flows of the interface name the link.
  const flowsEnd = new AbortController();
  const seen: string[] = [];
  const flows = (async () => {
    const ask = ObserveFlowsRequest.fromPartial({ last: 100, follow: true });
    for await (const { batch } of agent.client().flows.observe(ask, flowsEnd.signal)) {
      for (const flow of batch?.flows ?? []) if (flow.protocol === 1) seen.push(flow.link);
    }
  })();
  await expect.poll(() => seen.includes('links/mesh'), SOON).toBe(true);
  flowsEnd.abort();
  await flows;

  // The agent dies: the lane carries on, and the next agent finds it as it was.
  const [lane] = lanesIn(agent.runtimeDir);
  const handshake = before.status?.peers[0]?.lastHandshakeTime;
  logs.push(agent.log);
  await agent.kill9();
  await untilAnswers(ns, inner(1));
  await agent.restart();
  await expect.poll(async () => (await get(agent)).status?.state, SOON).toBe(State.UP);
  const after = await get(agent);
  expect([after.uid, after.etag, after.spec]).toEqual([before.uid, before.etag, before.spec]);
  expect([lanesIn(agent.runtimeDir), after.status?.peers[0]?.lastHandshakeTime]).toEqual([[lane], handshake]);

  // The lane dies, at the same second or not: the other end takes the handshakes of its successor.
  for (let death = 0; death < 2; death++) {
    process.kill(lanesIn(agent.runtimeDir)[0] as number, 'SIGKILL');
    await untilAnswers(ns, inner(1));
  }
  logs.push(agent.log);
  await agent.restart();
  await untilAnswers(ns, inner(1));
  await expect.poll(async () => (await get(other.agent)).status?.state, SOON).toBe(State.UP);
  await agent.client().links.update(relinking('mesh', { mtu: 1400 }));
  await expect.poll(async () => (await get(agent)).status, SOON).toMatchObject({ observedGeneration: 2n, state: State.UP });
  await untilAnswers(ns, inner(1));

  const probe = ProbeLinkRequest.fromPartial({ name: 'links/mesh', count: 3, intervalMs: 10 });
  const measured: ProbeLinkResponse[] = [];
  for await (const message of agent.client().links.probe(probe, new AbortController().signal)) measured.push(message);
  const result = measured.at(-1)?.progress;
  expect(result).toMatchObject({ $case: 'result', value: { name: 'links/mesh', sent: 3, received: 3, twoEnded: true } });

  // NATS has heard of it: made and changed once, first up when it first was. A start of the agent takes for up what it does not tell otherwise.
  const heard = async (): Promise<string[]> => {
    const events = await readStream(ns, 'TAPLANE_EVENTS');
    told.push(...events.map(({ payload }) => text(Event.decode(payload))));
    return events.flatMap(({ subject }) => /\.west\.event\.(link-\w+|agent-started)$/.exec(subject)?.[1] ?? []);
  };
  await expect.poll(async () => (await heard()).includes('link-probed'), SOON).toBe(true);
  const kinds = await heard();
  expect(kinds.slice(0, 4)).toEqual(['agent-started', 'link-created', 'link-up', 'agent-started']);
  const count = (kind: string, from = 0): number => kinds.slice(from).filter((one) => one === kind).length;
  expect([count('link-created'), count('link-updated'), count('link-deleted')]).toEqual([1, 1, 0]);
  const events = (await readStream(ns, 'TAPLANE_EVENTS')).map(({ payload }) => Event.decode(payload));
  expect(events.find(({ kind }) => kind === Kind.LINK_PROBED)).toMatchObject({
    resource: 'links/mesh',
    uid: before.uid,
    probe: result?.value,
  });
  const lastStart = kinds.lastIndexOf('agent-started');
  expect(count('link-up', lastStart)).toBe(count('link-down', lastStart));

  // Keys: not in what is answered, told and logged, not in arguments or environments; but in the one file.
  const { links, interfaces } = agent.client();
  const answers = [
    await get(agent),
    await links.list(ListLinksRequest.fromPartial({})),
    await interfaces.list(ListInterfacesRequest.fromPartial({ view: 2 })),
    await agent.client().node.getNode(),
  ].map(text);
  abort.abort();
  await watching;
  logs.push(agent.log, ...files(agent.runtimeDir));
  const state = files(agent.stateDir, (name) => !name.startsWith('links.db'));
  const everywhere = [...answers, ...told, ...logs, ...state, ...processes()];
  expect(told.length).toBeGreaterThan(2);
  for (const secret of [KEYS[0] as Buffer, PSK]) {
    for (const form of forms(secret)) expect(everywhere.filter((one) => one.includes(form))).toEqual([]);
    const kept = files(agent.stateDir, (name) => name.startsWith('links.db'));
    expect(forms(secret).some((form) => kept.some((one) => one.includes(form)))).toBe(true);
  }
});

it('waits for an interface that went by other ways, and joins it when it is back', async () => {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const { interfaces, links } = agent.client();
  const ephemeral = creation('tun0', { mode: TUN, up: true, ephemeral: true });
  await interfaces.create(ephemeral);
  await links.create(linking('mesh', wireguard('tun0')));
  await expect.poll(async () => (await get(agent)).status?.state, SOON).toBe(State.CONNECTING);
  const { status } = await get(agent);
  await agent.restart();
  expect((await get(agent)).status).toMatchObject({
    state: State.WAITING,
    reason: 'interfaces/tun0 is not there',
    publicKey: status?.publicKey,
  });
  expect(lanesIn(agent.runtimeDir)).toEqual([]);
  await agent.client().interfaces.create(ephemeral);
  await expect.poll(async () => (await get(agent)).status?.state, SOON).toBe(State.CONNECTING);
});

/** Readable files below a folder, as latin1. */
function files(folder: string, wanted: (name: string) => boolean = () => true): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && wanted(entry.name))
    .map(({ name }) => readFileSync(join(folder, name), 'latin1'));
}

/** Arguments and environments of all processes that can be read. */
function processes(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) =>
      ['cmdline', 'environ'].flatMap((file) => {
        try {
          return [readFileSync(`/proc/${pid}/${file}`, 'latin1')];
        } catch {
          return [];
        }
      }),
    );
}

function text(message: object): string {
  return JSON.stringify(message, (_, value) => {
    if (typeof value === 'bigint') return String(value);
    return value?.type === 'Buffer' ? `${Buffer.from(value.data).toString('hex')} ${Buffer.from(value.data).toString('latin1')}` : value;
  });
}

/** The bytes themselves, hexadecimal, and base64 at each of the three offsets that a secret may have in a longer text. */
function forms(secret: Buffer): string[] {
  const base64 = [0, 1, 2].map((offset) =>
    Buffer.concat([Buffer.alloc(offset), secret])
      .toString('base64')
      .slice(4, 32),
  );
  return [secret.toString('latin1').slice(1, 30), secret.toString('hex').slice(4, 60), ...base64];
}
