// A directory with those above it that are missing. Not `mkdir` with `recursive`: that never returns below /proc, says ENOENT where the truth is
// EROFS, and takes the mask of the process from the mode.

import { chmodSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

/** Whatever is made has `mode`; what is there already stays as it is. Throws what mkdir(2) says of the first that cannot be made. */
export function makeDirectory(path: string, mode: number): void {
  try {
    makeOne(path, mode);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' || dirname(path) === path) throw error;
    makeDirectory(dirname(path), mode);
    makeOne(path, mode);
  }
}

function makeOne(path: string, mode: number): void {
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw error;
  }
  chmodSync(path, mode);
}
