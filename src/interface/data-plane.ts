// What interfaces ask of the data plane: the devices that it should attach to, and what for. Pure.

import {
  type Attachment,
  Attachment_Kind,
  type AttachmentState,
  type Device,
  type MeterSetup,
} from '../gen/taplane/lane/v1/lane_service.ts';
import { InterfaceSpec_Carrier, InterfaceSpec_Mode } from '../gen/taplane/v1/interface.ts';
import type { Record } from './record.ts';

/** What works on the frames of devices. It is told all that it should hold, and asked about each. */
export interface DataPlane {
  /** Declares everything that lanes should hold; sent whenever it may have changed. */
  want(attachments: Attachment[]): void;
  /** What the lane says of an attachment of an interface; undefined while it has not said anything. */
  attachment(uid: string, kind: Attachment_Kind): AttachmentState | undefined;
  /**
   * Words for what the data plane does with the queues of an interface, and the pid of its process: such as 'stream', 'responder',
   * 'parking'; undefined for nothing.
   */
  holding(uid: string): { pid: number; what: string } | undefined;
}

/** What the agent meters by where an interface does not say otherwise. */
export type Metering = Pick<MeterSetup, 'cluster' | 'node' | 'activeTimeout' | 'idleTimeout' | 'sampling' | 'tableEntries'>;

/** The device of an interface, as attaching to it must repeat it. */
export function deviceOf({ uid, name, spec }: Record): Device {
  const { networkNamespace, multiQueue, packetInfo, vnetHeader, queues } = spec;
  const tap = spec.mode === InterfaceSpec_Mode.TAP;
  return { uid, interface: name, networkNamespace, tap, multiQueue, packetInfo, vnetHeader, queues };
}

/** Whether flows of an interface are metered, given that the agent meters. */
export function isMetered({ spec }: Record): boolean {
  return spec.flowMetering?.disabled !== true;
}

function meterOf({ spec, labels }: Record, usual: Metering): MeterSetup {
  const { activeTimeout = 0, idleTimeout = 0, sampling = 0 } = spec.flowMetering ?? {};
  return {
    ...usual,
    link: '',
    labels,
    activeTimeout: activeTimeout || usual.activeTimeout,
    idleTimeout: idleTimeout || usual.idleTimeout,
    sampling: sampling || usual.sampling,
  };
}

/** What a record with a device wants to be attached; `metering` is undefined where the agent does not meter. */
export function attachmentsOf(record: Record, metering?: Metering): Attachment[] {
  const { carrier, responders } = record.spec;
  const device = deviceOf(record);
  const wanted: Attachment[] = [];
  if (carrier === InterfaceSpec_Carrier.KEEP)
    wanted.push({ kind: Attachment_Kind.PARKING, device, responders: [], peer: undefined, meter: undefined, link: undefined });
  if (responders.length > 0)
    wanted.push({ kind: Attachment_Kind.RESPONDERS, device, responders, peer: undefined, meter: undefined, link: undefined });
  if (metering !== undefined && isMetered(record)) {
    const meter = meterOf(record, metering);
    wanted.push({ kind: Attachment_Kind.METER, device, responders: [], peer: undefined, meter, link: undefined });
  }
  return wanted;
}
