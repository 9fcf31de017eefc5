// Keeps the data plane told of what interfaces want of it, and brings what it says into their conditions.
//
// Told as a whole, once for all that happens in a turn of the event loop and not more often than its length allows, and only when it differs
// from what was told before.

import { type Attachment, Attachment_Kind, type AttachmentState } from '../gen/taplane/lane/v1/lane_service.ts';
import { InterfaceSpec_Carrier, type PacketMirrorStatus } from '../gen/taplane/v1/interface.ts';
import type { ConditionType } from './condition-type.ts';
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
/** A declaration of more interfaces than this waits a while for more, for each of them. */
const PAUSE_FROM = 64;
const PAUSE_MS = 0.5;
const KINDS = [Attachment_Kind.PARKING, Attachment_Kind.RESPONDERS];
const NOT_HEARD = 'the data-plane process has not answered yet';

export class Attachments {
  readonly #needs: AttachmentNeeds;
  /** What was last told, entry by entry; nothing yet, so that it is told also that there is nothing. */
  #told: (readonly Attachment[])[] | undefined;
  /** What each record asks for: records do not change, they are replaced. */
  readonly #asked = new WeakMap<Record, readonly Attachment[]>();
  #toldAt = Number.NEGATIVE_INFINITY;
  #due: NodeJS.Immediate | undefined;
  #later: NodeJS.Timeout | undefined;
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
      this.#tellSoon();
      this.#needs.changed?.();
    });
  }

  /** Tells for the last time: what is attached then stays. */
  stop(): void {
    if (this.#open) this.#tell();
    this.#open = false;
    clearImmediate(this.#due);
    clearTimeout(this.#later);
    this.#due = undefined;
    this.#later = undefined;
  }

  /** What the data plane says; with why not where it does not say that it is attached. */
  state(uid: string, kind: Attachment_Kind): AttachmentState {
    const { dataPlane } = this.#needs;
    const reason = dataPlane === undefined ? NO_DATA_PLANE : NOT_HEARD;
    return dataPlane?.attachment(uid, kind) ?? { uid, kind, attached: false, reason, responders: [], link: undefined, linkUid: '' };
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
    const states = [...KINDS.map((kind) => dataPlane?.attachment(record.uid, kind)), this.#meter(record)].map(
      (state) => state && [state.attached, state.reason],
    );
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
    const meter = this.#meter(record);
    this.#set(entry, 'Metering', meter && { holds: meter.attached, reason: meter.reason }, 'Metered', 'NotMetered');
    const { active = false, reason = 'nothing copies its packets yet' } = this.mirror(record) ?? {};
    this.#set(entry, 'Mirroring', spec.packetMirror && { holds: active, reason }, 'Copying', 'NotCopying');
  }

  /** Metering is usual: what there is to tell of it, where it was asked for or fails. */
  #meter(record: Record): AttachmentState | undefined {
    if (this.#needs.metering === undefined || !isMetered(record)) return undefined;
    const state = this.state(record.uid, Attachment_Kind.METER);
    const isUsual = record.spec.flowMetering === undefined && (state.attached || state.reason === NOT_HEARD);
    return isUsual ? undefined : state;
  }

  #set(entry: Entry, type: ConditionType, found: { holds: boolean; reason: string } | undefined, well: string, amiss: string): void {
    if (found === undefined) entry.conditions.clear(type);
    else entry.conditions.set(type, found.holds, found.holds ? well : amiss, found.reason, this.#needs.now());
  }

  /** A long declaration costs its time: while many interfaces come at once it is made for some of them together. */
  #tellSoon(): void {
    if (this.#later !== undefined) return;
    const length = this.#told?.length ?? 0;
    const waitMs = length < PAUSE_FROM ? 0 : this.#toldAt + length * PAUSE_MS - performance.now();
    if (waitMs <= 0) this.#tell();
    else
      this.#later = setTimeout(() => {
        this.#later = undefined;
        this.#tell();
      }, waitMs);
  }

  #tell(): void {
    const wanted: (readonly Attachment[])[] = [];
    // Without a device there is nothing to attach to.
    for (const { index, record } of this.#needs.entries()) if (index !== 0) wanted.push(this.#askedBy(record));
    const told = this.#told;
    if (told !== undefined && told.length === wanted.length && wanted.every((one, at) => one === told[at])) return;
    this.#told = wanted;
    this.#toldAt = performance.now();
    const all = wanted.flat();
    const uids = new Set(all.map(({ device }) => device?.uid));
    for (const uid of this.#said.keys()) if (!uids.has(uid)) this.#said.delete(uid);
    this.#needs.dataPlane?.want(all);
  }

  #askedBy(record: Record): readonly Attachment[] {
    const known = this.#asked.get(record);
    if (known !== undefined) return known;
    const asked = attachmentsOf(record, this.#needs.metering);
    this.#asked.set(record, asked);
    return asked;
  }
}
