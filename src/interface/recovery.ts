// The start: from the records and a kernel in any state (all devices there, none, some half made) to every interface as its
// record says. Unfinished creations, adoptions and updates are taken back, unfinished deletions finished, ephemeral interfaces
// removed. Nothing else is ever removed here.

import { InterfaceSpec_Drift } from '../gen/taplane/v1/interface.ts';
import type { Log } from '../resource/log.ts';
import type { Store } from '../resource/store.ts';
import type { Engine } from './engine.ts';
import { Entry } from './entry.ts';
import type { Snapshot } from './kernel.ts';
import type { Reconciler } from './reconciler.ts';
import type { Record } from './record.ts';

/** Interfaces handled before the event loop gets its turn. */
const BATCH = 16;

export interface RecoveryNeeds {
  engine: Engine;
  reconciler: Reconciler;
  store: Store<Record>;
  log: Log;
  now: () => number;
}

/** Brings everything up and answers the interfaces that are managed from now on. Failures stay with their interface and are tried again. */
export async function recover(needs: RecoveryNeeds): Promise<Entry[]> {
  const { engine, reconciler, store, log, now } = needs;
  const snapshots = new Map<string, Snapshot | undefined>();
  const snapshot = (namespace: string): Snapshot | undefined => {
    if (!snapshots.has(namespace)) {
      try {
        snapshots.set(namespace, engine.kernel(namespace).snapshot());
      } catch (error) {
        log.warn({ namespace, err: String(error) }, 'namespace not readable');
        snapshots.set(namespace, undefined);
      }
    }
    return snapshots.get(namespace);
  };
  const managed: Entry[] = [];
  const commits: Promise<void>[] = [];
  let count = 0;
  for (const record of store.records) {
    const entry = new Entry(record, now());
    const seen = snapshot(entry.namespace);
    if (store.findings.damaged && record.phase !== 'updating' && record.phase !== 'ready') {
      // After a damage a record may be of an earlier time: what looks unfinished may have been answered since.
      record.phase = 'ready';
      commits.push(store.commit({ put: record }));
    }
    const goes = record.phase === 'adopting' || record.phase === 'creating' || record.phase === 'deleting' || record.spec.ephemeral;
    if (goes) {
      try {
        if (record.phase === 'adopting') engine.release(entry, record.aliasBefore ?? '', seen);
        else engine.remove(entry, seen);
        log.info(
          { interface: record.name, phase: record.phase, ephemeral: record.spec.ephemeral },
          'unfinished or ephemeral interface let go',
        );
        commits.push(store.commit({ remove: record.name }));
      } catch (error) {
        log.error({ interface: record.name, err: String(error) }, 'interface not removed; tried again at the next start');
      }
    } else {
      managed.push(entry);
      bringUp(needs, entry, seen, commits);
    }
    if (++count % BATCH === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  // A route may need an address of an interface that came later.
  for (const entry of managed) if (entry.failures > 0) reconciler.touch(entry);
  for (const outcome of await Promise.allSettled(commits)) {
    // The record stays as it was and is handled the same way at the next start.
    if (outcome.status === 'rejected') log.error({ err: String(outcome.reason) }, 'recovery not recorded');
  }
  return managed;
}

function bringUp(needs: RecoveryNeeds, entry: Entry, seen: Snapshot | undefined, commits: Promise<void>[]): void {
  const { engine, reconciler, store, log } = needs;
  const unfinished = entry.record;
  try {
    if (unfinished.before !== undefined) {
      const { record, restore } = unfinished.before;
      const { failure } = engine.repair(entry, engine.desired(record, restore), engine.desired(unfinished), seen);
      settle(entry, record, store, commits);
      if (failure !== undefined) throw failure;
      log.info({ interface: entry.name }, 'unfinished update taken back');
    } else if (entry.spec.drift !== InterfaceSpec_Drift.REPAIR && engine.find(entry, seen) !== undefined) {
      // What others changed meanwhile is not ours to repair: the first look says what there is to say.
      reconciler.touch(entry);
    } else {
      const { steps } = engine.converge(entry, engine.desired(entry.record), undefined, seen);
      if (steps.length > 0) log.info({ interface: entry.name, steps: steps.length }, 'interface restored');
    }
    reconciler.ready(entry);
    reconciler.watchSysctls(entry);
  } catch (error) {
    if (unfinished.before !== undefined && entry.record === unfinished) settle(entry, unfinished.before.record, store, commits);
    reconciler.failed(entry, error);
  }
}

function settle(entry: Entry, record: Record, store: Store<Record>, commits: Promise<void>[]): void {
  entry.record = record;
  commits.push(store.commit({ put: record }));
}
