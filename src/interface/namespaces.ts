// The kernels of the network namespaces in use. One is opened on first use and stays open; our sockets would keep a deleted
// namespace alive, so it is closed as soon as its name is gone or names another.

import { type FSWatcher, watch } from 'node:fs';
import { TaplaneError } from '../errors.ts';
import { Namespace, namespaceIdentity, namespacePath } from '../sys/namespace.ts';
import type { Link } from '../sys/netlink/link.ts';
import { isErrno } from '../sys/sys-error.ts';
import { Kernel, type KernelCounts } from './kernel.ts';

/** What happens in a namespace; `namespace` is the name that the specs use. */
export interface NamespaceListener {
  link(namespace: string, link: Link, removed: boolean): void;
  object(namespace: string, index: number): void;
  /** Notifications were lost, or none will come: look at everything. */
  lost(namespace: string): void;
}

interface Open {
  kernel: Kernel;
  identity: string;
}

export class Namespaces {
  readonly #listener: NamespaceListener;
  readonly #open = new Map<string, Open>();
  readonly #closedCounts = { requests: 0, notifications: 0, overruns: 0, interruptedDumps: 0, errors: 0 };
  #directory: FSWatcher | undefined;
  #closed = false;

  constructor(listener: NamespaceListener) {
    this.#listener = listener;
  }

  /** The kernel of a namespace. Throws TaplaneError NAMESPACE_MISSING, or SysError. */
  kernel(namespace: string): Kernel {
    const open = this.#open.get(namespace);
    if (open !== undefined) return open.kernel;
    if (this.#closed) throw new TaplaneError('UNAVAILABLE', 'SHUTTING_DOWN', 'the agent is stopping', { retryAfterMs: 1000 });
    const held = namespace === '' ? undefined : openNamespace(namespace);
    try {
      const listener = this.#listener;
      const kernel = new Kernel(held, {
        link: (link, removed) => listener.link(namespace, link, removed),
        object: (index) => listener.object(namespace, index),
        overrun: () => listener.lost(namespace),
        failed: () => {
          this.#close(namespace);
          listener.lost(namespace);
        },
      });
      this.#open.set(namespace, { kernel, identity: held?.identity ?? '' });
      if (held !== undefined) this.#watchNames();
      return kernel;
    } catch (error) {
      held?.close();
      throw error;
    }
  }

  /** Closes namespaces whose names are gone or mean another, and those that `inUse` knows no more. Answers the names that were lost. */
  check(inUse: (namespace: string) => boolean): string[] {
    const lost: string[] = [];
    for (const [namespace, { identity }] of this.#open) {
      if (namespace === '') continue;
      if (!inUse(namespace)) this.#close(namespace);
      else if (currentIdentity(namespace) !== identity) {
        this.#close(namespace);
        lost.push(namespace);
      }
    }
    return lost;
  }

  counts(): KernelCounts {
    const sum = { ...this.#closedCounts };
    for (const { kernel } of this.#open.values()) add(sum, kernel.counts);
    return sum;
  }

  close(): void {
    this.#closed = true;
    this.#directory?.close();
    this.#directory = undefined;
    for (const namespace of [...this.#open.keys()]) this.#close(namespace);
  }

  #close(namespace: string): void {
    const open = this.#open.get(namespace);
    if (open === undefined) return;
    this.#open.delete(namespace);
    add(this.#closedCounts, open.kernel.counts);
    open.kernel.close();
  }

  /** `ip netns del` removes the name at once; the namespace follows when nobody holds it. */
  #watchNames(): void {
    if (this.#directory !== undefined) return;
    try {
      this.#directory = watch('/run/netns', { persistent: false }, () => {
        for (const namespace of this.check(() => true)) this.#listener.lost(namespace);
      });
      this.#directory.on('error', () => {
        this.#directory?.close();
        this.#directory = undefined;
      });
    } catch {
      // No such directory: namespaces are given by path and checked by the periodic scan.
    }
  }
}

function openNamespace(namespace: string): Namespace {
  try {
    return new Namespace(namespacePath(namespace));
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'EINVAL')) throw error;
    throw new TaplaneError(
      'FAILED_PRECONDITION',
      'NAMESPACE_MISSING',
      `network namespace ${namespace}: there is none at ${namespacePath(namespace)}; make it with ip netns add`,
      {
        preconditions: [
          { type: 'NAMESPACE', subject: namespace, description: `make it with ip netns add, or leave network_namespace out` },
        ],
      },
    );
  }
}

function currentIdentity(namespace: string): string | undefined {
  try {
    return namespaceIdentity(namespacePath(namespace));
  } catch {
    return undefined;
  }
}

function add<T extends { [K in keyof T]: number }>(sum: T, part: T): void {
  for (const key of Object.keys(sum) as (keyof T)[]) (sum[key] as number) += part[key];
}
