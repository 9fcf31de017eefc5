// Batches of flow records that wait for the agent, of all meters of a lane, bounded in bytes. They stay until the agent has them on disk;
// what was sent to a connection that broke is sent again. Beyond the bound the oldest give way to a word about what was lost, which keeps
// their numbers; where such words alone are too many, of tens of thousands of meters that are gone, the oldest of these go untold.
//
//   queued --send--> sent --acknowledge--> gone
//     ^                '--(connection breaks)--> queued
//     '--(no room)--> told of as lost

import { FlowBatch, RecordLoss_Reason } from '../gen/taplane/v1/flow.ts';

/** Bytes that may be on the way to the agent without an acknowledgement; at most a quarter of the bound, since these cannot give way. */
const WINDOW_BYTES = 1024 * 1024;
/** Memory of an entry beside its bytes. */
const ENTRY_BYTES = 128;

export interface OutgoingBatch {
  epoch: string;
  firstSequence: number;
  records: number;
  /** Undefined: the records were lost, and `head` says whose they were. */
  bytes: Buffer | undefined;
  /** `FlowBatch` in bytes, as far as it is the same in all of a meter. */
  head: Uint8Array;
  /** It may have reached an agent: its range must not become part of another. */
  wasSent: boolean;
}

export class FlowOutbox {
  #limitBytes: number;
  #queued: (OutgoingBatch | undefined)[] = [];
  /** Where `#queued` begins: what is before was taken, and is let go of. */
  #from = 0;
  #sent: OutgoingBatch[] = [];
  #bytes = 0;
  #sentBytes = 0;
  #lost = 0;
  #send: ((bytes: Buffer) => void) | undefined;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  limit(bytes: number): void {
    this.#limitBytes = bytes;
    this.#shrink();
  }

  get isEmpty(): boolean {
    return this.#sent.length === 0 && this.#from === this.#queued.length;
  }

  /** Somebody takes what is sent. */
  get isConnected(): boolean {
    return this.#send !== undefined;
  }

  /** Somebody takes what is sent, and has much to take: who can wait with more should. */
  get isPressed(): boolean {
    return this.#send !== undefined && this.#bytes > this.#limitBytes / 2;
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Records that found no room. */
  get lost(): number {
    return this.#lost;
  }

  /** Takes a batch (*transfers*). */
  put(batch: OutgoingBatch): void {
    this.#queued.push(batch);
    this.#bytes += sizeOf(batch);
    this.#shrink();
    this.#push();
  }

  /** Sends to this connection from now on, beginning with the oldest. */
  connect(send: (bytes: Buffer) => void): void {
    this.disconnect();
    this.#send = send;
    this.#push();
  }

  /** The connection is gone: what was sent may not have come to anybody. */
  disconnect(): void {
    this.#send = undefined;
    if (this.#sent.length === 0) return;
    this.#queued = [...this.#sent, ...this.#queued.slice(this.#from)];
    this.#from = 0;
    this.#sent = [];
    this.#sentBytes = 0;
    this.#shrink();
  }

  /** The agent has the oldest `count` batches that were sent. Answers false when there were not so many. */
  acknowledge(count: number): boolean {
    if (count > this.#sent.length) return false;
    for (const batch of this.#sent.splice(0, count)) {
      this.#bytes -= sizeOf(batch);
      this.#sentBytes -= sizeOf(batch);
    }
    this.#push();
    return true;
  }

  #push(): void {
    const window = Math.min(WINDOW_BYTES, this.#limitBytes / 4);
    while (this.#send !== undefined && this.#sentBytes < window && this.#from < this.#queued.length) {
      const batch = this.#queued[this.#from] as OutgoingBatch;
      this.#queued[this.#from++] = undefined;
      if (this.#from > 1024) {
        this.#queued = this.#queued.slice(this.#from);
        this.#from = 0;
      }
      batch.wasSent = true;
      this.#sent.push(batch);
      this.#sentBytes += sizeOf(batch);
      this.#send(batch.bytes ?? lossOf(batch));
    }
  }

  /** Makes room: the oldest batches that still have bytes lose them. */
  #shrink(): void {
    if (this.#bytes <= this.#limitBytes) return;
    const queued = this.#queued.slice(this.#from) as OutgoingBatch[];
    const kept: OutgoingBatch[] = [];
    const gaps = new Map<string, OutgoingBatch>();
    // A quarter at once, so that this is not done for each batch.
    const goal = this.#limitBytes - this.#limitBytes / 4;
    let losses = 0;
    for (const batch of queued) if (batch.bytes === undefined) losses += sizeOf(batch);
    const lossesMost = losses > this.#limitBytes / 2 ? this.#limitBytes / 4 : losses;
    for (const batch of queued) {
      if (batch.bytes === undefined && losses > lossesMost) {
        losses -= sizeOf(batch);
        this.#bytes -= sizeOf(batch);
      } else if (this.#bytes > goal || batch.bytes === undefined) this.#drop(batch, kept, gaps);
      else kept.push(batch);
    }
    // Batches that were hardly larger than the word about them.
    let untold = 0;
    while (this.#bytes > this.#limitBytes && untold < kept.length) this.#bytes -= sizeOf(kept[untold++] as OutgoingBatch);
    this.#queued = untold === 0 ? kept : kept.slice(untold);
    this.#from = 0;
  }

  #drop(batch: OutgoingBatch, kept: OutgoingBatch[], gaps: Map<string, OutgoingBatch>): void {
    this.#bytes -= sizeOf(batch);
    if (batch.bytes !== undefined) this.#lost += batch.records;
    batch.bytes = undefined;
    const gap = gaps.get(batch.epoch);
    if (gap !== undefined && !batch.wasSent && gap.firstSequence + gap.records === batch.firstSequence) {
      gap.records += batch.records;
      return;
    }
    kept.push(batch);
    this.#bytes += sizeOf(batch);
    if (!batch.wasSent) gaps.set(batch.epoch, batch);
  }
}

/** What a loss holds is the head, maybe of a meter that has nothing else here. */
function sizeOf({ bytes, head }: OutgoingBatch): number {
  return (bytes ?? head).length + ENTRY_BYTES;
}

function lossOf({ head, firstSequence, records }: OutgoingBatch): Buffer {
  const lost = [{ reason: RecordLoss_Reason.LANE_FULL, count: BigInt(records) }];
  const rest = FlowBatch.encode(FlowBatch.fromPartial({ firstSequence: BigInt(firstSequence), lost })).finish();
  // Fields of a message may be put together as bytes.
  return Buffer.concat([head, rest]);
}
