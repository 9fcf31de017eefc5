// Keeps one lane running for as long as something is attached or streams use it, and tells it what. A lane that runs already, left by an
// agent before us, is taken over as it is. A lane that dies is started again (`child.ts`). Where somebody else keeps it running, it is
// only spoken to, always: it is told everything as soon as it is there, and its absence is said.
//
//   not needed --want, use--> asking --answer--> settled --(every HEARTBEAT_MS, or want)--> asking
//                               '--no answer--> start a process, ask again soon

import { chmodSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TaplaneError } from '../../errors.ts';
import {
  type Attachment,
  type Attachment_Kind,
  type AttachmentState,
  type FlowLimits,
  Attachment_Kind as Kind,
  type LaneState,
} from '../../gen/taplane/lane/v1/lane_service.ts';
import type { ProbeLinkRequest, ProbeLinkResponse } from '../../gen/taplane/v1/link_service.ts';
import type { Lane } from '../../gen/taplane/v1/node_service.ts';
import { packetSocketOf } from '../../lane/place.ts';
import { connectLane, type LaneClient } from '../../rpc/lane-client.ts';
import { OWNER_MODE } from '../../rpc/unix-socket.ts';
import type { Log } from '../log.ts';
import { LaneChild } from './child.ts';
import { holdings, linkWords, pidHere, processOf } from './words.ts';

const HEARTBEAT_MS = 500;
const ASK_AGAIN_MS = 25;
/** A lane that somebody else starts is asked for less often the longer it is away, but at least so often. */
const ASK_AGAIN_MOST_MS = 250;
/** One that is none of ours any more, of which perhaps only the socket is left. */
const ASK_SURPLUS_MS = 5000;
/** Of so many heartbeats one declares everything again, as a net. */
const DECLARE_AGAIN = 10;
const ANSWER_MS = 2000;
/** A lane makes a session for each peer that is new: it may take so much longer to take a declaration. */
const PEER_MS = 1;
/** A lane that does not answer so often in a row hangs, and is killed. */
const SILENCES_MOST = 2;
/** Of a lane that somebody else starts: about a second. */
const MISSES_TOLD = 8;
const FAREWELLS = 20;
const FAREWELL_MS = 1500;
/** How long a lane stays that has nothing to do: the next stream finds it running. */
const LINGER_MS = 10_000;

export interface LaneProcessOptions {
  runtimeDir: string;
  name: string;
  log: Log;
  /** Somebody else starts and ends the process. */
  external?: boolean | undefined;
  /** An agent with more lanes has left it. */
  surplus?: boolean;
  /** Called whenever what the lane holds has changed. */
  changed: () => void;
  /** Another process answers than before, since that one died while it was needed. */
  restarted?: ((lane: string, why: string) => void) | undefined;
  /** Room for flows. */
  flowLimits?: FlowLimits | undefined;
  /** Called whenever the lane says something new of links. */
  linksChanged?: (() => void) | undefined;
  /** The least that it is to log, asked at each heartbeat. */
  logLevel?: (() => string) | undefined;
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
  #declared: { process: string; wanted: Attachment[]; logLevel: string; asked: number } | undefined;
  #waiting: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;
  #asking = false;
  #askAgain = false;
  #stopped = false;
  /** Undefined where somebody else keeps it running. */
  readonly #child: LaneChild | undefined;
  #silences = 0;
  /** Answers that did not come, in a row. */
  #misses = 0;
  #replaced = 0;
  #farewells = 0;
  readonly #restarted: (lane: string, why: string) => void;
  readonly #linksChanged: () => void;
  readonly #complete: LaneProcessOptions['complete'];
  readonly #logLevel: () => string;
  readonly #isSurplus: boolean;
  /** The process that last answered, until it was told that it is not needed. */
  #last: { process: string; pid: number } | undefined;
  /** Why that process ended, as far as we know. */
  #death = '';

  constructor({ runtimeDir, name, log, changed, restarted = () => {}, external = false, ...more }: LaneProcessOptions) {
    this.name = name;
    this.#flowLimits = more.flowLimits;
    this.#linksChanged = more.linksChanged ?? (() => {});
    this.#complete = more.complete;
    this.#isSurplus = more.surplus ?? false;
    this.#logLevel = more.logLevel ?? (() => '');
    this.#socket = join(runtimeDir, `${name}.sock`);
    this.packetSocket = packetSocketOf(this.#socket);
    this.#logFile = join(runtimeDir, `${name}.log`);
    this.#log = log;
    this.#changed = changed;
    this.#restarted = restarted;
    const [socket, logFile] = [this.#socket, this.#logFile];
    if (!external) this.#child = new LaneChild({ name, socket, logFile, log, gone: (pid, why) => this.#gone(pid, why) });
  }

  /** What the lane last said; undefined while it says nothing. */
  get state(): LaneState | undefined {
    return this.#state;
  }

  /** What the lane last said of an attachment. */
  attachment(uid: string, kind: Attachment_Kind): AttachmentState | undefined {
    return this.#attachments.get(`${uid} ${kind}`);
  }

  /** How often this agent had to start it again, or found another process in its place. */
  get restarts(): number {
    return this.#child?.restarts ?? this.#replaced;
  }

  /** Why it cannot be used although it is not ours to start; undefined when it answers, and before it was ever asked. */
  get absence(): string | undefined {
    if (this.#child !== undefined || this.#state !== undefined || this.#misses === 0) return undefined;
    return existsSync(this.#socket) ? `${this.#socket} does not answer` : `${this.#socket} is not there`;
  }

  /** Declares all attachments. */
  want(attachments: Attachment[]): void {
    // Nothing to say and nobody to say it to. A socket that is there may be that of a lane which an agent before us left behind.
    const isIdle = attachments.length === 0 && this.#wanted.length === 0 && this.#state === undefined;
    if (isIdle && this.#child !== undefined && !existsSync(this.#socket)) return;
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
      const where = this.#child === undefined ? 'look at what keeps it running: its container or unit' : `its log is ${this.#logFile}`;
      const message = `${this.name}: the data-plane process does not answer in time; ${where}`;
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
    if (this.#state === undefined) this.#child?.terminate();
    else if (this.#client !== undefined && (this.#wanted.length === 0 || this.#declared?.wanted !== this.#wanted))
      await this.#declare(this.#client, this.#wanted, this.#wanted.length > 0).catch(() => undefined);
    if (this.#child?.isRunning === true && (this.#state === undefined || (this.#wanted.length === 0 && this.#users === 0)))
      await Promise.race([this.#child.ended, sleep(FAREWELL_MS)]);
    this.#client?.close();
  }

  get #needed(): boolean {
    return this.#child === undefined || this.#wanted.length > 0 || this.#users > 0 || performance.now() < this.#lingerUntil;
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
      this.#child?.answered();
      this.#silences = 0;
      this.#misses = 0;
      if (!needed) {
        this.#note(undefined);
        this.#last = undefined;
      }
    } catch (error) {
      this.#endIfSilent(error);
      this.#note(undefined);
      this.#miss();
      // A channel that has failed waits before it dials again: a new one does not.
      this.#client?.close();
      this.#client = undefined;
      if (needed && !this.#stopped) this.#child?.start();
      next = this.#child === undefined ? Math.min(ASK_AGAIN_MOST_MS, ASK_AGAIN_MS * this.#misses) : ASK_AGAIN_MS;
      if (this.#isSurplus && this.#child === undefined) next = ASK_SURPLUS_MS;
      // A lane that cannot be told that nothing is left is told again, but not for ever: there may be none.
      if (!needed && this.#farewells-- > 0) this.#askAgain = true;
    }
    this.#asking = false;
    const soon = this.#askAgain;
    this.#askAgain = false;
    if (needed || soon) this.#schedule(soon && this.#misses === 0 ? 0 : next);
  }

  /** Declares what is wanted where that is news to the lane, else asks how it is. */
  async #tell(client: LaneClient, wanted: Attachment[], needed: boolean): Promise<LaneState> {
    const before = this.#declared;
    const logLevel = this.#logLevel();
    if (needed && before?.wanted === wanted && before.logLevel === logLevel && before.asked < DECLARE_AGAIN) {
      before.asked++;
      const state = await client.getLane();
      if (processOf(state) === before.process) return state;
    }
    this.#declared = undefined;
    const state = await this.#declare(client, wanted, needed);
    if (needed) this.#declared = { process: processOf(state), wanted, logLevel, asked: 0 };
    return state;
  }

  /** What depends on the process that hears it is completed for that one, and no other takes it. */
  async #declare(client: LaneClient, wanted: Attachment[], needed: boolean): Promise<LaneState> {
    const flowLimits = this.#flowLimits;
    const logLevel = this.#logLevel();
    if (this.#complete === undefined || !wanted.some(({ kind }) => kind === Kind.LINK))
      return client.setAttachments(wanted, needed, flowLimits, undefined, 0, logLevel);
    const lane = this.#state ?? (await client.getLane());
    const patienceMs = wanted.reduce((sum, { link }) => sum + (link?.spec?.peers.length ?? 0) * PEER_MS, 0);
    return client.setAttachments(await this.#complete(wanted, processOf(lane)), needed, flowLimits, lane, patienceMs, logLevel);
  }

  /** A lane that is there and does not answer cannot be helped otherwise: its place is taken by a new one. */
  #endIfSilent(error: unknown): void {
    if ((error as { code?: number }).code !== DEADLINE_EXCEEDED) {
      this.#silences = 0;
      return;
    }
    if (++this.#silences < SILENCES_MOST) return;
    this.#silences = 0;
    if (this.#child?.kill(pidHere(this.#state)) === true) this.#death = ' (did not answer)';
  }

  /** An absence of a lane that is not ours to start is said once. */
  #miss(): void {
    if (++this.#misses !== MISSES_TOLD || this.#child !== undefined || this.#isSurplus) return;
    this.#log.warn({ lane: this.name, path: this.#socket }, 'lane is not there; waiting for whoever keeps it running');
  }

  #note(state: LaneState | undefined): void {
    const before = holdings(this.#state);
    const linksBefore = linkWords(this.#state);
    if (state === undefined && this.#silences > 0) return;
    this.#state = state;
    this.#attachments = new Map(state?.attachments.map((attachment) => [`${attachment.uid} ${attachment.kind}`, attachment]));
    if (state !== undefined) {
      for (const resolve of this.#waiting.splice(0)) resolve();
      this.#tellRestart(state);
    }
    if (holdings(state) !== before) this.#changed();
    if (linkWords(state) !== linksBefore) this.#linksChanged();
  }

  #tellRestart(state: LaneState): void {
    const before = this.#last;
    const why = this.#death;
    this.#last = { process: processOf(state), pid: state.pid };
    this.#death = '';
    if (before?.process === this.#last.process) return;
    this.#closeToGroup();
    if (before === undefined) return;
    this.#replaced++;
    this.#restarted(this.name, `pid ${before.pid} died${why}; pid ${state.pid} has taken its place`);
  }

  /** A lane of an older version has let the group at its socket, where no policy is asked, and goes on for as long as it is well. */
  #closeToGroup(): void {
    try {
      chmodSync(this.#socket, OWNER_MODE);
    } catch {
      // It is gone again, or of another user, who lets us in.
    }
  }

  #gone(pid: number | undefined, why: string): void {
    if (pid !== undefined && pid === this.#last?.pid) this.#death ||= ` (${why})`;
    if (this.#needed && !this.#stopped) this.#log.warn({ lane: this.name, reason: why }, 'lane is gone');
    this.#schedule(0);
  }
}

/** grpc status */
const DEADLINE_EXCEEDED = 4;
