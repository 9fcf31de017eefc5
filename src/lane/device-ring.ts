// A capture ring on the device that is meant, for as long as somebody wants it: follows the device when it goes and comes back, and tells of
// frames in rounds, so that others get their turn between them.
//
//   closed --open--> open <--(up: the kernel goes on by itself)-- down
//                     '--(ENETDOWN)--> down --(gone, or another)--> waiting for one with the same mark: tried again every RETRY_MS

import { setTimeout as sleep } from 'node:timers/promises';
import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import { findMarked, inNamespace, isStillMeant } from '../sys/marked-tun.ts';
import { PacketRing, type RingFrame, type RingShape } from '../sys/packet-ring.ts';
import { isErrno, SysError } from '../sys/sys-error.ts';
import { markedDevice } from './device.ts';
import { explain } from './failure.ts';

const RETRY_MS = 250;
/** What is not allowed now is hardly allowed a moment later. */
const REFUSED_MS = 5000;
/** Bytes of blocks worked off before others get their turn. */
const ROUND_BYTES = 256 * 1024;
const DROPS_MS = 200;

/** Who looks through a ring. */
export interface RingUser {
  /** A frame of `ring.bytes`; valid until it returns (*borrows*). */
  take(frame: RingFrame, ring: PacketRing): void;
  /** The kernel had no room for so many frames. */
  lose(count: number): void;
  /** A round is over. */
  flush(): void;
  /** The ring was opened, maybe again. */
  opened?(): void;
}

export class DeviceRing {
  readonly #device: Device;
  readonly #shape: () => RingShape;
  readonly #user: RingUser;
  #wanted = false;
  /** Nobody waits for it to open. */
  #patient = false;
  #opening = false;
  #ring: PacketRing | undefined;
  #delayMs = 0;
  #identity = '';
  #reason = '';
  #timer: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #more: NodeJS.Immediate | undefined;

  /** `shape` is asked at each opening. */
  constructor(device: Device, shape: () => RingShape, user: RingUser) {
    this.#device = device;
    this.#shape = shape;
    this.#user = user;
  }

  get isOpen(): boolean {
    return this.#ring !== undefined;
  }

  /** Why it is not open. */
  get reason(): string {
    return this.#reason;
  }

  /** Opens it now; throws SysError, and does not try again, when it cannot. */
  open(): void {
    if (this.#ring === undefined) this.#open();
    this.#wanted = true;
  }

  /** Opens it as soon as it can be, without holding anybody up. */
  openWhenever(): void {
    this.#wanted = true;
    this.#patient = true;
    if (this.#ring === undefined) this.#reopen();
  }

  /** Looks whether the device is still the one that is meant, which no notification tells. */
  verify(): void {
    if (this.#ring !== undefined && !isStillMeant(markedDevice(this.#device), this.#identity)) this.#look();
  }

  /** Tells of all that the kernel has handed over; what it hands over meanwhile may wait, or this might never end. */
  drain(): void {
    const blocks = this.#ring?.blocks ?? 0;
    const most = this.#round();
    for (let round = 0; round < Math.ceil(blocks / most) && this.#step(); round++);
    this.#takeDrops();
  }

  /** Tells of all that has passed until now, also what the kernel has not handed over yet. */
  async settle(): Promise<void> {
    await sleep(this.#delayMs);
    this.drain();
  }

  close(): void {
    this.#wanted = false;
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#shut();
  }

  #open(): void {
    const device = markedDevice(this.#device);
    const { index, identity } = findMarked(device);
    this.#begin(
      inNamespace(device.namespace, () => PacketRing.open(index, this.#shape())),
      identity,
    );
  }

  /** Throws as `#open` does for what is known at once. */
  #openLater(): void {
    const device = markedDevice(this.#device);
    const { index, identity } = findMarked(device);
    const isWanted = (): boolean => this.#wanted && this.#ring === undefined;
    const opening = inNamespace(device.namespace, () => PacketRing.openLater(index, this.#shape(), isWanted));
    this.#opening = true;
    opening
      .then(
        (ring) => ring && this.#begin(ring, identity),
        (error) => this.#failed(error),
      )
      .finally(() => {
        this.#opening = false;
      });
  }

  #begin(ring: PacketRing, identity: string): void {
    clearTimeout(this.#retry);
    this.#ring = ring;
    this.#delayMs = ring.delayMs;
    this.#identity = identity;
    this.#reason = '';
    this.#user.opened?.();
    ring.listen((failed) => this.#ready(failed));
  }

  #round(): number {
    return Math.max(1, Math.floor(ROUND_BYTES / (this.#ring?.blockBytes ?? ROUND_BYTES)));
  }

  #ready(failed: boolean): void {
    const ring = this.#ring;
    if (ring === undefined) return;
    // One system call less for each block: an error comes without any.
    const suspicious = failed || !ring.hasBlock();
    if (this.#step()) this.#more ??= setImmediate(() => this.#continue());
    if (!suspicious || ring !== this.#ring || ring.problem() === undefined) return;
    ring.listen((again) => this.#ready(again));
    this.#look();
  }

  /** The device is down, or gone. When it is only down the ring stays, so that nothing is missed when it comes up. */
  #look(): void {
    try {
      const { identity } = findMarked(markedDevice(this.#device));
      // Should it go while it is down, which nothing tells, `verify` sees it: asking for each of very many costs too much.
      if (identity === this.#identity) return;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
    }
    // What is in the ring is still good.
    this.drain();
    const ring = this.#ring;
    ring?.drainRest((frame) => this.#user.take(frame, ring));
    this.#user.flush();
    this.#reopen();
  }

  #again(run: () => void, delayMs = RETRY_MS): void {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(run, delayMs);
    this.#retry.unref();
  }

  #continue(): void {
    this.#more = undefined;
    if (this.#step()) this.#more = setImmediate(() => this.#continue());
  }

  /** Works off some blocks; answers whether more wait. */
  #step(): boolean {
    const ring = this.#ring;
    if (ring === undefined) return false;
    const more = ring.drain(this.#round(), this.#take);
    this.#user.flush();
    // A ring that nothing comes through has lost nothing.
    this.#timer ??= setTimeout(this.#takeDrops, DROPS_MS).unref();
    return more;
  }

  #take = (frame: RingFrame): void => this.#user.take(frame, this.#ring as PacketRing);

  #takeDrops = (): void => {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const drops = this.#ring?.takeDrops() ?? 0;
    if (drops > 0) this.#user.lose(drops);
  };

  #reopen(): void {
    this.#shut();
    if (!this.#wanted || this.#opening) return;
    try {
      if (this.#patient) this.#openLater();
      else this.#open();
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    if (!(error instanceof SysError)) throw error;
    this.#reason = explain(error, `look at ${this.#device.interface}`, this.#device).message;
    if (this.#wanted) this.#again(() => this.#reopen(), isErrno(error, 'EPERM', 'EACCES') ? REFUSED_MS : RETRY_MS);
  }

  #shut(): void {
    clearImmediate(this.#more);
    this.#more = undefined;
    this.#takeDrops();
    this.#ring?.close();
    this.#ring = undefined;
  }
}
