// The place of a unix socket: made safe before the bind, opened to the group after it where it is for the group, gone after the stop.
//
// Refused: a symlink or anything but a socket at the path, a directory that everybody may write to, a socket that answers.
// A socket that nobody answers is the rest of a killed agent and is removed.

import { chmod, lstat, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { TaplaneError } from '../errors.ts';
import { makeDirectory } from '../sys/make-directory.ts';

/** For owner and group, and for the owner alone. */
const GROUP_MODE = 0o660;
export const OWNER_MODE = 0o600;
/** The group must reach the socket. */
const DIRECTORY_MODE = 0o750;
const PROBE_TIMEOUT_MS = 1000;

export interface ReservedSocket {
  /** Binds with a mask that lets nobody in, then gives the socket its mode. */
  bind(listen: () => Promise<unknown>): Promise<void>;
  /** Removes the socket if it is still the one that was bound. */
  remove(): Promise<void>;
}

/** Makes the place for a socket: directory, nobody else's socket, none that is stale. Throws TaplaneError. */
export async function reserveSocket(path: string, mode = GROUP_MODE): Promise<ReservedSocket> {
  const directory = dirname(path);
  makeDirectory(directory, DIRECTORY_MODE);
  // Also of a link to a directory: what counts is who may put another socket there.
  const parent = await stat(directory);
  // Sticky as /tmp: others may add files there but cannot take ours away.
  if (parent.isDirectory() && (parent.mode & 0o002) !== 0 && (parent.mode & 0o1000) === 0) {
    throw unsafe(path, `everybody may write to ${directory}`, `chmod o-w ${directory}, or choose another directory`);
  }
  await clearStale(path);
  let inode: bigint | undefined;
  return {
    async bind(listen) {
      // 0077, not 0117: a directory that somebody makes meanwhile must stay usable to its owner.
      const mask = process.umask(0o077);
      try {
        await listen();
      } finally {
        process.umask(mask);
      }
      await chmod(path, mode);
      inode = (await lstat(path, { bigint: true })).ino;
    },
    async remove() {
      const present = await statOf(path);
      if (present && present.ino === inode) await rm(path, { force: true });
    },
  };
}

async function clearStale(path: string): Promise<void> {
  const present = await statOf(path);
  if (!present) return;
  if (!present.isSocket()) {
    const kind = present.isSymbolicLink() ? 'a symbolic link' : 'not a socket';
    throw unsafe(path, `it is ${kind}`, 'remove it, or choose another path');
  }
  if (await answers(path)) {
    throw refusal('SOCKET_IN_USE', path, 'another program answers there', 'stop that program, or choose another path');
  }
  await rm(path, { force: true });
}

async function statOf(path: string) {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Whether somebody accepts. Only "refused" and "gone" mean no: when in doubt, the socket is not ours to remove. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const settle = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => settle(true));
    socket.once('connect', () => settle(true));
    socket.once('error', (error: NodeJS.ErrnoException) => settle(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'));
  });
}

function unsafe(path: string, cause: string, cure: string): TaplaneError {
  return refusal('SOCKET_PATH_UNSAFE', path, cause, cure);
}

function refusal(reason: string, path: string, cause: string, cure: string): TaplaneError {
  return new TaplaneError('FAILED_PRECONDITION', reason, `listen on unix:${path}: ${cause}`, {
    metadata: { path },
    preconditions: [{ type: 'STATE', subject: path, description: cure }],
  });
}
