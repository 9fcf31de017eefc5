// An address of NATS that stands in a file, read at each dial as the files of a login are.

import { readFileSync } from 'node:fs';

/** The address list that a file holds. Throws an Error that names the file and never repeats what is in it. */
export function readUrlFile(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw new Error(`read NATS address ${path}: ${(error as NodeJS.ErrnoException).code ?? 'not readable'}`);
  }
}
