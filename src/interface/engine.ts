// Brings one interface to what its record says: observe, plan, apply, look again, until nothing is left to do. When a step fails,
// what ran before it is taken back in reverse order. Synchronous: nothing else of the agent runs meanwhile.

import { TaplaneError } from '../errors.ts';
import type { InterfaceSpec } from '../gen/taplane/v1/interface.ts';
import type { Log } from '../resource/log.ts';
import { resolveId } from '../sys/identity.ts';
import type { Link } from '../sys/netlink/link.ts';
import { inSpan } from '../tracing/span.ts';
import { aliasOf, type Desired, desire, MARK } from './desired.ts';
import type { Entry } from './entry.ts';
import { type Kernel, type Snapshot, StepFailure } from './kernel.ts';
import type { Namespaces } from './namespaces.ts';
import { type Actual, nothing, plan } from './plan.ts';
import type { Record } from './record.ts';
import { commandLine, type Step } from './step.ts';
import { type Ran, takeBack } from './take-back.ts';

/** Looks after which an interface that still is not as it should be counts as not converging. */
const ROUNDS = 4;

/** What was done and found. */
export interface Outcome {
  steps: Step[];
  actual: Actual;
}

/** What convergence did; `takeBack` undoes it. */
export interface Converged extends Outcome {
  takeBack(): void;
}

export class Engine {
  readonly #namespaces: Namespaces;
  readonly #log: Log;
  readonly #now: () => number;

  constructor(namespaces: Namespaces, log: Log, now: () => number) {
    this.#namespaces = namespaces;
    this.#log = log;
    this.#now = now;
  }

  kernel(namespace: string): Kernel {
    return this.#namespaces.kernel(namespace);
  }

  /** The record in the kernel's terms, `spec` in place of its own where given. Users that are unknown are left out. */
  desired(record: Record, spec: InterfaceSpec = record.spec): Desired {
    return desire(spec, {
      name: record.name,
      uid: record.uid,
      owner: spec.owner === '' ? undefined : resolveId('user', spec.owner),
      group: spec.group === '' ? undefined : resolveId('group', spec.group),
      ageSeconds: (cidr) => (this.#now() - (record.addressSinceMs[cidr] ?? this.#now())) / 1000,
    });
  }

  /** Our device of an entry. Throws TaplaneError NAME_TAKEN when its name belongs to a device that does not carry our mark. */
  find(entry: Entry, snapshot?: Snapshot): Link | undefined {
    const alias = aliasOf(entry.record.uid);
    const kernel = this.kernel(entry.namespace);
    if (snapshot !== undefined) {
      // Also one that was renamed while we did not look.
      const marked = snapshot.links.find((link) => link.alias === alias && link.kind === 'tun');
      if (marked !== undefined) return marked;
      return this.#notForeign(snapshot.links.find((link) => link.name === entry.name));
    }
    if (entry.index > 0 && entry.indexOf === kernel) {
      const known = kernel.link(entry.index);
      // Same index and name since we last had it: ours, also when the mark was wiped, but not when it carries another agent's.
      const ours = known?.alias === alias || (known?.name === entry.name && !known.alias.startsWith(MARK));
      if (known?.kind === 'tun' && ours) return known;
    }
    const named = kernel.link(entry.name);
    return named?.alias === alias && named.kind === 'tun' ? named : this.#notForeign(named);
  }

  /** What the kernel has of an entry, and keeps its index. `keys` are the settings to read. */
  observe(entry: Entry, snapshot?: Snapshot, keys: string[] = Object.keys(entry.spec.sysctls)): Actual {
    const kernel = this.kernel(entry.namespace);
    const link = this.find(entry, snapshot);
    entry.index = link?.index ?? 0;
    entry.mtu = link?.mtu ?? 0;
    // In another namespace of the same name the files are others.
    if (entry.indexOf !== kernel) entry.unwatchSysctls();
    entry.indexOf = kernel;
    return link === undefined ? nothing : kernel.observe(link, keys, snapshot);
  }

  /**
   * Makes the kernel as `desired` says. Throws StepFailure or TaplaneError; then what was changed is taken back, to `restore`
   * where that is given and else to `before`.
   */
  converge(entry: Entry, desired: Desired, before?: Desired, snapshot?: Snapshot, restore = before): Converged {
    const span = () => ({ 'taplane.interface': entry.name });
    return inSpan('interface reconcile', span, () => this.#converge(entry, desired, before, snapshot, restore));
  }

  #converge(entry: Entry, desired: Desired, before?: Desired, snapshot?: Snapshot, restore = before): Converged {
    const kernel = this.kernel(entry.namespace);
    const keys = [...new Set([...desired.sysctls, ...(restore?.sysctls ?? [])].map(([key]) => key))];
    const first = this.observe(entry, snapshot, keys);
    const ran: Ran[] = [];
    const back = (): void => takeBack({ engine: this, entry, log: this.#log }, ran, first, desired, restore);
    let actual = first;
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const steps = plan(desired, actual, before);
        if (steps.length === 0) return { steps: ran.map(({ step }) => step), actual, takeBack: back };
        this.#apply(entry, kernel, steps, actual, ran);
        actual = this.#lookAfter(entry, kernel, keys);
      }
      const left = plan(desired, actual, before).map(commandLine);
      if (left.length > 0) throw notConverging(entry, left);
      return { steps: ran.map(({ step }) => step), actual, takeBack: back };
    } catch (error) {
      back();
      throw error;
    }
  }

  /**
   * Does what it can of `desired`: a step that fails does not keep the others from being done, and nothing is taken back.
   * `failure` is the first that failed.
   */
  repair(entry: Entry, desired: Desired, before?: Desired, snapshot?: Snapshot): Outcome & { failure?: unknown } {
    const kernel = this.kernel(entry.namespace);
    const keys = desired.sysctls.map(([key]) => key);
    const ran: Ran[] = [];
    let actual = this.observe(entry, snapshot, keys);
    let failure: unknown;
    for (let round = 0; round < ROUNDS; round++) {
      const steps = plan(desired, actual, before);
      failure = undefined;
      const ranBefore = ran.length;
      for (const step of steps) {
        try {
          this.#apply(entry, kernel, [step], actual, ran);
        } catch (error) {
          failure ??= error;
          // Without a device, or under a name that is another's, the other steps would go astray.
          if (step.kind === 'create-link' || (step.kind === 'set-link' && step.change.name !== undefined)) throw error;
        }
      }
      if (steps.length === 0 || ran.length === ranBefore) break;
      actual = this.#lookAfter(entry, kernel, keys);
    }
    if (failure === undefined) {
      const left = plan(desired, actual, before).map(commandLine);
      if (left.length > 0) failure = notConverging(entry, left);
    }
    return { steps: ran.map(({ step }) => step), actual, ...(failure === undefined ? {} : { failure }) };
  }

  /** Removes our device of an entry, if there is one. */
  remove(entry: Entry, snapshot?: Snapshot): Step[] {
    const link = this.#ours(entry, snapshot);
    if (link === undefined) return [];
    const steps: Step[] = [{ kind: 'delete-link', name: link.name }];
    const kernel = this.kernel(entry.namespace);
    kernel.apply(steps, link.index);
    entry.index = 0;
    kernel.drain();
    entry.dirty = false;
    return steps;
  }

  /** Steps that `remove` would run. */
  removal(entry: Entry): Step[] {
    const link = this.#ours(entry);
    return link === undefined ? [] : [{ kind: 'delete-link', name: link.name }];
  }

  /** Puts our mark on a device that was somebody else's. */
  mark(entry: Entry, link: Link): void {
    const kernel = this.kernel(entry.namespace);
    kernel.apply([{ kind: 'set-link', name: link.name, change: { alias: aliasOf(entry.record.uid) } }], link.index);
    entry.index = link.index;
    entry.indexOf = kernel;
  }

  /** Gives a device back: it stays, without our mark. */
  release(entry: Entry, alias = '', snapshot?: Snapshot): void {
    const link = this.#ours(entry, snapshot);
    if (link === undefined) return;
    this.kernel(entry.namespace).apply([{ kind: 'set-link', name: link.name, change: { alias } }], link.index);
    entry.index = 0;
  }

  #ours(entry: Entry, snapshot?: Snapshot): Link | undefined {
    try {
      return this.find(entry, snapshot);
    } catch (error) {
      // A foreign device of this name is left alone, and so is a namespace that is gone.
      if (error instanceof TaplaneError && (error.reason === 'NAME_TAKEN' || error.reason === 'NAMESPACE_MISSING')) return undefined;
      throw error;
    }
  }

  #apply(entry: Entry, kernel: Kernel, steps: readonly Step[], actual: Actual, ran: Ran[]): void {
    try {
      entry.index = inSpan(
        'netlink apply',
        () => ({ 'taplane.interface': entry.name, 'taplane.steps': steps.map(commandLine) }),
        () => kernel.apply(steps, entry.index),
      );
      entry.indexOf = kernel;
      ran.push(...steps.map((step) => ({ step, actual })));
    } catch (error) {
      if (error instanceof StepFailure) {
        const done = error.mayHaveRun ? error.position + 1 : error.position;
        ran.push(...steps.slice(0, done).map((step) => ({ step, actual })));
      }
      throw error;
    }
  }

  /** Every notification of our own steps is read before we look: what comes later is somebody else's. */
  #lookAfter(entry: Entry, kernel: Kernel, keys?: string[]): Actual {
    kernel.drain();
    const actual = this.observe(entry, undefined, keys);
    entry.dirty = false;
    return actual;
  }

  #notForeign(link: Link | undefined): undefined {
    if (link !== undefined) throw nameTaken(link);
    return undefined;
  }
}

function notConverging(entry: Entry, left: string[]): TaplaneError {
  const message = `configure interface ${entry.name}: after ${ROUNDS} rounds still to do: ${left.join('; ')}`;
  return new TaplaneError('ABORTED', 'NOT_CONVERGING', message, { metadata: { left: left.join('; ') } });
}

/** ALREADY_EXISTS with who has the name. */
function nameTaken(link: Link, holder = ''): TaplaneError {
  const marked = link.alias.startsWith(MARK) ? ` with the mark of another agent or of lost state (${link.alias})` : '';
  const kind = link.kind === 'tun' ? (link.tun?.mode ?? 'tun') : link.kind === '' ? 'plain' : link.kind;
  const adopt = link.kind === 'tun' ? '; choose another name, or take it over with taplane interface adopt' : '; choose another name';
  return new TaplaneError(
    'ALREADY_EXISTS',
    'NAME_TAKEN',
    `interface ${link.name}: there is a device of this name, kind ${kind}, index ${link.index}${marked}${holder === '' ? '' : `, held by ${holder}`}${adopt}`,
    {
      fields: [{ field: 'interface_id', description: `is the name of a device that is not ours (kind ${kind})` }],
      metadata: { kind, ifindex: String(link.index), alias: link.alias, ...(holder === '' ? {} : { holder }) },
    },
  );
}
