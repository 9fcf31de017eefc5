// All meters of a lane, and what they share: memory for flows and rings, the way of their records to the agent, the clock that ends flows.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Device, FlowLimits, MeterSetup } from '../gen/taplane/lane/v1/lane_service.ts';
import { followWallClock } from './clock.ts';
import type { PeerOf } from './flow-batch.ts';
import { TICKS } from './flow-ledger.ts';
import { FlowOutbox } from './flow-outbox.ts';
import { FlowPool } from './flow-pool.ts';
import { Meter } from './meter.ts';
import { Sweeps } from './sweeps.ts';

const USUAL_ENTRIES = 524_288;
const USUAL_WAITING_BYTES = 16 * 1024 * 1024;
const USUAL_RING_BYTES = 64 * 1024 * 1024;
const RING_LEAST_BYTES = 128 * 1024;
const RING_MOST_BYTES = 4 * 1024 * 1024;
const VERIFY_MS = 500;
const VERIFIED_AT_ONCE = 32;
const LAST_RECORDS_MS = 1000;

export class Meters {
  /** Names the peer that has an inner address behind the link of the interface with this uid; '' when it is not known. */
  peerName: (uid: string, ...address: Parameters<PeerOf>) => string = () => '';
  readonly outbox = new FlowOutbox(USUAL_WAITING_BYTES);
  readonly #pool = new FlowPool(USUAL_ENTRIES);
  readonly #meters = new Set<Meter>();
  /** Those that tell of their last flows. */
  readonly #closing = new Set<Promise<void>>();
  /** While the agent has much to take, flows stay in their tables: in the outbox some would have to give way. */
  readonly #sweeps = new Sweeps(() => this.outbox.isPressed);
  #ringBytes = USUAL_RING_BYTES;
  #ticker: NodeJS.Timeout | undefined;
  #verifier: NodeJS.Timeout | undefined;
  #next = 0;

  limit({ tableEntries, waitingBytes, ringBytes }: FlowLimits): void {
    this.#pool.limit(tableEntries || USUAL_ENTRIES);
    this.outbox.limit(waitingBytes || USUAL_WAITING_BYTES);
    this.#ringBytes = ringBytes || USUAL_RING_BYTES;
  }

  /** Begins to meter a device, now or as soon as it can be tapped. */
  open(device: Device, setup: MeterSetup): Meter {
    const peerOf: PeerOf = (bytes, at, size) => this.peerName(device.uid, bytes, at, size);
    const meter = new Meter(device, setup, { pool: this.#pool, outbox: this.outbox, ringBytes: () => this.#ringFor(), peerOf });
    this.#meters.add(meter);
    this.#ticker ??= setInterval(() => {
      for (const one of this.#meters) {
        one.tick();
        this.#sweeps.add(one);
      }
      this.#sweeps.run();
    }, 1000 / TICKS);
    this.#verifier ??= setInterval(() => this.#verifySome(), VERIFY_MS);
    return meter;
  }

  /** Ends it; what it has still to tell comes later. */
  drop(meter: Meter): void {
    if (!this.#meters.delete(meter)) return;
    this.#sweeps.remove(meter);
    const closing = meter.close().finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
    if (this.#meters.size === 0) this.#rest();
  }

  /** Records wait for the agent, or are still to come. */
  get isBusy(): boolean {
    return this.#closing.size > 0 || !this.outbox.isEmpty;
  }

  /** Ends all, and waits a little for an agent that listens to take what they had to tell. */
  async close(): Promise<void> {
    for (const meter of [...this.#meters]) this.drop(meter);
    await Promise.all(this.#closing);
    const deadline = performance.now() + LAST_RECORDS_MS;
    while (this.outbox.isConnected && !this.outbox.isEmpty && performance.now() < deadline) await sleep(10);
  }

  #rest(): void {
    this.#sweeps.stop();
    clearInterval(this.#ticker);
    clearInterval(this.#verifier);
    this.#ticker = undefined;
    this.#verifier = undefined;
  }

  /** A quarter of what is left: the first rings are large, and there is always some for the next. */
  #ringFor(): number {
    let left = this.#ringBytes;
    for (const meter of this.#meters) left -= meter.ringBytes;
    const share = Math.max(RING_LEAST_BYTES, Math.min(RING_MOST_BYTES, left / 4));
    return 2 ** Math.floor(Math.log2(share));
  }

  #verifySome(): void {
    // Batches tell when they were made.
    followWallClock();
    const all = [...this.#meters];
    if (this.#next >= all.length) this.#next = 0;
    for (const meter of all.slice(this.#next, this.#next + VERIFIED_AT_ONCE)) meter.verify();
    this.#next += VERIFIED_AT_ONCE;
  }
}
