// The attachments that the agent has declared: parked queues, responders, patches. Declared as a whole: `set` takes what is new, lets go
// what is no more, and leaves the rest alone. What cannot be had now is tried again by itself.

import { type Attachment, Attachment_Kind as Kind, type AttachmentState } from '../gen/taplane/lane/v1/lane_service.ts';
import { deviceKey } from './device.ts';
import type { Devices } from './devices.ts';
import { Patch } from './patch.ts';
import type { Port } from './port.ts';
import { Responder } from './responder.ts';

interface Held {
  attachment: Attachment;
  state(): Pick<AttachmentState, 'attached' | 'reason' | 'responders'>;
  /** Looks whether the device is still there. */
  check(): void;
  release(): void;
}

export class Attachments {
  readonly #devices: Devices;
  readonly #held = new Map<string, Held>();

  constructor(devices: Devices) {
    this.#devices = devices;
  }

  get size(): number {
    return this.#held.size;
  }

  set(wanted: readonly Attachment[]): void {
    const keep = new Map(wanted.flatMap((attachment) => (attachment.device === undefined ? [] : [[identity(attachment), attachment]])));
    // Taken before others are let go: a queue that passes from one use to another is never without a holder.
    const gone = [...this.#held].filter(([key]) => !keep.has(key));
    for (const [key, attachment] of keep) {
      const known = this.#held.get(key);
      if (known !== undefined) known.check();
      else {
        const held = this.#hold(attachment);
        if (held !== undefined) this.#held.set(key, held);
      }
    }
    for (const [key, held] of gone) {
      this.#held.delete(key);
      held.release();
    }
  }

  states(): AttachmentState[] {
    return [...this.#held.values()].map(({ attachment, state }) => ({
      uid: attachment.device?.uid ?? '',
      kind: attachment.kind,
      ...state(),
    }));
  }

  close(): void {
    for (const held of this.#held.values()) held.release();
    this.#held.clear();
  }

  #hold(attachment: Attachment): Held | undefined {
    const { kind, device, peer } = attachment;
    if (device === undefined) return undefined;
    if (kind === Kind.PARKING) {
      const port = this.#devices.port(device);
      port.park(true);
      return this.#onPort(attachment, port, [], () => port.park(false));
    }
    if (kind === Kind.RESPONDERS) {
      const port = this.#devices.port(device);
      const responders = attachment.responders.map((spec) => new Responder(spec, { ethernet: device.tap, uid: device.uid, write: port.write }));
      for (const responder of responders) port.addConsumer(responder, true);
      return this.#onPort(attachment, port, responders, () => {
        for (const responder of responders) port.removeConsumer(responder);
      });
    }
    if (kind === Kind.PATCH && peer !== undefined) {
      const patch = new Patch(device, peer);
      return {
        attachment,
        state: () => ({ attached: patch.attached, reason: patch.reason, responders: [] }),
        check: () => {},
        release: () => patch.close(),
      };
    }
    return undefined;
  }

  #onPort(attachment: Attachment, port: Port, responders: Responder[], release: () => void): Held {
    return {
      attachment,
      state: () => ({ attached: port.attached, reason: port.reason, responders: responders.map((responder) => responder.counts()) }),
      check: () => port.check(),
      release: () => {
        release();
        this.#devices.drop(port);
      },
    };
  }
}

/** Another device, or other responders, is another attachment. */
function identity({ kind, device, responders, peer }: Attachment): string {
  return JSON.stringify([kind, device === undefined ? '' : deviceKey(device), responders, peer === undefined ? '' : deviceKey(peer)]);
}
