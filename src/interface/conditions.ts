// Conditions of an interface or of the node: one of each type, the time of a transition kept while the truth stays. Pure.

import type { Timestamp } from '../gen/google/protobuf/timestamp.ts';
import { type Condition, Condition_Status } from '../gen/taplane/v1/interface.ts';

/** Of an interface: Ready, Drifted, Contended, CarrierKept, Responding, Mirroring; of the node: Ready and the rest. */
export type ConditionType =
  | 'Ready'
  | 'Drifted'
  | 'Contended'
  | 'CarrierKept'
  | 'Responding'
  | 'Mirroring'
  | 'Metering'
  | 'StateIntact'
  | 'KernelWatch'
  | 'UnknownDevices';

/** A protobuf time of milliseconds since 1970. */
export function timestamp(ms: number): Timestamp {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
}

export class Conditions {
  readonly #byType = new Map<ConditionType, Condition>();

  /** Sets a condition; answers whether anything changed. */
  set(type: ConditionType, holds: boolean, reason: string, message: string, nowMs: number): boolean {
    const status = holds ? Condition_Status.TRUE : Condition_Status.FALSE;
    const old = this.#byType.get(type);
    if (old !== undefined && old.status === status && old.reason === reason && old.message === message) return false;
    this.#byType.set(type, {
      type,
      status,
      reason,
      message,
      transitionTime: old?.status === status ? old.transitionTime : timestamp(nowMs),
    });
    return true;
  }

  /** Removes a condition; answers whether there was one. */
  clear(type: ConditionType): boolean {
    return this.#byType.delete(type);
  }

  isTrue(type: ConditionType): boolean {
    return this.#byType.get(type)?.status === Condition_Status.TRUE;
  }

  list(): Condition[] {
    return [...this.#byType.values()];
  }
}
