// What the kernel says, through `ip` and /proc: a witness that shares no code with Taplane. Readers are typed by the fields that
// tests look at; everything else that `ip` prints is there too.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Namespace } from './namespace.ts';

export interface Link {
  ifindex: number;
  ifname: string;
  flags: string[];
  mtu: number;
  operstate: string;
  txqlen?: number;
  /** Absent on TUN devices. */
  address?: string;
  ifalias?: string;
  master?: string;
  linkinfo?: { info_kind: string; info_data?: TunData & Record<string, unknown> };
  [other: string]: unknown;
}

/** IFLA_TUN_*, of `ip -d link`. */
export interface TunData {
  type?: 'tun' | 'tap';
  pi?: boolean;
  vnet_hdr?: boolean;
  multi_queue?: boolean;
  numqueues?: number;
  numdisabled?: number;
  persist?: boolean;
  /** A name where the system has one, else the number as text. */
  user?: string;
  group?: string;
}

export interface Address {
  family: 'inet' | 'inet6';
  local: string;
  prefixlen: number;
  scope: string;
  /** The peer of a point-to-point address. */
  address?: string;
  dynamic?: boolean;
  tentative?: boolean;
  [other: string]: unknown;
}

export interface Route {
  dst: string;
  type: string;
  dev?: string;
  gateway?: string;
  table: string;
  protocol: string;
  scope: string;
  metric?: number;
  prefsrc?: string;
  flags: string[];
  [other: string]: unknown;
}

export interface Neighbour {
  dst: string;
  dev: string;
  lladdr?: string;
  state: string[];
  [other: string]: unknown;
}

export interface Tuntap {
  ifname: string;
  flags: string[];
  user?: number;
  group?: number;
}

export function links(ns: Namespace): Link[] {
  return ns.ip('-j -d link');
}

/** Undefined when there is no device of that name. */
export function link(ns: Namespace, device: string): Link | undefined {
  return links(ns).find((candidate) => candidate.ifname === device);
}

/** Every address, or those of one device, as `ip` orders them. */
export function addresses(ns: Namespace, device?: string): Address[] {
  const all = ns.ip('-j -d address') as { ifname: string; addr_info: Address[] }[];
  return all.filter((entry) => device === undefined || entry.ifname === device).flatMap((entry) => entry.addr_info);
}

/** `192.0.2.1/24`, as a user writes it. */
export function cidrs(ns: Namespace, device: string): string[] {
  return addresses(ns, device).map((address) => `${address.local}/${address.prefixlen}`);
}

/** Of all tables and both families. */
export function routes(ns: Namespace, device?: string): Route[] {
  // `table all` without a family lists both.
  const all = ns.ip('-j -d route show table all') as Route[];
  return all.filter((route) => device === undefined || route.dev === device);
}

export function neighbours(ns: Namespace, device?: string): Neighbour[] {
  const all = [...ns.ip('-j -d neighbour show nud all'), ...ns.ip('-j -d neighbour show proxy')] as Neighbour[];
  return all.filter((neighbour) => device === undefined || neighbour.dev === device);
}

export function tuntaps(ns: Namespace): Tuntap[] {
  return JSON.parse(ns.run('ip', '-j', 'tuntap') || '[]');
}

/** `sysctl(ns, 'net/ipv4/conf/tap0/forwarding')`, without the line end. Throws when there is no such key. */
export function sysctl(ns: Namespace, key: string): string {
  return ns.run('cat', `/proc/sys/${key}`).trim();
}

export function writeSysctl(ns: Namespace, key: string, value: string): void {
  ns.run('sh', '-c', 'printf %s "$2" > "/proc/sys/$1"', 'sh', key, value);
}

/**
 * Links, addresses, routes and neighbours as text with one line each, in one order whatever order the kernel lists them in: what did
 * not change is byte-equal. Left out: whatever belongs to a device that `except` names, neighbours that the kernel learned, and what
 * changes by itself (remaining lifetimes, duplicate detection).
 */
export function snapshot(ns: Namespace, options: { except?: (device: string) => boolean } = {}): string {
  const except = options.except ?? (() => false);
  const lines: string[] = [];
  const add = (kind: string, device: string | undefined, value: unknown) => {
    if (device === undefined || !except(device)) lines.push(`${kind} ${canonical(value)}`);
  };
  for (const entry of links(ns)) add('link', entry.ifname, entry);
  for (const entry of ns.ip('-j -d address') as { ifname: string; addr_info: Address[] }[]) {
    for (const address of entry.addr_info) add('address', entry.ifname, { ifname: entry.ifname, ...withoutClock(address) });
  }
  for (const route of routes(ns)) add('route', route.dev, withoutClock(route));
  for (const neighbour of neighbours(ns)) {
    if (!neighbour.state?.some(isLearned)) add('neighbour', neighbour.dev, neighbour);
  }
  return `${lines.sort().join('\n')}\n`;
}

/** The kernel tells of a carrier up to a second late (net/core/link_watch.c), whatever the namespace that kept it busy. */
export const LATE_MS = 1200;

/** A snapshot that has not changed for as long as the kernel may be late. */
export async function restingSnapshot(ns: Namespace, options: { except?: (device: string) => boolean } = {}): Promise<string> {
  for (let last = snapshot(ns, options); ; ) {
    await sleep(LATE_MS);
    const now = snapshot(ns, options);
    if (now === last) return now;
    last = now;
  }
}

function isLearned(state: string): boolean {
  return state !== 'PERMANENT' && state !== 'NOARP';
}

const BY_ITSELF = new Set([
  'valid_life_time',
  'preferred_life_time',
  'expires',
  'tentative',
  'dadfailed',
  'used',
  'confirmed',
  'updated',
  'probes',
]);

function withoutClock(entry: Address | Route): object {
  const forever = 0xffffffff;
  return Object.fromEntries(
    Object.entries(entry).filter(([key, value]) => !BY_ITSELF.has(key) || (key.endsWith('life_time') && value === forever)),
  );
}

/** JSON with sorted keys. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => {
    if (item === null || typeof item !== 'object' || Array.isArray(item)) return item;
    return Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
