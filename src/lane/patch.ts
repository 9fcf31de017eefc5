// Joins two devices as with a cable: what the node sends through one comes in through the other, and back. Frames pass with their virtio
// headers, super-frames whole, through one buffer: nothing is looked at, so the two must be of one kind, both with `vnet_header`.
//
//   waiting --(both attached)--> joined --(one gone)--> waiting: tried again every RETRY_MS

import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import * as libc from '../sys/libc.ts';
import { attachMarked } from '../sys/marked-tun.ts';
import { SysError } from '../sys/sys-error.ts';
import { TUN_OFFLOADS } from '../sys/tun.ts';
import { markedDevice } from './device.ts';
import { Queue } from './queue.ts';

const RETRY_MS = 250;
/** Frames from one side before others get their turn. */
const ROUND = 64;
const BUFFER_BYTES = 65_536 + 64;
const EAGAIN = -11;
const EINTR = -4;

export class Patch {
  readonly #devices: readonly [Device, Device];
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #ends: Queue[] = [];
  #retry: NodeJS.Timeout | undefined;
  reason = '';
  /** Frames that passed, both ways, and that the other side did not take. */
  passed = 0;
  refused = 0;

  constructor(a: Device, b: Device) {
    this.#devices = [a, b];
    this.#join();
  }

  get attached(): boolean {
    return this.#ends.length === 2;
  }

  close(): void {
    clearTimeout(this.#retry);
    this.#release();
  }

  #join(): void {
    const [a, b] = this.#devices;
    try {
      if (!a.vnetHeader || !b.vnetHeader || a.packetInfo || b.packetInfo || a.tap !== b.tap)
        throw new SysError(
          `join ${a.interface} and ${b.interface}`,
          22,
          'both must be TUN or both TAP, with vnet_header and without packet_info',
        );
      for (const device of this.#devices)
        for (const fd of attachMarked(markedDevice(device), 1, TUN_OFFLOADS)) this.#ends.push(new Queue(fd));
      const [one, two] = this.#ends as [Queue, Queue];
      one.listen(() => this.#pass(one, two));
      two.listen(() => this.#pass(two, one));
      this.reason = '';
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#release();
      this.reason = error.message;
      this.#again();
    }
  }

  #pass(from: Queue, to: Queue): void {
    for (let count = 0; count < ROUND; count++) {
      const length = libc.read(from.fd, this.#buffer, BUFFER_BYTES);
      if (length > 0) {
        this.passed++;
        if (libc.write(to.fd, this.#buffer, length) < 0) this.refused++;
        continue;
      }
      if (length === EAGAIN) return;
      if (length === EINTR || length === 0) continue;
      this.#release();
      this.reason = 'a device is gone';
      this.#again();
      return;
    }
  }

  #again(): void {
    this.#retry = setTimeout(() => this.#join(), RETRY_MS);
    this.#retry.unref();
  }

  #release(): void {
    for (const end of this.#ends) end.close();
    this.#ends = [];
  }
}
