// A tap on one device for all who observe it: sees both directions, takes nothing away, works whoever holds the queues. Opens with the
// first observer and closes with the last.
//
//   closed --add--> open <--(up: the kernel goes on by itself)-- down
//                     '--(ENETDOWN)--> down --(gone, or another)--> waiting for one with the same mark: tried again every RETRY_MS
//
// What the kernel took off or left undone is made good before observers see a frame: VLAN tags, checksums, super-frames.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import { insertVlanTag } from '../packet/vlan.ts';
import { findMarked, inNamespace, isStillMeant } from '../sys/marked-tun.ts';
import { PacketRing, RING_DELAY_MS, type RingFrame } from '../sys/packet-ring.ts';
import { SysError } from '../sys/sys-error.ts';
import { type FrameClock, INBOUND, OUTBOUND } from './batch.ts';
import { followWallClock, frameClock, monotonicOffsetNs } from './clock.ts';
import { markedDevice } from './device.ts';
import { Intake } from './intake.ts';
import { FRAME_MOST } from './subscription.ts';

const RETRY_MS = 250;
/** Memory of the kernel for one tap. */
export const RING_BYTES = 4 * 1024 * 1024;
/** Blocks worked off before others get their turn. */
const ROUND = 2;
const DROPS_MS = 200;
const VLAN_BYTES = 4;
/** Who looks at the frames of a device. */
export interface Observer {
  /** A frame of `length` bytes of which `captured` are in `bytes` from `start` on. Valid until it returns (*borrows*). */
  offer(bytes: Buffer, start: number, captured: number, length: number, direction: number, clock: FrameClock): void;
  /** Frames were lost before they could be offered. */
  lose(reason: 'kernel' | 'malformed', count: number): void;
  flush(): void;
}

export class Tap {
  readonly #device: Device;
  readonly #intake: Intake;
  readonly #clock = frameClock();
  readonly #vlan = Buffer.allocUnsafeSlow(FRAME_MOST + VLAN_BYTES);
  readonly #changed: () => void;
  #observers: Observer[] = [];
  #ring: PacketRing | undefined;
  #identity = '';
  #timer: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #more: NodeJS.Immediate | undefined;
  #direction = OUTBOUND;

  /** `changed` is called when the last observer has gone. */
  constructor(device: Device, changed: () => void = () => {}) {
    this.#device = device;
    this.#changed = changed;
    this.#intake = new Intake(device.tap, (bytes, start, length) => {
      for (const observer of this.#observers) observer.offer(bytes, start, length, length, this.#direction, this.#clock);
    });
  }

  get idle(): boolean {
    return this.#observers.length === 0;
  }

  /** Shows every frame to `observer` from now on. Throws SysError when the device cannot be tapped now. */
  add(observer: Observer): void {
    if (this.#ring === undefined) this.#open();
    // What the ring holds from before is not for it.
    this.drain();
    this.#observers = [...this.#observers, observer];
  }

  remove(observer: Observer): void {
    this.#observers = this.#observers.filter((other) => other !== observer);
    if (!this.idle) return;
    this.close();
    this.#changed();
  }

  /** Looks whether the device is still the one that is meant, see `Port.verify`; and whether the clock was set. */
  verify(): void {
    if (this.#ring === undefined) return;
    followWallClock();
    this.#clock.monotonicOffsetNs = monotonicOffsetNs();
    if (!isStillMeant(markedDevice(this.#device), this.#identity)) this.#look();
  }

  /** Shows all that the kernel has handed over; what it hands over meanwhile may wait, or this might never end. */
  drain(): void {
    const rounds = Math.ceil((this.#ring?.blocks ?? 0) / ROUND);
    for (let round = 0; round < rounds && this.#step(); round++);
  }

  /** Shows all that has passed until now, also what the kernel has not handed over yet. */
  async settle(): Promise<void> {
    await sleep(RING_DELAY_MS);
    this.drain();
  }

  close(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#shut();
  }

  #open(): void {
    const device = markedDevice(this.#device);
    const { index, identity } = findMarked(device);
    const ring = inNamespace(device.namespace, () => new PacketRing(index, RING_BYTES));
    clearTimeout(this.#retry);
    this.#ring = ring;
    this.#identity = identity;
    this.#clock.monotonicOffsetNs = monotonicOffsetNs();
    ring.listen(() => this.#ready());
    this.#timer = setInterval(() => this.#takeDrops(), DROPS_MS);
    this.#timer.unref();
  }

  #ready(): void {
    if (this.#step()) this.#more ??= setImmediate(() => this.#continue());
    if (this.#ring?.problem() === undefined) return;
    this.#ring.listen(() => this.#ready());
    this.#look();
  }

  /** The device is down, or gone. When it is only down the ring stays, so that nothing is missed when it comes up. */
  #look(): void {
    try {
      const { identity, up } = findMarked(markedDevice(this.#device));
      if (identity === this.#identity) {
        if (!up) this.#again(() => this.#look());
        return;
      }
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
    }
    // What is in the ring is still good.
    this.drain();
    this.#ring?.drainRest(this.#take);
    for (const observer of this.#observers) observer.flush();
    this.#reopen();
  }

  #again(run: () => void): void {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(run, RETRY_MS);
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
    const more = ring.drain(ROUND, this.#take);
    if (!more) this.#takeDrops();
    for (const observer of this.#observers) observer.flush();
    return more;
  }

  #take = (frame: RingFrame): void => {
    const ring = this.#ring as PacketRing;
    const clock = this.#clock;
    clock.seconds = frame.seconds;
    clock.nanos = frame.nanos;
    this.#direction = frame.outgoing ? OUTBOUND : INBOUND;
    let bytes = ring.bytes;
    let { start, captured } = frame;
    if (captured < frame.length) {
      // Cut by the ring: nothing that needs the whole frame can be made good.
      for (const observer of this.#observers) observer.offer(bytes, start, captured, frame.length, this.#direction, clock);
      return;
    }
    if (frame.vlanTpid !== 0 && this.#device.tap && captured >= 14 && captured <= FRAME_MOST - VNET_BYTES) {
      // The header stands before the frame in the copy too, with what it points to moved behind the tag.
      captured = this.#withTag(bytes, start, captured, frame);
      bytes = this.#vlan;
      start = VNET_BYTES;
    }
    if (!this.#intake.withHeader(bytes, start, captured)) for (const observer of this.#observers) observer.lose('malformed', 1);
  };

  #withTag(bytes: Buffer, start: number, captured: number, frame: RingFrame): number {
    const out = this.#vlan;
    bytes.copy(out, 0, start - VNET_BYTES, start);
    if ((out[0] as number) !== 0 || (out[1] as number) !== 0) out.writeUInt16LE((out.readUInt16LE(6) + VLAN_BYTES) & 0xffff, 6);
    return insertVlanTag(out.subarray(VNET_BYTES), bytes, start, captured, frame.vlanTpid, frame.vlanTci);
  }

  #takeDrops(): void {
    const drops = this.#ring?.takeDrops() ?? 0;
    if (drops > 0) for (const observer of this.#observers) observer.lose('kernel', drops);
  }

  #reopen(): void {
    this.#shut();
    if (this.idle) return;
    try {
      this.#open();
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#again(() => this.#reopen());
    }
  }

  #shut(): void {
    clearInterval(this.#timer);
    clearImmediate(this.#more);
    this.#more = undefined;
    this.#takeDrops();
    this.#ring?.close();
    this.#ring = undefined;
  }
}

const VNET_BYTES = 10;
