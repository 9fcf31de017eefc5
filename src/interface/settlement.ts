// How a change ends once the kernel has been changed: the outcome goes to disk and the interface is managed, or the kernel is taken
// back and the interface is forgotten.

import type { Interface } from '../gen/taplane/v1/interface.ts';
import type { Log } from '../resource/log.ts';
import type { Replay, Store } from '../resource/store.ts';
import type { Turns } from '../resource/turns.ts';
import type { Outcome } from './engine.ts';
import type { Entry } from './entry.ts';
import type { Reconciler } from './reconciler.ts';
import type { Record } from './record.ts';
import type { Registry } from './registry.ts';

const LET_GO_FIRST_MS = 250;
const LET_GO_MOST_MS = 30_000;

interface SettlementNeeds {
  registry: Registry;
  reconciler: Reconciler;
  store: Store<Record>;
  turns: Turns;
  log: Log;
}

export class Settlement {
  readonly #needs: SettlementNeeds;
  /** Retries by name. */
  readonly #pending = new Map<string, NodeJS.Timeout>();

  constructor(needs: SettlementNeeds) {
    this.#needs = needs;
  }

  /** Commits the outcome; when the disk refuses, takes the kernel back. */
  async finish(entry: Entry, record: Record, replay: Replay | undefined, takeBack: () => unknown): Promise<void> {
    try {
      await this.#needs.store.commit({ put: record, ...(replay === undefined ? {} : { replay }) });
    } catch (error) {
      try {
        takeBack();
      } catch (failure) {
        this.#needs.log.error({ interface: entry.name, err: String(failure) }, 'change not taken back');
      }
      throw error;
    }
  }

  /**
   * Forgets an interface that did not come to be, but not before its device is let go: else nobody would know whose it is. Runs in
   * the turn of its name; when the kernel refuses, tries again in later turns, and the name is not given out until then.
   */
  async undone(entry: Entry, letGo: () => void): Promise<void> {
    const { log, turns } = this.#needs;
    const again = (delayMs: number): void => {
      const timer = setTimeout(() => {
        turns
          .run(entry.name, () => this.#forget(entry, letGo))
          .then(
            () => this.#pending.delete(entry.name),
            () => again(Math.min(2 * delayMs, LET_GO_MOST_MS)),
          );
      }, delayMs);
      timer.unref();
      this.#pending.set(entry.name, timer);
    };
    await this.#forget(entry, letGo).catch((error: unknown) => {
      log.error({ interface: entry.name, err: String(error) }, 'device not let go; tried again');
      again(LET_GO_FIRST_MS);
    });
  }

  /** The device of an interface of this name that did not come to be is still there. */
  isPending(name: string): boolean {
    return this.#pending.has(name);
  }

  get pending(): number {
    return this.#pending.size;
  }

  /** No more tries: the next start takes back what is left. */
  stop(): void {
    for (const timer of this.#pending.values()) clearTimeout(timer);
  }

  async #forget(entry: Entry, letGo: () => void): Promise<void> {
    const { registry, store } = this.#needs;
    letGo();
    registry.drop(entry);
    if (registry.get(entry.name) !== undefined) return;
    // When the disk refuses, the record says what was begun: the next start takes it back, as it was taken back now.
    await store.commit({ remove: entry.name }).catch(() => {});
  }

  /** From here on it is managed. Does not fail: it has been committed. */
  admit(entry: Entry, outcome: Outcome): Interface {
    const { registry, reconciler } = this.#needs;
    registry.add(entry);
    reconciler.ready(entry);
    reconciler.watchSysctls(entry);
    registry.tell('added', entry, outcome.actual, outcome.steps);
    // Notifications that came between our last look and now found no entry.
    reconciler.touch(entry);
    return registry.view(entry, outcome.actual, outcome.steps);
  }

  /** An answer that changes nothing, remembered for its request id. */
  async answered<A>(answer: A, remember: (answer: A) => Replay | undefined): Promise<A> {
    const replay = remember(answer);
    if (replay !== undefined) await this.#needs.store.commit({ replay });
    return answer;
  }
}
