// The network of the demo with several hosts: a namespace for each host and one for the router between them, whose bridge they are on. All of
// them are named after the demo's directory, and a note beside the namespaces says where that is: so those of a demo that was killed are told
// from those of one that runs, wherever it has its directory.

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const FOLDER = '/run/netns';
const NOTES = '/run';
/** RFC 5737: addresses for examples; nothing else uses them in these namespaces. */
const SUBNET = '192.0.2';
const ROUTER_HOST = 254;

export interface DemoHost {
  name: string;
  namespace: string;
  /** Its address on the bridge. */
  underlay: string;
}

export interface DemoNetwork {
  hosts: DemoHost[];
  router: string;
  /** Address of the router on the bridge. */
  routerAddress: string;
  /** Kills what still runs inside, and removes all of it. */
  remove(): void;
}

/** `home` is the demo's directory. Throws with what `ip` says. */
export function makeNetwork(home: string, names: readonly string[]): DemoNetwork {
  const prefix = `${basename(home)}-`;
  const router = `${prefix}router`;
  const hosts = names.map((name, index) => ({ name, namespace: `${prefix}${name}`, underlay: `${SUBNET}.${index + 1}` }));
  const routerAddress = `${SUBNET}.${ROUTER_HOST}`;
  writeFileSync(noteOf(basename(home)), home);
  try {
    for (const namespace of [router, ...hosts.map((host) => host.namespace)]) {
      ip('netns', 'add', namespace);
      ip('-n', namespace, 'link', 'set', 'lo', 'up');
    }
    ip('-n', router, 'link', 'add', 'lan0', 'type', 'bridge');
    ip('-n', router, 'address', 'add', `${routerAddress}/24`, 'dev', 'lan0');
    ip('-n', router, 'link', 'set', 'lan0', 'up');
    for (const { name, namespace, underlay } of hosts) {
      ip('-n', namespace, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', name, 'netns', router);
      ip('-n', router, 'link', 'set', name, 'master', 'lan0', 'up');
      ip('-n', namespace, 'address', 'add', `${underlay}/24`, 'dev', 'eth0');
      ip('-n', namespace, 'link', 'set', 'eth0', 'up');
      ip('-n', namespace, 'route', 'add', 'default', 'via', routerAddress);
    }
  } catch (error) {
    remove(home, prefix);
    throw error;
  }
  return { hosts, router, routerAddress, remove: () => remove(home, prefix) };
}

/** Removes the namespaces of demos whose directories are gone; returns their names. What cannot be judged stays. */
export function removeStaleNetworks(demoPrefix: string): string[] {
  const stale = namespaces().filter((name) => name.startsWith(demoPrefix) && isStale(noteOf(name.slice(0, name.lastIndexOf('-')))));
  for (const name of stale) removeNamespaces(name);
  for (const name of new Set(stale.map((one) => one.slice(0, one.lastIndexOf('-'))))) rmSync(noteOf(name), { force: true });
  return stale;
}

function noteOf(name: string): string {
  return join(NOTES, `${name}.home`);
}

function isStale(note: string): boolean {
  return existsSync(note) && !existsSync(readFileSync(note, 'utf8'));
}

function remove(home: string, prefix: string): void {
  removeNamespaces(prefix);
  rmSync(noteOf(basename(home)), { force: true });
}

function removeNamespaces(prefix: string): void {
  for (const name of namespaces().filter((one) => one.startsWith(prefix))) {
    for (const pid of ip('netns', 'pids', name).split('\n').filter(Boolean)) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It ended by itself meanwhile.
      }
    }
    ip('netns', 'delete', name);
  }
}

function namespaces(): string[] {
  return existsSync(FOLDER) ? readdirSync(FOLDER) : [];
}

function ip(...words: string[]): string {
  try {
    return execFileSync('ip', words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    throw new Error(`ip ${words.join(' ')}: ${stderr?.trim() || message}`);
  }
}
