// The demo's directory: `taplane-demo-*`, ours alone. For its life the demo holds the lock of `demo.pid` in it, as its agent holds
// that of `state/lock`. The kernel frees a lock with its holder, so that both free means that both are dead: what a demo that was
// killed left behind is told apart from one that runs, also in another container or after a reboot, which a pid alone cannot.

import { lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lockFile } from '../src/sys/lock.ts';

export const DEMO_PREFIX = 'taplane-demo-';
const PID_FILE = 'demo.pid';
const LANE_LOG = /^(.*)\/lane-\d+\.log$/;
const LANES_MS = 8_000;

export interface DemoHome {
  path: string;
  /** Removes the directory with all in it. */
  remove(): void;
  /** Leaves it for people to read: no later demo removes it. */
  keep(): void;
}

export function makeHome(base: string): DemoHome {
  const path = mkdtempSync(join(base, DEMO_PREFIX));
  const pidFile = join(path, PID_FILE);
  const lock = lockFile(pidFile);
  // After the lock: an empty file is one that is not locked yet.
  writeFileSync(pidFile, `${process.pid}\n`);
  return {
    path,
    remove() {
      rmSync(path, { recursive: true, force: true });
      lock.release();
    },
    keep() {
      rmSync(pidFile, { force: true });
      lock.release();
    },
  };
}

/**
 * Ends the lanes that log into a runtime directory, and waits for that, for some seconds. Without an agent they would go on for a while: they
 * still meter a device that was adopted and stays.
 */
export async function endLanes(runtimeDir: string): Promise<void> {
  const until = performance.now() + LANES_MS;
  for (const pid of lanesOf(runtimeDir)) {
    try {
      process.kill(pid, 'SIGTERM');
    } catch {
      // It ended by itself meanwhile.
    }
  }
  while (lanesOf(runtimeDir).length > 0 && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 50));
}

function lanesOf(runtimeDir: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 1 && pid !== process.pid && LANE_LOG.exec(logOf(pid))?.[1] === runtimeDir);
}

/** Where a process writes its errors. */
function logOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/fd/2`);
  } catch {
    return '';
  }
}

/** Removes the directories of demos that are dead and whose agents are; returns them. What cannot be judged stays. */
export function removeStaleHomes(base: string): string[] {
  return readdirSync(base)
    .filter((name) => name.startsWith(DEMO_PREFIX))
    .map((name) => join(base, name))
    .filter((path) => {
      try {
        return removeIfStale(path);
      } catch {
        // Held, or gone meanwhile, or nothing of ours.
        return false;
      }
    });
}

/** Throws SysError when demo or agent lives. */
function removeIfStale(path: string): boolean {
  const stats = lstatSync(path);
  if (!stats.isDirectory() || stats.uid !== process.getuid?.() || (stats.mode & 0o077) !== 0) return false;
  const pidFile = join(path, PID_FILE);
  if (!lstatSync(pidFile).isFile() || !/^\d+\n$/.test(readFileSync(pidFile, 'utf8'))) return false;
  const demo = lockFile(pidFile);
  try {
    const agents: ReturnType<typeof lockFile>[] = [];
    try {
      // The agent, or with several hosts one in the folder of each.
      for (const folder of [path, ...foldersOf(path)])
        if (hasEntry(join(folder, 'state'), 'lock')) agents.push(lockFile(join(folder, 'state', 'lock')));
      rmSync(path, { recursive: true, force: true });
    } finally {
      for (const agent of agents) agent.release();
    }
    return true;
  } finally {
    demo.release();
  }
}

function foldersOf(path: string): string[] {
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(path, name));
}

function hasEntry(directory: string, name: string): boolean {
  try {
    return readdirSync(directory).includes(name);
  } catch {
    return false;
  }
}
