// A real agent process, started as a user starts it, with folders of its own that survive `kill9` and `restart` and go with dispose.
//
//   await using ns = createNamespace();
//   await using agent = await startAgent({ namespace: ns });
//   await agent.client().interfaces.list({ ... });

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type TaplaneClient } from '../../src/rpc/client.ts';
import { bound } from './bound.ts';
import { confinedBy, suiteConfinement } from './confined.ts';
import { endLanes } from './lanes.ts';
import type { Namespace } from './namespace.ts';
import { Child, endsWithin, type Result, run } from './process.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const TAPLANE = join(ROOT, 'bin', 'taplane');
// As in every npm script: the project's own Node stands before that of the system.
const PATH = [join(ROOT, 'node_modules', '.bin'), process.env['PATH'] ?? ''].join(delimiter);

export interface AgentOptions {
  /** Where it runs; without one, in the namespace of the test itself. */
  namespace?: Namespace;
  /** More arguments of `taplane agent`; one that the harness sets too wins. */
  args?: string[];
  env?: Record<string, string>;
  /** A command that runs it, such as `setpriv` with options. */
  under?: string[];
  /** For the ready line to come. */
  readyTimeoutMs?: number;
}

/** Each `client()` is a connection of its own, and a test may ask for many. */
const MANY_CONNECTIONS = { TAPLANE_LIMITS_CONNECTIONS: '4096', TAPLANE_LIMITS_CONNECTIONS_PER_CLIENT: '4096' };

/** Starts one and waits until it answers. */
export async function startAgent(options: AgentOptions = {}): Promise<Agent> {
  const agent = new Agent(options);
  try {
    await agent.start();
  } catch (error) {
    await agent[Symbol.asyncDispose]();
    throw error;
  }
  return agent;
}

export class Agent implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-`));
  readonly stateDir = join(this.folder, 'state');
  readonly runtimeDir = join(this.folder, 'run');
  readonly socket = join(this.folder, 'agent.sock');
  /** For `--server`, TAPLANE_SERVER and `connect`. */
  readonly server = `unix:${this.socket}`;
  /** From the start of the process to its ready line. */
  readyMs = Number.NaN;
  readonly #options: AgentOptions;
  #child: Child | undefined;
  #clients: TaplaneClient[] = [];

  constructor(options: AgentOptions) {
    this.#options = options;
    for (const folder of [this.stateDir, this.runtimeDir]) mkdirSync(folder);
  }

  async start(): Promise<void> {
    if (this.#child?.isRunning) throw new Error('start agent: it runs already');
    const { namespace, args = [], env = {}, under = [] } = this.#options;
    const defaults = {
      '--listen': this.server,
      '--state-dir': this.stateDir,
      '--runtime-dir': this.runtimeDir,
      '--nats': 'off',
      '--metrics-listen': 'off',
    };
    // A flag would win over the file.
    const inFile = (name: string) => name === '--nats' && args.includes('--config');
    const unset = Object.entries(defaults).filter(([name]) => !args.includes(name) && !inFile(name));
    const given = (name: string): string[] => args.flatMap((word, at) => (word === name ? (args[at + 1] ?? []) : []));
    const writable = [this.folder, ...given('--state-dir'), ...given('--runtime-dir')];
    const there = writable.filter((folder) => existsSync(folder));
    const confined = suiteConfinement === undefined ? [] : confinedBy({ writable: there, ...suiteConfinement });
    const inside = namespace ? ['ip', 'netns', 'exec', namespace.name] : [];
    const begun = performance.now();
    this.#child = new Child([...inside, ...confined, ...under, TAPLANE, 'agent', ...unset.flat(), ...args], {
      env: { PATH, ...MANY_CONNECTIONS, ...env },
    });
    await this.#child.until((child) => readyLine(child.stderr), 'the ready line', this.#options.readyTimeoutMs ?? bound(20_000, 60_000));
    this.readyMs = performance.now() - begun;
    if (!args.includes('--listen')) await this.#answers();
  }

  /** The process that serves, also when `bin/taplane` starts another to do it. */
  get pid(): number {
    const child = this.#running();
    return readyLine(child.stderr)?.pid ?? child.pid;
  }

  /** All that it has logged since its last start. */
  get log(): string {
    return this.#child?.stderr ?? '';
  }

  /** As a crash: SIGKILL, and back when the process is gone. Its folders and devices stay. */
  async kill9(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    const pid = readyLine(child.stderr)?.pid;
    if (child.isRunning && pid !== undefined && pid !== child.pid) process.kill(pid, 'SIGKILL');
    child.kill('SIGKILL');
    await this.#gone(child);
  }

  /** As an operator: SIGTERM. Throws, with the log, when it does not end with code 0 in time. */
  async stop(timeoutMs = bound(10_000, 40_000)): Promise<Result> {
    const child = this.#running();
    process.kill(this.pid, 'SIGTERM');
    if (!(await endsWithin(child, timeoutMs))) throw new Error(`stop agent: still there after ${timeoutMs} ms\n${child.stderr}`);
    const result = await this.#gone(child);
    if (result.code !== 0) throw new Error(`stop agent: code ${result.code ?? result.signal}\n${result.stderr}`);
    return result;
  }

  /** Waits for an end that something else brings about. */
  async ended(): Promise<Result> {
    if (!this.#child) throw new Error('agent: was never started');
    return this.#gone(this.#child);
  }

  /** Stops it, unless it is down already, and starts it on the same folders. */
  async restart(): Promise<void> {
    if (this.#child?.isRunning) await this.stop();
    await this.start();
  }

  /** A client of this run of the agent; closed with it. */
  client(options: { timeoutMs?: number } = {}): TaplaneClient {
    const client = connect(this.server, { timeoutMs: options.timeoutMs ?? 30_000 });
    this.#clients.push(client);
    return client;
  }

  /** `bin/taplane ARGS` against this agent. Never throws for a code. */
  cli(args: string[], options: { env?: Record<string, string>; input?: string } = {}): Promise<Result> {
    return run([TAPLANE, ...args], { ...options, env: { PATH, TAPLANE_SERVER: this.server, NO_COLOR: '1', ...options.env } });
  }

  /** Resident memory in bytes (VmRSS of /proc/PID/status). */
  rss(): number {
    const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))?.[1];
    if (kilobytes === undefined) throw new Error(`agent: no VmRSS of pid ${this.pid}`);
    return Number(kilobytes) * 1024;
  }

  /** How many file descriptors it holds. */
  fds(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill9();
    // Lanes outlive their agent on purpose, but not its test.
    await endLanes(this.runtimeDir);
    rmSync(this.folder, { recursive: true, force: true });
  }

  #running(): Child {
    if (!this.#child?.isRunning) throw new Error(`agent: does not run\n${this.log}`);
    return this.#child;
  }

  async #gone(child: Child): Promise<Result> {
    const result = await child.ended;
    for (const client of this.#clients.splice(0)) client.close();
    return result;
  }

  async #answers(): Promise<void> {
    const deadline = Date.now() + 20_000;
    while (!(await accepts(this.socket))) {
      if (Date.now() > deadline) throw new Error(`start agent: says it is ready, but ${this.socket} does not accept\n${this.log}`);
      await sleep(5);
    }
  }
}

/** The JSON line with `"msg":"ready"`. */
function readyLine(log: string): { pid?: number } | undefined {
  const line = log.split('\n').find((text) => text.includes('"msg":"ready"'));
  return line === undefined ? undefined : (JSON.parse(line) as { pid?: number });
}

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectSocket(path);
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}
