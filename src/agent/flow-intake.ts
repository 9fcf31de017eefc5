// Fetches flow records from lanes: into memory for queries, and to the exporter. A lane is told that it may forget a batch once the exporter
// has it on disk; without one, once it is in memory. When the disk fails the lane keeps what it has, bounded, and is asked again.

import { type BatchHead, readBatchHead } from '../flow/batch-head.ts';
import type { Exporter, Outgoing } from '../flow/contract.ts';
import type { FlowRing } from '../flow/ring.ts';
import { FlowsAck, StreamSetup } from '../gen/taplane/lane/v1/lane_service.ts';
import { FlowBatch, type MeterTotals } from '../gen/taplane/v1/flow.ts';
import { type LanePipe, openPipe } from '../lane/client.ts';
import type { LaneProcess } from './lanes/process.ts';
import type { Lanes } from './lanes.ts';
import type { Log } from './log.ts';

const LOOK_MS = 100;
const RETRY_MS = 1000;
/** A lane that has said nothing for so long has said all: a meter that ends waits 208 ms for what its ring still holds. */
const QUIET_MS = 350;
/** Epochs whose numbers are remembered, to tell batches that come twice. */
const EPOCHS_MOST = 16_384;

/** What the meter of an interface has last said. */
export interface MeterSaid {
  epoch: string;
  totals: MeterTotals | undefined;
  records: bigint;
}

export interface FlowIntakeNeeds {
  lanes: Pick<Lanes, 'processes'>;
  ring: FlowRing;
  /** Undefined where nothing is exported. */
  exporter: Exporter | undefined;
  /** Shown every batch that was not seen before, decoded; for exporters that keep nothing. */
  show?: ((batch: FlowBatch) => void) | undefined;
  log: Log;
}

export interface FlowIntake {
  /** By uid of the interface; undefined before its first batch. */
  said(interfaceUid: string): MeterSaid | undefined;
  /** Fetches what lanes have at once, for at most `graceMs`, and stops. */
  stop(graceMs: number): Promise<void>;
}

export function flowIntake(needs: FlowIntakeNeeds): FlowIntake {
  const said = new Map<string, MeterSaid>();
  const next = new Map<string, bigint>();
  const seen = ({ epoch, firstSequence, records, lost, interfaceUid, totals }: BatchHead): boolean => {
    const end = firstSequence + BigInt(records) + lost;
    if (end <= (next.get(epoch) ?? 0n)) return true;
    next.delete(epoch);
    next.set(epoch, end);
    if (next.size > EPOCHS_MOST) next.delete(next.keys().next().value as string);
    const before = said.get(interfaceUid);
    said.delete(interfaceUid);
    // A batch that only tells of loss has no account.
    said.set(interfaceUid, { epoch, totals: totals ?? (before?.epoch === epoch ? before.totals : undefined), records: end - 1n });
    if (said.size > EPOCHS_MOST) said.delete(said.keys().next().value as string);
    return false;
  };
  const sources = needs.lanes.processes().map((lane) => new Source(lane, needs, seen));
  const timer = setInterval(() => {
    for (const source of sources) source.look();
  }, LOOK_MS);
  timer.unref();
  return {
    said: (uid) => said.get(uid),
    async stop(graceMs) {
      clearInterval(timer);
      await Promise.all(sources.map((source) => source.finish(graceMs)));
    },
  };
}

/** The records of one lane. */
class Source {
  readonly #lane: LaneProcess;
  readonly #needs: FlowIntakeNeeds;
  readonly #seen: (head: BatchHead) => boolean;
  #pipe: LanePipe | undefined;
  #waiting: Buffer[] = [];
  #due: NodeJS.Immediate | undefined;
  #taken = 0;
  #notBefore = 0;
  #heardAt = 0;
  #complained = false;

  constructor(lane: LaneProcess, needs: FlowIntakeNeeds, seen: (head: BatchHead) => boolean) {
    this.#lane = lane;
    this.#needs = needs;
    this.#seen = seen;
  }

  /** Connects when the lane runs and there is no connection. */
  look(): void {
    if (this.#pipe !== undefined || this.#lane.state === undefined || performance.now() < this.#notBefore) return;
    this.#taken = 0;
    const closed = (): void => {
      if (this.#pipe === pipe) this.#drop();
    };
    const pipe: LanePipe = openPipe(this.#lane.packetSocket, StreamSetup.fromPartial({ flows: {} }), {
      batch: (bytes, release) => {
        if (this.#pipe === pipe) this.#take(Buffer.from(bytes));
        release();
      },
      end: closed,
      failed: closed,
      room: () => {},
    });
    this.#pipe = pipe;
  }

  async finish(graceMs: number): Promise<void> {
    const deadline = performance.now() + graceMs;
    this.#heardAt = performance.now();
    // What is stored makes room on the connection for more.
    const isOver = (now: number): boolean => now >= deadline || (this.#waiting.length === 0 && now - this.#heardAt >= QUIET_MS);
    while (this.#pipe !== undefined && !isOver(performance.now())) await new Promise((resolve) => setTimeout(resolve, 10));
    this.#drop();
  }

  #drop(): void {
    const pipe = this.#pipe;
    this.#pipe = undefined;
    this.#waiting = [];
    clearImmediate(this.#due);
    this.#due = undefined;
    pipe?.destroy();
  }

  #take(bytes: Buffer): void {
    this.#waiting.push(bytes);
    this.#heardAt = performance.now();
    // What comes in one turn of the event loop goes to disk at once.
    this.#due ??= setImmediate(() => this.#store());
  }

  #store(): void {
    this.#due = undefined;
    const batches = this.#waiting;
    this.#waiting = [];
    const heads = batches.map((bytes) => ({ bytes, head: readBatchHead(bytes) }));
    const good: { bytes: Buffer; head: BatchHead }[] = [];
    for (const { bytes, head } of heads) {
      if ('malformed' in head)
        this.#needs.log.error({ lane: this.#lane.name, reason: head.malformed }, 'batch of flow records not understood');
      else good.push({ bytes, head });
    }
    try {
      this.#needs.exporter?.put(good.map(outgoing));
    } catch (error) {
      this.#complain(error);
      this.#notBefore = performance.now() + RETRY_MS;
      this.#drop();
      return;
    }
    this.#complained = false;
    for (const { bytes, head } of good) {
      if (this.#seen(head)) continue;
      this.#needs.ring.put(bytes);
      this.#show(bytes);
    }
    this.#taken += batches.length;
    this.#pipe?.send(Buffer.from(FlowsAck.encode({ batches: BigInt(this.#taken) }).finish()));
  }

  /** Of a batch only the head was read: its records may prove malformed. */
  #show(bytes: Buffer): void {
    try {
      this.#needs.show?.(FlowBatch.decode(bytes));
    } catch (error) {
      this.#needs.log.error({ lane: this.#lane.name, err: String(error) }, 'batch of flow records not shown');
    }
  }

  #complain(error: unknown): void {
    if (!this.#complained) this.#needs.log.error({ lane: this.#lane.name, err: String(error) }, 'flow records not stored; tried again');
    this.#complained = true;
  }
}

function outgoing({ bytes, head }: { bytes: Buffer; head: BatchHead }): Outgoing {
  const { interface: name, epoch, firstSequence, records, lost } = head;
  return { kind: 'flow', name, id: `${epoch}:${firstSequence}`, epoch, firstSequence, records: records + Number(lost), payload: bytes };
}
