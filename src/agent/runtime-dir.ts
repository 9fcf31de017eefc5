// The directory of what need not survive: sockets and logs of lanes. One agent has it at a time, since two would tell the same lanes
// different things.

import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { TaplaneError } from '../errors.ts';
import { lockFile } from '../sys/lock.ts';
import { isErrno } from '../sys/sys-error.ts';
import { lockHolder } from './state-dir.ts';

const MODE = 0o750;

/** Makes the directory if need be and takes its lock. Throws TaplaneError with the cure. */
export function lockRuntimeDir(path: string): { release(): void } {
  const lock = join(path, 'lock');
  try {
    // Whatever the mask of the process: the group must reach the socket.
    if (mkdirSync(path, { recursive: true, mode: MODE }) !== undefined) chmodSync(path, MODE);
    return lockFile(lock);
  } catch (error) {
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
