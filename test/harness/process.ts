// Child processes of a test. None outlives the test process that started it, not even when a test throws: each is killed when this
// process exits, and `runningChildren` lets the check after each file name those that were forgotten.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

const running = new Set<Child>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export interface Result {
  /** Exit code; null when a signal ended it. */
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Runs to the end without blocking this process. `input` becomes standard input. */
export async function run(
  command: string[],
  options: { env?: Record<string, string>; input?: string; timeoutMs?: number } = {},
): Promise<Result> {
  const child = new Child(command, options.env === undefined ? {} : { env: options.env });
  child.stdin.end(options.input ?? '');
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 90_000);
  try {
    return await child.ended;
  } finally {
    clearTimeout(timer);
  }
}

/** Runs to the end, blocking; returns standard output. Throws with the command and what it said when the code is not 0. */
export function runSync(...command: string[]): string {
  const [file = '', ...args] = command;
  const result = spawnSync(file, args, { encoding: 'utf8', maxBuffer: 256 * 1024 * 1024 });
  if (result.error) throw new Error(`run ${command.join(' ')}: ${result.error.message}`);
  if (result.status !== 0) throw new Error(`run ${command.join(' ')}: code ${result.status ?? result.signal}: ${result.stderr.trim()}`);
  return result.stdout;
}

/** A running command. Keeps all that it says; disposing kills it and waits for its end. */
export class Child implements AsyncDisposable {
  readonly command: string;
  readonly ended: Promise<Result>;
  stdout = '';
  stderr = '';
  readonly #process: ChildProcess;
  readonly #onText = new Set<() => void>();

  constructor(command: string[], options: { env?: Record<string, string>; cwd?: string } = {}) {
    const [file = '', ...args] = command;
    this.command = command.join(' ');
    this.#process = spawn(file, args, { stdio: 'pipe', cwd: options.cwd, env: { ...process.env, ...options.env } });
    // A child that has ended does not read what is still written to it.
    this.#process.stdin?.on('error', () => {});
    this.#process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      for (const listener of this.#onText) listener();
    });
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      for (const listener of this.#onText) listener();
    });
    running.add(this);
    this.ended = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null) => {
        running.delete(this);
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr });
        for (const listener of this.#onText) listener();
      };
      this.#process.on('close', end);
      this.#process.on('error', (error) => {
        this.stderr += `${error.message}\n`;
        end(127, null);
      });
    });
  }

  /** The process id; that of the command itself also behind `ip netns exec`, which replaces itself. */
  get pid(): number {
    if (this.#process.pid === undefined) throw new Error(`${this.command}: did not start: ${this.stderr.trim()}`);
    return this.#process.pid;
  }

  get stdin(): NodeJS.WritableStream {
    if (!this.#process.stdin) throw new Error(`${this.command}: has no standard input`);
    return this.#process.stdin;
  }

  get isRunning(): boolean {
    return running.has(this);
  }

  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    this.#process.kill(signal);
  }

  /** Waits until `text` finds something in what the child has said so far; throws, with all it said, when it ends first or time is up. */
  async until<Found>(text: (child: Child) => Found | undefined | false | null, what: string, timeoutMs = 30_000): Promise<Found> {
    const deadline = AbortSignal.timeout(timeoutMs);
    for (;;) {
      const found = text(this);
      if (found !== undefined && found !== false && found !== null) return found;
      const why = deadline.aborted ? `not within ${timeoutMs} ms` : this.isRunning ? undefined : 'it ended';
      if (why) throw new Error(`${this.command}: wait for ${what}: ${why}\n${this.stdout}${this.stderr}`);
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#onText.delete(wake);
          deadline.removeEventListener('abort', wake);
          resolve();
        };
        this.#onText.add(wake);
        deadline.addEventListener('abort', wake);
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill('SIGKILL');
    await this.ended;
  }
}

/** The commands that still run. */
export function runningChildren(): string[] {
  return [...running].map((child) => child.command);
}

/** Ends when `child` does, or after `timeoutMs`: whether it ended. */
export async function endsWithin(child: Child, timeoutMs: number): Promise<boolean> {
  const timeout = AbortSignal.timeout(timeoutMs);
  return Promise.race([child.ended.then(() => true), once(timeout, 'abort').then(() => false)]);
}
