// What a process holds of the memory, as the kernel counts it.

import { readFileSync } from 'node:fs';

/** Bytes, see proc_pid_smaps(5): `Rss` is all that is resident, in `Pss` a page that n processes share is an nth in each. */
export function memoryOf(pid: number, what: 'Rss' | 'Pss'): number {
  const kilobytes = new RegExp(`^${what}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1];
  if (kilobytes === undefined) throw new Error(`no ${what} of pid ${pid}`);
  return Number(kilobytes) * 1024;
}
