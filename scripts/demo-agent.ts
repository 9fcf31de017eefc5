// The demo's agent: a child process that logs to a file, is ready or says why not, and does not outlive the demo.

import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { supportsParentDeathSignal } from '../src/nats/binary.ts';

export interface DemoAgent {
  pid: number;
  startupMs: number;
  /** How it ended, once it has. */
  ended: Promise<string>;
  isRunning(): boolean;
  /** SIGTERM, then SIGKILL. */
  stop(): Promise<void>;
}

export interface DemoAgentOptions {
  stateDir: string;
  runtimeDir: string;
  nats: string;
  logFile: string;
  /** Network namespace that it runs in; without one, in that of the demo. */
  namespace?: string;
  /** Name of the node; without one, that of this machine. */
  node?: string;
}

const ROOT = dirname(import.meta.dirname);
const READY_MS = 30_000;
const STOP_MS = 12_000;

/** Resolves when it is ready; throws with the agent's own last words when it does not get that far. */
export async function startDemoAgent({ stateDir, runtimeDir, nats, logFile, namespace, node }: DemoAgentOptions): Promise<DemoAgent> {
  const argv = [
    join(ROOT, 'bin', 'taplane'),
    'agent',
    '--listen',
    `unix:${runtimeDir}/agent.sock`,
    '--state-dir',
    stateDir,
    '--runtime-dir',
    runtimeDir,
    '--nats',
    nats,
    ...(node === undefined ? [] : ['--node', node]),
  ];
  // The demo may be killed -9: the agent then gets SIGTERM and takes its ephemeral interface away.
  const guard = await supportsParentDeathSignal(process.env.PATH);
  if (guard) argv.unshift(guard, '--pdeathsig', 'TERM', '--');
  if (namespace) argv.unshift('ip', 'netns', 'exec', namespace);
  // A session of its own keeps Ctrl-C with the demo.
  const child = spawn(argv[0] as string, argv.slice(1), { detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(signal ? `ended by ${signal}` : `ended with code ${code}`));
  });
  try {
    const startupMs = await ready(child, ended, logFile);
    return {
      pid: child.pid as number,
      startupMs,
      ended,
      isRunning: () => child.exitCode === null && child.signalCode === null,
      stop: () => stop(child, ended),
    };
  } catch (error) {
    await stop(child, ended);
    throw error;
  }
}

function ready(child: ChildProcess, ended: Promise<string>, logFile: string): Promise<number> {
  const file = createWriteStream(logFile, { flags: 'a', mode: 0o600 });
  const lastLines: string[] = [];
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`the agent was not ready within ${READY_MS / 1000} s`)), READY_MS);
    createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', (line) => {
      file.write(`${line}\n`);
      lastLines.push(line);
      if (lastLines.length > 5) lastLines.shift();
      const entry = parse(line);
      if (entry['msg'] !== 'ready') return;
      clearTimeout(late);
      resolve(Number(entry['startup_ms']));
    });
    ended.then((how) => {
      clearTimeout(late);
      file.end();
      reject(new Error(`the agent ${how}: ${lastWords(lastLines)}`));
    });
  });
}

/** The reason and the cure of `start failed`, or the lines as they are. */
function lastWords(lines: string[]): string {
  const failure = lines.map(parse).findLast((entry) => entry['level'] === 'error');
  if (!failure) return lines.join('\n');
  const error = failure['error'];
  const message = typeof error === 'object' ? (error as { message?: string }).message : error;
  return [message, failure['cure']].filter(Boolean).join('\n  ');
}

function parse(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return {};
  }
}

async function stop(child: ChildProcess, ended: Promise<string>): Promise<void> {
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await ended;
  clearTimeout(force);
}
