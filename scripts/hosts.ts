// `npm start -- --hosts 3`: as many hosts in network namespaces, an agent on each, a NATS server between them, and the example controller,
// which makes them one encrypted network. Shows how that forms, pings all to all through it, and tells of the flows as they come. Ctrl-C takes
// all of it away; `--once` does so after the pings.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { WatchLinksRequest } from '../src/gen/taplane/v1/link_service.ts';
import { executable, supportsParentDeathSignal } from '../src/nats/binary.ts';
import { connect } from '../src/rpc/client.ts';
import { type DemoAgent, startDemoAgent } from './demo-agent.ts';
import { DEMO_PREFIX, endLanes, makeHome, removeStaleHomes } from './demo-home.ts';
import { type DemoHost, type DemoNetwork, makeNetwork, removeStaleNetworks } from './hosts-network.ts';

const ROOT = dirname(import.meta.dirname);
const NAMES = ['oslo', 'rome', 'bern', 'lima', 'riga', 'doha', 'bonn', 'kyiv'];
const FORM_MS = 30_000;
const NATS_MS = 10_000;
const STOP_MS = 5_000;

export interface HostsOptions {
  hosts: number;
  once: boolean;
  /** Peers only where there is traffic. */
  onDemand: boolean;
}

const say = (text = '') => process.stdout.write(`${text}\n`);

/** Resolves with the exit code. */
export async function runHosts({ hosts: count, once, onDemand }: HostsOptions): Promise<number> {
  if (!(Number.isInteger(count) && count >= 2 && count <= NAMES.length)) {
    process.stderr.write(`--hosts: expected a number from 2 to ${NAMES.length}\n`);
    return 2;
  }
  const interruption = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interruption.abort());
  // Nobody reads any more.
  process.stdout.on('error', () => interruption.abort());
  const { signal } = interruption;
  const base = process.env['XDG_RUNTIME_DIR'] || (process.getuid?.() === 0 ? '/run' : tmpdir());
  for (const path of removeStaleHomes(base)) say(`Removed ${path} of a demo that was killed`);
  const missing = unfit();
  if (missing) {
    process.stderr.write(`\nThe demo cannot run here:\n\n  ${missing}\n`);
    return 1;
  }
  for (const name of removeStaleNetworks(DEMO_PREFIX)) say(`Removed the namespace ${name} of a demo that was killed`);
  const home = makeHome(base);
  const demo = new Demo(home.path, signal, onDemand);
  let failure: string | undefined;
  try {
    await demo.start(NAMES.slice(0, count));
    if (!once && !signal.aborted) {
      demo.printTries();
      failure = await Promise.race([
        new Promise<undefined>((resolve) => signal.addEventListener('abort', () => resolve(undefined))),
        demo.crash,
      ]);
    }
  } catch (error) {
    if (!signal.aborted) failure = (error as Error).message;
  }
  await demo.stop();
  if (failure) {
    home.keep();
    process.stderr.write(`\n${failure}\nThe logs are kept: ${home.path}\n`);
    return 1;
  }
  home.remove();
  say('\nAll of the demo is removed: hosts, agents, namespaces, directory.');
  return 0;
}

function unfit(): string | undefined {
  if (process.getuid?.() !== 0) return 'It makes network namespaces: run it as root.';
  for (const [program, cure] of [
    ['ip', 'iproute2'],
    ['ping', 'iputils-ping'],
  ] as const)
    if (!executable(program)) return `${program} is missing: apt-get install ${cure}`;
  return undefined;
}

class Demo {
  readonly #home: string;
  readonly #signal: AbortSignal;
  readonly #onDemand: boolean;
  readonly #children: ChildProcess[] = [];
  #network: DemoNetwork | undefined;
  #agents: (DemoAgent | undefined)[] = [];
  #nats = '';
  #stopping = false;
  /** Resolves with what happened when something ends that should not. */
  readonly crash: Promise<string>;
  #crashed: (how: string) => void = () => {};

  constructor(home: string, signal: AbortSignal, onDemand: boolean) {
    this.#home = home;
    this.#signal = signal;
    this.#onDemand = onDemand;
    this.crash = new Promise((resolve) => {
      this.#crashed = resolve;
    });
  }

  get #hosts(): DemoHost[] {
    return this.#network?.hosts ?? [];
  }

  #server({ name }: DemoHost): string {
    return `unix:${this.#home}/${name}/agent.sock`;
  }

  async start(names: string[]): Promise<void> {
    const network = makeNetwork(this.#home, names);
    this.#network = network;
    say(`\n${names.length} hosts in network namespaces, on one bridge:\n`);
    this.#nats = await this.#startNats(network);
    await Promise.all(network.hosts.map((host, index) => this.#startAgent(host, index)));
    for (const [index, host] of network.hosts.entries())
      say(`  ${host.name.padEnd(6)} ${host.underlay.padEnd(13)} agent pid ${this.#agents[index]?.pid}, ${this.#server(host)}`);
    say(`  ${'nats'.padEnd(6)} ${this.#nats || 'off: no nats-server on the PATH (apt-get install nats-server); flows come over gRPC'}`);
    if (this.#signal.aborted) return;
    say('\nThe controller (examples/controller/controller.ts) makes them one network:\n');
    const begun = performance.now();
    this.#startController();
    await Promise.all(network.hosts.map((host) => this.#formed(host, this.#onDemand ? 0 : names.length - 1)));
    if (!this.#onDemand) {
      say(`\nAll links are up ${((performance.now() - begun) / 1000).toFixed(1)} s after the start of the controller.`);
    }
    if (this.#signal.aborted) return;
    this.#startFlows();
    await this.#pingAll();
  }

  async #startAgent(host: DemoHost, index: number): Promise<void> {
    const runtimeDir = join(this.#home, host.name);
    mkdirSync(runtimeDir, { mode: 0o700, recursive: true });
    const { namespace, name: node } = host;
    this.#agents[index] = await startDemoAgent({
      stateDir: join(runtimeDir, 'state'),
      runtimeDir,
      nats: this.#nats || 'off',
      logFile: join(runtimeDir, 'agent.log'),
      namespace,
      node,
    });
    void this.#agents[index]?.ended.then((how) => this.#restart(host, index, how));
  }

  /** Somebody tries what happens when an agent is killed: the links go on, and its successor finds them. */
  async #restart(host: DemoHost, index: number, how: string): Promise<void> {
    if (this.#signal.aborted || this.#stopping) return;
    say(`  demo    the agent of ${host.name} ${how}; it is started again`);
    await this.#startAgent(host, index).catch((error: Error) => this.#crashed(error.message));
  }

  /** Its address; empty where there is no nats-server. */
  async #startNats({ router, routerAddress }: DemoNetwork): Promise<string> {
    const program = executable('nats-server');
    if (!program) return '';
    const child = await this.#spawn(router, [program, '-a', routerAddress, '-p', '4222', '-js', '-sd', join(this.#home, 'nats')]);
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('nats-server was not ready in time')), NATS_MS);
      createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', (line) => {
        if (!line.includes('Server is ready')) return;
        clearTimeout(late);
        resolve();
      });
    });
    return `nats://${routerAddress}:4222`;
  }

  #startController(): void {
    const agents = this.#hosts.flatMap((host) => ['--agent', `${host.name}=${this.#server(host)},underlay=${host.underlay}`]);
    const nats = this.#nats ? ['--nats', this.#nats] : [];
    const more = this.#onDemand ? ['--on-demand', '--idle', '20'] : [];
    void this.#show(
      '  ',
      [process.execPath, join(ROOT, 'examples/controller/controller.ts'), ...agents, ...nats, ...more],
      'The controller',
    );
  }

  /** Who talks to whom in the network that was made: from NATS, of all hosts at once, or else from the first host. */
  #startFlows(): void {
    const [first] = this.#hosts;
    const source = this.#nats ? ['--nats', this.#nats] : ['--server', first ? this.#server(first) : ''];
    void this.#show(
      '  flow  ',
      [join(ROOT, 'bin', 'taplane'), 'flow', 'observe', '-f', '-o', 'compact', '--interface', 'mesh0', ...source],
      'flow observe',
    );
  }

  async #show(prefix: string, command: string[], what: string): Promise<void> {
    const child = await this.#spawn(this.#network?.router ?? '', command);
    const lastWords: string[] = [];
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => say(`${prefix}${line}`));
    createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', (line) => void lastWords.push(line));
    child.once('close', (code) => {
      if (!this.#signal.aborted) this.#crashed(`${what} ended with code ${code}: ${lastWords.slice(-5).join('\n')}`);
    });
  }

  /** In a namespace, and not longer than the demo, even when that is killed. */
  async #spawn(namespace: string, command: string[]): Promise<ChildProcess> {
    const guard = await supportsParentDeathSignal(process.env.PATH);
    const tied = guard ? [guard, '--pdeathsig', 'TERM', '--'] : [];
    const child = spawn('ip', ['netns', 'exec', namespace, ...tied, ...command], { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#children.push(child);
    return child;
  }

  /** Resolves when a host has a link with so many peers that are up. */
  async #formed(host: DemoHost, peers: number): Promise<void> {
    await using client = connect(this.#server(host), { timeoutMs: 10_000 });
    const ending = AbortSignal.any([this.#signal, AbortSignal.timeout(FORM_MS)]);
    const waiting = async () => {
      for await (const { event } of client.links.watch(WatchLinksRequest.create(), ending)) {
        if (event?.$case !== 'added' && event?.$case !== 'modified') continue;
        if ((event.value.status?.peers.filter(({ up }) => up).length ?? 0) >= peers) return;
      }
      if (!this.#signal.aborted) throw new Error(`The link of ${host.name} did not come up within ${FORM_MS / 1000} s.`);
    };
    await Promise.race([waiting(), this.crash.then((how) => Promise.reject(new Error(how)))]);
  }

  /** A table of round trips, from host to host. */
  async #pingAll(): Promise<void> {
    const hosts = this.#hosts;
    // On demand the first packets are what makes the link.
    const patience = this.#onDemand ? ['-c', '20', '-i', '0.5'] : ['-c', '3', '-i', '0.05'];
    const ping = ({ namespace }: DemoHost, address: string) =>
      new Promise<string>((resolve) => {
        execFile(
          'ip',
          ['netns', 'exec', namespace, 'ping', '-q', '-n', '-W', '2', ...patience, address],
          { signal: this.#signal },
          (_, stdout) => {
            const milliseconds = /= [\d.]+\/([\d.]+)\//.exec(stdout)?.[1];
            resolve(milliseconds ? `${Number(milliseconds).toFixed(1)} ms` : 'lost');
          },
        );
      });
    const times = await Promise.all(
      hosts.map((from) =>
        Promise.all(
          hosts.map((to, index) => (from === to ? '' : both(ping(from, `10.77.0.${index + 1}`), ping(from, `fd77::${index + 1}`)))),
        ),
      ),
    );
    if (this.#signal.aborted) return;
    say('\nPings through the network, IPv4 and IPv6:\n');
    say(`  ${'from'.padEnd(8)}${hosts.map(({ name }, index) => `${name} .${index + 1}`.padEnd(20)).join('')}`.trimEnd());
    for (const [index, { name }] of hosts.entries())
      say(`  ${name.padEnd(8)}${(times[index] ?? []).map((time) => time.padEnd(20)).join('')}`.trimEnd());
    if (times.flat().some((time) => time.includes('lost'))) throw new Error('Some pings were not answered.');
  }

  printTries(): void {
    const [first, second] = this.#hosts;
    if (!first || !second) return;
    const inside = `ip netns exec ${first.namespace}`;
    const tries: [command: string, why: string][] = [
      [`cd ${ROOT}`, ''],
      [`export TAPLANE_SERVER=${this.#server(first)}`, `the agent of ${first.name}`],
      ['bin/taplane link get mesh', 'its peers, handshakes, traffic'],
      [`bin/taplane link probe mesh --peer ${second.name}`, 'round trip, loss; --mtu --throughput 5 for more'],
      ['bin/taplane link watch', 'what becomes of it'],
      [`${inside} ping 10.77.0.2`, `from ${first.name} to ${second.name}`],
      [`ip netns exec ${this.#network?.router} tcpdump -ni lan0`, 'all that passes between the hosts: nothing to read'],
      [`${inside} ip link del mesh0`, 'the agent puts it back'],
      [`kill -9 ${this.#agents[1]?.pid}`, `the agent of ${second.name}: pings go on, and it is started again`],
      ['bin/taplane link delete mesh', 'the controller makes it anew, and tells the others'],
    ];
    const width = Math.max(...tries.map(([command]) => command.length).filter((length) => length < 60));
    say(
      `\nTry in another terminal:\n\n${tries.map(([command, why]) => `  ${command.padEnd(width)}${why && `   # ${why}`}`.trimEnd()).join('\n')}\n`,
    );
    say('Flows of all hosts follow, as they come. Ctrl-C takes everything away.\n');
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const agents = this.#agents;
    await Promise.all(this.#children.map(ended));
    await Promise.all(agents.map((agent) => agent?.stop()));
    await Promise.all(this.#hosts.map(({ name }) => endLanes(join(this.#home, name))));
    this.#network?.remove();
  }
}

async function both(v4: Promise<string>, v6: Promise<string>): Promise<string> {
  return (await Promise.all([v4, v6])).join(' ');
}

/** SIGTERM, then SIGKILL. */
async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await gone;
  clearTimeout(force);
}
