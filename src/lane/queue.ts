// One queue of a TUN or TAP device: a file descriptor and whoever listens to it. libuv wants the handle closed before the descriptor, and a
// handle that is collected stops telling, so both live here.

import * as libc from '../sys/libc.ts';
import { attachedFlags } from '../sys/tun.ts';

export class Queue {
  #fd: number;
  #poll: libc.Poll | undefined;

  /** Takes over `fd`. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Negative once it is closed. */
  get fd(): number {
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** Calls `ready` whenever frames wait or the queue is in error (`status` < 0: then it has to be called again). */
  listen(ready: (status: number) => void): void {
    this.#poll?.close();
    this.#poll = libc.pollReadable(this.#fd, ready);
  }

  /** Calls `lost` when the device goes; frames that come are left where they are. */
  watch(lost: () => void): void {
    this.#poll?.close();
    this.#poll = libc.pollError(this.#fd, lost);
  }

  /** Whether the descriptor still has its device: it outlives it, and is then of no use. */
  isAttached(): boolean {
    try {
      attachedFlags(this.#fd);
      return true;
    } catch {
      return false;
    }
  }

  close(): void {
    this.#poll?.close();
    this.#poll = undefined;
    if (this.#fd >= 0) libc.close(this.#fd);
    this.#fd = -1;
  }
}
