// `npm start`: an agent of its own in a directory of its own, a TUN with an address, pings through it, the flow that they are, and what to
// try next. Ctrl-C takes all of it away again: every interface that came into being here, the agent, its NATS server, the directory.
// `--once` does so at once. `--hosts 3` is another demo, of links between hosts: see hosts.ts.
// What a demo that was killed could not take away of its files, the next one does.

import { existsSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { deviceNames } from '../src/agent/doctor/devices.ts';
import { diagnose } from '../src/agent/doctor.ts';
import { Interface, InterfaceSpec_Mode, ResponderSpec_Kind } from '../src/gen/taplane/v1/interface.ts';
import { CreateInterfaceRequest, DeleteInterfaceRequest, ListInterfacesRequest } from '../src/gen/taplane/v1/interface_service.ts';
import { NatsStatus_State, type Node } from '../src/gen/taplane/v1/node_service.ts';
import { executable } from '../src/nats/binary.ts';
import { connect, type TaplaneClient } from '../src/rpc/client.ts';
import { type DemoAgent, type DemoAgentOptions, startDemoAgent } from './demo-agent.ts';
import { firstFlow, type Pings, startPings, whyNotMetered } from './demo-flows.ts';
import { endLanes, makeHome, removeStaleHomes } from './demo-home.ts';
import { freeName, inFreeSubnet, subnetOf, usedNetworks } from './demo-subnet.ts';

const ROOT = dirname(import.meta.dirname);
const { values: flags } = parseArgs({
  options: { once: { type: 'boolean', default: false }, hosts: { type: 'string' }, 'on-demand': { type: 'boolean', default: false } },
});

// Before anything is made: until here a signal just ends the process.
const interruption = new AbortController();
const interrupted = new Promise<void>((resolve) => {
  interruption.signal.addEventListener('abort', () => resolve());
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interruption.abort());

// TAPLANE_* of the caller's shell means another agent; the variable for debugging does no harm.
for (const name of Object.keys(process.env)) if (name.startsWith('TAPLANE_') && name !== 'TAPLANE_DEBUG') delete process.env[name];

if (flags.hosts !== undefined) {
  const { runHosts } = await import('./hosts.ts');
  process.exit(await runHosts({ hosts: Number(flags.hosts), once: flags.once, onDemand: flags['on-demand'] }));
}

/** All of them short, since a unix socket has room for 107 bytes. */
const base = process.env['XDG_RUNTIME_DIR'] || (process.getuid?.() === 0 ? '/run' : tmpdir());
for (const path of removeStaleHomes(base))
  process.stdout.write(`Removed ${path} of a demo that was killed; devices that it left show in: ip -d link show type tun\n`);
const demoHome = makeHome(base);
const home = demoHome.path;
const server = `unix:${home}/agent.sock`;
const logFile = join(home, 'agent.log');
const devices = () => new Set(deviceNames(readFileSync('/proc/net/dev', 'utf8')));
const before = devices();
const settings: DemoAgentOptions = {
  stateDir: join(home, 'state'),
  runtimeDir: home,
  nats: executable('nats-server') ? 'embedded' : 'off',
  logFile,
};

let starting: Promise<DemoAgent> | undefined;
let agent: DemoAgent | undefined;
let client: TaplaneClient | undefined;
let pings: Pings | undefined;
let failure: string | undefined;
try {
  failure = await unfit();
  if (!failure) {
    const started = start();
    // After Ctrl-C in the middle of the start nobody waits for its outcome.
    started.catch(() => undefined);
    await Promise.race([started, interrupted]);
    const crashed = agent?.ended.then((how) => `The agent ${how}.`);
    if (!flags.once) failure = (await Promise.race([interrupted, crashed])) ?? undefined;
  }
} catch (error) {
  failure = error instanceof Error ? error.message : String(error);
}
const left = await takeAway();
if (failure) process.stderr.write(`\n${failure}\n`);
for (const line of left) process.stderr.write(`${line}\n`);
if (failure && existsSync(logFile)) {
  process.stderr.write(`The agent's log is kept: ${logFile}\n`);
  demoHome.keep();
} else {
  demoHome.remove();
  if (!failure && left.length === 0 && starting) process.stdout.write('All of the demo is removed: interfaces, agent, directory.\n');
}
process.exit(failure || left.length > 0 ? 1 : 0);

/** What keeps this machine from running the demo, with cures; undefined when nothing does. */
async function unfit(): Promise<string | undefined> {
  const failed = (await diagnose({ stateDir: settings.stateDir, runtimeDir: home, listen: [server], node: 'demo' })).filter(
    ({ status }) => status === 'fail',
  );
  if (failed.length === 0) return undefined;
  const hint = process.getuid?.() === 0 ? '' : '\n\nThe demo creates a network device: run it as root.';
  return `The demo cannot run here:\n\n${failed.map(({ detail, cure }) => `  ${detail}\n    ${cure}`).join('\n')}${hint}`;
}

async function start(): Promise<void> {
  starting = startDemoAgent(settings);
  agent = await starting;
  client = connect(server, { timeoutMs: 10_000 });
  const { interfaces } = client;
  const create = (interfaceId: string, subnet: string, spec: object, validateOnly = false) =>
    interfaces.create(
      CreateInterfaceRequest.fromPartial({
        interfaceId,
        interface: { spec: { ...spec, up: true, addresses: [{ cidr: `${subnet}.1/24` }] } },
        validateOnly,
      }),
    );
  const responders = [{ id: 'echo', kind: ResponderSpec_Kind.ICMP_ECHO }];
  const demo = { mode: InterfaceSpec_Mode.TUN, ephemeral: true, responders };
  const [subnet, created] = await inFreeSubnet(usedNetworks(), (free) => create('demo%d', free, demo));
  const lab = freeName('lab', devices());
  const used = [...usedNetworks(), subnetOf(subnet)];
  const [labSubnet] = await inFreeSubnet(used, (free) => create(lab, free, { mode: InterfaceSpec_Mode.TAP }, true));
  const node = await settledNode(client);
  const shown = { device: created.name.replace('interfaces/', ''), subnet, second: `${lab} --mode tap --address ${labSubnet}.1/24` };
  printFacts(node, agent, shown);
  await printFlows(client, node, shown);
  if (!interruption.signal.aborted) printTries(node, shown);
}

/** The node once NATS is connected or has had its second; it connects in the background. */
async function settledNode(client: TaplaneClient): Promise<Node> {
  const until = performance.now() + 2_000;
  for (;;) {
    const node = await client.node.getNode();
    if (node.nats?.state !== NatsStatus_State.CONNECTING || performance.now() > until) return node;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

interface Shown {
  device: string;
  subnet: string;
  /** Name and flags of an interface that could be created. */
  second: string;
}

function printFacts(node: Node, { pid, startupMs }: DemoAgent, { device, subnet }: Shown): void {
  const { nats } = node;
  const natsLine =
    nats?.state === NatsStatus_State.CONNECTED
      ? `${nats.server}, nats-server ${nats.serverVersion}, started by the agent`
      : nats?.state === NatsStatus_State.OFF
        ? 'off: no nats-server on the PATH (apt-get install nats-server, or https://github.com/nats-io/nats-server/releases)'
        : `not connected: ${nats?.reason}`;
  process.stdout.write(`
Taplane ${node.version} runs on ${node.name}, Linux ${node.kernelRelease}.

  agent       pid ${pid}, ready after ${startupMs} ms, ${server}
  interface   ${device}, a TUN, up, ${subnet}.1/24, with a responder that answers ping
  nats        ${natsLine}
  log         ${logFile}
`);
}

/** Pings, and tells of the flow that they are as each way brings it. */
async function printFlows(from: TaplaneClient, { cluster, name, nats }: Node, { device, subnet }: Shown): Promise<void> {
  const say = (text: string) => process.stdout.write(`  flows       ${text}\n`);
  const program = executable('ping');
  if (!program) return void say('none yet: no ping on the PATH (apt-get install iputils-ping)');
  const reason = await whyNotMetered(from, device, interruption.signal);
  if (reason) return void say(`not metered: ${reason}`);
  if (interruption.signal.aborted) return;
  const file = nats?.state === NatsStatus_State.CONNECTED ? nats.urlFile : '';
  const ways = [from, ...(file ? [file] : [])].map((way) => firstFlow(way, device, subnet, interruption.signal));
  pings = startPings(program, subnet);
  const [grpc, fromNats] = await Promise.all(ways);
  if (interruption.signal.aborted) return;
  say(`3 pings to ${subnet}.2, then one every 10 s to the next address; their record, as it came`);
  process.stdout.write(`    over gRPC ${grpc ?? 'nothing yet'}\n`);
  if (file)
    process.stdout.write(`    from NATS ${fromNats ?? 'nothing yet'}\n              (taplane.v1.${cluster}.${name}.flow.${device})\n`);
}

function printTries({ nats }: Node, { device, subnet, second }: Shown): void {
  const file = nats?.urlFile ?? '';
  const tries: [command: string, why: string][] = [
    [`cd ${ROOT}`, ''],
    [`export TAPLANE_SERVER=${server}`, ''],
    ['bin/taplane flow observe -f', 'who talks to whom: a line when a flow begins, each minute, and when it ends'],
    ...(file ? ([[`bin/taplane flow observe -f --nats ${file}`, 'the same, from NATS']] as [string, string][]) : []),
    ['bin/taplane flow top', 'the busiest flows'],
    ['bin/taplane flow stats', 'what became of packets and records'],
    ['bin/taplane interface list', 'what is there'],
    ['bin/taplane interface watch', 'and what becomes of it'],
    [`ping -c 3 ${subnet}.2`, 'a responder answers behind the interface'],
    [`bin/taplane capture ${device} --count 6`, 'its packets, while you ping in a third terminal'],
    [`ip address del ${subnet}.1/24 dev ${device}`, 'the agent puts it back'],
    [`bin/taplane interface create ${second} --up`, 'one of your own'],
    ['bin/taplane doctor', 'what is not well on this node, and the cure'],
  ];
  // The longest command need not push all remarks to the right.
  const width = Math.max(...tries.map(([command]) => command.length).filter((length) => length < 50));
  process.stdout.write(`
Try in another terminal:

${tries.map(([command, why]) => `  ${command.padEnd(width)}${why && `   # ${why}`}`.trimEnd()).join('\n')}

${flags.once ? '' : `Ctrl-C ends the agent and removes every interface of this demo's agent, adopted ones too; devices older than the demo stay.\n`}`);
}

/** Removes every interface that was not there before, and ends the agent. What had to stay, as lines for people. */
async function takeAway(): Promise<string[]> {
  interruption.abort();
  await pings?.stop();
  let mine = await starting?.catch(() => undefined);
  if (!mine) return [];
  try {
    if (!mine.isRunning()) {
      // It crashed: its successor knows from the store what is to be removed.
      client?.close();
      client = undefined;
      mine = await startDemoAgent(settings);
    }
    client ??= connect(server, { timeoutMs: 10_000 });
    return await removeInterfaces(client);
  } catch (error) {
    return [
      `Interfaces may be left behind: ${(error as Error).message}`,
      'See ip -d link show type tun; devices with an alias taplane:... are of the demo; remove one with ip link delete NAME.',
    ];
  } finally {
    client?.close();
    await mine.stop();
    await endLanes(home);
  }
}

async function removeInterfaces(client: TaplaneClient): Promise<string[]> {
  const left: string[] = [];
  const { interfaces } = await client.interfaces.list(ListInterfacesRequest.fromPartial({ pageSize: 1000 }));
  for (const { name, spec } of interfaces.map((one) => Interface.fromPartial(one))) {
    const device = name.replace('interfaces/', '');
    // Adopted: it was somebody's before the demo, and it is again.
    if (before.has(device) && !spec?.networkNamespace) continue;
    await client.interfaces
      .delete(DeleteInterfaceRequest.fromPartial({ name, allowMissing: true }))
      .catch((error: Error) => left.push(`${device} is left behind: ${error.message}; remove it with ip link delete ${device}`));
  }
  return left;
}
