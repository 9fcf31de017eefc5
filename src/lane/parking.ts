// Parks queues: holds one of a device so that its carrier stays up while nothing else is attached. On a multi-queue device the
// parked queue is turned off (IFF_DETACH_QUEUE): it holds the carrier, and every frame goes to the queues of others.
//
//   wanted --> attached --(device gone)--> waiting --> attached        waiting: tried again every `RETRY_MS`, and when told again
//
// Declared as a whole: `set` takes what is new, lets go what is no more, and leaves the rest alone.

import { type Attachment, Attachment_Kind, type AttachmentState } from '../gen/taplane/lane/v1/lane_service.ts';
import * as libc from '../sys/libc.ts';
import { Namespace, namespacePath } from '../sys/namespace.ts';
import { SysError } from '../sys/sys-error.ts';
import { attachedFlags, attachTun, IFF_DETACH_QUEUE, setOffload, setQueue } from '../sys/tun.ts';

const RETRY_MS = 500;

interface Parked {
  attachment: Attachment;
  fd: number;
  /** Held here: a collected handle would stop telling. */
  poll: libc.Poll | undefined;
  reason: string;
}

export class Parking {
  readonly #parked = new Map<string, Parked>();
  #retry: NodeJS.Timeout | undefined;

  get size(): number {
    return this.#parked.size;
  }

  /** Makes the attachments as declared, as far as they can be made now. */
  set(wanted: readonly Attachment[]): void {
    const parkings = wanted.filter(({ kind }) => kind === Attachment_Kind.PARKING);
    const keep = new Set(parkings.map(identity));
    for (const [key, parked] of this.#parked) {
      if (keep.has(key)) continue;
      this.#parked.delete(key);
      release(parked);
    }
    for (const attachment of parkings) {
      const key = identity(attachment);
      const parked = this.#parked.get(key) ?? { attachment, fd: -1, poll: undefined, reason: '' };
      this.#parked.set(key, parked);
      if (parked.fd >= 0 && !isAttached(parked.fd)) release(parked);
      if (parked.fd < 0) this.#attach(parked);
    }
    this.#again();
  }

  states(): AttachmentState[] {
    return [...this.#parked.values()].map(({ attachment, fd, reason }) => ({
      uid: attachment.uid,
      kind: attachment.kind,
      attached: fd >= 0,
      reason,
    }));
  }

  close(): void {
    clearTimeout(this.#retry);
    for (const parked of this.#parked.values()) release(parked);
    this.#parked.clear();
  }

  #attach(parked: Parked): void {
    const { attachment } = parked;
    try {
      const fd = inNamespace(attachment.networkNamespace, () =>
        attachTun(attachment.interface, {
          mode: attachment.tap ? 'tap' : 'tun',
          multiQueue: attachment.multiQueue,
          packetInfo: attachment.packetInfo,
          vnetHeader: attachment.vnetHeader,
        }),
      );
      parked.fd = fd;
      parked.reason = '';
      try {
        // The mask is the device's and may be left over from another program: nobody here would cut what it lets through.
        setOffload(fd, 0);
        if (attachment.multiQueue) setQueue(fd, IFF_DETACH_QUEUE);
        parked.poll = libc.pollError(fd, () => this.#lost(parked));
      } catch (error) {
        release(parked);
        throw error;
      }
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      parked.reason = error.message;
    }
  }

  /** The device is gone; another of the same name may come. */
  #lost(parked: Parked): void {
    if (parked.fd < 0) return;
    release(parked);
    parked.reason = 'the device is gone';
    this.#again();
  }

  #again(): void {
    if (this.#retry !== undefined || [...this.#parked.values()].every(({ fd }) => fd >= 0)) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      for (const parked of this.#parked.values()) if (parked.fd < 0) this.#attach(parked);
      this.#again();
    }, RETRY_MS);
    this.#retry.unref();
  }
}

/** Another namespace or shape is another attachment. */
function identity(attachment: Attachment): string {
  const { uid, interface: name, networkNamespace, tap, multiQueue, packetInfo, vnetHeader } = attachment;
  return JSON.stringify([uid, name, networkNamespace, tap, multiQueue, packetInfo, vnetHeader]);
}

function release(parked: Parked): void {
  // libuv wants the handle closed before the fd.
  parked.poll?.close();
  parked.poll = undefined;
  if (parked.fd >= 0) libc.close(parked.fd);
  parked.fd = -1;
}

/** An fd outlives its device, and is then of no use. */
function isAttached(fd: number): boolean {
  try {
    attachedFlags(fd);
    return true;
  } catch {
    return false;
  }
}

function inNamespace<T>(name: string, run: () => T): T {
  if (name === '') return run();
  const namespace = new Namespace(namespacePath(name));
  try {
    return namespace.run(run);
  } finally {
    namespace.close();
  }
}
