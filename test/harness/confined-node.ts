// A node as the chart lays it out: agent and lane apart, each with its own pid namespace and /proc, each confined, sharing the runtime directory.

import { chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type TaplaneClient } from '../../src/rpc/client.ts';
import { bound } from './bound.ts';
import { type Confinement, childOf, confinedBy } from './confined.ts';
import type { Namespace } from './namespace.ts';
import { type Child, type Result, run } from './process.ts';

const TAPLANE = join(import.meta.dirname, '..', '..', 'bin', 'taplane');

export class ConfinedNode implements AsyncDisposable {
  readonly stateDir: string;
  readonly runtimeDir: string;
  readonly server: string;
  readonly client: TaplaneClient;
  readonly #folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-`));
  /** What becomes the root of agent and lane; empty: the root stays. */
  readonly #root: string;
  readonly #namespace: Namespace;
  readonly #confinement: Partial<Confinement>;
  readonly #taplane: string[];
  readonly #env: Record<string, string>;
  readonly #parts: Child[] = [];

  /** `taplane`: the words that start the program. With `confinement.root` its directories are those below it. */
  constructor(
    namespace: Namespace,
    confinement: Partial<Confinement> = {},
    taplane: string[] = [TAPLANE],
    env: Record<string, string> = {},
  ) {
    this.#env = env;
    this.#namespace = namespace;
    this.#confinement = confinement;
    this.#taplane = taplane;
    this.#root = confinement.root ?? '';
    this.stateDir = this.#root === '' ? join(this.#folder, 'state') : join(this.#root, 'var/lib/taplane');
    this.runtimeDir = this.#root === '' ? join(this.#folder, 'run') : join(this.#root, 'run/taplane');
    for (const folder of [this.stateDir, this.runtimeDir]) mkdirSync(folder, { mode: 0o700, recursive: true });
    if (confinement.uid !== undefined)
      for (const folder of [this.#folder, this.stateDir, this.runtimeDir]) chownSync(folder, confinement.uid, confinement.uid);
    this.server = `unix:${this.runtimeDir}/agent.sock`;
    this.client = connect(this.server, { timeoutMs: 30_000 });
  }

  /** Starts the agent and waits for its word. */
  async startAgent(...args: string[]): Promise<Child> {
    const [state, runtime] = [this.#inside(this.stateDir), this.#inside(this.runtimeDir)];
    const places = ['--state-dir', state, '--runtime-dir', runtime, '--listen', `unix:${runtime}/agent.sock`];
    const agent = this.#start([this.stateDir, this.runtimeDir], 'agent', ...places, '--lane-mode', 'external', ...args);
    await agent.until(({ stderr }) => stderr.includes('"msg":"ready"'), 'the agent', bound(20_000, 60_000));
    return agent;
  }

  /** Starts the lane and waits for its word. */
  async startLane(): Promise<Child> {
    const lane = this.#start([this.runtimeDir], 'lane', '--socket', join(this.#inside(this.runtimeDir), 'lane-0.sock'), '--stay');
    await lane.until(({ stderr }) => stderr.includes('lane ready'), 'the lane', bound(20_000, 60_000));
    return lane;
  }

  /** SIGTERM to the program itself, as a container runtime sends it. */
  async terminate(part: Child): Promise<Result> {
    process.kill(this.pidOf(part), 'SIGTERM');
    return part.ended;
  }

  /** SIGKILL, and back when it is gone. */
  async kill(part: Child): Promise<void> {
    part.kill('SIGKILL');
    await part.ended;
  }

  /** Of the program, as this process counts. */
  pidOf(part: Child): number {
    return childOf(part.pid);
  }

  cli(...args: string[]): Promise<Result> {
    return run([TAPLANE, ...args], { env: { TAPLANE_SERVER: this.server, TAPLANE_LANE_MODE: 'external', NO_COLOR: '1' } });
  }

  /** A path as agent and lane call it. */
  #inside(path: string): string {
    return path.slice(this.#root.length);
  }

  #start(writable: string[], ...words: string[]): Child {
    const confined = confinedBy({ writable, pidNamespace: true, ...this.#confinement });
    const part = this.#namespace.spawn([...confined, ...this.#taplane, ...words], { env: this.#env });
    this.#parts.push(part);
    return part;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.close();
    for (const part of this.#parts) await part[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
