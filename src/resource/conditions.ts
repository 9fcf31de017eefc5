// Conditions of a resource or of the node: one of each type, the time of a transition kept while the truth stays. Pure.

import { type Condition, Condition_Status } from '../gen/taplane/v1/interface.ts';
import { timestamp } from './timestamp.ts';

export class Conditions<Type extends string> {
  readonly #byType = new Map<Type, Condition>();

  /** Sets a condition; answers whether anything changed. */
  set(type: Type, holds: boolean, reason: string, message: string, nowMs: number): boolean {
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
  clear(type: Type): boolean {
    return this.#byType.delete(type);
  }

  isTrue(type: Type): boolean {
    return this.#byType.get(type)?.status === Condition_Status.TRUE;
  }

  list(): Condition[] {
    return [...this.#byType.values()];
  }
}
