// The state directory: ours alone, one agent at a time. It is made with mode 0700; one that belongs to somebody else, or that
// others may write to, is refused, since whoever writes there decides what the agent does as root.

import { existsSync, readdirSync, readFileSync, readlinkSync, realpathSync, type Stats, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { TaplaneError } from '../errors.ts';
import { lockFile } from '../sys/lock.ts';
import { makeDirectory } from '../sys/make-directory.ts';
import { isErrno } from '../sys/sys-error.ts';

export interface StateDir {
  path: string;
  /** Gives the lock up; the directory stays. */
  release(): void;
}

const GROUP_OR_WORLD_WRITABLE = 0o022;

/** Makes the directory if need be and takes its lock. Throws TaplaneError with the cure. */
export function openStateDir(path: string): StateDir {
  let stats: Stats;
  try {
    makeDirectory(path, 0o700);
    stats = statSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw refusal(
      'STATE_DIR_UNUSABLE',
      path,
      `${code ?? error}`,
      unusableCures[code ?? ''] ?? 'give a directory that the agent may write to with --state-dir',
      error,
    );
  }
  const problem = stateDirProblem(stats, process.geteuid?.() ?? 0, path);
  if (problem) throw refusal('STATE_DIR_UNSAFE', path, problem.cause, problem.cure);
  const lockPath = join(path, 'lock');
  try {
    const lock = lockFile(lockPath);
    return { path, release: () => lock.release() };
  } catch (error) {
    if (isErrno(error, 'EAGAIN', 'EWOULDBLOCK')) {
      const holder = lockHolder(lockPath);
      throw refusal(
        'STATE_DIR_LOCKED',
        path,
        `held by ${holder ?? 'another agent'}`,
        'stop that agent, or give this one its own --state-dir, --runtime-dir and --listen',
        error,
      );
    }
    throw refusal(
      'STATE_DIR_UNUSABLE',
      path,
      `lock: ${(error as Error).message}`,
      'give a directory on a local, writable file system with --state-dir',
      error,
    );
  }
}

/** What makes an existing directory unfit, or undefined. Pure. */
export function stateDirProblem(
  stats: Pick<Stats, 'isDirectory' | 'uid' | 'mode'>,
  uid: number,
  path: string,
): { cause: string; cure: string } | undefined {
  if (!stats.isDirectory()) return { cause: 'not a directory', cure: 'move the file away, or give another --state-dir' };
  if (stats.uid !== uid)
    return {
      cause: `owned by uid ${stats.uid}, the agent runs as uid ${uid}`,
      cure: `${uid !== 0 && stats.uid === 0 ? 'run as root, or ' : ''}chown ${uid} ${path}, after a look at who made it`,
    };
  if ((stats.mode & GROUP_OR_WORLD_WRITABLE) !== 0) {
    return {
      cause: `others may write to it (mode ${(stats.mode & 0o7777).toString(8)})`,
      cure: `chmod 700 ${path}, after a look at what is in it`,
    };
  }
  return undefined;
}

const unusableCures: Record<string, string> = {
  EROFS: 'the file system is read-only: mount a writable volume there (in Kubernetes a hostPath), or give another --state-dir',
  EACCES: 'run the agent as root, or give a directory that this user may write to with --state-dir',
  EEXIST: 'move the file away, or give another --state-dir',
  ENOTDIR: 'a part of the path is a file: give another --state-dir',
  ENOSPC: 'free some space on that file system',
};

function refusal(reason: string, path: string, cause: string, cure: string, error?: unknown): TaplaneError {
  return new TaplaneError('FAILED_PRECONDITION', reason, `open state directory ${path}: ${cause}`, {
    preconditions: [{ type: 'STATE', subject: path, description: cure }],
    cause: error,
  });
}

/** `pid 812 (taplane agent)`: who holds a flock(2) on the file, by /proc/locks; undefined when it is in another pid namespace. */
export function lockHolder(path: string): string | undefined {
  try {
    const { ino } = statSync(path);
    const file = realpathSync(path);
    for (const pid of flockPids(readFileSync('/proc/locks', 'utf8'), ino)) {
      // An inode number alone may belong to another file system.
      if (!existsSync(`/proc/${pid}/fd`) || !readdirSync(`/proc/${pid}/fd`).some((fd) => linkOf(`/proc/${pid}/fd/${fd}`) === file))
        continue;
      return `pid ${pid} (${programOf(readFileSync(`/proc/${pid}/cmdline`, 'utf8'))})`;
    }
  } catch {
    // Without /proc, or with a holder that ends right now, there is nobody to name.
  }
  return undefined;
}

/** `taplane agent`, or the name of another program, from /proc/PID/cmdline; its comm is only the name of a thread. Pure. */
export function programOf(cmdline: string): string {
  const [program = '', ...args] = cmdline.split('\0').filter(Boolean);
  if (/^taplane agent\b/.test(program) || (args.includes('agent') && args.some((arg) => /\/main\.[jt]s$/.test(arg))))
    return 'taplane agent';
  return basename(program.split(' ')[0] ?? '') || 'unknown';
}

/** Pids of `1: FLOCK  ADVISORY  WRITE 812 fe:00:1234 0 EOF` lines for an inode. Pure. */
export function flockPids(locks: string, inode: number): number[] {
  return locks.split('\n').flatMap((line) => {
    const match = /^\d+: FLOCK\s+ADVISORY\s+WRITE (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) /.exec(line);
    return match && Number(match[2]) === inode ? [Number(match[1])] : [];
  });
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
