// The attachments that the agent has declared: parked queues, responders, patches, meters. Declared as a whole: `set` takes what is new, lets go
// what is no more, and leaves the rest alone. What cannot be had now is tried again by itself.

import {
  type Attachment,
  type AttachmentState,
  type Device,
  Attachment_Kind as Kind,
  type LinkSetup,
  MeterSetup,
} from '../gen/taplane/lane/v1/lane_service.ts';
import type { ResponderSpec } from '../gen/taplane/v1/interface.ts';
import { deviceKey } from './device.ts';
import type { Devices } from './devices.ts';
import { Link } from './link/link.ts';
import type { Meters } from './meters.ts';
import { Patch } from './patch.ts';
import type { Port } from './port.ts';
import { Responder } from './responder.ts';

interface Held {
  attachment: Attachment;
  state(): Pick<AttachmentState, 'attached' | 'reason'> & Partial<AttachmentState>;
  /** It is declared again, maybe with other responders. Looks whether the device is still there. */
  again(attachment: Attachment): void;
  release(): void;
}

export class Attachments {
  readonly #devices: Devices;
  readonly #meters: Meters;
  readonly #held = new Map<string, Held>();
  readonly #links = new Map<string, Link>();
  /** By uid of the interface. */
  readonly #byInterface = new Map<string, Link>();

  constructor(devices: Devices, meters: Meters) {
    this.#devices = devices;
    this.#meters = meters;
    meters.peerName = (uid, bytes, at, size) => this.#byInterface.get(uid)?.tunnel?.peerName(bytes, at, size) ?? '';
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
      if (known !== undefined) known.again(attachment);
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
      responders: [],
      link: undefined,
      linkUid: '',
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
      return {
        attachment,
        state: () => ({ attached: port.attached, reason: port.reason }),
        again: (declared) => this.#look(declared, port),
        release: () => {
          port.park(false);
          this.#devices.drop(port);
        },
      };
    }
    if (kind === Kind.RESPONDERS) return this.#respond(attachment, device);
    if (kind === Kind.METER) return this.#meter(attachment, device);
    if (kind === Kind.LINK && attachment.link !== undefined) return this.#link(attachment, attachment.link, device);
    if (kind === Kind.PATCH && peer !== undefined) {
      const patch = new Patch(device, peer);
      return {
        attachment,
        state: () => ({ attached: patch.attached, reason: patch.reason }),
        again: () => {},
        release: () => patch.close(),
      };
    }
    return undefined;
  }

  /** The link with this uid, if it is attached. */
  link(uid: string): Link | undefined {
    return this.#links.get(uid);
  }

  #link(attachment: Attachment, setup: LinkSetup, device: Device): Held {
    const port = this.#devices.port(device);
    const link = new Link(port, device, setup);
    this.#links.set(setup.uid, link);
    this.#byInterface.set(device.uid, link);
    return {
      attachment,
      state: () => link.state(),
      again: (declared) => {
        // Another device may have got the link that was here.
        if (this.#links.get(link.uid) === link) this.#links.delete(link.uid);
        if (declared.link !== undefined) link.again(declared.link);
        this.#links.set(link.uid, link);
        this.#look(declared, port);
      },
      release: () => {
        if (this.#links.get(link.uid) === link) this.#links.delete(link.uid);
        if (this.#byInterface.get(device.uid) === link) this.#byInterface.delete(device.uid);
        link.release();
        this.#devices.drop(port);
      },
    };
  }

  #meter(attachment: Attachment, device: Device): Held {
    const usual = MeterSetup.fromPartial({});
    const meter = this.#meters.open(device, attachment.meter ?? usual);
    return {
      attachment,
      state: () => ({ attached: meter.isOpen, reason: meter.reason }),
      again: (declared) => meter.again(declared.meter ?? usual),
      release: () => this.#meters.drop(meter),
    };
  }

  /** Responders that stay as they are keep their counts when others come and go. */
  #respond(attachment: Attachment, device: Device): Held {
    const port = this.#devices.port(device);
    let running = new Map<string, Responder>();
    const run = (specs: readonly ResponderSpec[]): void => {
      const before = running;
      running = new Map(
        specs.map((spec) => [JSON.stringify(spec), before.get(JSON.stringify(spec)) ?? this.#responder(spec, device, port)]),
      );
      for (const [key, responder] of running) if (!before.has(key)) port.addConsumer(responder, true);
      for (const [key, responder] of before) if (!running.has(key)) port.removeConsumer(responder);
    };
    run(attachment.responders);
    return {
      attachment,
      state: () => ({
        attached: port.attached,
        reason: port.reason,
        responders: [...running.values()].map((responder) => responder.counts()),
      }),
      again: (declared) => {
        run(declared.responders);
        this.#look(declared, port);
      },
      release: () => {
        run([]);
        this.#devices.drop(port);
      },
    };
  }

  #look({ device }: Attachment, port: Port): void {
    port.resize(device?.queues ?? 1);
    port.check();
  }

  #responder(spec: ResponderSpec, { tap, uid }: Device, { write }: Port): Responder {
    return new Responder(spec, { ethernet: tap, uid, write });
  }
}

/** Another device is another attachment. */
function identity({ kind, device, peer }: Attachment): string {
  return JSON.stringify([kind, device === undefined ? '' : deviceKey(device), peer === undefined ? '' : deviceKey(peer)]);
}
