// Keeps the data plane told of what interfaces want of it, and brings what it says into their conditions.
//
// Told as a whole, once for all that happens in a turn of the event loop, and only when it differs from what was told before.

import { type Attachment, Attachment_Kind, type AttachmentState } from '../gen/taplane/lane/v1/lane_service.ts';
import { InterfaceSpec_Carrier, type PacketMirrorStatus } from '../gen/taplane/v1/interface.ts';
import type { ConditionType } from './conditions.ts';
import { attachmentsOf, type DataPlane, isMetered, type Metering } from './data-plane.ts';
import type { Entry } from './entry.ts';
import type { Record } from './record.ts';

/** What copies packets to NATS. */
export interface Mirrors {
  /** What the mirror of an interface has done; undefined while there is none. */
  status(uid: string): PacketMirrorStatus | undefined;
}

export interface AttachmentNeeds {
  /** Absent where there is none: then nothing is attached. */
  dataPlane: DataPlane | undefined;
  mirrors: Mirrors | undefined;
  /** Absent where flows are not metered. */
  metering?: Metering | undefined;
  /** Interfaces may have come, gone or changed; called once a turn of the event loop. */
  changed: (() => void) | undefined;
  /** All interfaces, in a stable order. */
  entries(): Iterable<Entry>;
  now(): number;
}

const NO_DATA_PLANE = 'there is no data-plane process';
const KINDS = [Attachment_Kind.PARKING, Attachment_Kind.RESPONDERS, Attachment_Kind.METER];
const NOT_HEARD = 'the data-plane process has not answered yet';

export class Attachments {
  readonly #needs: AttachmentNeeds;
  /** What was last told; nothing yet, so that it is told also that there is nothing. */
  #told = '';
  #due: NodeJS.Immediate | undefined;
  #open = false;
  /** By uid. */
  readonly #said = new Map<string, string>();

  constructor(needs: AttachmentNeeds) {
    this.#needs = needs;
  }

  /** From here on everything is known, and told. */
  start(): void {
    this.#open = true;
    this.touch();
  }

  /** Something may have changed. */
  touch(): void {
    if (!this.#open) return;
    this.#due ??= setImmediate(() => {
      this.#due = undefined;
      this.#tell();
      this.#needs.changed?.();
    });
  }

  /** Tells for the last time: what is attached then stays. */
  stop(): void {
    if (this.#open) this.#tell();
    this.#open = false;
    clearImmediate(this.#due);
    this.#due = undefined;
  }

  /** What the data plane says; with why not where it does not say that it is attached. */
  state(uid: string, kind: Attachment_Kind): AttachmentState {
    const { dataPlane } = this.#needs;
    const reason = dataPlane === undefined ? NO_DATA_PLANE : NOT_HEARD;
    return dataPlane?.attachment(uid, kind) ?? { uid, kind, attached: false, reason, responders: [] };
  }

  /** The words for what the data plane does with the queues that the process `pid` holds; '' when it is another's. */
  holding(uid: string, pid: number): string {
    const held = this.#needs.dataPlane?.holding(uid);
    return held?.pid === pid ? held.what : '';
  }

  /** What the mirror of an interface has done; undefined where none is asked for. */
  mirror({ uid, spec }: Record): PacketMirrorStatus | undefined {
    return spec.packetMirror === undefined ? undefined : this.#needs.mirrors?.status(uid);
  }

  /** Whether the data plane, or the mirror, says something else of an interface than when this was asked last. */
  hasNews({ record }: Entry): boolean {
    const { dataPlane } = this.#needs;
    const states = KINDS.map((kind) => dataPlane?.attachment(record.uid, kind)).map((state) => state && [state.attached, state.reason]);
    const { active, reason } = this.mirror(record) ?? {};
    const said = JSON.stringify([states, active, reason]);
    if (this.#said.get(record.uid) === said) return false;
    this.#said.set(record.uid, said);
    return true;
  }

  /** Brings the conditions of an entry up to date. */
  judge(entry: Entry): void {
    const { spec, record } = entry;
    const parked = spec.carrier === InterfaceSpec_Carrier.KEEP ? this.state(record.uid, Attachment_Kind.PARKING) : undefined;
    this.#set(entry, 'CarrierKept', parked && { holds: parked.attached, reason: parked.reason }, 'Parked', 'NotParked');
    const responding = spec.responders.length > 0 ? this.state(record.uid, Attachment_Kind.RESPONDERS) : undefined;
    this.#set(entry, 'Responding', responding && { holds: responding.attached, reason: responding.reason }, 'Attached', 'NotAttached');
    this.#judgeMeter(entry);
    const { active = false, reason = 'nothing copies its packets yet' } = this.mirror(record) ?? {};
    this.#set(entry, 'Mirroring', spec.packetMirror && { holds: active, reason }, 'Copying', 'NotCopying');
  }

  /** Metering is usual: it is told of where it was asked for, and where it fails. */
  #judgeMeter(entry: Entry): void {
    const { record } = entry;
    const metered = this.#needs.metering !== undefined && isMetered(record) ? this.state(record.uid, Attachment_Kind.METER) : undefined;
    const silent = metered === undefined || (entry.spec.flowMetering === undefined && (metered.attached || metered.reason === NOT_HEARD));
    this.#set(entry, 'Metering', silent ? undefined : { holds: metered.attached, reason: metered.reason }, 'Metered', 'NotMetered');
  }

  #set(entry: Entry, type: ConditionType, found: { holds: boolean; reason: string } | undefined, well: string, amiss: string): void {
    if (found === undefined) entry.conditions.clear(type);
    else entry.conditions.set(type, found.holds, found.holds ? well : amiss, found.reason, this.#needs.now());
  }

  #tell(): void {
    const wanted: Attachment[] = [];
    // Without a device there is nothing to attach to.
    for (const { index, record } of this.#needs.entries()) if (index !== 0) wanted.push(...attachmentsOf(record, this.#needs.metering));
    const uids = new Set(wanted.map(({ device }) => device?.uid));
    for (const uid of this.#said.keys()) if (!uids.has(uid)) this.#said.delete(uid);
    const text = JSON.stringify(wanted);
    if (text !== this.#told) this.#needs.dataPlane?.want(wanted);
    this.#told = text;
  }
}
