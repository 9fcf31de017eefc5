// The example controllers against three hosts on one bridge, each with an agent, and a NATS server between them.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Agent, startAgent } from '../harness/agent.ts';
import { bound, SOON, whenStrict } from '../harness/bound.ts';
import { endLanes } from '../harness/lanes.ts';
import { createCable, createNamespace, type Namespace } from '../harness/namespace.ts';
import type { Child } from '../harness/process.ts';
import { type PythonStubs, pythonStubs } from '../harness/python-stubs.ts';
import { startServer } from '../harness/raw-nats.ts';
import { natsBinary } from '../nats/real-nats.ts';

const EXAMPLES = join(import.meta.dirname, '../../examples/controller');
const NAMES = ['oslo', 'rome', 'bern'];
const NATS = '192.0.2.254';

const hosts: { name: string; ns: Namespace; agent: Agent }[] = [];
let router: Namespace;
let stubs: PythonStubs;
let nats: Child;
const store = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-nats-`));

beforeAll(async () => {
  router = createNamespace();
  router.ip('link add lan0 type bridge');
  router.ip(`address add ${NATS}/24 dev lan0`);
  router.ip('link set lan0 up');
  const started = NAMES.map(async (name, index) => {
    const ns = createNamespace();
    createCable({ namespace: ns, device: 'eth0', address: `192.0.2.${index + 1}/24` }, { namespace: router, device: name });
    router.ip(`link set ${name} master lan0`);
    const agent = await startAgent({ namespace: ns, args: ['--node', name, '--nats', `nats://${NATS}:4222`] });
    hosts[index] = { name, ns, agent };
  });
  // Agents wait for it.
  if (natsBinary) nats = await startServer(router, { binary: natsBinary, address: NATS, store });
  [stubs] = await Promise.all([pythonStubs(), ...started]);
});
afterAll(async () => {
  for (const { agent } of hosts) await agent[Symbol.asyncDispose]();
  for (const { ns } of hosts) await ns[Symbol.asyncDispose]();
  await nats?.[Symbol.asyncDispose]();
  await router?.[Symbol.asyncDispose]();
  stubs?.[Symbol.dispose]();
  rmSync(store, { recursive: true, force: true });
});

const agentFlags = () => hosts.flatMap(({ name, agent }, index) => ['--agent', `${name}=${agent.server},underlay=192.0.2.${index + 1}`]);
const inTypeScript = (...flags: string[]) => [process.execPath, join(EXAMPLES, 'controller.ts'), ...agentFlags(), ...flags];
const inPython = (...flags: string[]) =>
  stubs.program('controller.py', readFileSync(join(EXAMPLES, 'controller.py'), 'utf8'), ...agentFlags(), ...flags);

async function answers(from: number, to: number, address: string): Promise<boolean> {
  const { ns } = hosts[from] as (typeof hosts)[number];
  return (await ns.exec(['ping', '-n', '-c', '1', '-W', '0.3', `${address}${to + 1}`])).code === 0;
}

/** From every host to every other, both families. */
async function areJoined(): Promise<boolean> {
  const pairs = hosts.flatMap((_, from) => hosts.flatMap((__, to) => (from === to ? [] : [[from, to] as const])));
  const all = await Promise.all(pairs.flatMap(([from, to]) => ['10.77.0.', 'fd77::'].map((address) => answers(from, to, address))));
  return all.every(Boolean);
}

const peersOf = async ({ agent }: (typeof hosts)[number]) => {
  const { spec } = await agent.client().links.get({ name: 'links/mesh' });
  return spec?.peers.map(({ displayName }) => displayName).sort();
};
const keyOf = async ({ agent }: (typeof hosts)[number]) =>
  (await agent.client().links.get({ name: 'links/mesh' })).status?.publicKey.toString('base64');

describe('the controller', () => {
  test('in TypeScript joins all; a host that lost everything joins again', async () => {
    const begun = performance.now();
    await using controller = router.spawn(inTypeScript(...(natsBinary ? ['--nats', `nats://${NATS}:4222`] : [])));
    await expect.poll(areJoined, { ...SOON, timeout: 60_000, interval: 50 }).toBe(true);
    const tookMs = performance.now() - begun;
    console.log(`three hosts joined by the controller after ${Math.round(tookMs)} ms`);
    expect(tookMs).toBeLessThan(bound(3000, 30_000));
    if (natsBinary) await controller.until(({ stdout }) => /nats +oslo: link-(created|up) links\/mesh/.test(stdout), 'an event', 20_000);

    const bern = hosts[2] as (typeof hosts)[number];
    const oldKey = await keyOf(bern);
    await bern.agent.kill9();
    await endLanes(bern.agent.runtimeDir);
    bern.ns.ip('link delete mesh0');
    rmSync(bern.agent.stateDir, { recursive: true });
    expect(await answers(0, 2, '10.77.0.')).toBe(false);
    await bern.agent.start();
    await expect.poll(areJoined, { ...SOON, timeout: 60_000, interval: 50 }).toBe(true);
    expect(await keyOf(bern)).not.toBe(oldKey);
    expect(controller.stderr).toBe('');
  });

  test('in Python takes over what the other left, and mends it', async () => {
    await using controller = router.spawn(inPython());
    const rome = hosts[1] as (typeof hosts)[number];
    expect(await rome.agent.cli(['link', 'delete', 'mesh', '--missing-ok'])).toMatchObject({ code: 0 });
    await expect.poll(areJoined, { ...SOON, timeout: 60_000, interval: 50 }).toBe(true);
    expect(await Promise.all(hosts.map(peersOf))).toEqual([
      ['bern', 'rome'],
      ['bern', 'oslo'],
      ['oslo', 'rome'],
    ]);
    expect(controller.stdout).toMatch(/rome +made mesh\n/);
    expect(controller.stderr).toBe('');
  });

  // A flow ends 15 s after its last packet: with that each takes half a minute.
  whenStrict.each([
    ['in Python, by flows from NATS', () => inPython('--nats', `nats://${NATS}:4222`, '--on-demand', '--idle', '1')],
    ['in TypeScript, by flows from NATS', () => inTypeScript('--nats', `nats://${NATS}:4222`, '--on-demand', '--idle', '1')],
    ['in TypeScript, by flows from the agents', () => inTypeScript('--on-demand', '--idle', '1')],
  ])('joins two hosts on demand, %s', async (_, command) => {
    // With the devices the flows end, and with them what they ask for, a second later.
    for (const { agent } of hosts) {
      expect(await agent.cli(['link', 'delete', 'mesh', '--missing-ok'])).toMatchObject({ code: 0 });
      expect(await agent.cli(['interface', 'delete', 'mesh0', '--missing-ok'])).toMatchObject({ code: 0 });
    }
    await using controller = router.spawn(command());
    await expect.poll(() => controller.stdout.match(/made (the link|mesh\b)/g), SOON).toHaveLength(3);
    await expect.poll(async () => (await Promise.all(hosts.map(peersOf))).flat(), SOON).toEqual([]);
    await using ping = hosts[0]?.ns.spawn(['ping', '-n', '-i', '0.1', '10.77.0.2']) as Child;
    await ping.until(({ stdout }) => stdout.includes('bytes from'), 'an answer', 30_000);
    await expect.poll(() => Promise.all(hosts.map(peersOf)), SOON).toEqual([['rome'], ['oslo'], []]);
    await ping[Symbol.asyncDispose]();
    expect(controller.stderr).toBe('');
    await expect.poll(async () => (await Promise.all(hosts.map(peersOf))).flat(), { timeout: 60_000, interval: 500 }).toEqual([]);
  });
});
