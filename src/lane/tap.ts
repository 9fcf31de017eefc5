// A tap on one device for all who observe it: sees both directions, takes nothing away, works whoever holds the queues. Opens with the
// first observer and closes with the last; `DeviceRing` says what becomes of it when the device goes.
//
// What the kernel took off or left undone is made good before observers see a frame: VLAN tags, checksums, super-frames.

import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import { insertVlanTag } from '../packet/vlan.ts';
import type { PacketRing, RingFrame } from '../sys/packet-ring.ts';
import { type FrameClock, INBOUND, OUTBOUND } from './batch.ts';
import { followWallClock, frameClock, monotonicOffsetNs } from './clock.ts';
import { DeviceRing } from './device-ring.ts';
import { Intake } from './intake.ts';
import { FRAME_MOST } from './subscription.ts';

/** Memory of the kernel for one tap. */
export const RING_BYTES = 4 * 1024 * 1024;
/** A super-frame of 64 KiB with all its headers fits into a block. */
const BLOCK_BYTES = 128 * 1024;
const RETIRE_MS = 16;
const VNET_BYTES = 10;
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
  readonly #tap: boolean;
  readonly #intake: Intake;
  readonly #clock = frameClock();
  readonly #vlan = Buffer.allocUnsafeSlow(FRAME_MOST + VLAN_BYTES);
  readonly #changed: () => void;
  readonly #ring: DeviceRing;
  #observers: Observer[] = [];
  #direction = OUTBOUND;

  /** `changed` is called when the last observer has gone. */
  constructor(device: Device, changed: () => void = () => {}) {
    this.#tap = device.tap;
    this.#changed = changed;
    this.#intake = new Intake(device.tap, (bytes, start, length) => {
      for (const observer of this.#observers) observer.offer(bytes, start, length, length, this.#direction, this.#clock);
    });
    this.#ring = new DeviceRing(device, () => ({ bytes: RING_BYTES, blockBytes: BLOCK_BYTES, retireMs: RETIRE_MS }), {
      take: (frame, ring) => this.#take(frame, ring),
      lose: (count) => {
        for (const observer of this.#observers) observer.lose('kernel', count);
      },
      flush: () => {
        for (const observer of this.#observers) observer.flush();
      },
      opened: () => {
        this.#clock.monotonicOffsetNs = monotonicOffsetNs();
      },
    });
  }

  get idle(): boolean {
    return this.#observers.length === 0;
  }

  /** Shows every frame to `observer` from now on. Throws SysError when the device cannot be tapped now. */
  add(observer: Observer): void {
    if (this.idle || !this.#ring.isOpen) this.#ring.open();
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
    if (!this.#ring.isOpen) return;
    followWallClock();
    this.#clock.monotonicOffsetNs = monotonicOffsetNs();
    this.#ring.verify();
  }

  /** Shows all that the kernel has handed over; what it hands over meanwhile may wait. */
  drain(): void {
    this.#ring.drain();
  }

  /** Shows all that has passed until now, also what the kernel has not handed over yet. */
  settle(): Promise<void> {
    return this.#ring.settle();
  }

  close(): void {
    this.#ring.close();
  }

  #take(frame: RingFrame, ring: PacketRing): void {
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
    if (frame.vlanTpid !== 0 && this.#tap && captured >= 14 && captured <= FRAME_MOST - VNET_BYTES) {
      // The header stands before the frame in the copy too, with what it points to moved behind the tag.
      captured = this.#withTag(bytes, start, captured, frame);
      bytes = this.#vlan;
      start = VNET_BYTES;
    }
    if (!this.#intake.withHeader(bytes, start, captured)) for (const observer of this.#observers) observer.lose('malformed', 1);
  }

  #withTag(bytes: Buffer, start: number, captured: number, frame: RingFrame): number {
    const out = this.#vlan;
    bytes.copy(out, 0, start - VNET_BYTES, start);
    if ((out[0] as number) !== 0 || (out[1] as number) !== 0) out.writeUInt16LE((out.readUInt16LE(6) + VLAN_BYTES) & 0xffff, 6);
    return insertVlanTag(out.subarray(VNET_BYTES), bytes, start, captured, frame.vlanTpid, frame.vlanTci);
  }
}
