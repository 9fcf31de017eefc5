// Keeps one lane running for as long as something is attached or streams use it, and tells it what. A lane that runs already, left by an
// agent before us, is taken over as it is. A lane that dies is started again at once, and with back-off when it dies before it has answered.
//
//   not needed --want, use--> asking --answer--> settled --(every HEARTBEAT_MS, or want)--> asking
//                               '--no answer--> start a process, ask again soon

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { TaplaneError } from '../errors.ts';
import {
  type Attachment,
  type Attachment_Kind,
  type AttachmentState,
  type FlowLimits,
  Attachment_Kind as Kind,
  type LaneState,
} from '../gen/taplane/lane/v1/lane_service.ts';
import type { ProbeLinkRequest, ProbeLinkResponse } from '../gen/taplane/v1/link_service.ts';
import type { Lane } from '../gen/taplane/v1/node_service.ts';
import { packetSocketOf } from '../lane/place.ts';
import { connectLane, type LaneClient } from '../rpc/lane-client.ts';
import { holdings, linkWords, processOf } from './lane-words.ts';
import type { Log } from './log.ts';

const HEARTBEAT_MS = 500;
const ASK_AGAIN_MS = 25;
/** Of so many heartbeats one declares everything again, as a net. */
const DECLARE_AGAIN = 10;
const ANSWER_MS = 2000;
/** A lane makes a session for each peer that is new: it may take so much longer to take a declaration. */
const PEER_MS = 1;
/** A lane that does not answer so often in a row hangs, and is killed. */
const SILENCES_MOST = 2;
const FAREWELLS = 20;
const FAREWELL_MS = 1500;
const RESTART_MS = 50;
const BACKOFF_MOST_MS = 5000;
/** How long a lane stays that has nothing to do: the next stream finds it running. */
const LINGER_MS = 10_000;

export interface LaneProcessOptions {
  runtimeDir: string;
  name: string;
  log: Log;
  /** Called whenever what the lane holds has changed. */
  changed: () => void;
  /** Another process answers than before, since that one died while it was needed. */
  restarted?: ((lane: string, why: string) => void) | undefined;
  /** Room for flows. */
  flowLimits?: FlowLimits | undefined;
  /** Called whenever the lane says something new of links. */
  linksChanged?: (() => void) | undefined;
  /** Completes a declaration for the process that is to hear it, which has this name. */
  complete?: ((attachments: readonly Attachment[], lane: string) => Promise<Attachment[]>) | undefined;
}

export class LaneProcess {
  readonly name: string;
  readonly packetSocket: string;
  readonly #socket: string;
  readonly #logFile: string;
  readonly #log: Log;
  readonly #changed: () => void;
  #client: LaneClient | undefined;
  #wanted: Attachment[] = [];
  #users = 0;
  #lingerUntil = 0;
  readonly #flowLimits: FlowLimits | undefined;
  #state: LaneState | undefined;
  /** Its attachments, by uid and kind. */
  #attachments = new Map<string, AttachmentState>();
  /** What was declared to this process, to which it need not be declared again. */
  #declared: { process: string; wanted: Attachment[]; asked: number } | undefined;
  #waiting: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;
  #asking = false;
  #askAgain = false;
  #stopped = false;
  /** The process that we have started, while it runs. */
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #startedAt = 0;
  #starts = 0;
  #failures = 0;
  #silences = 0;
  #farewells = 0;
  readonly #restarted: (lane: string, why: string) => void;
  readonly #linksChanged: () => void;
  readonly #complete: LaneProcessOptions['complete'];
  /** The process that last answered, until it was told that it is not needed. */
  #lastPid: number | undefined;
  /** Why that process ended, as far as we know. */
  #death = '';

  constructor({ runtimeDir, name, log, changed, restarted = () => {}, ...more }: LaneProcessOptions) {
    this.name = name;
    this.#flowLimits = more.flowLimits;
    this.#linksChanged = more.linksChanged ?? (() => {});
    this.#complete = more.complete;
    this.#socket = join(runtimeDir, `${name}.sock`);
    this.packetSocket = packetSocketOf(this.#socket);
    this.#logFile = join(runtimeDir, `${name}.log`);
    this.#log = log;
    this.#changed = changed;
    this.#restarted = restarted;
  }

  /** What the lane last said; undefined while it says nothing. */
  get state(): LaneState | undefined {
    return this.#state;
  }

  /** What the lane last said of an attachment. */
  attachment(uid: string, kind: Attachment_Kind): AttachmentState | undefined {
    return this.#attachments.get(`${uid} ${kind}`);
  }

  /** How often this agent had to start it again. */
  get restarts(): number {
    return Math.max(0, this.#starts - 1);
  }

  /** Declares all attachments. */
  want(attachments: Attachment[]): void {
    // Nothing to say and nobody to say it to. A socket that is there may be that of a lane which an agent before us left behind.
    if (attachments.length === 0 && this.#wanted.length === 0 && this.#state === undefined && !existsSync(this.#socket)) return;
    this.#wanted = attachments;
    this.#farewells = FAREWELLS;
    this.#schedule(0);
  }

  /** Keeps the lane running until the answer is called. */
  use(): () => void {
    this.#users++;
    this.#schedule(0);
    let used = true;
    return () => {
      if (!used) return;
      used = false;
      this.#users--;
      this.#lingerUntil = performance.now() + LINGER_MS;
      this.#farewells = FAREWELLS;
    };
  }

  /** Resolves once the lane answers; rejects with UNAVAILABLE when it does not in time. */
  async ready(timeoutMs: number): Promise<void> {
    if (this.#state !== undefined) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    const timer = setTimeout(() => {
      this.#waiting = this.#waiting.filter((other) => other !== resolve);
      const message = `${this.name}: the data-plane process does not answer in time; its log is ${this.#logFile}`;
      reject(new TaplaneError('UNAVAILABLE', 'LANE_UNAVAILABLE', message, { retryAfterMs: 1000 }));
    }, timeoutMs);
    await promise.finally(() => clearTimeout(timer));
  }

  /** Probes a peer of a link. Ends after the result; rejects with TaplaneError. */
  async *probe(linkUid: string, probe: ProbeLinkRequest, signal: AbortSignal): AsyncGenerator<ProbeLinkResponse> {
    // A connection of its own: that of the declarations is given up whenever one of them fails.
    const client = connectLane(this.#socket, ANSWER_MS);
    try {
      yield* client.probePeer(linkUid, probe, signal);
    } finally {
      client.close();
    }
  }

  /** For GetNode; undefined for a lane that is neither there nor needed. */
  describe(): Lane | undefined {
    const state = this.#state;
    if (state === undefined && !this.#needed) return undefined;
    return {
      name: this.name,
      pid: state?.pid ?? 0,
      startTime: state?.startTime,
      restarts: BigInt(this.restarts),
      attachments: state?.attachments.filter(({ kind }) => kind !== Kind.METER).length ?? 0,
      streams: state?.streams.length ?? 0,
      meters: state?.attachments.filter(({ kind, attached }) => kind === Kind.METER && attached).length ?? 0,
    };
  }

  /** The lane stays, with what it was asked to hold last; the next agent takes it over. One that holds nothing ends, and is waited for. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    if (this.#state === undefined) this.#child?.kill('SIGTERM');
    else if (this.#client !== undefined && (this.#wanted.length === 0 || this.#declared?.wanted !== this.#wanted))
      await this.#declare(this.#client, this.#wanted, this.#wanted.length > 0).catch(() => undefined);
    if (this.#child !== undefined && (this.#state === undefined || (this.#wanted.length === 0 && this.#users === 0)))
      await Promise.race([this.#ended, sleep(FAREWELL_MS)]);
    this.#client?.close();
  }

  get #needed(): boolean {
    return this.#wanted.length > 0 || this.#users > 0 || performance.now() < this.#lingerUntil;
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
    const needed = this.#needed;
    let next = HEARTBEAT_MS;
    try {
      this.#client ??= connectLane(this.#socket, ANSWER_MS);
      this.#note(await this.#tell(this.#client, wanted, needed));
      this.#failures = 0;
      this.#silences = 0;
      if (!needed) {
        this.#note(undefined);
        this.#lastPid = undefined;
      }
    } catch (error) {
      this.#endIfSilent(error);
      this.#note(undefined);
      // A channel that has failed waits before it dials again: a new one does not.
      this.#client?.close();
      this.#client = undefined;
      if (needed) this.#start();
      next = ASK_AGAIN_MS;
      // A lane that cannot be told that nothing is left is told again, but not for ever: there may be none.
      if (!needed && this.#farewells-- > 0) this.#askAgain = true;
    }
    this.#asking = false;
    const soon = this.#askAgain;
    this.#askAgain = false;
    if (needed || soon) this.#schedule(soon && next !== ASK_AGAIN_MS ? 0 : next);
  }

  /** Declares what is wanted where that is news to the lane, else asks how it is. */
  async #tell(client: LaneClient, wanted: Attachment[], needed: boolean): Promise<LaneState> {
    const before = this.#declared;
    if (needed && before?.wanted === wanted && before.asked < DECLARE_AGAIN) {
      before.asked++;
      const state = await client.getLane();
      if (processOf(state) === before.process) return state;
    }
    this.#declared = undefined;
    const state = await this.#declare(client, wanted, needed);
    if (needed) this.#declared = { process: processOf(state), wanted, asked: 0 };
    return state;
  }

  /** What depends on the process that hears it is completed for that one, and no other takes it. */
  async #declare(client: LaneClient, wanted: Attachment[], needed: boolean): Promise<LaneState> {
    const flowLimits = this.#flowLimits;
    if (this.#complete === undefined || !wanted.some(({ kind }) => kind === Kind.LINK))
      return client.setAttachments(wanted, needed, flowLimits);
    const lane = this.#state ?? (await client.getLane());
    const patienceMs = wanted.reduce((sum, { link }) => sum + (link?.spec?.peers.length ?? 0) * PEER_MS, 0);
    return client.setAttachments(await this.#complete(wanted, processOf(lane)), needed, flowLimits, lane.pid, patienceMs);
  }

  /** A lane that is there and does not answer cannot be helped otherwise: its place is taken by a new one. */
  #endIfSilent(error: unknown): void {
    if ((error as { code?: number }).code !== DEADLINE_EXCEEDED) {
      this.#silences = 0;
      return;
    }
    if (++this.#silences < SILENCES_MOST) return;
    this.#silences = 0;
    const pid = this.#state?.pid ?? this.#child?.pid ?? laneThatLogsTo(this.#logFile);
    if (pid === undefined) return;
    this.#log.warn({ lane: this.name, pid }, 'lane does not answer; ending it');
    this.#death = ' (did not answer)';
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }

  #note(state: LaneState | undefined): void {
    const before = holdings(this.#state);
    const linksBefore = linkWords(this.#state);
    if (state === undefined && this.#silences > 0) return;
    this.#state = state;
    this.#attachments = new Map(state?.attachments.map((attachment) => [`${attachment.uid} ${attachment.kind}`, attachment]));
    if (state !== undefined) {
      for (const resolve of this.#waiting.splice(0)) resolve();
      this.#tellRestart(state.pid);
    }
    if (holdings(state) !== before) this.#changed();
    if (linkWords(state) !== linksBefore) this.#linksChanged();
  }

  #tellRestart(pid: number): void {
    const before = this.#lastPid;
    const why = this.#death;
    this.#lastPid = pid;
    this.#death = '';
    if (before !== undefined && before !== pid) this.#restarted(this.name, `pid ${before} died${why}; pid ${pid} has taken its place`);
  }

  #start(): void {
    const now = performance.now();
    if (this.#stopped || this.#child !== undefined || now < this.#startedAt + this.#pause()) return;
    this.#failures++;
    this.#startedAt = now;
    try {
      this.#spawn();
    } catch (error) {
      this.#log.error({ lane: this.name, err: String(error) }, 'lane not started');
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
    this.#child = child;
    this.#starts++;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    const gone = (why: string): void => {
      if (this.#child !== child) return;
      this.#child = undefined;
      if (child.pid === this.#lastPid) this.#death ||= ` (${why})`;
      resolve();
      if (this.#needed && !this.#stopped) this.#log.warn({ lane: this.name, why }, 'lane is gone');
      this.#schedule(0);
    };
    child.once('error', (error) => gone(error.message));
    child.once('exit', (code, signal) => gone(signal ?? `exit code ${code}`));
    child.unref();
    this.#log.info({ lane: this.name, pid: child.pid }, 'lane started');
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

/** grpc status */
const DEADLINE_EXCEEDED = 4;
