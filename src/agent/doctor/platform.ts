// The ground under the agent: Linux, Node, the clock, open files.

import { readFileSync } from 'node:fs';
import { type Check, fail, pass, warn } from './check.ts';

export interface Platform {
  os: string;
  node: string;
  nowMs: number;
  /** Soft limit of open files. */
  openFiles: number;
}

/** Before this, HTTP/2 sessions are not cleaned up after GOAWAY (CVE-2026-48937). */
const NODE_FLOOR = [24, 17, 0] as const;
const CLOCK_FLOOR = Date.UTC(2024, 0, 1);
const OPEN_FILES_FLOOR = 4096;

export function readPlatform(): Platform {
  let openFiles = Number.POSITIVE_INFINITY;
  try {
    openFiles = softOpenFiles(readFileSync('/proc/self/limits', 'utf8'));
  } catch {
    // Without /proc other checks fail louder.
  }
  return { os: process.platform, node: process.versions.node, nowMs: Date.now(), openFiles };
}

/** `Max open files            1024                 524288               files`. Pure. */
export function softOpenFiles(limits: string): number {
  const soft = /^Max open files\s+(\S+)/m.exec(limits)?.[1];
  return soft === undefined || soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
}

export function judgePlatform({ os, node, nowMs, openFiles }: Platform): Check[] {
  const floor = NODE_FLOOR.join('.');
  return [
    os === 'linux'
      ? pass('linux', 'Linux')
      : fail('linux', `this is ${os}`, 'run the agent on Linux: TUN/TAP and netlink are its kernel interfaces'),
    atLeast(node, NODE_FLOOR)
      ? pass('node', `Node.js ${node}`)
      : fail(
          'node',
          `Node.js ${node} is older than ${floor}`,
          `install Node.js ${floor} or newer, or use the one that npm ci brings (node_modules/.bin/node)`,
        ),
    nowMs >= CLOCK_FLOOR
      ? pass('clock', new Date(nowMs).toISOString())
      : fail(
          'clock',
          `the clock says ${new Date(nowMs).toISOString()}`,
          'set the clock (timedatectl set-ntp true, or date -s): certificates and time stamps would be wrong',
        ),
    openFiles >= OPEN_FILES_FLOOR
      ? pass('open-files', `${openFiles === Number.POSITIVE_INFINITY ? 'no limit' : openFiles}`)
      : warn(
          'open-files',
          `at most ${openFiles} open files`,
          `raise it to ${OPEN_FILES_FLOOR} or more: ulimit -n 65536, LimitNOFILE=65536 in the systemd unit`,
        ),
  ];
}

function atLeast(version: string, floor: readonly number[]): boolean {
  const parts = version.split('.').map((part) => Number.parseInt(part, 10));
  for (const [index, wanted] of floor.entries()) {
    const part = parts[index] ?? 0;
    if (part !== wanted) return part > wanted;
  }
  return true;
}
