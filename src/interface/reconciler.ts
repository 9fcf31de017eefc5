// Keeps interfaces as they were asked for while others change the kernel: hears of changes, looks, and repairs, reports or
// ignores as the spec says. Every look takes its turn with the operations of clients.
//
//   notification --> dirty --(next turn of the event loop)--> look --> fine | repaired | reported
//                                                              '-- failed: again after 0.25 s, doubling to 30 s
//
// Another manager that fights us gets `BURST` repairs at once and one a second in the long run, told as condition Contended.

import { InterfaceSpec_Drift } from '../gen/taplane/v1/interface.ts';
import type { Log } from '../resource/log.ts';
import type { Turns } from '../resource/turns.ts';
import type { Engine, Outcome } from './engine.ts';
import type { Entry } from './entry.ts';
import { explain } from './failure.ts';
import type { Snapshot } from './kernel.ts';
import { type Actual, nothing, plan } from './plan.ts';
import { commandLine, type Step } from './step.ts';

const RETRY_FIRST_MS = 250;
const RETRY_MOST_MS = 30_000;
const CONTENDED_PAUSE_MS = 1000;
const CONTENDED_CALM_MS = 10_000;

export interface ReconcilerNeeds {
  engine: Engine;
  turns: Turns;
  log: Log;
  now: () => number;
  /** Brings the conditions that tell of the data plane up to date. */
  judge(entry: Entry): void;
  /** The entry is still managed. */
  alive(entry: Entry): boolean;
  /** Tells watchers of the state of an entry, if it is new, and of the steps that made it so. */
  publish(entry: Entry, actual: Actual, steps?: readonly Step[]): void;
}

export class Reconciler {
  readonly #needs: ReconcilerNeeds;
  #stopped = false;
  repairs = 0;
  /** Looks that failed. */
  failures = 0;
  /** When an interface was last found or made as it should be, milliseconds since 1970; 0: never. */
  lastSuccessMs = 0;

  constructor(needs: ReconcilerNeeds) {
    this.#needs = needs;
  }

  /** Something about the entry may have changed: look soon. */
  touch(entry: Entry): void {
    entry.dirty = true;
    this.#schedule(entry, 0);
  }

  /** Looks at an entry from a snapshot taken in this same turn of the event loop; later, when an operation is under way. */
  check(entry: Entry, snapshot: Snapshot): void {
    if (this.#needs.turns.busy(entry.name)) this.touch(entry);
    else this.#look(entry, snapshot);
  }

  stop(): void {
    this.#stopped = true;
  }

  #schedule(entry: Entry, delayMs: number): void {
    if (this.#stopped) return;
    if (delayMs > 0) {
      if (entry.soon !== undefined || entry.later !== undefined) return;
      entry.later = setTimeout(() => this.#due(entry), delayMs);
      entry.later.unref();
      return;
    }
    // The notifications of one change come together and are looked at once. A pending retry is overtaken.
    entry.soon ??= setImmediate(() => this.#due(entry));
  }

  #due(entry: Entry): void {
    clearImmediate(entry.soon);
    clearTimeout(entry.later);
    entry.soon = undefined;
    entry.later = undefined;
    this.#needs.turns
      .run(entry.name, async () => {
        if (entry.dirty) this.#look(entry);
      })
      .catch((error: unknown) => this.#needs.log.error({ interface: entry.name, err: String(error) }, 'look failed'));
  }

  #look(entry: Entry, snapshot?: Snapshot): void {
    const { engine, alive, publish, judge } = this.#needs;
    if (this.#stopped || !alive(entry)) return;
    entry.dirty = false;
    let actual: Actual = nothing;
    let ran: readonly Step[] = [];
    try {
      actual = engine.observe(entry, snapshot);
      if (entry.spec.drift === InterfaceSpec_Drift.IGNORE) this.ready(entry);
      else {
        const desired = engine.desired(entry.record);
        const steps = plan(desired, actual);
        if (steps.length === 0) this.ready(entry);
        else if (entry.spec.drift === InterfaceSpec_Drift.REPORT) this.#report(entry, steps);
        else ({ actual, steps: ran } = this.#repair(entry, steps, actual));
      }
      this.watchSysctls(entry);
    } catch (error) {
      this.failed(entry, error);
    }
    judge(entry);
    publish(entry, actual, ran);
    if (entry.conditions.isTrue('Contended')) this.#calm(entry);
  }

  #repair(entry: Entry, steps: Step[], seen: Actual): Outcome {
    const { engine, log, now } = this.#needs;
    if (!entry.budget.take(now())) {
      if (!entry.conditions.isTrue('Contended'))
        log.warn({ interface: entry.name, steps: steps.map(commandLine) }, 'another manager fights; repairs slowed down');
      entry.conditions.set(
        'Contended',
        true,
        'AnotherManager',
        'somebody else keeps changing this interface; repairs are made at most once a second until it stops',
        now(),
      );
      entry.conditions.set('Ready', false, 'Drifted', `waiting to repair: ${steps.map(commandLine).join('; ')}`, now());
      entry.dirty = true;
      this.#schedule(entry, CONTENDED_PAUSE_MS);
      return { actual: seen, steps: [] };
    }
    const outcome = engine.repair(entry, engine.desired(entry.record));
    if (outcome.steps.length > 0) {
      this.repairs++;
      entry.repairs++;
      log.info({ interface: entry.name, steps: outcome.steps.map(commandLine) }, 'drift repaired');
    }
    if (outcome.failure === undefined) this.ready(entry);
    else this.failed(entry, outcome.failure);
    return outcome;
  }

  #report(entry: Entry, steps: Step[]): void {
    const { now } = this.#needs;
    const message = `differs from its spec; to repair: ${steps.map(commandLine).join('; ')}`;
    entry.conditions.set('Drifted', true, 'ChangedByOthers', message, now());
    entry.conditions.set('Ready', false, 'Drifted', message, now());
    entry.failures = 0;
  }

  /** The fight may be over: say so when no repair was needed for a while after the last look. */
  #calm(entry: Entry): void {
    const { now, alive, publish, engine } = this.#needs;
    const repairs = entry.repairs;
    clearTimeout(entry.calm);
    entry.calm = setTimeout(() => {
      if (this.#stopped || !alive(entry) || entry.repairs !== repairs || entry.later !== undefined || !entry.conditions.clear('Contended'))
        return;
      entry.conditions.set('Ready', true, 'AsSpecified', '', now());
      try {
        publish(entry, engine.observe(entry));
      } catch {
        this.touch(entry);
      }
    }, CONTENDED_CALM_MS);
    entry.calm.unref();
  }

  /** Notes that an entry is as its spec says. */
  ready(entry: Entry): void {
    const { now } = this.#needs;
    entry.failures = 0;
    this.lastSuccessMs = now();
    entry.conditions.clear('Drifted');
    entry.conditions.set('Ready', true, 'AsSpecified', '', now());
    this.#needs.judge(entry);
  }

  /** Notes that an entry cannot be made as its spec says, and tries again later. */
  failed(entry: Entry, error: unknown): void {
    const { log, now } = this.#needs;
    const failure = explain(error, `configure interface ${entry.name}`);
    if (failure.reason === 'NAMESPACE_MISSING') {
      // Another namespace of the same name would have other devices and files.
      entry.index = 0;
      entry.unwatchSysctls();
    }
    if (entry.conditions.set('Ready', false, failure.reason, failure.message, now()))
      log.warn({ interface: entry.name, reason: failure.reason, err: failure.message }, 'interface not as specified');
    entry.dirty = true;
    this.failures++;
    // Notifications of steps that were taken back are no reason to try again at once.
    clearImmediate(entry.soon);
    entry.soon = undefined;
    this.#schedule(entry, Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** entry.failures++));
  }

  /** Watches the settings that the spec names: the kernel does not notify of them. Never throws: the periodic look is a net under it. */
  watchSysctls(entry: Entry): void {
    const keys = entry.index === 0 ? [] : Object.keys(entry.spec.sysctls);
    const identity = `${entry.index} ${keys.join()}`;
    if (entry.sysctlWatched === identity) return;
    entry.unwatchSysctls();
    if (keys.length === 0) return;
    try {
      entry.sysctlWatches = this.#needs.engine.kernel(entry.namespace).watchSysctls(entry.name, keys, () => this.touch(entry));
      entry.sysctlWatched = identity;
    } catch (error) {
      this.#needs.log.debug({ interface: entry.name, err: String(error) }, 'sysctls not watched');
    }
  }
}
