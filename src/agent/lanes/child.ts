// The process of a lane, where the agent itself starts and ends it: at once when it is missing, with back-off when it dies before it has
// answered. It outlives us. Where somebody else keeps the lanes running (`laneMode: external`) there is none of this.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeDirectory } from '../../sys/make-directory.ts';
import type { Log } from '../log.ts';

const RESTART_MS = 50;
const BACKOFF_MOST_MS = 5000;

export interface LaneChildNeeds {
  name: string;
  socket: string;
  /** Where the lane writes what it has to say. */
  logFile: string;
  log: Log;
  /** The process that was started has ended. */
  gone(pid: number | undefined, why: string): void;
}

export class LaneChild {
  readonly #needs: LaneChildNeeds;
  #child: ChildProcess | undefined;
  #startedAt = 0;
  #starts = 0;
  #failures = 0;
  /** Resolves when the process that was started last has ended. */
  ended: Promise<void> = Promise.resolve();

  constructor(needs: LaneChildNeeds) {
    this.#needs = needs;
  }

  get isRunning(): boolean {
    return this.#child !== undefined;
  }

  /** How often it had to be started again. */
  get restarts(): number {
    return Math.max(0, this.#starts - 1);
  }

  /** The lane has answered: the next start need not wait. */
  answered(): void {
    this.#failures = 0;
  }

  /** Starts it, unless it runs or its turn has not come yet. */
  start(): void {
    const now = performance.now();
    if (this.#child !== undefined || now < this.#startedAt + this.#pause()) return;
    this.#failures++;
    this.#startedAt = now;
    try {
      this.#spawn();
    } catch (error) {
      this.#needs.log.error({ lane: this.#needs.name, err: String(error) }, 'lane not started');
    }
  }

  /** Asks the process that was started to end. */
  terminate(): void {
    this.#child?.kill('SIGTERM');
  }

  /** Ends a lane that does not answer: the process that is known, that was started, or that writes to the log. Answers whether there was one. */
  kill(known: number | undefined): boolean {
    const { name, log, logFile } = this.#needs;
    const pid = known ?? this.#child?.pid ?? laneThatLogsTo(logFile);
    if (pid === undefined) return false;
    log.warn({ lane: name, pid }, 'lane does not answer; ending it');
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
    return true;
  }

  #spawn(): void {
    const { name, socket, logFile, log } = this.#needs;
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const main = fileURLToPath(new URL(`../../main.${extension}`, import.meta.url));
    makeDirectory(dirname(socket), 0o750);
    const output = openSync(logFile, 'a', 0o600);
    // A session of its own, so that a Ctrl-C meant for the agent does not reach it; no pipe to us, so that it does not feel our end.
    const child = spawn(process.execPath, [...process.execArgv, main, 'lane', '--socket', socket], {
      detached: true,
      stdio: ['ignore', 'ignore', output],
    });
    closeSync(output);
    this.#child = child;
    this.#starts++;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    const gone = (why: string): void => {
      if (this.#child !== child) return;
      this.#child = undefined;
      resolve();
      this.#needs.gone(child.pid, why);
    };
    child.once('error', (error) => gone(error.message));
    child.once('exit', (code, signal) => gone(signal ?? `exit code ${code}`));
    child.unref();
    log.info({ lane: name, pid: child.pid }, 'lane started');
  }

  /** Milliseconds that must lie between two starts. */
  #pause(): number {
    return Math.min(BACKOFF_MOST_MS, RESTART_MS * 2 ** this.#failures);
  }
}

/** The lane of another agent's time, which has not answered us yet: known by the log that it writes to. */
function laneThatLogsTo(path: string): number | undefined {
  return readdirSync('/proc')
    .map(Number)
    .find((pid) => pid > 1 && isLane(pid) && logOf(pid) === path);
}

function isLane(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('taplane');
  } catch {
    return false;
  }
}

function logOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/fd/2`);
  } catch {
    return '';
  }
}
