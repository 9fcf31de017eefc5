// Network namespaces. Sockets, TUN fds and /proc/sys/net belong to the namespace of the thread that opens them, and setns(2)
// moves one thread only. JavaScript runs on one thread and nothing else runs while a synchronous function does, so stepping
// over for the length of such a function is safe, as long as it comes back: when it cannot, the process must end at once.

import { statfsSync, statSync } from 'node:fs';
import * as libc from './libc.ts';
import { SysError } from './sys-error.ts';

const CLONE_NEWNET = 0x40000000;
const NS_GET_NSTYPE = 0xb703;
const NSFS_MAGIC = 0x6e736673;
const EINVAL = 22;
const ENOENT = 2;
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

/** Whether a process is in a network namespace, '' for our own. False when either cannot be looked at. */
export function isProcessIn(pid: number, namespace: string): boolean {
  try {
    return namespaceIdentity(`/proc/${pid}/ns/net`) === namespaceIdentity(namespace === '' ? SELF : namespacePath(namespace));
  } catch {
    return false;
  }
}

function isNamespaceFile(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS_MAGIC;
  } catch {
    throw new SysError(`open ${path}`, ENOENT);
  }
}

/** A namespace that is held open. */
export class Namespace {
  readonly path: string;
  readonly identity: string;
  #fd: number;

  /** Throws SysError when there is no such namespace. */
  constructor(path: string) {
    this.path = path;
    // A FIFO would block, and opening a device can do things: look before.
    if (!isNamespaceFile(path)) throw new SysError(`open ${path}`, EINVAL, 'is no namespace');
    this.#fd = libc.open(path, libc.O_RDONLY | libc.O_NONBLOCK | libc.O_NOCTTY);
    try {
      this.identity = namespaceIdentity(`/proc/self/fd/${this.#fd}`);
      const kind = isNamespaceFile(`/proc/self/fd/${this.#fd}`) ? libc.ioctlNumber(this.#fd, NS_GET_NSTYPE, 0, 'NS_GET_NSTYPE') : 0;
      if (kind !== CLONE_NEWNET) throw new SysError(`open ${path}`, EINVAL, 'is no network namespace');
    } catch (error) {
      libc.close(this.#fd);
      throw error;
    }
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
