// Fresh network namespaces for tests, named `tpl-<pid of the test process>-<n>`, so that what is left behind can be told from what
// is in use. Disposing deletes the namespace, and every device in it; deleting twice is fine.
//
//   await using ns = createNamespace();
//   ns.run('ip', 'link', 'add', 'dummy0', 'type', 'dummy');

import { existsSync, readdirSync } from 'node:fs';
import { Child, type Result, run, runSync } from './process.ts';

const FOLDER = '/run/netns';
let last = 0;

export class Namespace implements AsyncDisposable, Disposable {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  /** As `ip netns` shows it; usable as `netns` of an interface. */
  get path(): string {
    return `${FOLDER}/${this.name}`;
  }

  /** `ip -n NAME ARGS`, parsed when `-j` is among them, else undefined. `ns.ip('-j -d link show dev tap0')`. Throws when ip fails. */
  // biome-ignore lint/suspicious/noExplicitAny: what ip prints has no type here; truth.ts gives it one
  ip(args: string): any {
    const words = args.split(' ').filter(Boolean);
    const text = runSync('ip', '-n', this.name, ...words);
    if (!words.includes('-j')) return undefined;
    // ip says nothing at all, not [], when a list is empty.
    return text.trim() === '' ? [] : JSON.parse(text);
  }

  /** Runs to the end inside, blocking; returns standard output. Throws when the code is not 0. */
  run(...command: string[]): string {
    return runSync('ip', 'netns', 'exec', this.name, ...command);
  }

  /** Runs to the end inside without blocking this process, whatever the code. */
  exec(command: string[], options?: Parameters<typeof run>[1]): Promise<Result> {
    return run(['ip', 'netns', 'exec', this.name, ...command], options);
  }

  /** Starts a command inside; /sys shows this namespace too. */
  spawn(command: string[], options?: ConstructorParameters<typeof Child>[1]): Child {
    return new Child(['ip', 'netns', 'exec', this.name, ...command], options);
  }

  /** Whether a device of that name is here now. */
  has(device: string): boolean {
    return (this.ip('-j link') as { ifname: string }[]).some((link) => link.ifname === device);
  }

  [Symbol.dispose](): void {
    if (existsSync(this.path)) runSync('ip', 'netns', 'delete', this.name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
  }
}

/** A namespace of its own, with loopback up and nothing else in it. */
export function createNamespace(): Namespace {
  last += 1;
  const namespace = new Namespace(`tpl-${process.pid}-${last}`);
  runSync('ip', 'netns', 'add', namespace.name);
  namespace.ip('link set lo up');
  return namespace;
}

export interface CableEnd {
  namespace: Namespace;
  device: string;
  /** With its prefix length, such as `192.0.2.1/24`. */
  address?: string;
}

/** A veth pair between two namespaces, both ends up. IPv6 addresses are usable at once. */
export function createCable(a: CableEnd, b: CableEnd): void {
  a.namespace.ip(`link add name ${a.device} type veth peer name ${b.device} netns ${b.namespace.name}`);
  for (const end of [a, b]) {
    if (end.address) end.namespace.ip(`address add ${end.address} dev ${end.device}${end.address.includes(':') ? ' nodad' : ''}`);
    end.namespace.ip(`link set dev ${end.device} up`);
  }
}

/** Namespaces that process `pid` made and did not delete. */
export function namespacesOf(pid: number): string[] {
  if (!existsSync(FOLDER)) return [];
  return readdirSync(FOLDER).filter((name) => name.startsWith(`tpl-${pid}-`));
}
