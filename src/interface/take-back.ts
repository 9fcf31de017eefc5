// Takes back what ran of a change that failed: the steps in reverse order, then what the kernel dropped along with them, ours and
// that of others. Does what it can: what cannot be taken back is logged and left to the next look.

import type { Log } from '../resource/log.ts';
import { AF_INET, type LinkAddress } from '../sys/netlink/address.ts';
import type { Link } from '../sys/netlink/link.ts';
import { NUD_PERMANENT } from '../sys/netlink/neighbour.ts';
import { RTPROT_KERNEL } from '../sys/netlink/route.ts';
import { addressIdentity, type Desired, routeIdentity } from './desired.ts';
import type { Entry } from './entry.ts';
import type { Kernel } from './kernel.ts';
import { type Actual, plan } from './plan.ts';
import { commandLine, type Step } from './step.ts';
import { undo } from './undo.ts';

/** A step that ran, and what the kernel had before its round. */
export interface Ran {
  step: Step;
  actual: Actual;
}

interface Scene {
  /** Our link and what the kernel has of it, as the engine finds them. */
  engine: { find(entry: Entry): Link | undefined; observe(entry: Entry): Actual; kernel(namespace: string): Kernel };
  entry: Entry;
  log: Log;
}

const IFA_F_SECONDARY = 0x01;
const IFAPROT_KERNEL_LO = 1;
const IFAPROT_KERNEL_LL = 3;

/** Back to `first`; `restore` is the intent that was in force, absent when there was none. */
export function takeBack(scene: Scene, ran: readonly Ran[], first: Actual, desired: Desired, restore: Desired | undefined): void {
  if (ran.length === 0) return;
  const { engine, entry, log } = scene;
  try {
    // Asked for anew: the namespace may have been replaced since the steps ran.
    const kernel = engine.kernel(entry.namespace);
    for (const { step, actual } of ran.toReversed()) {
      const back = undo(step, actual);
      if (back !== undefined) attempt(scene, kernel, back);
    }
    if (restore !== undefined && first.link !== undefined) {
      for (const step of plan(restore, engine.observe(entry), desired)) attempt(scene, kernel, step);
      for (const step of reordered(first, engine.observe(entry))) attempt(scene, kernel, step);
      for (const step of dropped(first, engine.observe(entry))) attempt(scene, kernel, step);
    }
    kernel.drain();
  } catch (error) {
    log.debug({ interface: entry.name, err: String(error) }, 'not all put back');
  }
}

function attempt({ engine, entry, log }: Scene, kernel: Kernel, step: Step): void {
  try {
    const known = entry.indexOf === kernel ? entry.index : 0;
    const index = known || (engine.find(entry)?.index ?? 0);
    if (index === 0 && step.kind !== 'create-link') return;
    entry.index = kernel.apply([step], index);
    entry.indexOf = kernel;
  } catch (error) {
    // A link that is gone took the rest along.
    log.debug({ interface: entry.name, step: commandLine(step), err: String(error) }, 'step not taken back');
  }
}

/** Steps that make the same address primary again: the first of a subnet is, and the kernel takes sources from it. */
function reordered(first: Actual, now: Actual): Step[] {
  const v4 = (actual: Actual): LinkAddress[] => actual.addresses.filter(({ family }) => family === AF_INET);
  const order = (addresses: LinkAddress[]): string =>
    addresses.map((item) => `${addressIdentity(item)} ${item.flags & IFA_F_SECONDARY}`).join();
  if (order(v4(first)) === order(v4(now))) return [];
  const name = first.link?.name ?? '';
  const secondaryFirst = v4(now).sort((a, b) => (b.flags & IFA_F_SECONDARY) - (a.flags & IFA_F_SECONDARY));
  return [
    ...secondaryFirst.map((address): Step => ({ kind: 'delete-address', name, address })),
    ...v4(first).map((address): Step => ({ kind: 'add-address', name, address, replace: false })),
  ];
}

/** Steps that put back what was there first and is no more, as it was: also what others had put there. */
function dropped(first: Actual, now: Actual): Step[] {
  const name = first.link?.name ?? '';
  const steps: Step[] = [];
  const addresses = new Set(now.addresses.map(addressIdentity));
  for (const address of first.addresses) {
    const byKernel = address.protocol === IFAPROT_KERNEL_LL || address.protocol === IFAPROT_KERNEL_LO;
    if (!byKernel && !addresses.has(addressIdentity(address))) steps.push({ kind: 'add-address', name, address, replace: false });
  }
  const routes = new Set(now.routes.map(routeIdentity));
  const lost = first.routes.filter((route) => route.protocol !== RTPROT_KERNEL && !routes.has(routeIdentity(route)));
  for (const route of lost.sort((a, b) => Number(a.gateway !== undefined) - Number(b.gateway !== undefined))) {
    steps.push({ kind: 'add-route', name, route });
  }
  const neighbours = new Set(now.neighbours.map(({ address }) => address.toString('hex')));
  for (const neighbour of first.neighbours) {
    const kept = neighbours.has(neighbour.address.toString('hex')) || (neighbour.state & NUD_PERMANENT) === 0;
    if (!kept) steps.push({ kind: 'set-neighbour', name, neighbour, existing: false });
  }
  return steps;
}
