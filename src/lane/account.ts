// The account of a subscription, and the law that holds at every message:
//
//   offered = delivered + filtered + sampled out + dropped (queue full, kernel, malformed, in transit)
//
// What happens at the intake is counted as it happens and copied into a batch when it is sealed; what happens to batches is counted as
// batches go out or are dropped, the oldest first. So the totals of a message speak of exactly the frames up to its last one.

import { type InjectRejection_Reason, Loss_Reason } from '../gen/taplane/v1/packet.ts';
import { varintBytes, writeVarint } from '../packet/varint.ts';
import type { Batch } from './batch.ts';

const TAG_TOTALS = 0x3a;
const TAG_LOST = 0x42;
const TAG_INJECTED = 0x4a;
/** Reasons of `Loss`, in the order of `Account.#told`. */
const LOSSES = [Loss_Reason.QUEUE_FULL, Loss_Reason.KERNEL, Loss_Reason.MALFORMED, Loss_Reason.IN_TRANSIT] as const;

/** What has come in. A batch carries a copy of it. */
export interface Intake {
  offered: number;
  filtered: number;
  sampledOut: number;
  kernel: number;
  malformed: number;
}

export class Account implements Intake {
  offered = 0;
  filtered = 0;
  sampledOut = 0;
  kernel = 0;
  malformed = 0;
  /** Frames handed to the connection, those that were lost on it included. */
  sent = 0;
  queueFull = 0;
  inTransit = 0;
  /** What the client has been told of losses, by the order of LOSSES. */
  readonly #told = [0, 0, 0, 0];
  readonly #now = [0, 0, 0, 0];

  /** Copies what has come in into a batch. */
  stamp(batch: Batch): void {
    batch.offered = this.offered;
    batch.filtered = this.filtered;
    batch.sampledOut = this.sampledOut;
    batch.kernel = this.kernel;
    batch.malformed = this.malformed;
  }

  /** Writes `totals`, and `lost` for what is new, as of `intake`; answers where they end. The batch that they speak of counts as sent. */
  write(out: Buffer, at: number, intake: Intake): number {
    const losses = this.#now;
    losses[0] = this.queueFull;
    losses[1] = intake.kernel;
    losses[2] = intake.malformed;
    losses[3] = this.inTransit;
    let next = writeTotals(out, at, intake, this.sent - this.inTransit, losses);
    for (let index = 0; index < losses.length; index++) {
      const count = (losses[index] as number) - (this.#told[index] as number);
      if (count <= 0) continue;
      this.#told[index] = losses[index] as number;
      next = writePair(out, next, TAG_LOST, LOSSES[index] as number, count);
    }
    return next;
  }
}

function writeTotals(out: Buffer, at: number, intake: Intake, delivered: number, losses: readonly number[]): number {
  let inner = field(intake.offered) + field(delivered) + field(intake.filtered) + field(intake.sampledOut);
  for (const count of losses) if (count > 0) inner += 1 + 1 + 2 + 1 + varintBytes(count);
  let next = at;
  out[next++] = TAG_TOTALS;
  next = writeVarint(out, next, inner);
  next = writeField(out, next, 0x08, intake.offered);
  next = writeField(out, next, 0x10, delivered);
  next = writeField(out, next, 0x18, intake.filtered);
  next = writeField(out, next, 0x20, intake.sampledOut);
  for (let index = 0; index < losses.length; index++) {
    const count = losses[index] as number;
    if (count > 0) next = writePair(out, next, 0x2a, LOSSES[index] as number, count);
  }
  return next;
}

/** A message of a reason below 128 and a count. */
function writePair(out: Buffer, at: number, tag: number, reason: number, count: number): number {
  let next = at;
  out[next++] = tag;
  out[next++] = 2 + 1 + varintBytes(count);
  out[next++] = 0x08;
  out[next++] = reason;
  out[next++] = 0x10;
  return writeVarint(out, next, count);
}

function field(value: number): number {
  return value === 0 ? 0 : 1 + varintBytes(value);
}

function writeField(out: Buffer, at: number, tag: number, value: number): number {
  if (value === 0) return at;
  out[at] = tag;
  return writeVarint(out, at + 1, value);
}

/** What became of the frames that a client sent in. */
export class InjectAccount {
  lastId = 0;
  accepted = 0;
  /** By reason. */
  readonly #rejected: number[] = Array.from({ length: 11 }, () => 0);
  /** Something has changed since it was last written. */
  changed = false;

  /** Counts a frame; 0 is no reason. */
  count(reason: InjectRejection_Reason): void {
    this.changed = true;
    if (reason === 0) this.accepted++;
    else this.#rejected[reason] = (this.#rejected[reason] ?? 0) + 1;
  }

  /** Writes `injected`; answers where it ends. */
  write(out: Buffer, at: number): number {
    this.changed = false;
    let inner = field(this.lastId) + field(this.accepted);
    for (const count of this.#rejected) if (count > 0) inner += 1 + 1 + 2 + 1 + varintBytes(count);
    let next = at;
    out[next++] = TAG_INJECTED;
    next = writeVarint(out, next, inner);
    next = writeField(out, next, 0x08, this.lastId);
    next = writeField(out, next, 0x10, this.accepted);
    for (let reason = 0; reason < this.#rejected.length; reason++) {
      const count = this.#rejected[reason] as number;
      if (count > 0) next = writePair(out, next, 0x1a, reason, count);
    }
    return next;
  }
}
