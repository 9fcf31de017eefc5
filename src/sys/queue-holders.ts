// Who holds the queues of a TUN/TAP device: a look at the open files of every process (/proc/PID/fdinfo, field `iff`).
// Processes come and go while we look, and some may not be looked at: what cannot be read is left out.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { isProcessIn } from './namespace.ts';
import { TUN_DEVICE } from './tun.ts';

export interface QueueHolder {
  pid: number;
  /** Command name, at most 15 bytes. */
  command: string;
  queues: number;
}

function tryRead<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** Holders by device name, in the order of the pids. Names are of all namespaces: two devices of one name are told as one. */
export function queueHolders(): Map<string, QueueHolder[]> {
  const found = new Map<string, QueueHolder[]>();
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    for (const fd of tryRead(() => readdirSync(`/proc/${pid}/fd`)) ?? []) {
      if (tryRead(() => readlinkSync(`/proc/${pid}/fd/${fd}`)) !== TUN_DEVICE) continue;
      const info = tryRead(() => readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8')) ?? '';
      const name = /^iff:\s*(\S+)$/m.exec(info)?.[1];
      if (name === undefined) continue;
      const holders = found.get(name) ?? [];
      const known = holders.find((holder) => holder.pid === pid);
      if (known !== undefined) known.queues++;
      else holders.push({ pid, command: tryRead(() => readFileSync(`/proc/${pid}/comm`, 'utf8').trim()) ?? '?', queues: 1 });
      found.set(name, holders);
    }
  }
  return found;
}

/**
 * Those of the holders of a name who most likely hold the device of that name in one network namespace ('' for our own): who is in it
 * himself, or is known to hold it; where there is nobody, all of them. The kernel tells the name of a queue's device, not where it is.
 */
export function nearestHolders(
  holders: readonly QueueHolder[],
  namespace: string,
  isKnown: (pid: number) => boolean = () => false,
): QueueHolder[] {
  const near = holders.filter(({ pid }) => isKnown(pid) || isProcessIn(pid, namespace));
  return near.length > 0 ? near : [...holders];
}
