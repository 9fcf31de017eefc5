// The command line as a shell would run it: `start` is always a process of `bin/taplane`; `taplane` is one for the first command of a
// test file and for those beside another. The rest run one after the other in a host process, which has loaded the program already and
// gives it arguments, environment and standard streams of its own: starting Node.js costs far more than nearly every command.

import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { afterAll } from 'vitest';
import type { HostedAnswer, HostedCommand } from './command-host.ts';

export const TAPLANE = new URL('../../bin/taplane', import.meta.url).pathname;
const HOST = new URL('command-host.ts', import.meta.url).pathname;
/** Commands that are a process: what they do to it is the point of them. */
const OWN_PROCESS = new Set(['agent', 'lane', 'doctor']);

export interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
}

let host: ChildProcess | undefined;
let ran = 0;
let hosted = false;

export function start(arguments_: string[], server: string): ChildProcess {
  return spawn(TAPLANE, arguments_, { env: environment(server), stdio: 'pipe' });
}

/** Runs a command to its end. Rejects when the command is over and something of it would still keep a process from ending. */
export async function taplane(arguments_: string[], server: string, input = ''): Promise<Ran> {
  ran += 1;
  if (ran === 1 || hosted || arguments_.some((word) => OWN_PROCESS.has(word))) return inProcess(arguments_, server, input);
  hosted = true;
  try {
    return await inHost({ arguments: arguments_, environment: environment(server), input });
  } finally {
    hosted = false;
  }
}

function environment(server: string): NodeJS.ProcessEnv {
  return { ...process.env, TAPLANE_SERVER: server, NO_COLOR: '1' };
}

async function inProcess(arguments_: string[], server: string, input: string): Promise<Ran> {
  const child = start(arguments_, server);
  child.stdin?.on('error', () => {}).end(input);
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [stdout, stderr, code] = await Promise.all([
    text(child.stdout as NodeJS.ReadableStream),
    text(child.stderr as NodeJS.ReadableStream),
    exited,
  ]);
  return { code, stdout, stderr };
}

async function inHost(command: HostedCommand): Promise<Ran> {
  host ??= fork(HOST, { execArgv: ['--disable-warning=ExperimentalWarning'], serialization: 'advanced' });
  const gone = new AbortController();
  const ended = once(host, 'exit', { signal: gone.signal }).then(([code]) => {
    host = undefined;
    throw new Error(`taplane ${command.arguments.join(' ')}: ended its host with ${code}`);
  });
  const answered = once(host, 'message', { signal: gone.signal }) as Promise<[HostedAnswer]>;
  host.send(command);
  try {
    const [{ keptOpen, ...rest }] = (await Promise.race([answered, ended])) as [HostedAnswer];
    if (keptOpen.length > 0) throw new Error(`taplane ${command.arguments.join(' ')}: would not end: ${keptOpen.join(', ')} still open`);
    return rest;
  } finally {
    ended.catch(() => {});
    answered.catch(() => {});
    gone.abort();
  }
}

afterAll(() => void host?.kill());
