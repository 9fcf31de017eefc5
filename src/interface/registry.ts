// The interfaces under management, how they are shown, and who is told of them.

import { TaplaneError } from '../errors.ts';
import type { Interface, PacketMirrorStatus } from '../gen/taplane/v1/interface.ts';
import type { Broadcast } from '../resource/broadcast.ts';
import { timestamp } from '../resource/timestamp.ts';
import type { WatchEvent } from './broadcast.ts';
import { MARK } from './desired.ts';
import type { Entry } from './entry.ts';
import { resourceName } from './name.ts';
import type { Actual } from './plan.ts';
import { etagOf, type Record } from './record.ts';
import { salient, statusOf } from './status.ts';
import { planStep, type Step } from './step.ts';

export class Registry {
  readonly #entries = new Map<string, Entry>();
  /** Also of creations under way. */
  readonly #byUid = new Map<string, Entry>();
  readonly #broadcast: Broadcast<WatchEvent>;
  readonly #told: () => void;
  readonly #mirror: (record: Record) => PacketMirrorStatus | undefined;

  /** `told` is called whenever something may have changed; `mirror` answers what the mirror of an entry has done. */
  constructor(broadcast: Broadcast<WatchEvent>, told: () => void, mirror: (record: Record) => PacketMirrorStatus | undefined) {
    this.#told = told;
    this.#mirror = mirror;
    this.#broadcast = broadcast;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(name: string): Entry | undefined {
    return this.#entries.get(name);
  }

  /** The entry, or NOT_FOUND. */
  need(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry !== undefined) return entry;
    throw new TaplaneError('NOT_FOUND', 'INTERFACE_NOT_FOUND', `interface ${name}: not managed by this agent`, {
      metadata: { interface: name },
    });
  }

  /** All entries in the order of their names. */
  sorted(): Entry[] {
    return [...this.#entries.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  all(): Iterable<Entry> {
    return this.#entries.values();
  }

  /** The device of this entry is being made: it is known by its mark, but not managed yet. */
  expect(entry: Entry): void {
    this.#byUid.set(entry.record.uid, entry);
  }

  add(entry: Entry): void {
    this.#entries.set(entry.name, entry);
    this.#byUid.set(entry.record.uid, entry);
  }

  drop(entry: Entry): void {
    entry.forget();
    this.#byUid.delete(entry.record.uid);
    if (this.#entries.get(entry.name) === entry) this.#entries.delete(entry.name);
  }

  holds(entry: Entry): boolean {
    return this.#entries.get(entry.name) === entry;
  }

  /** The entry whose device has this index. */
  byIndex(namespace: string, index: number): Entry | undefined {
    for (const entry of this.#entries.values()) if (entry.index === index && entry.namespace === namespace) return entry;
    return undefined;
  }

  byAlias(alias: string): Entry | undefined {
    return alias.startsWith(MARK) ? this.#byUid.get(alias.slice(MARK.length)) : undefined;
  }

  /** An interface as clients see it; `record` where it is to be shown with another than its own. */
  view(entry: Entry, actual: Actual, steps: readonly Step[] = [], record = entry.record): Interface {
    return {
      name: resourceName(record.name),
      uid: record.uid,
      etag: etagOf(record),
      labels: record.labels,
      createTime: timestamp(record.createTimeMs),
      updateTime: timestamp(record.updateTimeMs),
      generation: BigInt(record.generation),
      spec: record.spec,
      status: statusOf(
        actual,
        entry.conditions.isTrue('Ready'),
        record.generation,
        entry.conditions.list(),
        entry.repairs,
        this.#mirror(record),
      ),
      plan: steps.map(planStep),
    };
  }

  /** Tells watchers that an interface came, changed or went; `modified` only when it looks different from the last time. */
  tell(kind: 'added' | 'modified' | 'deleted', entry: Entry, actual: Actual, steps: readonly Step[] = []): void {
    this.#told();
    const shown = this.view(entry, actual, steps);
    const looks = `${shown.etag} ${shown.status === undefined ? '' : salient(shown.status)}`;
    if (kind === 'modified' && looks === entry.lastSalient) return;
    entry.lastSalient = looks;
    this.#broadcast.publish({ $case: kind, value: shown } as WatchEvent);
  }
}
