// One interface in memory: its record, where the kernel has it, and what we think of it.

import type { FSWatcher } from 'node:fs';
import type { InterfaceSpec } from '../gen/taplane/v1/interface.ts';
import { Conditions } from '../resource/conditions.ts';
import type { ConditionType } from './condition-type.ts';
import type { Kernel } from './kernel.ts';
import type { Record } from './record.ts';

const BURST = 20;
const REPAIRS_PER_SECOND = 1;

/** Repairs that may still be made: `BURST` at once, one a second in the long run. */
export class RepairBudget {
  #tokens = BURST;
  #atMs: number;

  constructor(nowMs: number) {
    this.#atMs = nowMs;
  }

  /** How many repairs are left. */
  left(nowMs: number): number {
    this.#tokens = Math.min(BURST, this.#tokens + (Math.max(0, nowMs - this.#atMs) / 1000) * REPAIRS_PER_SECOND);
    this.#atMs = nowMs;
    return this.#tokens;
  }

  /** Takes one; answers whether there was one. */
  take(nowMs: number): boolean {
    if (this.left(nowMs) < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}

export class Entry {
  record: Record;
  /** Index of the device, 0 while there is none that is ours. */
  index = 0;
  /** MTU of the device when it was last looked at. */
  mtu = 0;
  /** Where the index was read: in a namespace that was made anew under the same name it means another device. */
  indexOf: Kernel | undefined;
  /** Something may have changed since the last look. */
  dirty = false;
  /** The next look, at once or later. */
  soon: NodeJS.Immediate | undefined;
  later: NodeJS.Timeout | undefined;
  /** The end of the condition Contended, when nothing is repaired until then. */
  calm: NodeJS.Timeout | undefined;
  /** Failed looks in a row. */
  failures = 0;
  repairs = 0;
  lastSalient = '';
  sysctlWatches: FSWatcher[] = [];
  /** What `sysctlWatches` watch: index and keys. */
  sysctlWatched = '';
  readonly conditions = new Conditions<ConditionType>();
  readonly budget: RepairBudget;

  constructor(record: Record, nowMs: number) {
    this.record = record;
    this.budget = new RepairBudget(nowMs);
  }

  get name(): string {
    return this.record.name;
  }

  /** Network namespace as the spec names it, '' for the agent's own. */
  get namespace(): string {
    return this.record.spec.networkNamespace;
  }

  get spec(): InterfaceSpec {
    return this.record.spec;
  }

  /** Stops everything that would look at it again. */
  forget(): void {
    clearTimeout(this.later);
    clearTimeout(this.calm);
    clearImmediate(this.soon);
    this.unwatchSysctls();
  }

  unwatchSysctls(): void {
    for (const watch of this.sysctlWatches) watch.close();
    this.sysctlWatches = [];
    this.sysctlWatched = '';
  }
}
