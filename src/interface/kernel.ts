// The interfaces of one network namespace as the kernel has them: reads them, applies steps, tells of changes. Calls are
// synchronous. Everything that reaches the kernel from this room passes here.

import type { FSWatcher } from 'node:fs';
import type { Namespace } from '../sys/namespace.ts';
import { AF_INET, AF_INET6, addAddress, deleteAddress, dumpAddresses, type LinkAddress, readAddress } from '../sys/netlink/address.ts';
import { deleteLink, dumpLinks, getLink, type Link, readLink, setLink } from '../sys/netlink/link.ts';
import { Monitor, type MonitorListener } from '../sys/netlink/monitor.ts';
import { deleteNeighbour, dumpNeighbours, type LinkNeighbour, readNeighbour, setNeighbour } from '../sys/netlink/neighbour.ts';
import {
  addRoute,
  deleteRoute,
  dumpRoutes,
  type LinkRoute,
  lookUpRoute,
  RT_TABLE_LOCAL,
  RTN_LOCAL,
  readRoute,
} from '../sys/netlink/route.ts';
import { Netlink, type NetlinkCounts } from '../sys/netlink/socket.ts';
import { isErrno, SysError } from '../sys/sys-error.ts';
import { readSysctl, watchSysctl, writeSysctl } from '../sys/sysctl.ts';
import { createTun, setTunOwner } from '../sys/tun.ts';
import { MARK } from './desired.ts';
import type { Connected } from './node-routes.ts';
import type { Actual } from './plan.ts';
import type { Step } from './step.ts';

const ENODEV = 19;
const CONNECTED_MS = 1_000;
// linux/if_addr.h
const IFA_F_NODAD = 0x02;
const IFA_F_HOMEADDRESS = 0x10;
const IFA_F_MANAGETEMPADDR = 0x100;
const IFA_F_NOPREFIXROUTE = 0x200;

/** Everything of a namespace at one time, for work on many interfaces. */
export interface Snapshot {
  links: Link[];
  addresses: Map<number, LinkAddress[]>;
  routes: Map<number, LinkRoute[]>;
  neighbours: Map<number, LinkNeighbour[]>;
}

/** Netlink work since the sockets were opened. */
export interface KernelCounts extends NetlinkCounts {
  notifications: number;
  overruns: number;
}

/** A step that failed. Those before it ran; it may have run itself when only its answer was lost. */
export class StepFailure extends Error {
  readonly step: Step;
  readonly position: number;
  override readonly cause: SysError;
  readonly mayHaveRun: boolean;

  constructor(step: Step, position: number, cause: SysError) {
    super(cause.message);
    this.step = step;
    this.position = position;
    this.cause = cause;
    this.mayHaveRun = cause.call === 'recv' || cause.code === 'ETIMEDOUT';
  }
}

export class Kernel {
  readonly #namespace: Namespace | undefined;
  readonly #netlink: Netlink;
  readonly #monitor: Monitor;
  #connected: { at: number; addresses: Connected[] } | undefined;

  /** Opens both sockets; `namespace` undefined is the agent's own. Throws SysError. */
  constructor(namespace: Namespace | undefined, listener: MonitorListener) {
    this.#namespace = namespace;
    this.#netlink = this.#inside(() => new Netlink());
    try {
      this.#monitor = this.#inside(() => new Monitor(listener));
    } catch (error) {
      this.#netlink.close();
      throw error;
    }
  }

  get counts(): KernelCounts {
    return { ...this.#netlink.counts, notifications: this.#monitor.notifications, overruns: this.#monitor.overruns };
  }

  get strict(): boolean {
    return this.#netlink.strict;
  }

  /** Handles the notifications of everything that has happened so far. */
  drain(): void {
    this.#monitor.drain();
  }

  close(): void {
    this.#monitor.close();
    this.#netlink.close();
    this.#namespace?.close();
  }

  /** A link by name or index; undefined when there is none. */
  link(which: string | number): Link | undefined {
    try {
      return this.#netlink.get(`read link ${which}`, getLink(typeof which === 'string' ? { name: which } : { index: which }), readLink);
    } catch (error) {
      if (isErrno(error, 'ENODEV', 'ENXIO')) return undefined;
      throw error;
    }
  }

  links(): Link[] {
    return this.#netlink.dump('list links', dumpLinks(), readLink);
  }

  /** Name of the link that has this address, undefined when none has. A link that is down does not count. */
  addressHolder(local: Buffer): string | undefined {
    const family = local.length === 4 ? AF_INET : AF_INET6;
    // The routing table knows at once; only a hit is worth reading all addresses.
    if (!this.#isLocal(family, local)) return undefined;
    const held = this.#netlink.dump('list addresses', dumpAddresses(0, family), readAddress).find((item) => item.local.equals(local));
    return held === undefined ? undefined : (this.link(held.index)?.name ?? `index ${held.index}`);
  }

  /** Global addresses of all links, as they were at most a second ago: with thousands of links it takes long to read them. */
  connected(): readonly Connected[] {
    const now = performance.now();
    if (this.#connected === undefined || now - this.#connected.at > CONNECTED_MS)
      this.#connected = { at: now, addresses: this.#readConnected() };
    return this.#connected.addresses;
  }

  #readConnected(): Connected[] {
    const links = new Map(this.links().map((link) => [link.index, link]));
    return this.#netlink.dump('list addresses', dumpAddresses(0), readAddress).flatMap((address) => {
      const link = links.get(address.index);
      if (link === undefined || address.scope !== 0) return [];
      return [{ link: link.name, isOurs: link.alias.startsWith(MARK), isLoopback: link.name === 'lo', address }];
    });
  }

  /** Everything at once. */
  snapshot(): Snapshot {
    const byIndex = <T extends { index: number }>(items: T[]): Map<number, T[]> => Map.groupBy(items, (item) => item.index);
    return {
      links: this.links(),
      addresses: byIndex(this.#netlink.dump('list addresses', dumpAddresses(0), readAddress)),
      routes: byIndex([...this.#routes(AF_INET, 0), ...this.#routes(AF_INET6, 0)]),
      neighbours: byIndex(this.#netlink.dump('list neighbours', dumpNeighbours(0), readNeighbour)),
    };
  }

  /** What the kernel has of a link, with the settings named by `sysctlKeys`; from `snapshot` where one is given. */
  observe(link: Link, sysctlKeys: string[], snapshot?: Snapshot): Actual {
    const { index, name } = link;
    // Filtered again: an old kernel ignores the filter.
    const ours = <T extends { index: number }>(items: T[]): T[] => items.filter((item) => item.index === index);
    const addresses =
      snapshot?.addresses.get(index) ?? (snapshot ? [] : ours(this.#netlink.dump('list addresses', dumpAddresses(index), readAddress)));
    const routes =
      snapshot?.routes.get(index) ?? (snapshot ? [] : ours([...this.#routes(AF_INET, index), ...this.#routes(AF_INET6, index)]));
    const neighbours =
      link.tun?.mode !== 'tap'
        ? []
        : (snapshot?.neighbours.get(index) ??
          (snapshot ? [] : ours(this.#netlink.dump('list neighbours', dumpNeighbours(index), readNeighbour))));
    const anySet = (key: string): boolean => this.#anySet(key, name);
    return {
      link,
      controller: link.controller === 0 ? '' : (this.link(link.controller)?.name ?? ''),
      addresses,
      routes,
      neighbours,
      sysctls: this.sysctls(name, sysctlKeys),
      // Read when a plan wants to know, which is seldom.
      get promotesSecondaries() {
        return anySet('ipv4/promote_secondaries');
      },
      get keepsAddresses() {
        return anySet('ipv6/keep_addr_on_down');
      },
    };
  }

  /** Settings of an interface; those that the kernel does not have are left out. */
  sysctls(name: string, keys: string[]): Map<string, string> {
    const found = new Map<string, string>();
    if (keys.length === 0) return found;
    this.#inside(() => {
      for (const key of keys) {
        const value = readSysctl(name, key);
        if (value !== undefined) found.set(key, value);
      }
    });
    return found;
  }

  /** Watches settings for writes by others. */
  watchSysctls(name: string, keys: string[], changed: () => void): FSWatcher[] {
    return this.#inside(() => keys.flatMap((key) => watchSysctl(name, key, changed) ?? []));
  }

  /**
   * Runs the steps in order on the link with `index` (0 while there is none) and answers its index.
   * Throws StepFailure at the first that fails.
   */
  apply(steps: readonly Step[], index: number): number {
    let at = index;
    steps.forEach((step, position) => {
      try {
        at = this.#applyOne(step, at);
      } catch (error) {
        if (error instanceof SysError) throw new StepFailure(step, position, error);
        throw error;
      }
    });
    return at;
  }

  #applyOne(step: Step, index: number): number {
    const netlink = this.#netlink;
    // Index 0 means any link to the kernel.
    if (index === 0 && step.kind !== 'create-link' && step.kind !== 'delete-link') throw new SysError(`device of ${step.kind}`, ENODEV);
    switch (step.kind) {
      case 'create-link':
        return this.#create(step);
      case 'delete-link':
        if (index !== 0) ignoring(['ENODEV'], () => netlink.request('RTM_DELLINK', deleteLink(index)));
        return 0;
      case 'set-owner':
        this.#requireName(step.device.name, index);
        this.#inside(() => setTunOwner(step.device.name, step.device, step.owner, step.group));
        break;
      case 'set-link':
        netlink.request(
          'RTM_NEWLINK',
          setLink(index, step.controller === undefined ? step.change : { controller: this.#controllerIndex(step.controller) }),
        );
        break;
      case 'add-address':
        netlink.request('RTM_NEWADDR', addAddress({ ...step.address, index, flags: settableFlags(step.address) }, step.replace));
        break;
      case 'delete-address':
        ignoring(['EADDRNOTAVAIL'], () => netlink.request('RTM_DELADDR', deleteAddress({ ...step.address, index, flags: 0 })));
        break;
      case 'add-route':
        netlink.request('RTM_NEWROUTE', addRoute({ ...step.route, index }));
        break;
      case 'delete-route':
        ignoring(['ESRCH'], () => netlink.request('RTM_DELROUTE', deleteRoute({ ...step.route, index })));
        break;
      case 'set-neighbour':
        netlink.request('RTM_NEWNEIGH', setNeighbour({ ...step.neighbour, index }));
        break;
      case 'delete-neighbour':
        ignoring(['ENOENT'], () => netlink.request('RTM_DELNEIGH', deleteNeighbour({ ...step.neighbour, index })));
        break;
      case 'set-sysctl':
        this.#requireName(step.name, index);
        this.#inside(() => writeSysctl(step.name, step.key, step.value));
        break;
    }
    return index;
  }

  /** The mark of ownership is on the device before it may outlive us: whatever kills us, no unmarked device stays. */
  #create(step: Extract<Step, { kind: 'create-link' }>): number {
    let index = 0;
    this.#inside(() =>
      createTun(step.device, (name) => {
        const link = this.link(name);
        if (link === undefined || name !== step.device.name) throw new SysError('TUNSETIFF', ENODEV, `device ${name} is not there`);
        index = link.index;
        this.#netlink.request('RTM_NEWLINK', setLink(index, { alias: step.alias }));
      }),
    );
    return index;
  }

  #isLocal(family: number, address: Buffer): boolean {
    try {
      return this.#netlink.get('look up route', lookUpRoute(family, address), readRoute).type === RTN_LOCAL;
    } catch (error) {
      if (isErrno(error, 'ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL')) return false;
      throw error;
    }
  }

  /** Before what goes by name: the name must be that of our device. */
  #requireName(name: string, index: number): void {
    if (this.link(name)?.index !== index) throw new SysError(`device ${name}`, ENODEV, 'the name belongs to another device');
  }

  #controllerIndex(name: string): number {
    if (name === '') return 0;
    const link = this.link(name);
    if (link === undefined) throw new SysError(`bridge ${name}`, ENODEV);
    return link.index;
  }

  #routes(family: number, index: number): LinkRoute[] {
    return this.#netlink
      .dump('list routes', dumpRoutes(family, index), readRoute)
      .filter((route) => route.index !== 0 && route.table !== RT_TABLE_LOCAL && route.type === 1);
  }

  /** The kernel takes the greater of the interface's setting and that for all. */
  #anySet(key: string, name: string): boolean {
    return this.#inside(() => [name, 'all'].some((scope) => Number(readSysctl(scope, key) ?? 0) > 0));
  }

  #inside<T>(run: () => T): T {
    return this.#namespace === undefined ? run() : this.#namespace.run(run);
  }
}

function ignoring(codes: string[], run: () => void): void {
  try {
    run();
  } catch (error) {
    if (!isErrno(error, ...codes)) throw error;
  }
}

/** Flags of an address that somebody chose; the others are the kernel's. */
function settableFlags(address: object): number {
  return 'flags' in address ? Number(address.flags) & (IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE) : 0;
}
