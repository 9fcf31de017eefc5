// Where the queues of one device meet those who use them. Attaches as long as somebody holds it, and lets go with the last.
//
//   nobody <--hold/release--> parked (carrier only) <--consume/release--> reading
//                                |  '--(device gone, or held by others)--> waiting: tried again every RETRY_MS
//
// Between parked and reading the same queue is used, so that the carrier never changes. On a multi-queue device a parked queue is turned off
// and every frame goes to the queues of others; of a single-queue device it is the only one. What came while nobody read is thrown away
// before the first consumer gets something. Reads are bounded in each turn of the event loop.

import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import type { InjectRejection_Reason as Rejected } from '../gen/taplane/v1/packet.ts';
import * as libc from '../sys/libc.ts';
import { attachMarked, findMarked, isStillMeant, setHeaders } from '../sys/marked-tun.ts';
import { SysError } from '../sys/sys-error.ts';
import { IFF_ATTACH_QUEUE, IFF_DETACH_QUEUE, setOffload, setQueue, TUN_OFFLOADS } from '../sys/tun.ts';
import type { FrameClock } from './batch.ts';
import { followWallClock, frameClock, monotonicOffsetNs, setNow } from './clock.ts';
import type { Consumer } from './consumer.ts';
import { markedDevice } from './device.ts';
import { FrameWriter } from './frame-writer.ts';
import { Intake } from './intake.ts';
import { Queue } from './queue.ts';

const RETRY_MS = 250;
/** Reads of a queue, and frames that they are cut into, before others get their turn: sending wants its turn too. */
const ROUND = 64;
const ROUND_FRAMES = 192;
const READ_BYTES = 65_536 + 64;
const STALE_MOST = 8192;
const PI_BYTES = 4;
const VNET_BYTES = 10;
const EAGAIN = -11;
const EINTR = -4;

export interface PortConsumer extends Consumer {
  /** Wants frames as the kernel gives them: each behind its virtio header (an empty one where the device has none), super-frames whole. */
  readonly superFrames?: boolean;
  /** Frames were lost because their header did not fit. */
  lose?(reason: 'malformed', count: number): void;
}

export class Port {
  readonly device: Device;
  readonly clock: FrameClock = frameClock();
  #queueCount: number;
  readonly #changed: () => void;
  readonly #intake: Intake;
  readonly #writer: FrameWriter;
  readonly #buffer = Buffer.alloc(VNET_BYTES + READ_BYTES);
  /** Where the kernel's bytes go: behind an empty virtio header, for a device that gives none. */
  readonly #target: Buffer;
  readonly #headerBytes: number;
  #queues: Queue[] = [];
  #reading = false;
  #identity = '';
  /** Frames of this round. */
  #cut = 0;
  #parked = false;
  #injectors = 0;
  #consumers: PortConsumer[] = [];
  /** Those of them that want whole frames, and those that want super-frames. */
  #plain: PortConsumer[] = [];
  #super: PortConsumer[] = [];
  #retry: NodeJS.Timeout | undefined;
  #clockTimer: NodeJS.Timeout | undefined;
  #offload = 0;
  reason = '';

  /** `changed` is called when the port has attached by itself, or lost its device. */
  constructor(device: Device, queueCount: number, changed: () => void) {
    this.device = device;
    this.#queueCount = device.multiQueue ? Math.max(1, queueCount) : 1;
    this.#changed = changed;
    this.#headerBytes = (device.packetInfo ? PI_BYTES : 0) + (device.vnetHeader ? VNET_BYTES : 0);
    this.#target = this.#buffer.subarray(VNET_BYTES);
    this.#intake = new Intake(device.tap, (bytes, start, length) => {
      this.#cut++;
      for (const consumer of this.#plain) consumer.take(bytes, start, length);
    });
    this.#writer = new FrameWriter(device, () => this.#queues[0]?.fd ?? -1);
  }

  /** Reads from so many queues from now on; only a multi-queue device has more than one. */
  resize(queueCount: number): void {
    if (!this.device.multiQueue || Math.max(1, queueCount) === this.#queueCount) return;
    this.#queueCount = Math.max(1, queueCount);
    if (this.#reading) this.#settle();
  }

  get attached(): boolean {
    return this.#queues.length > 0;
  }

  /** Nobody holds it. */
  get idle(): boolean {
    return !this.#parked && this.#injectors === 0 && this.#consumers.length === 0;
  }

  park(on: boolean): void {
    this.#parked = on;
    this.#settle();
  }

  /** Holds the queue for sending only. Throws SysError when it cannot be had now. */
  addInjector(): void {
    this.#injectors++;
    this.#settleOrThrow(() => this.removeInjector());
  }

  removeInjector(): void {
    this.#injectors--;
    this.#settle();
  }

  /** Offers every frame to `consumer` from now on. Throws SysError when the queue cannot be had now, unless `patient`. */
  addConsumer(consumer: PortConsumer, patient = false): void {
    // What was read in this turn was not for it.
    this.#setConsumers([...this.#consumers, consumer]);
    if (patient) this.#settle();
    else this.#settleOrThrow(() => this.removeConsumer(consumer));
  }

  removeConsumer(consumer: PortConsumer): void {
    this.#setConsumers(this.#consumers.filter((other) => other !== consumer));
    this.#settle();
  }

  /** Sends a whole frame into the device, see `WriteFrame`. */
  write = (bytes: Buffer, start: number, length: number): Rejected => this.#writer.write(bytes, start, length);

  /** Sends a frame that has its virtio header before it. */
  writeSuper = (bytes: Buffer, start: number, length: number): Rejected => this.#writer.writeSuper(bytes, start, length);

  /** Looks whether the device that is held is still the one that is meant: its namespace may have been made anew. */
  verify(): void {
    if (this.attached && !isStillMeant(markedDevice(this.device), this.#identity)) this.#lost();
  }

  /** Looks whether the device that is held is still there, and tries again what could not be had. */
  check(): void {
    const [first] = this.#queues;
    if (first !== undefined && !first.isAttached()) this.#lost();
    this.#settle();
  }

  close(): void {
    clearTimeout(this.#retry);
    clearInterval(this.#clockTimer);
    this.#setConsumers([]);
    this.#parked = false;
    this.#injectors = 0;
    this.#release();
  }

  #setConsumers(consumers: PortConsumer[]): void {
    this.#consumers = consumers;
    this.#plain = consumers.filter(({ superFrames }) => superFrames !== true);
    this.#super = consumers.filter(({ superFrames }) => superFrames === true);
  }

  #settleOrThrow(undo: () => void): void {
    const error = this.#settle();
    if (error === undefined) return;
    undo();
    throw error;
  }

  /** Brings the queues to what those who hold the port need. */
  #settle(): SysError | undefined {
    if (this.idle) {
      clearTimeout(this.#retry);
      this.#retry = undefined;
      this.#release();
      return undefined;
    }
    const error = this.#attach();
    if (error !== undefined) {
      this.reason = error.message;
      this.#again();
      return error;
    }
    this.reason = '';
    return undefined;
  }

  #attach(): SysError | undefined {
    const active = this.#injectors > 0 || this.#consumers.length > 0;
    const { multiQueue } = this.device;
    try {
      if (!this.attached) {
        const fds = attachMarked(markedDevice(this.device), active ? this.#queueCount : multiQueue ? 'off' : 1);
        this.#queues = fds.map((fd) => new Queue(fd));
        this.#identity = findMarked(markedDevice(this.device)).identity;
        this.#offload = 0;
        this.#reading = false;
        for (const queue of this.#queues) this.#watch(queue, active);
        this.#reading = active;
      } else if (active !== this.#reading) this.#turn(active);
      else if (active && this.#queues.length !== this.#queueCount) this.#fitQueues();
      // One super-frame that is cut here costs less than its pieces read one by one.
      const offload = this.device.vnetHeader && this.#consumers.length > 0 ? TUN_OFFLOADS : 0;
      if (offload !== this.#offload && this.#queues[0] !== undefined) {
        setOffload(this.#queues[0].fd, offload);
        this.#offload = offload;
      }
      this.#tick();
      return undefined;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      if (!this.#parkAgain()) this.#release();
      return error;
    }
  }

  /** After a change that failed: back to the parked queue, if there is one, so that the carrier stays. */
  #parkAgain(): boolean {
    const [first, ...others] = this.#queues;
    if (first === undefined || !this.#parked || !first.isAttached()) return false;
    for (const queue of others) queue.close();
    this.#queues = [first];
    this.#watch(first, false);
    this.#reading = false;
    try {
      if (this.device.multiQueue) setQueue(first.fd, IFF_DETACH_QUEUE);
    } catch {
      // It is off already.
    }
    return true;
  }

  /** From parked to reading or back, on the same first queue. */
  #turn(active: boolean): void {
    const [first, ...others] = this.#queues;
    if (first === undefined) return;
    if (active) {
      if (this.device.multiQueue) {
        setQueue(first.fd, IFF_ATTACH_QUEUE);
        this.#fitQueues();
      }
      setHeaders(first.fd, markedDevice(this.device), 0);
      this.#offload = 0;
      this.#throwAway(first.fd);
    } else {
      for (const queue of others) queue.close();
      this.#queues = [first];
      if (this.device.multiQueue) setQueue(first.fd, IFF_DETACH_QUEUE);
    }
    this.#watch(first, active);
    this.#reading = active;
  }

  /** Opens or closes queues beside the first. */
  #fitQueues(): void {
    for (const queue of this.#queues.splice(this.#queueCount)) queue.close();
    const missing = this.#queueCount - this.#queues.length;
    if (missing === 0) return;
    const queues = attachMarked(markedDevice(this.device), missing, this.#offload).map((fd) => new Queue(fd));
    for (const queue of queues) this.#watch(queue, true);
    this.#queues.push(...queues);
  }

  #watch(queue: Queue, active: boolean): void {
    if (active) queue.listen((status) => this.#ready(queue, status));
    else queue.watch(() => this.#lost());
  }

  #throwAway(fd: number): void {
    for (let count = 0; count < STALE_MOST && libc.read(fd, this.#target, READ_BYTES) > 0; ) count++;
  }

  #ready(queue: Queue, status: number): void {
    if (queue.closed) return;
    setNow(this.clock);
    this.#cut = 0;
    for (let count = 0; count < ROUND && this.#cut < ROUND_FRAMES; count++) {
      const length = libc.read(queue.fd, this.#target, READ_BYTES);
      if (length >= 0) this.#take(length);
      else if (length === EINTR) continue;
      else if (length === EAGAIN && status >= 0) break;
      else {
        this.#flush();
        if (!queue.isAttached()) this.#lost();
        // libuv has stopped polling after an error that was not the end of the device.
        else if (status < 0) this.#watch(queue, true);
        return;
      }
      // A consumer may have let go of the port, or have found that the device is gone.
      if (queue.closed) break;
    }
    this.#flush();
  }

  #take(length: number): void {
    const start = VNET_BYTES + this.#headerBytes;
    const frame = length - this.#headerBytes;
    if (frame <= 0) return;
    // Packet information of a device without virtio headers stands where theirs would be.
    if (!this.device.vnetHeader && this.device.packetInfo && this.#super.length > 0) this.#buffer.fill(0, start - VNET_BYTES, start);
    for (const consumer of this.#super) consumer.take(this.#buffer, start - VNET_BYTES, frame + VNET_BYTES);
    if (this.#plain.length === 0) return;
    if (!this.device.vnetHeader) {
      for (const consumer of this.#plain) consumer.take(this.#buffer, start, frame);
      return;
    }
    if (!this.#intake.withHeader(this.#buffer, start, frame)) for (const consumer of this.#plain) consumer.lose?.('malformed', 1);
  }

  #flush(): void {
    for (const consumer of this.#consumers) consumer.flush();
  }

  /** The device is gone; another with the same mark may come. */
  #lost(): void {
    if (!this.attached) return;
    this.#release();
    this.reason = 'the device is gone';
    this.#again();
    this.#changed();
  }

  #again(): void {
    if (this.#retry !== undefined || this.idle) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      if (this.#settle() === undefined) this.#changed();
    }, RETRY_MS);
    this.#retry.unref();
  }

  #release(): void {
    for (const queue of this.#queues) queue.close();
    this.#queues = [];
    this.#reading = false;
    clearInterval(this.#clockTimer);
    this.#clockTimer = undefined;
  }

  /** Follows the wall clock, should somebody set it. */
  #tick(): void {
    if (this.#clockTimer !== undefined || !this.#reading) return;
    this.clock.monotonicOffsetNs = monotonicOffsetNs();
    this.#clockTimer = setInterval(() => {
      followWallClock();
      this.clock.monotonicOffsetNs = monotonicOffsetNs();
    }, 1000);
    this.#clockTimer.unref();
  }
}
