// Network namespaces. Sockets, TUN fds and /proc/sys/net belong to the namespace of the thread that opens them, and setns(2)
// moves one thread only. JavaScript runs on one thread and nothing else runs while a synchronous function does, so stepping
// over for the length of such a function is safe, as long as it comes back: when it cannot, the process must end at once.

import { statSync } from 'node:fs';
import * as libc from './libc.ts';

const CLONE_NEWNET = 0x40000000;
const SELF = '/proc/thread-self/ns/net';

/** Where a namespace is found: a name under /run/netns, or a path. */
export function namespacePath(namespace: string): string {
  return namespace.startsWith('/') ? namespace : `/run/netns/${namespace}`;
}

/** Identity of a namespace, device and inode. Throws an Error of node:fs when it is gone. */
export function namespaceIdentity(path: string = SELF): string {
  const { dev, ino } = statSync(path);
  return `${dev}:${ino}`;
}

/** A namespace that is held open. */
export class Namespace {
  readonly path: string;
  readonly identity: string;
  #fd: number;

  /** Throws SysError when there is no such namespace. */
  constructor(path: string) {
    this.path = path;
    this.#fd = libc.open(path, libc.O_RDONLY);
    this.identity = namespaceIdentity(`/proc/self/fd/${this.#fd}`);
  }

  /** Runs a synchronous function inside. Throws SysError EPERM without CAP_SYS_ADMIN. Must not be nested. */
  run<T>(inside: () => T): T {
    if (this.#fd < 0) throw new Error(`namespace ${this.path} is closed`);
    const home = libc.open(SELF, libc.O_RDONLY);
    try {
      libc.setns(this.#fd, CLONE_NEWNET);
      try {
        return inside();
      } finally {
        try {
          libc.setns(home, CLONE_NEWNET);
        } catch (error) {
          process.stderr.write(`cannot return to the agent's network namespace: ${String(error)}\n`);
          process.abort();
        }
      }
    } finally {
      libc.close(home);
    }
  }

  close(): void {
    if (this.#fd >= 0) libc.close(this.#fd);
    this.#fd = -1;
  }
}
