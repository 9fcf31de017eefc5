// Brings one interface to what its record says: observe, plan, apply, look again, until nothing is left to do. When a step fails,
// what ran before it is taken back in reverse order. Synchronous: nothing else of the agent runs meanwhile.

import { TaplaneError } from '../errors.ts';
import type { InterfaceSpec } from '../gen/taplane/v1/interface.ts';
import { resolveId } from '../sys/identity.ts';
import type { Link } from '../sys/netlink/link.ts';
import { aliasOf, type Desired, desire } from './desired.ts';
import type { Entry } from './entry.ts';
import { type Kernel, type Snapshot, StepFailure } from './kernel.ts';
import type { Log } from './log.ts';
import type { Namespaces } from './namespaces.ts';
import { type Actual, nothing, plan } from './plan.ts';
import type { Record } from './record.ts';
import { commandLine, type Step } from './step.ts';
import { undo } from './undo.ts';

/** Looks after which an interface that still is not as it should be counts as not converging. */
const ROUNDS = 4;

/** What convergence did and found. */
export interface Outcome {
  steps: Step[];
  actual: Actual;
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
      const marked = snapshot.links.find((link) => link.alias === alias);
      if (marked !== undefined) return marked;
      return this.#notForeign(snapshot.links.find((link) => link.name === entry.name));
    }
    if (entry.index > 0) {
      const known = kernel.link(entry.index);
      // Same index since we last had it: ours, even when the mark was wiped.
      if (known?.kind === 'tun' && (known.alias === alias || known.name === entry.name)) return known;
    }
    const named = kernel.link(entry.name);
    return named?.alias === alias ? named : this.#notForeign(named);
  }

  /** What the kernel has of an entry, and keeps its index. */
  observe(entry: Entry, snapshot?: Snapshot): Actual {
    const link = this.find(entry, snapshot);
    entry.index = link?.index ?? 0;
    return link === undefined ? nothing : this.kernel(entry.namespace).observe(link, Object.keys(entry.spec.sysctls), snapshot);
  }

  /** Makes the kernel as `desired` says. Throws StepFailure or TaplaneError; then what was changed is taken back. */
  converge(entry: Entry, desired: Desired, before?: Desired, snapshot?: Snapshot): Outcome {
    const kernel = this.kernel(entry.namespace);
    const ran: { step: Step; actual: Actual }[] = [];
    let actual = this.observe(entry, snapshot);
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const steps = plan(desired, actual, before);
        if (steps.length === 0) return { steps: ran.map(({ step }) => step), actual };
        const seen = actual;
        try {
          entry.index = kernel.apply(steps, actual.link?.index ?? 0);
          ran.push(...steps.map((step) => ({ step, actual: seen })));
        } catch (error) {
          if (error instanceof StepFailure) ran.push(...steps.slice(0, error.position).map((step) => ({ step, actual: seen })));
          throw error;
        }
        // Every notification of our own steps is read before we look: what comes later is somebody else's.
        kernel.drain();
        actual = this.observe(entry);
        entry.dirty = false;
      }
      const left = plan(desired, actual, before).map(commandLine);
      if (left.length === 0) return { steps: ran.map(({ step }) => step), actual };
      throw new TaplaneError(
        'ABORTED',
        'NOT_CONVERGING',
        `configure interface ${entry.name}: after ${ROUNDS} rounds still to do: ${left.join('; ')}`,
        { metadata: { left: left.join('; ') } },
      );
    } catch (error) {
      this.#takeBack(entry, ran, desired, before);
      throw error;
    }
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

  #takeBack(entry: Entry, ran: { step: Step; actual: Actual }[], desired: Desired, before: Desired | undefined): void {
    if (ran.length === 0) return;
    const kernel = this.kernel(entry.namespace);
    for (const { step, actual } of ran.reverse()) {
      const back = undo(step, actual);
      if (back === undefined) continue;
      try {
        entry.index = kernel.apply([back], entry.index || (this.find(entry)?.index ?? 0));
      } catch (error) {
        // A link that is gone took the rest along.
        this.#log.debug({ interface: entry.name, step: commandLine(back), err: String(error) }, 'step not taken back');
      }
    }
    // No step knows what the kernel dropped along with it, such as the routes of a link that went down.
    if (before !== undefined) {
      try {
        const actual = this.observe(entry);
        kernel.apply(plan(before, actual, desired), actual.link?.index ?? 0);
      } catch (error) {
        this.#log.debug({ interface: entry.name, err: String(error) }, 'not all put back');
      }
    }
    kernel.drain();
  }

  #notForeign(link: Link | undefined): undefined {
    if (link !== undefined) throw nameTaken(link);
    return undefined;
  }
}

/** ALREADY_EXISTS with who has the name. */
export function nameTaken(link: Link, holder = ''): TaplaneError {
  const marked = link.alias.startsWith('taplane:') ? ` with the mark of another agent or of lost state (${link.alias})` : '';
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
