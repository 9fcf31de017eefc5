// The audit log: an entry whose `append` has resolved is on disk and stays there. Entries that come in together share one write and one fdatasync.
//
//   OPEN --disk full--> FULL --room again--> OPEN        in FULL what was done is still written, in room that was kept for it; nothing new is let in
//     '--disk fails---> FAILED --it works--> OPEN        in FAILED entries wait in memory, bounded, and are written late; what is too much is counted
//
// `admit` is asked before anything is done, `append` told afterwards. Never throws but what is said here.

import { TaplaneError } from '../errors.ts';
import { AuditDisk, type AuditLimits, RESERVE_BYTES } from './disk.ts';
import type { Head } from './files.ts';
import { type Chained, type Entry, encodeRecord, type Link } from './record.ts';

export interface AuditLogOptions {
  folder: string;
  limits: AuditLimits;
  /** Hears of records in their order, once they are on disk. */
  written?: (records: readonly Chained[]) => void;
  /** Hears when it fails, and when it is well again: `failure` is undefined then. */
  changed?: (failure: TaplaneError | undefined) => void;
  now?: () => number;
}

const RETRY_MS = 1_000;
/** Entries that wait for a disk that fails, in number; each is bounded in bytes by LINE_MOST and has some 600 on average. */
const LATE_MOST = 1_000;
/** Entries under way at a time: all have to fit into the room that is kept. */
const GROUP_BYTES = RESERVE_BYTES / 2;

interface Waiting {
  readonly entry: Entry;
  resolve(): void;
  reject(error: Error): void;
}

export class AuditLog {
  readonly #options: AuditLogOptions;
  readonly #now: () => number;
  #disk: AuditDisk | undefined;
  #waiting: Waiting[] = [];
  #late: Entry[] = [];
  #lost = 0;
  #writing: Promise<void> | undefined;
  #failure: TaplaneError | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;
  #damage = '';

  /** Opens it, or makes a new one. A disk that fails is no reason to throw: then nothing is admitted until it works. */
  constructor(options: AuditLogOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#recover();
  }

  /** What the start has found to be not as it was written; empty when all is well. */
  get damage(): string {
    return this.#damage;
  }

  /** Why nothing is admitted; undefined when all is well. */
  get failure(): TaplaneError | undefined {
    return this.#failure;
  }

  /** Where it ends on disk; undefined when it was never opened. */
  get head(): Head | undefined {
    return this.#disk?.head;
  }

  /** Entries that wait for the disk to work again, and those that found no room to wait. */
  get late(): { waiting: number; lost: number } {
    return { waiting: this.#late.length, lost: this.#lost };
  }

  /** Throws when what is to be done could not be written down: TaplaneError RESOURCE_EXHAUSTED (DISK_FULL) or UNAVAILABLE (AUDIT_NOT_WRITABLE). */
  admit(): void {
    if (this.#failure !== undefined) this.#recover();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Resolves once the entry is on disk. Rejects with TaplaneError when the disk fails: then it is written when it works again. */
  append(entry: Entry): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(shuttingDown());
      this.#waiting.push({ entry, resolve, reject });
      this.#writing ??= this.#writeAll();
    });
  }

  /** For what was refused because nothing can be written: told of when that is possible again. */
  appendLate(entry: Entry): void {
    if (this.#late.length < LATE_MOST) this.#late.push(entry);
    else this.#lost += 1;
  }

  /** Writes what waits, and closes. */
  async close(): Promise<void> {
    await this.#writing;
    if (this.#closed) return;
    if (this.#late.length + this.#lost > 0) this.#recover();
    this.#closed = true;
    clearInterval(this.#retry);
    this.#disk?.close();
  }

  async #writeAll(): Promise<void> {
    // What ends in the same turn goes along.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (this.#waiting.length > 0) {
      const group = this.#takeGroup();
      try {
        await this.#write(group.map(({ entry }) => entry));
      } catch (error) {
        this.#fail(error);
        for (const { entry, reject } of group) {
          this.appendLate(entry);
          reject(this.#failure ?? diskFailure(error));
        }
        continue;
      }
      for (const { resolve } of group) resolve();
    }
    this.#writing = undefined;
  }

  #takeGroup(): Waiting[] {
    let bytes = 0;
    const most = this.#waiting.findIndex(({ entry }) => {
      bytes += 400 + entry.request.length * 2;
      return bytes > GROUP_BYTES;
    });
    return this.#waiting.splice(0, most < 1 ? (most < 0 ? this.#waiting.length : 1) : most);
  }

  async #write(entries: readonly Entry[]): Promise<void> {
    const disk = this.#disk;
    if (disk === undefined) throw this.#failure ?? new Error('it was never opened');
    const { bytes, records, last } = chained(entries, disk.chain, disk.head);
    for (;;) {
      try {
        disk.write(bytes);
        await disk.sync();
        disk.commit(bytes.length, last);
        break;
      } catch (error) {
        disk.rewind();
        // Once: what comes now has the room that was kept.
        if (!isFull(error) || !disk.release()) throw error;
        this.#fail(error);
      }
    }
    this.#tell(records);
  }

  /** Opens what is not open, writes what is late, and keeps room again. */
  #recover(): void {
    // Only when nothing is under way: both would write to the same place.
    if (this.#closed || this.#writing !== undefined) return;
    try {
      if (this.#disk === undefined) {
        this.#disk = new AuditDisk(this.#options.folder, this.#options.limits);
        this.#damage = this.#disk.found.damage;
        if (this.#damage !== '') this.#late.unshift(ownEntry(this.#now(), 'LOG_DAMAGED', this.#damage));
      }
      while (this.#late.length > 0) {
        const entries = this.#late.slice(0, 50);
        this.#writeNow(
          this.#disk,
          entries.map((entry) => (entry.method === '' ? entry : { ...entry, late: true })),
        );
        this.#late.splice(0, entries.length);
      }
      if (this.#lost > 0) {
        this.#writeNow(this.#disk, [ownEntry(this.#now(), 'RECORDS_LOST', String(this.#lost))]);
        this.#lost = 0;
      }
      this.#disk.reserve();
    } catch (error) {
      this.#fail(error);
      return;
    }
    clearInterval(this.#retry);
    this.#retry = undefined;
    if (this.#failure === undefined) return;
    this.#failure = undefined;
    this.#options.changed?.(undefined);
  }

  #writeNow(disk: AuditDisk, entries: readonly Entry[]): void {
    const { bytes, records, last } = chained(entries, disk.chain, disk.head);
    try {
      disk.write(bytes);
      disk.syncNow();
      disk.commit(bytes.length, last);
    } catch (error) {
      disk.rewind();
      throw error;
    }
    this.#tell(records);
  }

  #fail(error: unknown): void {
    const isNew = this.#failure === undefined;
    this.#failure = diskFailure(error);
    this.#retry ??= setInterval(() => this.#recover(), RETRY_MS).unref();
    if (isNew) this.#options.changed?.(this.#failure);
  }

  #tell(records: readonly Chained[]): void {
    this.#options.written?.(records);
  }
}

function chained(entries: readonly Entry[], chain: string, before: Link): { bytes: Buffer; records: Chained[]; last: Link } {
  const lines: string[] = [];
  const records: Chained[] = [];
  let last: Link = { sequence: before.sequence, hash: before.hash };
  for (const entry of entries) {
    const { line, at } = encodeRecord(entry, chain, last);
    lines.push(line);
    records.push({ ...entry, ...at, chain, previous: last.hash });
    last = at;
  }
  return { bytes: Buffer.from(lines.join('')), records, last };
}

/** What the log says of itself. */
function ownEntry(nowMs: number, reason: string, request: string): Entry {
  const time = new Date(nowMs).toISOString();
  return {
    time,
    caller: { name: 'agent', kind: 'agent' },
    method: '',
    resources: [],
    code: 'DATA_LOSS',
    reason,
    durationMs: 0,
    digest: '',
    request,
  };
}

function isFull(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOSPC' || code === 'EDQUOT';
}

function diskFailure(error: unknown): TaplaneError {
  if (error instanceof TaplaneError) return error;
  const message = `keep the audit log: ${error instanceof Error ? error.message : String(error)}`;
  const options = { cause: error, retryAfterMs: 5000 };
  return isFull(error)
    ? new TaplaneError('RESOURCE_EXHAUSTED', 'DISK_FULL', `${message}; make room in the state directory`, options)
    : new TaplaneError(
        'UNAVAILABLE',
        'AUDIT_NOT_WRITABLE',
        `${message}; nothing is changed that cannot be written down: look at the disk of the state directory`,
        options,
      );
}

function shuttingDown(): TaplaneError {
  return new TaplaneError('UNAVAILABLE', 'SHUTTING_DOWN', 'keep the audit log: the agent is stopping', { retryAfterMs: 1000 });
}
