// Private keys are in the memory of agent and lanes: a core dump, of whatever crash and to wherever this machine sends it, is made without memory
// (core(5), coredump_filter). Processes that they start inherit it.

import { writeFileSync } from 'node:fs';

/** For this process, from now on. */
export function keepMemoryOutOfCoreDumps(): void {
  try {
    writeFileSync('/proc/self/coredump_filter', '0');
  } catch {
    // Without /proc; the limit of who starts us is what there is then.
  }
}
