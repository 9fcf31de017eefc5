// Which version a file of SQLite is of (`user_version`), found out without a change to it: what a newer agent wrote is left as it is, byte by byte.

import { closeSync, existsSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';

const HEADER_BYTES = 100;

/** The first 100 bytes (sqlite.org/fileformat2.html, section 1.3), with zeros for what a shorter file lacks. Throws what the disk says. */
export function headerOf(path: string): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  const fd = openSync(path, 'r');
  try {
    readSync(fd, header, 0, header.length, 0);
  } finally {
    closeSync(fd);
  }
  return header;
}

/** From its header; where commits wait in a log beside it, from SQLite. 0 when neither can tell: what follows says what is wrong. */
export function versionOfFile(path: string): number {
  const logBytes = statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  try {
    if (logBytes === 0) {
      const header = headerOf(path);
      return header.toString('latin1', 0, 15) === 'SQLite format 3' ? header.readInt32BE(60) : 0;
    }
    const hadIndex = existsSync(`${path}-shm`);
    const database = new DatabaseSync(path, { readOnly: true });
    try {
      return Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0);
    } finally {
      database.close();
      if (!hadIndex) rmSync(`${path}-shm`, { force: true });
    }
  } catch {
    return 0;
  }
}
