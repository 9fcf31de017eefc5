// One stream or capture: a subscription, its delivery, and what its client sends in. It may outlive its connection.
//
//   opened --> attached --break--> detached --resume--> attached
//                 |                    '--(timeout)--> closed
//                 '--END, limit--> finishing --> closed
//
// Requests are worked off in order and in bounded pieces: a request with many frames does not hold up the lane.

import { invalidFields, TaplaneError } from '../errors.ts';
import type { StreamState } from '../gen/taplane/lane/v1/lane_service.ts';
import { InjectRejection_Reason, LinkType, type StreamOpened } from '../gen/taplane/v1/packet.ts';
import { interfaceDescription, interfaceStatistics, LINKTYPE_ETHERNET, LINKTYPE_RAW, sectionHeader } from '../packet/pcapng.ts';
import { InjectAccount } from './account.ts';
import { wallNs } from './clock.ts';
import { Delivery, type Outlet } from './delivery.ts';
import { RequestReader } from './request-reader.ts';
import type { StreamPlan } from './stream-rules.ts';
import type { Subscription } from './subscription.ts';

/** Frames sent into a device before others get their turn. */
const ROUND = 128;
const ACCOUNTS_MS = 500;

/** Where a stream gets its frames from, and puts those of its client. */
export interface Source {
  readonly tap: boolean;
  readonly interface: string;
  readonly uid: string;
  /** Lets go of the device. */
  release(): void;
  /** Sends a frame in; absent for one that only observes. */
  write: ((bytes: Buffer, start: number, length: number) => InjectRejection_Reason) | undefined;
  /** Shows what has passed and was not shown yet. */
  settle(): Promise<void>;
}

export class PacketStream {
  readonly token: string;
  readonly subscription: Subscription;
  readonly plan: StreamPlan;
  readonly delivery: Delivery;
  readonly #source: Source;
  readonly #inject = new InjectAccount();
  readonly #startNs = wallNs();
  readonly #timer: NodeJS.Timeout;
  readonly #durationTimer: NodeJS.Timeout | undefined;
  #work: RequestReader | undefined;
  #waiting: RequestReader[] = [];
  #turn: NodeJS.Immediate | undefined;
  #idle: (() => void) | undefined;
  #closed = false;
  #limited = false;
  #finishing = false;
  /** Called when a limit was reached and the stream should finish. */
  onLimit: () => void = () => {};
  /** Called when the requests that wait are fewer again. */
  onRoom: () => void = () => {};
  /** Called when a request cannot be read. */
  onBad: (error: TaplaneError) => void = () => {};

  /** `subscription` gets its frames from `source` already. */
  constructor(token: string, plan: StreamPlan, subscription: Subscription, source: Source) {
    this.token = token;
    this.plan = plan;
    this.subscription = subscription;
    this.#source = source;
    this.delivery = new Delivery(subscription, this.#inject, plan.windowBytes);
    subscription.onLimit = () => this.#limit();
    this.#timer = setInterval(() => this.delivery.tellAccounts(), ACCOUNTS_MS);
    this.#timer.unref();
    if (Number.isFinite(plan.durationMs)) this.#durationTimer = setTimeout(() => this.#limit(), plan.durationMs);
    if (plan.format === 'pcapng') this.#beginFile();
  }

  get state(): StreamState {
    return { uid: this.#source.uid, consuming: this.#source.write !== undefined, detached: !this.delivery.attached };
  }

  get uid(): string {
    return this.#source.uid;
  }

  /** Its client sends no more: when its connection breaks nobody comes back for it. */
  get finishing(): boolean {
    return this.#finishing;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Goes on over a connection. */
  attach(outlet: Outlet, resumed: boolean): void {
    this.delivery.attach(outlet, this.#opened(resumed));
    if (this.#limited) this.onLimit();
  }

  /** The bytes of a request of the client, `first` of its connection (*transfers*). False: no more should come before `onRoom`. */
  request(bytes: Buffer, first: boolean): boolean {
    if (this.#closed) return true;
    this.#waiting.push(new RequestReader(bytes, first));
    if (this.#work === undefined && this.#turn === undefined) this.#run();
    return this.#turn === undefined;
  }

  /** The client sends no more: works off what it has sent, sends what waits, and the last totals. */
  async finish(): Promise<void> {
    this.#finishing = true;
    if (this.#work !== undefined || this.#turn !== undefined) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    if (this.#closed) return;
    await this.#source.settle();
    if (this.#closed) return;
    this.#source.release();
    if (this.plan.format === 'pcapng') this.#endFile();
    await this.delivery.finish();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    clearTimeout(this.#durationTimer);
    clearImmediate(this.#turn);
    this.#source.release();
    this.delivery.close();
    this.#waiting = [];
    this.#work = undefined;
    this.#idle?.();
  }

  #limit(): void {
    if (this.#limited || this.#closed) return;
    this.#limited = true;
    // Not in the middle of a round of reading.
    setImmediate(() => this.onLimit());
  }

  #opened(resumed: boolean): StreamOpened {
    return {
      resumeToken: this.token,
      linkType: this.#source.tap ? LinkType.ETHERNET : LinkType.RAW,
      snapLength: this.plan.snapLength,
      queueBytes: this.plan.queueBytes,
      maxBatchBytes: this.plan.batchBytes,
      resumed,
      nextSequence: BigInt(this.subscription.queue.nextSequence),
    };
  }

  #run(): void {
    this.#turn = undefined;
    for (let count = 0; count < ROUND && !this.#closed; ) {
      this.#work ??= this.#waiting.shift();
      const work = this.#work;
      if (work === undefined) break;
      const outcome = work.next();
      if (outcome === 'frame') {
        this.#inject.count(this.#write(work.bytes, work.start, work.length));
        count++;
        continue;
      }
      this.#work = undefined;
      if (outcome === 'bad') {
        this.onBad(
          new TaplaneError('INVALID_ARGUMENT', 'MALFORMED_REQUEST', 'read request of StreamPackets: not a valid protobuf message'),
        );
        return;
      }
      if (outcome === 'great') {
        this.onBad(invalidFields([{ field: 'inject_id', description: 'must be below 2^53, as must acknowledge' }]));
        return;
      }
      if (outcome === 'open') {
        this.onBad(invalidFields([{ field: 'open', description: 'is given once, in the first request' }]));
        return;
      }
      if (work.injectId > this.#inject.lastId) {
        this.#inject.lastId = work.injectId;
        this.#inject.changed = true;
      }
      if (work.acknowledge > 0) this.delivery.acknowledge(work.acknowledge);
    }
    if (this.#closed) return;
    if (this.#work !== undefined || this.#waiting.length > 0) {
      this.#turn = setImmediate(() => this.#run());
      return;
    }
    this.delivery.pump();
    this.onRoom();
    this.#idle?.();
    this.#idle = undefined;
  }

  #write(bytes: Buffer, start: number, length: number): InjectRejection_Reason {
    return this.#source.write === undefined ? InjectRejection_Reason.NOT_ATTACHED : this.#source.write(bytes, start, length);
  }

  #beginFile(): void {
    const { interface: name, tap } = this.#source;
    const { filter, snapLength } = this.plan;
    const description = { name, linkType: tap ? LINKTYPE_ETHERNET : LINKTYPE_RAW, snapLength, ...(filter === '' ? {} : { filter }) };
    this.subscription.queue.addPiece(
      Buffer.concat([sectionHeader({ os: 'Linux', application: 'taplane' }), interfaceDescription(description)]),
    );
  }

  #endFile(): void {
    const { account, queue } = this.subscription;
    const endNs = wallNs();
    const dropped = account.kernel + account.malformed + account.queueFull;
    queue.addPiece(
      interfaceStatistics(0, {
        received: BigInt(account.offered),
        accepted: BigInt(account.offered - account.filtered - account.sampledOut - account.kernel),
        dropped: BigInt(dropped),
        startNs: this.#startNs,
        endNs,
      }),
    );
  }
}
