// What interfaces ask of the data plane: the devices that it should attach to, and what for. Pure.

import { type Attachment, Attachment_Kind, type AttachmentState, type Device } from '../gen/taplane/lane/v1/lane_service.ts';
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

/** The device of an interface, as attaching to it must repeat it. */
export function deviceOf({ uid, name, spec }: Record): Device {
  const { networkNamespace, multiQueue, packetInfo, vnetHeader, queues } = spec;
  const tap = spec.mode === InterfaceSpec_Mode.TAP;
  return { uid, interface: name, networkNamespace, tap, multiQueue, packetInfo, vnetHeader, queues };
}

/** What a record with a device wants to be attached. */
export function attachmentsOf(record: Record): Attachment[] {
  const { carrier, responders } = record.spec;
  const device = deviceOf(record);
  const wanted: Attachment[] = [];
  if (carrier === InterfaceSpec_Carrier.KEEP)
    wanted.push({ kind: Attachment_Kind.PARKING, device, responders: [], peer: undefined, meter: undefined });
  if (responders.length > 0) wanted.push({ kind: Attachment_Kind.RESPONDERS, device, responders, peer: undefined, meter: undefined });
  return wanted;
}

/** Whether something beside the kernel works for the record, whose state its conditions tell. */
export function usesDataPlane({ spec }: Record): boolean {
  return spec.carrier === InterfaceSpec_Carrier.KEEP || spec.responders.length > 0 || spec.packetMirror !== undefined;
}
