// The directory of what need not survive: sockets and logs of lanes. One agent has it at a time, since two would tell the same lanes
// different things. Whoever may write there could be a lane to us, and be told the keys of links: such a directory is refused.

import { type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { TaplaneError } from '../errors.ts';
import { lockFile } from '../sys/lock.ts';
import { makeDirectory } from '../sys/make-directory.ts';
import { ourselves } from '../sys/secret-file.ts';
import { isErrno } from '../sys/sys-error.ts';
import { lockHolder } from './state-dir.ts';

/** The group must reach the socket. */
const MODE = 0o750;

/** Makes the directory if need be and takes its lock. Throws TaplaneError with the cure. */
export function lockRuntimeDir(path: string): { release(): void } {
  const lock = join(path, 'lock');
  try {
    makeDirectory(path, MODE);
    refuseUnsafe(path, statSync(path));
    return lockFile(lock);
  } catch (error) {
    if (error instanceof TaplaneError) throw error;
    const locked = isErrno(error, 'EAGAIN', 'EWOULDBLOCK');
    const cause = locked ? `held by ${lockHolder(lock) ?? 'another agent'}` : error instanceof Error ? error.message : String(error);
    const cure = locked
      ? 'stop that agent, or give this one its own --state-dir, --runtime-dir and --listen'
      : 'give a writable directory on a local file system with --runtime-dir';
    throw new TaplaneError(
      'FAILED_PRECONDITION',
      locked ? 'RUNTIME_DIR_LOCKED' : 'RUNTIME_DIR_UNUSABLE',
      `open runtime directory ${path}: ${cause}`,
      {
        cause: error,
        metadata: { path },
        preconditions: [{ type: 'STATE', subject: path, description: cure }],
      },
    );
  }
}

function refuseUnsafe(path: string, { uid, gid, mode }: Stats): void {
  const { uid: own } = ourselves();
  const isForeign = uid !== 0 && uid !== own;
  if (!isForeign && (mode & 0o002) === 0 && ((mode & 0o020) === 0 || gid === 0)) return;
  const cause = isForeign
    ? `owned by uid ${uid}, the agent runs as uid ${own}`
    : `others may write to it (mode ${(mode & 0o7777).toString(8)})`;
  const cure = isForeign
    ? `chown ${own} ${path}, after a look at who made it`
    : // Such as /tmp, which is everybody's and has to stay so.
      (mode & 0o1000) !== 0
      ? `give a directory of its own with --runtime-dir, such as ${join(path, 'taplane')}`
      : `chmod 750 ${path}, after a look at what is in it`;
  throw new TaplaneError('FAILED_PRECONDITION', 'RUNTIME_DIR_UNSAFE', `open runtime directory ${path}: ${cause}`, {
    metadata: { path },
    preconditions: [{ type: 'STATE', subject: path, description: cure }],
  });
}
