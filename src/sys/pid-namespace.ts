// In which pid namespace this process is (pid_namespaces(7)): a process id of another one means another process here, or none.

import { readlinkSync } from 'node:fs';

/** `pid:[4026531836]`; empty where /proc does not tell. */
export function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return '';
  }
}
