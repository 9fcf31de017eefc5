// The devices that a lane works on: one port and one tap for each, made when somebody needs them and dropped with the last. Looks now and
// then whether each still is the device that is meant, which no notification tells.

import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import { deviceKey } from './device.ts';
import { Port } from './port.ts';
import { Tap } from './tap.ts';

const VERIFY_MS = 500;
const VERIFIED_AT_ONCE = 32;

export class Devices {
  readonly #ports = new Map<string, Port>();
  readonly #taps = new Map<string, Tap>();
  readonly #own = new Set<Port>();
  readonly #changed: () => void;
  readonly #timer: NodeJS.Timeout;
  #next = 0;

  /** `changed` is called when a port has attached by itself or lost its device. */
  constructor(changed: () => void = () => {}) {
    this.#changed = changed;
    this.#timer = setInterval(() => this.#verifySome(), VERIFY_MS);
    this.#timer.unref();
  }

  /** Looks at some of the devices in turn, so that each comes up about once a second where there are few. */
  #verifySome(): void {
    const all: { verify(): void }[] = [...this.#ports.values(), ...this.#own, ...this.#taps.values()];
    if (this.#next >= all.length) this.#next = 0;
    const some = all.slice(this.#next, this.#next + VERIFIED_AT_ONCE);
    this.#next += VERIFIED_AT_ONCE;
    for (const one of some) one.verify();
  }

  /** The port that all share who use this device. Call `drop` after releasing it. */
  port(device: Device): Port {
    const key = deviceKey(device);
    const port = this.#ports.get(key) ?? new Port(device, device.queues, this.#changed);
    port.resize(device.queues);
    this.#ports.set(key, port);
    return port;
  }

  /** A port of one's own, on queues of its own. */
  ownPort(device: Device): Port {
    const port = new Port(device, 1, this.#changed);
    this.#own.add(port);
    return port;
  }

  /** Forgets a port that nobody holds. */
  drop(port: Port): void {
    if (!port.idle) return;
    port.close();
    this.#own.delete(port);
    const key = deviceKey(port.device);
    if (this.#ports.get(key) === port) this.#ports.delete(key);
  }

  tap(device: Device): Tap {
    const key = deviceKey(device);
    const tap = this.#taps.get(key) ?? new Tap(device, () => this.#taps.delete(key));
    this.#taps.set(key, tap);
    return tap;
  }

  get taps(): number {
    return this.#taps.size;
  }

  /** Forgets a tap that nobody looks through. */
  dropTap(device: Device, tap: Tap): void {
    if (!tap.idle) return;
    tap.close();
    this.#taps.delete(deviceKey(device));
  }

  close(): void {
    clearInterval(this.#timer);
    for (const port of [...this.#ports.values(), ...this.#own]) port.close();
    for (const tap of this.#taps.values()) tap.close();
    this.#ports.clear();
    this.#taps.clear();
  }
}
