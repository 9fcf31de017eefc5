// The data plane of a node: its lanes, which interface is on which, and what they hold. An interface stays on its lane for as long as the
// number of lanes stays, since the lane follows from the uid. Lanes beyond the number, left by an agent with more, are told to end.
// Those that somebody else keeps running are only spoken to; which of them are missing is a condition of the node.

import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { TaplaneError } from '../errors.ts';
import type {
  Attachment,
  Attachment_Kind,
  AttachmentState,
  FlowLimits,
  StreamSetup,
  StreamTotals,
} from '../gen/taplane/lane/v1/lane_service.ts';
import { Attachment_Kind as Kind } from '../gen/taplane/lane/v1/lane_service.ts';
import type { Condition } from '../gen/taplane/v1/interface.ts';
import type { Lane } from '../gen/taplane/v1/node_service.ts';
import type { DataPlane } from '../interface/data-plane.ts';
import { type LanePipe, openPipe, type PipeEvents } from '../lane/client.ts';
import type { AskLane } from '../link/probe.ts';
import { Conditions } from '../resource/conditions.ts';
import { LaneProcess } from './lanes/process.ts';
import { pidHere } from './lanes/words.ts';
import type { Log } from './log.ts';

const READY_MS = 8000;
const RETRY_MS = 50;
const SOCKET = /^lane-(\d+)\.sock$/;

export interface LanesOptions {
  runtimeDir: string;
  /** How many, at least 1. */
  count: number;
  log: Log;
  /** Somebody else starts and ends the processes, one for each lane. */
  external?: boolean;
  /** Called whenever what the lanes hold has changed. */
  changed: () => void;
  /** A lane died while it was needed, and another process answers in its place. */
  restarted?: (lane: string, why: string) => void;
  /** Room for flows in each lane. */
  flowLimits?: FlowLimits;
  /** Called whenever a lane says something new of links. */
  linksChanged?: () => void;
  /** The least that lanes are to log. */
  logLevel?: () => string;
  /** Completes what is declared to the lane process of this name, right before. */
  complete?: (attachments: readonly Attachment[], lane: string) => Promise<Attachment[]>;
}

export class Lanes implements DataPlane {
  readonly #lanes: LaneProcess[];
  readonly #surplus: LaneProcess[];
  readonly #isExternal: boolean;
  readonly #conditions = new Conditions<'LanesReady'>();

  constructor({ count, ...options }: LanesOptions) {
    this.#lanes = Array.from({ length: count }, (_, number) => new LaneProcess({ ...options, name: `lane-${number}` }));
    const { runtimeDir, log, external = false } = options;
    this.#isExternal = external;
    this.#surplus = numbersIn(runtimeDir)
      .filter((number) => number >= count)
      .map((number) => new LaneProcess({ runtimeDir, name: `lane-${number}`, log, external, surplus: true, changed: () => {} }));
  }

  want(attachments: Attachment[]): void {
    const byLane = new Map<LaneProcess, Attachment[]>(this.#lanes.map((lane) => [lane, []]));
    for (const attachment of attachments) byLane.get(this.#laneOf(attachment.device?.uid ?? ''))?.push(attachment);
    for (const [lane, own] of byLane) lane.want(own);
    for (const lane of this.#surplus) lane.want([]);
  }

  /** Probes a peer of a link on the lane of an interface. Rejects with TaplaneError. */
  probe: AskLane = (uid, { linkUid, probe }, signal) => this.#laneOf(uid).probe(linkUid, probe, signal);

  attachment(uid: string, kind: Attachment_Kind): AttachmentState | undefined {
    return this.#laneOf(uid).attachment(uid, kind);
  }

  /** All lanes, also those that an agent with more has left: each may have records of flows. */
  processes(): readonly LaneProcess[] {
    return [...this.#lanes, ...this.#surplus];
  }

  holding(uid: string): { pid: number; what: string } | undefined {
    const state = this.#laneOf(uid).state;
    if (state === undefined) return undefined;
    const kinds = state.attachments.filter((attachment) => attachment.uid === uid && attachment.attached).map(({ kind }) => WORDS[kind]);
    if (state.streams.some((stream) => stream.uid === uid && stream.consuming)) kinds.unshift('stream');
    const what = kinds.find((word) => word !== undefined);
    // A pid of elsewhere would name another process here.
    const pid = pidHere(state);
    return what === undefined || pid === undefined ? undefined : { pid, what };
  }

  /**
   * Opens a stream or capture on the lane of its interface, which is started when it does not run. Resolves once it is open; rejects with
   * TaplaneError. A lane that was just ending, or has just died, is no reason to refuse: its successor is asked.
   */
  async open(setup: StreamSetup, events: PipeEvents): Promise<LanePipe> {
    const lane = this.#laneOf(setup.device?.uid ?? '');
    const release = lane.use();
    const deadline = performance.now() + READY_MS;
    for (;;) {
      try {
        await lane.ready(Math.max(1, deadline - performance.now()));
        return await opened(lane.packetSocket, setup, events, release);
      } catch (error) {
        const again = error instanceof TaplaneError && error.reason === 'LANE_UNAVAILABLE' && performance.now() < deadline;
        if (!again) {
          release();
          throw error;
        }
        await sleep(RETRY_MS);
      }
    }
  }

  /** What became of the frames of streams in lanes that answer, since each of them started. */
  streamTotals(): { lane: string; totals: StreamTotals }[] {
    return this.#lanes.flatMap(({ name, state }) =>
      state?.streamTotals === undefined ? [] : [{ lane: name, totals: state.streamTotals }],
    );
  }

  /** For GetNode: those that run or should. */
  describe(): Lane[] {
    return this.#lanes.flatMap((lane) => lane.describe() ?? []);
  }

  /** Of the node: whether the lanes that others keep running are there. None where the agent starts them itself. */
  conditions(nowMs: number = Date.now()): Condition[] {
    if (!this.#isExternal) return [];
    const missing = this.#lanes.flatMap(({ absence }) => absence ?? []);
    const cure = 'see whether its container or unit runs (taplane lane --socket PATH --stay), and shares the runtime directory';
    const message = missing.length === 0 ? '' : `${missing.join(', ')}: ${cure}`;
    this.#conditions.set('LanesReady', missing.length === 0, missing.length === 0 ? 'Answering' : 'LaneMissing', message, nowMs);
    return this.#conditions.list();
  }

  /** The lanes stay, with what they hold; the next agent takes them over. Those that hold nothing end. */
  async stop(): Promise<void> {
    await Promise.all([...this.#lanes, ...this.#surplus].map((lane) => lane.stop()));
  }

  #laneOf(uid: string): LaneProcess {
    const number = Number.parseInt(uid.slice(0, 8), 16) || 0;
    return this.#lanes[number % this.#lanes.length] as LaneProcess;
  }
}

/** Opens a pipe and waits for its first message. `release` is called at its end, if it was opened. */
function opened(path: string, setup: StreamSetup, events: PipeEvents, release: () => void): Promise<LanePipe> {
  const { promise, resolve, reject } = Promise.withResolvers<LanePipe>();
  let isOpen = false;
  const pipe = openPipe(path, setup, {
    batch(bytes, giveBack) {
      if (!isOpen) {
        isOpen = true;
        resolve(pipe);
      }
      events.batch(bytes, giveBack);
    },
    end() {
      if (!isOpen) reject(new TaplaneError('UNAVAILABLE', 'LANE_UNAVAILABLE', 'the data-plane process ended the stream before it began'));
      else {
        release();
        events.end();
      }
    },
    failed(error) {
      if (!isOpen) reject(error);
      else {
        release();
        events.failed(error);
      }
    },
    room: events.room,
    destroyed() {
      release();
      events.destroyed?.();
    },
  });
  return promise;
}

/** What a lane holds a queue for, as `QueueHolder.attachment` says it. */
const WORDS: Record<number, string> = {
  [Kind.RESPONDERS]: 'responder',
  [Kind.PATCH]: 'link',
  [Kind.LINK]: 'link',
  [Kind.PARKING]: 'parking',
};

function numbersIn(runtimeDir: string): number[] {
  try {
    return readdirSync(runtimeDir).flatMap((name) => {
      const number = SOCKET.exec(name)?.[1];
      return number === undefined ? [] : [Number(number)];
    });
  } catch {
    return [];
  }
}
