// What a test run must not leave behind: network namespaces `tpl-<pid>-<n>`, folders of that name in the temporary directory with
// what is mounted on them, and processes that live in the one or name the other. A leftover is one whose maker, the process <pid>, is
// gone: what belongs to a run that still goes on is left alone.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const NAME = /(?:^|\/)tpl-(\d+)-[\w-]+/;
const NAMESPACES = '/run/netns';

/** Kills and removes all leftovers; returns one line for each. */
export function removeLeftovers(): string[] {
  const namespaces = listOf(NAMESPACES).filter(isOrphan);
  const folders = listOf(tmpdir()).filter(isOrphan);
  const found: string[] = [];
  const pids = new Set<number>();
  for (const name of namespaces) {
    const inside = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).stdout ?? '';
    for (const pid of inside.split('\n').filter(Boolean)) pids.add(Number(pid));
  }
  for (const entry of listOf('/proc')) {
    const pid = Number(entry);
    if (Number.isInteger(pid) && pid !== process.pid && [...commandOf(pid), logOf(pid)].some(isOrphan)) pids.add(pid);
  }
  for (const pid of pids) {
    found.push(`process ${pid}: ${commandOf(pid).join(' ')}`);
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself meanwhile.
    }
  }
  for (const name of namespaces) {
    found.push(`network namespace ${name}`);
    spawnSync('ip', ['netns', 'delete', name]);
  }
  for (const path of mountsBelow(tmpdir()).filter(isOrphan)) {
    found.push(`mount ${path}`);
    spawnSync('umount', ['--lazy', path]);
  }
  for (const name of folders) {
    found.push(`folder ${join(tmpdir(), name)}`);
    rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
  return found;
}

function isOrphan(text: string): boolean {
  const maker = NAME.exec(text)?.[1];
  return maker !== undefined && !existsSync(`/proc/${maker}`);
}

/** The last made first, as one may stand on another. */
function mountsBelow(folder: string): string[] {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return mounts
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(`${folder}/`))
    .reverse();
}

function listOf(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

/** Where it writes its errors: a lane has a title in place of its arguments. */
function logOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/fd/2`);
  } catch {
    return '';
  }
}

function commandOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').filter(Boolean);
  } catch {
    return [];
  }
}
