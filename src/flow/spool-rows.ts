// The rows of the spool, and how they change: each change within one transaction, and memory goes back with it when it fails. A damaged
// file is put aside and a new one begun, also in the middle of work, which is then tried once more.

import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { RecordLoss_Reason as Reason } from '../gen/taplane/v1/flow.ts';
import { gapId, gapTemplate } from './gap.ts';
import { Account, GAP_PLACE, PLACES, type Row, type Subject } from './spool-account.ts';
import { ACKED, isDamage, openSpoolFile, PAGE_BYTES, putAside, type SpoolFile, type Statements, WAITING } from './spool-file.ts';

export interface SpoolOptions {
  /** Path of the file; its folder is made when it is absent. */
  file: string;
  limits: { spoolBytes: number; retainedBytes: number };
  now: () => number;
  /** A damaged file was put aside and a new one begun: subjects known before are no longer. */
  onReset?: (reason: string) => void;
}

export class SpoolRows {
  readonly account = new Account();
  /** Why a file was put aside last; empty for never. */
  putAside = '';
  readonly #options: SpoolOptions;
  #file: SpoolFile;

  /** Throws when the disk fails. */
  constructor(options: SpoolOptions) {
    this.#options = options;
    mkdirSync(dirname(options.file), { recursive: true, mode: 0o700 });
    this.#file = this.#open();
  }

  get run(): Statements {
    return this.#file.run;
  }

  /** Gives free pages back to the file system, at most so many. */
  vacuum(pages: number): void {
    this.#file.database.exec(`PRAGMA incremental_vacuum(${pages})`);
  }

  close(): void {
    this.#file.database.close();
  }

  /** In the place of a message. */
  makeGap(of: Row, reason: Reason): void {
    const { run } = this;
    const data = run.payload.get(of.pos)?.['data'] as Uint8Array | undefined;
    const template = data === undefined ? Buffer.alloc(0) : gapTemplate(data);
    const bytes = charge(template.length);
    run.setPayload.run(template, of.pos);
    run.makeGap.run(reason, bytes, crc32(template), of.pos);
    this.account.count(of.subject, of.state, 0, bytes - of.bytes);
    if (of.state === WAITING) this.account.countGaps(bytes);
  }

  /**
   * What a gap tells of up to `end` was stored after all. Its messages are gone here, but should the server lose them, that has to be told: so
   * this part becomes an acknowledged gap, and the rest one behind it.
   */
  cut(gap: Row, epoch: string, end: number): void {
    if (gap.epoch !== epoch || end <= gap.first) return;
    const { run } = this;
    const stored = Math.min(gap.records, end - gap.first);
    const left = gap.records - stored;
    this.account.lose(gap.reason as Reason, -stored);
    if (left > 0) {
      const behind = gap.pos + 1;
      if (behind % PLACES === 0 || behind % PLACES === GAP_PLACE || run.at.get(behind) !== undefined) {
        run.setRange.run(end, left, gap.pos);
        return;
      }
      const data = run.payload.get(gap.pos)?.['data'] as Uint8Array;
      this.add({ ...gap, pos: behind, first: end, records: left, state: WAITING }, data);
      run.setRange.run(gap.first, stored, gap.pos);
    }
    run.makeGap.run(Reason.SERVER_LOST, gap.bytes, gap.crc, gap.pos);
    this.setState(gap, ACKED);
  }

  /** A row that waits. */
  add(row: Row, payload: Uint8Array): void {
    const { pos, subject, epoch, first, records, bytes, reason, crc, put } = row;
    this.run.addMessage.run(pos, subject, epoch, first, records, bytes, reason, crc, put);
    this.run.addPayload.run(pos, payload);
    this.account.count(subject, WAITING, 1, bytes);
    if (reason !== 0) this.account.countGaps(bytes);
  }

  remove(of: Row): void {
    this.run.removeMessage.run(of.pos);
    this.run.removePayload.run(of.pos);
    this.account.count(of.subject, of.state, -1, -of.bytes);
    if (of.reason !== 0 && of.state === WAITING) this.account.countGaps(-of.bytes);
  }

  setState(of: Row, state: number): void {
    this.run.setState.run(state, of.pos);
    this.account.count(of.subject, of.state, -1, -of.bytes);
    this.account.count(of.subject, state, 1, of.bytes);
    if (of.reason !== 0) this.account.countGaps(state === WAITING ? of.bytes : -of.bytes);
  }

  setSubject(subject: Subject, sequence: number, incarnation: string): void {
    this.run.setSubject.run(sequence, incarnation, this.#options.now(), subject.id);
    this.account.setSubject(subject, sequence, incarnation);
  }

  pages(): { pages: number; free: number } {
    const { run } = this;
    return { pages: Number(run.pages.get()?.['page_count']), free: Number(run.freePages.get()?.['freelist_count']) };
  }

  #open(): SpoolFile {
    const { file, now } = this.#options;
    const { putAside: why, ...opened } = openSpoolFile(file, now());
    try {
      this.account.load(opened.database);
    } catch (error) {
      opened.database.close();
      if (!isDamage(error)) throw error;
      putAside(file, now());
      this.putAside = `spool was damaged and put aside: ${(error as Error).message}`;
      return this.#open();
    }
    if (why) this.putAside = why;
    return opened;
  }

  /** The file turned out to be damaged. Throws when no new one can be made. */
  #reset(error: Error): void {
    this.putAside = `spool was damaged and put aside: ${error.message}`;
    try {
      this.#file.database.close();
    } catch {
      // it is given up anyway
    }
    putAside(this.#options.file, this.#options.now());
    this.account.clear();
    this.#file = this.#open();
    this.#options.onReset?.(this.putAside);
  }

  /** Reads; in a new file when this one turns out to be damaged. */
  read<Result>(work: () => Result): Result {
    try {
      return work();
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#reset(error as Error);
      return work();
    }
  }

  /** Changes all or nothing. Throws when the disk fails. */
  transaction<Result>(work: () => Result): Result {
    try {
      return this.#attempt(work);
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#reset(error as Error);
      return this.#attempt(work);
    }
  }

  #attempt<Result>(work: () => Result): Result {
    const { run, database } = this.#file;
    run.begin.run();
    try {
      const result = work();
      run.commit.run();
      this.account.keep();
      return result;
    } catch (error) {
      this.account.undo();
      // SQLite has rolled back by itself when the disk is full.
      if (database.isTransaction) run.rollback.run();
      throw error;
    }
  }
}

/** Tells two states of a row apart. */
export function rowId(of: Row): string {
  return of.reason === 0 ? `${of.epoch}:${of.first}` : gapId(of.epoch, of.first, of.records, of.reason as Reason);
}

export function row(from: unknown): Row | undefined {
  return from as Row | undefined;
}

/** Bytes that a payload takes in the file, entries of its indices included: whole pages when it does not fit into a quarter of one. */
export function charge(length: number): number {
  return 320 + (length <= PAGE_BYTES / 4 ? length : Math.ceil(length / (PAGE_BYTES - 4)) * PAGE_BYTES);
}
