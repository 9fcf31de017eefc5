// Carries the batches of a subscription over a connection that may break and come again.
//
//                 .--------------------- resume -----------------------.
//   attached --> sending --(window full)--> waiting --acknowledge--> sending --break--> detached
//
// At most IN_FLIGHT_BYTES are with the connection; the rest waits in the queue, where it is bounded. While something is with the connection
// the open batch goes on being filled, so that batches are small when it is quiet and full when it is not. With a window, what has been sent
// is kept until it is acknowledged; without one, what a broken connection swallowed is told as lost.

import { PacketBatch, type StreamOpened } from '../gen/taplane/v1/packet.ts';
import type { InjectAccount } from './account.ts';
import { type Batch, TRAILER_MOST } from './batch.ts';
import { HEAD_BYTES, KIND_BATCH, message, writeHead } from './framing.ts';
import { SentLog } from './sent-log.ts';
import type { Subscription } from './subscription.ts';

const IN_FLIGHT_BYTES = 128 * 1024;

/** Where batches go. */
export interface Outlet {
  /** Sends a whole message, which stays as it is until `done` is called (*borrows*). After a break `done` is not called. */
  write(bytes: Buffer, done: () => void): void;
}

export class Delivery {
  readonly #subscription: Subscription;
  readonly #inject: InjectAccount;
  readonly #windowBytes: number;
  readonly #log = new SentLog();
  #outlet: Outlet | undefined;
  /** Counts the connections: what an old one still says is not heard. */
  #epoch = 0;
  #inFlight = 0;
  /** Sent and not acknowledged, oldest first; with a window only. */
  #kept: Batch[] = [];
  #keptBytes = 0;
  /** Batches of #kept that a new connection has not been sent yet. */
  #again = 0;
  #toldOffered = 0;
  /** Frames below have been received or told as lost in transit. */
  #settled = 1;
  #drained: (() => void) | undefined;

  constructor(subscription: Subscription, inject: InjectAccount, windowBytes: number) {
    this.#subscription = subscription;
    this.#inject = inject;
    this.#windowBytes = windowBytes;
    subscription.onBatch = () => this.pump();
  }

  get attached(): boolean {
    return this.#outlet !== undefined;
  }

  /** Begins on a connection with the first message. */
  attach(outlet: Outlet, opened: StreamOpened): void {
    this.#outlet = outlet;
    this.#epoch++;
    this.#inFlight = 0;
    this.#again = this.#kept.length;
    this.#control({ ...PacketBatch.create(), opened });
    this.pump();
  }

  /** The connection is gone. */
  detach(): void {
    this.#outlet = undefined;
    this.#again = 0;
    this.#epoch++;
  }

  /** Whether frames from `sequence` on can still be sent or told of, see `StreamOpen.resume_sequence`. */
  canResume(sequence: number): boolean {
    if (sequence === 0) return true;
    if (sequence > this.#log.nextSequence) return false;
    return this.#windowBytes > 0 ? sequence >= this.#log.acknowledged : this.#log.knows(sequence);
  }

  /** What came back with a resumed stream: forgets what the client has, or counts what it has not. Call before `attach`. */
  resumeAt(sequence: number): void {
    if (sequence === 0) this.acknowledge(this.#log.nextSequence);
    else if (this.#windowBytes > 0) this.acknowledge(sequence);
    else {
      // What was before the last break has been told already.
      this.#subscription.account.inTransit += this.#log.framesFrom(Math.max(sequence, this.#settled));
      this.#settled = this.#log.nextSequence;
    }
  }

  /** The client has every frame below `sequence`. */
  acknowledge(sequence: number): void {
    this.#log.acknowledge(sequence);
    let gone = 0;
    while (gone < this.#kept.length - this.#again) {
      const batch = this.#kept[gone] as Batch;
      if (batch.firstSequence + batch.frames > sequence) break;
      this.#keptBytes -= batch.length;
      gone++;
    }
    // A client may acknowledge what it has not got; that harms only itself.
    if (gone > 0) for (const batch of this.#kept.splice(0, gone)) if (batch.writes === 0) this.#subscription.queue.giveBack(batch);
    this.pump();
  }

  /** Sends what may be sent. */
  pump(): void {
    const outlet = this.#outlet;
    if (outlet === undefined) return;
    const { queue } = this.#subscription;
    while (this.#inFlight < IN_FLIGHT_BYTES) {
      const again = this.#again > 0 ? this.#kept[this.#kept.length - this.#again] : undefined;
      if (again !== undefined) {
        this.#again--;
        this.#write(outlet, again, false);
        continue;
      }
      if (this.#windowBytes > 0 && this.#drained === undefined && this.#keptBytes >= this.#windowBytes) break;
      if (!queue.waiting && this.#inFlight === 0) queue.seal();
      const batch = queue.take();
      if (batch === undefined) break;
      this.#send(outlet, batch);
    }
    if (this.#inject.changed && this.#inFlight < 2 * IN_FLIGHT_BYTES) this.tellAccounts();
    if (this.#drained !== undefined && this.#isEmpty()) {
      this.#drained();
      this.#drained = undefined;
    }
  }

  /** Tells the account without frames, when it has changed and nothing waits that would tell it. */
  tellAccounts(): void {
    const { queue, account } = this.#subscription;
    // A client that does not read is told later.
    if (this.#outlet === undefined || this.#inFlight >= 2 * IN_FLIGHT_BYTES) return;
    if (queue.waiting || queue.filling || this.#again > 0) {
      if (this.#inject.changed) this.#control(undefined);
      return;
    }
    if (this.#inject.changed || account.offered !== this.#toldOffered) this.#control(undefined, true);
  }

  /** Resolves once all that waits has been sent, and the last totals after it; at once without a connection. */
  async finish(): Promise<void> {
    this.#subscription.queue.seal();
    if (this.#outlet === undefined) return;
    const sent = new Promise<void>((resolve) => {
      this.#drained = resolve;
    });
    this.pump();
    await sent;
    if (this.#outlet !== undefined) this.#control(undefined, true);
  }

  close(): void {
    this.detach();
    this.#drained?.();
    this.#drained = undefined;
    this.#kept = [];
    this.#keptBytes = 0;
    this.#subscription.queue.clear();
  }

  #isEmpty(): boolean {
    const { queue } = this.#subscription;
    return !queue.waiting && !queue.filling && this.#again === 0;
  }

  #send(outlet: Outlet, batch: Batch): void {
    const { account } = this.#subscription;
    account.sent += batch.frames;
    this.#log.sent(batch.firstSequence, batch.frames);
    batch.length = account.write(batch.bytes, batch.length, batch);
    this.#toldOffered = batch.offered;
    if (this.#inject.changed) batch.length = this.#inject.write(batch.bytes, batch.length);
    writeHead(batch.bytes, 0, batch.length - HEAD_BYTES, KIND_BATCH);
    if (this.#windowBytes === 0 || batch.frames === 0) {
      this.#write(outlet, batch, true);
      return;
    }
    // What is kept takes about as much memory as it has bytes.
    const kept = batch.length * 2 < batch.bytes.length ? batch.tightCopy() : batch;
    if (kept !== batch) this.#subscription.queue.giveBack(batch);
    this.#kept.push(kept);
    this.#keptBytes += kept.length;
    this.#write(outlet, kept, false);
  }

  #write(outlet: Outlet, batch: Batch, free: boolean): void {
    const epoch = this.#epoch;
    const { length } = batch;
    this.#inFlight += length;
    batch.writes++;
    outlet.write(batch.bytes.subarray(0, length), () => {
      batch.writes--;
      if (epoch !== this.#epoch) return;
      this.#inFlight -= length;
      if (free) this.#subscription.queue.giveBack(batch);
      this.pump();
    });
  }

  /** A message without frames: how the stream was opened, accounts. */
  #control(first: PacketBatch | undefined, totals = false): void {
    const outlet = this.#outlet;
    if (outlet === undefined) return;
    const { account } = this.#subscription;
    const head = first === undefined ? new Uint8Array(0) : PacketBatch.encode(first).finish();
    const bytes = Buffer.alloc(HEAD_BYTES + head.length + TRAILER_MOST);
    bytes.set(head, HEAD_BYTES);
    let at = HEAD_BYTES + head.length;
    if (totals) {
      at = account.write(bytes, at, account);
      this.#toldOffered = account.offered;
    }
    if (this.#inject.changed) at = this.#inject.write(bytes, at);
    const epoch = this.#epoch;
    const whole = message(KIND_BATCH, bytes.subarray(HEAD_BYTES, at));
    this.#inFlight += whole.length;
    outlet.write(whole, () => {
      if (epoch !== this.#epoch) return;
      this.#inFlight -= whole.length;
      this.pump();
    });
  }
}
