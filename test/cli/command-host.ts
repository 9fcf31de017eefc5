// Runs commands of `taplane` one after the other in one process, each as if the process were its own. It ends with who started it.

import { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/cli/program.ts';

export interface HostedCommand {
  arguments: string[];
  environment: NodeJS.ProcessEnv;
  /** All of standard input. */
  input: string;
}

export interface HostedAnswer {
  code: number;
  stdout: string;
  stderr: string;
  /** What the command has left open that would keep a process of its own from ending, as Node.js calls it. */
  keptOpen: string[];
}

const CLOSING_MS = 3000;

const notHere = (): never => {
  throw new Error('this command needs a process of its own');
};

class Collected extends Writable {
  readonly #chunks: Buffer[] = [];

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.#chunks.push(chunk);
    done();
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString();
  }
}

async function answer(command: HostedCommand): Promise<HostedAnswer> {
  const before = process.getActiveResourcesInfo();
  const [stdout, stderr] = [new Collected(), new Collected()];
  for (const name of Object.keys(process.env)) if (!(name in command.environment)) delete process.env[name];
  Object.assign(process.env, command.environment);
  for (const [name, value] of Object.entries({ stdin: Readable.from([Buffer.from(command.input)]), stdout, stderr }))
    Object.defineProperty(process, name, { configurable: true, value });
  process.exitCode = undefined;
  const policy = () => import('../../src/agent/policy-check.ts');
  const code = await run(command.arguments, { runAgent: notHere, runLane: notHere, diagnose: notHere, policy });
  const deadline = performance.now() + CLOSING_MS;
  let keptOpen = more(process.getActiveResourcesInfo(), before);
  while (keptOpen.length > 0 && performance.now() < deadline) {
    await sleep(2);
    keptOpen = more(process.getActiveResourcesInfo(), before);
  }
  return { code, stdout: stdout.text, stderr: stderr.text, keptOpen };
}

/** Those of `now` that were not there before. */
function more(now: string[], before: string[]): string[] {
  const known = [...before];
  return now.filter((name) => {
    const index = known.indexOf(name);
    if (index >= 0) known.splice(index, 1);
    return index < 0;
  });
}

process.on('message', (command: HostedCommand) => void answer(command).then((said) => process.send?.(said)));
process.on('disconnect', () => process.exit());
