// A lock file that the kernel frees when its holder dies, however it dies (flock(2)).

import * as libc from './libc.ts';

/** Takes the lock at once or throws SysError EAGAIN when another process has it. The file stays; hold the answer for as long as the lock is needed. */
export function lockFile(path: string): { release(): void } {
  const fd = libc.open(path, libc.O_RDWR | libc.O_CREAT | libc.O_NOFOLLOW, 0o600);
  try {
    libc.flock(fd, libc.LOCK_EX | libc.LOCK_NB);
  } catch (error) {
    libc.close(fd);
    throw error;
  }
  return { release: () => libc.close(fd) };
}
