// Keeps a lane running for as long as something is attached, and tells it what. A lane that runs already, left by an agent before
// us, is taken over as it is. A lane that dies is started again at once, and with back-off when it dies before it has answered.
//
//   nothing wanted --want--> asking --answer--> settled --(every HEARTBEAT_MS, or want)--> asking
//                              '--no answer--> start a process, ask again soon

import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Attachment, LaneState } from '../gen/taplane/lane/v1/lane_service.ts';
import type { Lane } from '../gen/taplane/v1/node_service.ts';
import { connectLane, type LaneClient } from '../rpc/lane-client.ts';
import type { Log } from './log.ts';

const NAME = 'lane-0';
const HEARTBEAT_MS = 500;
const ASK_AGAIN_MS = 50;
const ANSWER_MS = 2000;
const FAREWELLS = 20;
const RESTART_MS = 100;
const BACKOFF_MOST_MS = 5000;

export class LaneSupervisor {
  readonly #socket: string;
  readonly #logFile: string;
  readonly #log: Log;
  readonly #changed: () => void;
  #client: LaneClient | undefined;
  #wanted: Attachment[] = [];
  #state: LaneState | undefined;
  #timer: NodeJS.Timeout | undefined;
  #asking = false;
  #askAgain = false;
  #stopped = false;
  #running = false;
  #startedAt = 0;
  #failures = 0;
  #farewells = 0;

  /** `changed` is called whenever what the lane holds has changed. */
  constructor(runtimeDir: string, log: Log, changed: () => void) {
    this.#socket = join(runtimeDir, `${NAME}.sock`);
    this.#logFile = join(runtimeDir, `${NAME}.log`);
    this.#log = log;
    this.#changed = changed;
  }

  /** Declares all attachments. */
  want(attachments: Attachment[]): void {
    // Nothing to say and nobody to say it to. A socket that is there may be that of a lane which an agent before us left behind.
    if (attachments.length === 0 && this.#wanted.length === 0 && this.#state === undefined && !existsSync(this.#socket)) return;
    this.#wanted = attachments;
    this.#farewells = FAREWELLS;
    this.#schedule(0);
  }

  /** Whether the attachment of an interface holds its queue, and why not. */
  held(uid: string): { held: boolean; reason: string } {
    const found = this.#state?.attachments.find((attachment) => attachment.uid === uid);
    if (found === undefined) return { held: false, reason: 'the data-plane process is starting' };
    return { held: found.attached, reason: found.reason };
  }

  /** For GetNode. */
  lanes(): Lane[] {
    return this.#state === undefined ? [] : [{ name: NAME, pid: this.#state.pid }];
  }

  /** The lane stays, with what it holds; the next agent takes it over. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#client?.close();
  }

  #schedule(delayMs: number): void {
    if (this.#stopped) return;
    if (this.#asking) {
      this.#askAgain ||= delayMs === 0;
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#ask(), delayMs);
    this.#timer.unref();
  }

  async #ask(): Promise<void> {
    this.#asking = true;
    const wanted = this.#wanted;
    let next = HEARTBEAT_MS;
    try {
      this.#client ??= connectLane(this.#socket, ANSWER_MS);
      this.#note(await this.#client.setAttachments(wanted));
      this.#failures = 0;
      if (wanted.length === 0) this.#note(undefined);
    } catch {
      this.#note(undefined);
      // A channel that has failed waits before it dials again: a new one does not.
      this.#client?.close();
      this.#client = undefined;
      if (wanted.length > 0) this.#start();
      next = ASK_AGAIN_MS;
      // A lane that cannot be told that nothing is left is told again, but not for ever: there may be none.
      if (wanted.length === 0 && this.#farewells-- > 0) this.#askAgain = true;
    }
    this.#asking = false;
    const soon = this.#askAgain;
    this.#askAgain = false;
    if (this.#wanted.length > 0 || soon) this.#schedule(soon && next !== ASK_AGAIN_MS ? 0 : next);
  }

  #note(state: LaneState | undefined): void {
    const before = JSON.stringify(this.#state?.attachments ?? []);
    this.#state = state;
    if (JSON.stringify(state?.attachments ?? []) !== before) this.#changed();
  }

  #start(): void {
    const now = performance.now();
    if (this.#running || now < this.#startedAt + this.#pause()) return;
    this.#failures++;
    this.#startedAt = now;
    try {
      this.#spawn();
    } catch (error) {
      this.#log.error({ lane: NAME, err: String(error) }, 'lane not started');
    }
  }

  #spawn(): void {
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const main = fileURLToPath(new URL(`../main.${extension}`, import.meta.url));
    mkdirSync(dirname(this.#socket), { recursive: true, mode: 0o750 });
    const log = openSync(this.#logFile, 'a', 0o600);
    // A session of its own, so that a Ctrl-C meant for the agent does not reach it; no pipe to us, so that it does not feel our end.
    const child = spawn(process.execPath, [...process.execArgv, main, 'lane', '--socket', this.#socket], {
      detached: true,
      stdio: ['ignore', 'ignore', log],
    });
    closeSync(log);
    this.#running = true;
    const gone = (why: string): void => {
      this.#running = false;
      if (this.#wanted.length > 0 && !this.#stopped) this.#log.warn({ lane: NAME, why }, 'lane is gone');
      this.#schedule(0);
    };
    child.once('error', (error) => gone(error.message));
    child.once('exit', (code, signal) => gone(String(code ?? signal)));
    child.unref();
    this.#log.info({ lane: NAME, pid: child.pid }, 'lane started');
  }

  /** Milliseconds that must lie between two starts. */
  #pause(): number {
    return Math.min(BACKOFF_MOST_MS, RESTART_MS * 2 ** this.#failures);
  }
}
