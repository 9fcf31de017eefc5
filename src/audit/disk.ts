// The files of the log as it is written: opened where it went on, appended to, rotated; and some room that is kept for the time when the disk is full.
// Nothing here waits but `sync`; everything throws what the disk says, and then what was there before is there still.

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fdatasync,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { encodeHead, fileName, HEAD, type Head, logFiles } from './files.ts';
import type { Link } from './record.ts';
import { type Start, startOf } from './start.ts';

export interface AuditLimits {
  /** Of a file, in bytes; it may be longer by one group of records. */
  readonly maxBytes: number;
  /** How many, at least 2. */
  readonly files: number;
}

/** Kept for entries of calls that are under way when the disk is full. */
export const RESERVE_BYTES = 128 * 1024;
const RESERVE = 'reserve';
const OWNER_ONLY = 0o600;
const { O_RDWR, O_CREAT, O_NOFOLLOW, O_EXCL } = constants;

export class AuditDisk {
  readonly chain: string;
  /** What the start has found, see `Start`. */
  readonly found: Pick<Start, 'damage' | 'cutBytes'>;
  readonly #folder: string;
  readonly #limits: AuditLimits;
  readonly #headFd: number;
  readonly #reserveFd: number;
  #fd = -1;
  #head: Head;
  #hasReserve = false;

  /** Makes the folder if need be; this process alone writes there. */
  constructor(folder: string, limits: AuditLimits) {
    this.#folder = folder;
    this.#limits = limits;
    makeFolder(folder);
    const start = startOf(folder);
    this.found = start;
    this.chain = start.chain || randomBytes(8).toString('hex');
    this.#head = { chain: this.chain, first: start.first, file: start.file, offset: start.offset, ...start.last };
    this.#headFd = openSync(join(folder, HEAD), O_RDWR | O_CREAT | O_NOFOLLOW, OWNER_ONLY);
    try {
      this.#reserveFd = openSync(join(folder, RESERVE), O_RDWR | O_CREAT | O_NOFOLLOW, OWNER_ONLY);
    } catch (error) {
      closeSync(this.#headFd);
      throw error;
    }
    try {
      if (start.file !== '') this.#fd = this.#reopen(start);
      this.reserve();
      writeSync(this.#headFd, encodeHead(this.#head), 0, undefined, 0);
      fdatasyncSync(this.#headFd);
      syncFolder(folder);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Where the log ends on disk. */
  get head(): Head {
    return this.#head;
  }

  /** Writes behind the last record; on disk only after `sync` and `commit`. On failure nothing of it is there. */
  write(bytes: Buffer): void {
    if (this.#fd < 0 || this.#head.offset >= this.#limits.maxBytes) this.#rotate();
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at, bytes.length - at, this.#head.offset + at);
    } catch (error) {
      this.rewind();
      throw error;
    }
  }

  sync(): Promise<void> {
    return new Promise((resolve, reject) => fdatasync(this.#fd, (error) => (error ? reject(error) : resolve())));
  }

  syncNow(): void {
    fdatasyncSync(this.#fd);
  }

  /** What was written and synced counts from now on: `last` is its last record. Not synced itself: see `files.ts`. */
  commit(length: number, last: Link): void {
    const head = { ...this.#head, ...last, offset: this.#head.offset + length };
    writeSync(this.#headFd, encodeHead(head), 0, undefined, 0);
    this.#head = head;
  }

  /** Takes back what was written and not committed, as far as the disk lets it: what remains lies behind the head, and is written over. */
  rewind(): void {
    try {
      ftruncateSync(this.#fd, this.#head.offset);
    } catch {
      // a disk that takes nothing
    }
  }

  /** Keeps room. Throws when there is none. */
  reserve(): void {
    if (this.#hasReserve) return;
    // Not zeros: a file system may keep those without room.
    const bytes = Buffer.alloc(RESERVE_BYTES, 'reserved');
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#reserveFd, bytes, at, bytes.length - at, at);
      fdatasyncSync(this.#reserveFd);
    } catch (error) {
      ftruncateSync(this.#reserveFd, 0);
      throw error;
    }
    this.#hasReserve = true;
  }

  /** Gives the kept room back to the disk, for what comes next; false when there was none. */
  release(): boolean {
    if (!this.#hasReserve) return false;
    this.#hasReserve = false;
    ftruncateSync(this.#reserveFd, 0);
    return true;
  }

  close(): void {
    for (const fd of [this.#fd, this.#headFd, this.#reserveFd]) if (fd !== undefined && fd >= 0) closeSync(fd);
    this.#fd = -1;
  }

  #reopen({ file, offset, cutBytes }: Start): number {
    const fd = openSync(join(this.#folder, file), O_RDWR | O_NOFOLLOW);
    if (cutBytes === 0) return fd;
    // Bounded, and the last one only: it is for whoever wonders what a crash has cut off.
    const cut = Buffer.alloc(Math.min(cutBytes, 1024 * 1024));
    const length = readSync(fd, cut, 0, cut.length, offset);
    writeFileSync(join(this.#folder, 'cut'), cut.subarray(0, length), { mode: OWNER_ONLY });
    ftruncateSync(fd, offset);
    fdatasyncSync(fd);
    return fd;
  }

  /** The head is on disk before the next file is there: a start trusts that order. */
  #rotate(): void {
    fdatasyncSync(this.#headFd);
    const name = fileName(this.#head.sequence + 1);
    const path = join(this.#folder, name);
    let fd: number;
    try {
      fd = openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, OWNER_ONLY);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      // Of a log that was tampered with, or of a rotation that ended here.
      renameSync(path, `${path}.aside`);
      fd = openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, OWNER_ONLY);
    }
    try {
      syncFolder(this.#folder);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = fd;
    const files = logFiles(this.#folder);
    const oldest = files.length > this.#limits.files ? files.at(-this.#limits.files)?.first : undefined;
    const first = Math.max(this.#head.first, oldest ?? 0);
    this.#head = { ...this.#head, first, file: name, offset: 0 };
    writeSync(this.#headFd, encodeHead(this.#head), 0, undefined, 0);
    fdatasyncSync(this.#headFd);
    for (const old of files.slice(0, -this.#limits.files)) rmSync(join(this.#folder, old.name), { force: true });
  }
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
