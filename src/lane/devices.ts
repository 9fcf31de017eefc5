// The devices that a lane works on: one port and one tap for each, made when somebody needs them and dropped with the last.

import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import { deviceKey } from './device.ts';
import { Port } from './port.ts';
import { Tap } from './tap.ts';

export class Devices {
  readonly #ports = new Map<string, Port>();
  readonly #taps = new Map<string, Tap>();
  readonly #changed: () => void;

  /** `changed` is called when a port has attached by itself or lost its device. */
  constructor(changed: () => void = () => {}) {
    this.#changed = changed;
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
    return new Port(device, 1, this.#changed);
  }

  /** Forgets a port that nobody holds. */
  drop(port: Port): void {
    if (!port.idle) return;
    port.close();
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
    for (const port of this.#ports.values()) port.close();
    for (const tap of this.#taps.values()) tap.close();
    this.#ports.clear();
    this.#taps.clear();
  }
}
