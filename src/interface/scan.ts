// A net under the notifications of the kernel: every interface is looked at now and then, and at once where notifications were lost. Yields between
// batches, so that thousands of interfaces hold nothing else up. Nothing here throws.

import type { Log } from '../resource/log.ts';
import type { Store } from '../resource/store.ts';
import type { Engine } from './engine.ts';
import type { Entry } from './entry.ts';
import type { Snapshot } from './kernel.ts';
import type { Links } from './links.ts';
import type { Namespaces } from './namespaces.ts';
import type { Reconciler } from './reconciler.ts';
import type { Record } from './record.ts';
import type { Registry } from './registry.ts';

const SCAN_MS = 30_000;
/** Interfaces looked at before the event loop gets its turn. */
const SCAN_BATCH = 32;

export interface ScanNeeds {
  registry: Registry;
  engine: Engine;
  reconciler: Reconciler;
  namespaces: Namespaces;
  links: Links;
  store: Store<Record>;
  log: Log;
}

export class Scan {
  readonly #needs: ScanNeeds;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(needs: ScanNeeds) {
    this.#needs = needs;
  }

  /** Looks at all from now on, every 30 s. */
  start(): void {
    this.#timer = setInterval(() => void this.look(), SCAN_MS);
    this.#timer.unref();
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
  }

  /** Looks at every interface, of one namespace or of all. */
  async look(only?: string): Promise<void> {
    if (this.#stopped) return;
    const { registry, engine, namespaces, links, store, log } = this.#needs;
    try {
      store.prune();
      const inUse = new Set([...registry.all()].map((entry) => entry.namespace));
      namespaces.check((namespace) => inUse.has(namespace));
      if (only === undefined || only === '') links.replace(engine.kernel('').links());
      const entries = [...registry.all()].filter((entry) => only === undefined || entry.namespace === only);
      for (let at = 0; at < entries.length && !this.#stopped; at += SCAN_BATCH) {
        this.#lookAt(entries.slice(at, at + SCAN_BATCH));
        await new Promise((resolve) => setImmediate(resolve));
      }
    } catch (error) {
      log.error({ err: String(error) }, 'scan failed; tried again later');
    }
  }

  #lookAt(entries: Entry[]): void {
    const { registry, engine, reconciler } = this.#needs;
    const snapshots = new Map<string, Snapshot>();
    for (const entry of entries) {
      if (!registry.holds(entry)) continue;
      try {
        const snapshot = snapshots.get(entry.namespace) ?? engine.kernel(entry.namespace).snapshot();
        snapshots.set(entry.namespace, snapshot);
        reconciler.check(entry, snapshot);
      } catch {
        reconciler.touch(entry); // its look says why in the conditions
      }
    }
  }
}
