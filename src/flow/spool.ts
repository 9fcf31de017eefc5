// The spool: messages on disk until NATS has them, and for a while after, in case NATS loses them. Bounded in bytes, always.
//
//   put -> WAITING --acked--> ACKED --pruned, oldest first--> (gone)
//             |      <--giveBack--- (the server lost it)
//             '-- no room: oldest first --> gap: one row for each contiguous lost range of an epoch; an event just goes
//
// Rows of a subject are published in the order of `pos`. A gap takes the place of the first row that it tells of. A row that may have been
// sent can be dropped too: when it turns out to be stored, the gap in its place is cut (`acked`, `storedUpTo`), so that counts stay exact.
// Every change is one transaction; when it fails, memory goes back with it. A damaged file is put aside, also in the middle of work.

import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { RecordLoss_Reason as Reason } from '../gen/taplane/v1/flow.ts';
import type { Outgoing } from './contract.ts';
import { gapId, gapTemplate } from './gap.ts';
import { Account, type Row, type Subject } from './spool-account.ts';
import { ACKED, isDamage, openSpoolFile, PAGE_BYTES, putAside, type SpoolFile, WAITING } from './spool-file.ts';

export type { Row, Subject };

export interface SpoolOptions {
  /** Path of the file; its folder is made when it is absent. */
  file: string;
  limits: { spoolBytes: number; retainedBytes: number };
  now: () => number;
  /** A damaged file was put aside and a new one begun: subjects known before are no longer. */
  onReset?: (reason: string) => void;
}

/** Rows that one call changes at most, so that none holds up the event loop. */
const CHUNK = 64;
/** Epochs that are remembered to tell messages that come again; they come soon or never. */
const EPOCHS_MOST = 8192;
const SUBJECTS_MOST = 8192;
/** Share of the limit that gaps may take before the oldest go without a word. */
const GAPS_MOST = 0.25;

export class Spool {
  readonly account = new Account();
  /** Why a file was put aside last; empty for never. */
  putAside = '';
  readonly #options: SpoolOptions;
  #file: SpoolFile;
  #nextPos = 2;
  /** What was handed to NATS last and may be stored there, by subject: it must not grow. */
  readonly #sent = new Map<number, string>();
  /** Before it no waiting row can be dropped. */
  #dropFrom = 0;
  #puts = 0;

  /** Throws when the disk fails. */
  constructor(options: SpoolOptions) {
    this.#options = options;
    mkdirSync(dirname(options.file), { recursive: true, mode: 0o700 });
    this.#file = this.#open();
  }

  /** All or none on disk once it returns; answers with the subjects that have something new. Throws when the disk fails. */
  put(messages: readonly Outgoing[]): Set<Subject> {
    return this.#transaction(() => {
      const touched = new Set<Subject>();
      for (const message of messages) {
        const subject = this.#add(message);
        if (subject) touched.add(subject);
      }
      this.#bound(messages.length + CHUNK);
      return touched;
    });
  }

  /** The oldest waiting row of a subject, behind a position. */
  next(subject: Subject, behind = 0): Row | undefined {
    return this.#read(() => row(this.#file.run.firstAfter.get(subject.id, WAITING, behind)));
  }

  /** What is stored for a row: the message in bytes, or the template of a gap. A damaged one becomes a gap, and undefined. */
  payload(of: Row): Uint8Array | undefined {
    const data = this.#read(() => this.#file.run.payload.get(of.pos)?.['data']) as Uint8Array | undefined;
    if (data !== undefined && crc32(data) === of.crc) return data;
    this.replace(of, Reason.SPOOL_FAILED);
    return undefined;
  }

  /** It is about to be sent, and from now on may be stored. */
  sending(of: Row): void {
    this.#sent.set(of.subject, key(of));
  }

  /** NATS has stored what was sent as `of`, at this sequence of a stream. */
  acked(of: Row, sequence: number, incarnation: string): void {
    this.#transaction(() => {
      const now = row(this.#file.run.at.get(of.pos));
      const subject = this.account.subjects.get(of.subject);
      if (subject === undefined) return;
      if (now !== undefined && now.state === WAITING && key(now) === key(of)) {
        this.#setState(now, ACKED);
        this.account.given(-now.bytes);
      } else if (now !== undefined && now.reason !== 0) this.#cut(now, of.epoch, of.first + of.records);
      this.#setSubject(subject, sequence, incarnation);
      this.#prune(CHUNK);
    });
  }

  /** The sequence that the next message of a subject has to follow. */
  follow(subject: Subject, sequence: number, incarnation: string): void {
    if (subject.sequence === sequence && subject.incarnation === incarnation) return;
    this.#transaction(() => this.#setSubject(subject, sequence, incarnation));
  }

  /** In the place of a message that cannot be sent comes a gap; an event just goes. */
  replace(of: Row, reason: Reason): void {
    this.#transaction(() => {
      const now = row(this.#file.run.at.get(of.pos));
      if (now === undefined || key(now) !== key(of)) return;
      this.account.lose(reason, of.records);
      if (of.reason === 0 && this.account.subjects.get(of.subject)?.kind === 'flow') this.#makeGap(now, reason);
      else this.#remove(now);
    });
  }

  /** Last row of an epoch on a subject that does not begin behind `first`. */
  find(subject: Subject, epoch: string, first: number): Row | undefined {
    return this.#read(() => row(this.#file.run.upTo.get(epoch, first, subject.id)));
  }

  lastAcked(subject: Subject): Row | undefined {
    return this.#read(() => row(this.#file.run.lastAcked.get(subject.id)));
  }

  /** NATS has all up to and with the row at `pos`, which reaches up to `end` (not included). Call again until it answers false. */
  storedUpTo(subject: Subject, at: Row, end: number): boolean {
    return this.#transaction(() => {
      for (let done = 0; done < CHUNK; done += 1) {
        const waiting = row(this.#file.run.nextWaiting.get(subject.id));
        if (waiting === undefined || waiting.pos > at.pos) return false;
        if (waiting.pos === at.pos && waiting.reason !== 0 && waiting.first + waiting.records > end) {
          this.#cut(waiting, at.epoch, end);
          return false;
        }
        this.#setState(waiting, ACKED);
      }
      return true;
    });
  }

  /** NATS has lost what came behind `pos`: it waits again. Answers how many rows; call again until it is 0. */
  giveBack(subject: Subject, pos: number): number {
    return this.#transaction(() => {
      let done = 0;
      for (; done < CHUNK; done += 1) {
        const lost = row(this.#file.run.firstAfter.get(subject.id, ACKED, pos));
        if (lost === undefined) break;
        this.#setState(lost, WAITING);
        this.account.given(lost.bytes);
        this.#dropFrom = Math.min(this.#dropFrom, lost.pos);
      }
      return done;
    });
  }

  /** Tells of lost records before a row: those from `first` up to it. */
  addGap(before: Row, first: number, reason: Reason): void {
    const template = this.payload(before);
    if (template === undefined) return;
    this.#transaction(() => {
      const { run } = this.#file;
      const there = row(run.at.get(before.pos - 1));
      const count = before.first - first;
      if (there !== undefined || count <= 0) return;
      const data = before.reason === 0 ? gapTemplate(template) : template;
      const bytes = charge(data.length);
      const now = this.#options.now();
      run.addMessage.run(before.pos - 1, before.subject, before.epoch, first, count, bytes, reason, crc32(data), now);
      run.addPayload.run(before.pos - 1, data);
      this.account.count(before.subject, WAITING, 1, bytes);
      this.account.countGaps(bytes);
      this.account.lose(reason, count);
    });
  }

  /** Some work that was left over: prunes, drops, gives room back. Call it now and then; true when there is more. */
  tidy(): boolean {
    return this.#transaction(() => {
      this.#bound(CHUNK);
      const { pages, free } = this.#pages();
      // Room that a smaller limit, or a past peak, left behind.
      if (free * PAGE_BYTES > this.#most() / 4 && pages * PAGE_BYTES > this.#most())
        this.#file.database.exec('PRAGMA incremental_vacuum(64)');
      else return this.#isOver();
      return true;
    });
  }

  /** When the oldest waiting row was put, Unix milliseconds. */
  oldestMs(): number | undefined {
    return this.#read(() => row(this.#file.run.oldestGap.get())?.put);
  }

  /** Bytes of the file itself. */
  fileBytes(): number {
    return this.#pages().pages * PAGE_BYTES;
  }

  close(): void {
    this.#file.database.close();
  }

  // --- within a transaction

  #add(message: Outgoing): Subject | undefined {
    const { account } = this;
    const { run } = this.#file;
    const first = Number(message.firstSequence);
    const next = account.epochs.get(message.epoch);
    if (next !== undefined && first < next) return undefined;
    const now = this.#options.now();
    const subject = account.subject(message.kind, message.name) ?? this.#addSubject(message.kind, message.name, now);
    const bytes = charge(message.payload.length);
    const pos = this.#nextPos;
    run.addMessage.run(pos, subject.id, message.epoch, first, message.records, bytes, 0, crc32(message.payload), now);
    run.addPayload.run(pos, message.payload);
    run.setEpoch.run(message.epoch, first + message.records, now);
    for (const old of account.setEpoch(message.epoch, first + message.records, EPOCHS_MOST)) run.removeEpoch.run(old);
    account.count(subject.id, WAITING, 1, bytes);
    this.#nextPos += 2;
    return subject;
  }

  #addSubject(kind: Outgoing['kind'], name: string, now: number): Subject {
    if (this.account.subjects.size >= SUBJECTS_MOST) {
      for (const idle of this.account.idleSubjects(CHUNK)) {
        this.#file.run.removeSubject.run(idle.id);
        this.account.removeSubject(idle);
        this.#sent.delete(idle.id);
      }
    }
    const id = Number(this.#file.run.addSubject.run(kind, name, now).lastInsertRowid);
    return this.account.addSubject({ id, kind, name, sequence: 0, incarnation: '', waiting: 0, acked: 0 });
  }

  #bound(chunk: number): void {
    const { limits } = this.#options;
    this.#prune(chunk);
    for (let done = 0; done < chunk && this.account.waitingBytes > limits.spoolBytes + this.account.returnedBytes; done += 1) {
      if (!this.#dropOldest()) break;
    }
    // Bytes are counted by an estimate; the file has the last word.
    this.#puts += 1;
    if (this.#puts % 64 !== 0) return;
    for (let done = 0; done < chunk && this.#isOver(); done += 1) {
      const acked = row(this.#file.run.oldestAcked.get());
      if (acked) this.#remove(acked);
      else if (!this.#dropOldest()) break;
    }
  }

  #prune(chunk: number): void {
    for (let done = 0; done < chunk && this.account.ackedBytes > this.#options.limits.retainedBytes; done += 1) {
      const acked = row(this.#file.run.oldestAcked.get());
      if (acked === undefined) return;
      this.#remove(acked);
    }
  }

  /** Whether there was something to drop. */
  #dropOldest(): boolean {
    const { run } = this.#file;
    const oldest = row(run.oldestWaiting.get(this.#dropFrom));
    if (oldest === undefined || this.account.gapBytes > this.#options.limits.spoolBytes * GAPS_MOST) {
      const gap = row(run.oldestGap.get());
      if (gap === undefined) return false;
      if (gap.reason === 0) this.account.lose(Reason.SPOOL_FULL, gap.records);
      this.#remove(gap);
      return true;
    }
    this.#dropFrom = oldest.pos;
    this.account.given(-oldest.bytes);
    this.account.lose(Reason.SPOOL_FULL, oldest.records);
    if (this.account.subjects.get(oldest.subject)?.kind !== 'flow') {
      this.#remove(oldest);
      return true;
    }
    const before = row(run.waitingBefore.get(oldest.subject, oldest.pos));
    const grows =
      before !== undefined &&
      before.reason === Reason.SPOOL_FULL &&
      before.epoch === oldest.epoch &&
      before.first + before.records === oldest.first &&
      this.#sent.get(oldest.subject) !== key(before);
    if (grows) {
      run.setRange.run(before.first, before.records + oldest.records, before.pos);
      this.#remove(oldest);
    } else this.#makeGap(oldest, Reason.SPOOL_FULL);
    return true;
  }

  #makeGap(of: Row, reason: Reason): void {
    const { run } = this.#file;
    const data = run.payload.get(of.pos)?.['data'] as Uint8Array | undefined;
    const template = data === undefined ? Buffer.alloc(0) : gapTemplate(data);
    const bytes = charge(template.length);
    run.setPayload.run(template, of.pos);
    run.makeGap.run(reason, bytes, crc32(template), of.pos);
    this.account.count(of.subject, of.state, 0, bytes - of.bytes);
    this.account.countGaps(bytes);
  }

  /** What a gap tells of up to `end` was stored after all. */
  #cut(gap: Row, epoch: string, end: number): void {
    if (gap.epoch !== epoch || end <= gap.first) return;
    const left = gap.first + gap.records - end;
    this.account.lose(gap.reason as Reason, -Math.min(gap.records, end - gap.first));
    if (left <= 0) this.#remove(gap);
    else this.#file.run.setRange.run(end, left, gap.pos);
  }

  #remove(of: Row): void {
    this.#file.run.removeMessage.run(of.pos);
    this.#file.run.removePayload.run(of.pos);
    this.account.count(of.subject, of.state, -1, -of.bytes);
    if (of.reason !== 0) this.account.countGaps(-of.bytes);
  }

  #setState(of: Row, state: number): void {
    this.#file.run.setState.run(state, of.pos);
    this.account.count(of.subject, of.state, -1, -of.bytes);
    this.account.count(of.subject, state, 1, of.bytes);
  }

  #setSubject(subject: Subject, sequence: number, incarnation: string): void {
    this.#file.run.setSubject.run(sequence, incarnation, this.#options.now(), subject.id);
    this.account.setSubject(subject, sequence, incarnation);
  }

  #most(): number {
    return this.#options.limits.spoolBytes + this.#options.limits.retainedBytes;
  }

  #isOver(): boolean {
    const { pages, free } = this.#pages();
    return (pages - free) * PAGE_BYTES > this.#most() * 1.2 + 1024 * 1024;
  }

  #pages(): { pages: number; free: number } {
    const { run } = this.#file;
    return { pages: Number(run.pages.get()?.['page_count']), free: Number(run.freePages.get()?.['freelist_count']) };
  }

  // --- the file

  #open(): SpoolFile {
    const { file, now } = this.#options;
    const { putAside: why, ...opened } = openSpoolFile(file, now());
    try {
      this.#nextPos = this.account.load(opened.database) + 2;
    } catch (error) {
      opened.database.close();
      if (!isDamage(error)) throw error;
      putAside(file, now());
      this.putAside = `spool was damaged and put aside: ${(error as Error).message}`;
      return this.#open();
    }
    if (why) this.putAside = why;
    this.#dropFrom = 0;
    this.#sent.clear();
    for (const subject of this.account.subjects.values()) {
      const head = row(opened.run.nextWaiting.get(subject.id));
      if (head) this.#sent.set(subject.id, key(head));
    }
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

  #read<Result>(work: () => Result): Result {
    try {
      return work();
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#reset(error as Error);
      return work();
    }
  }

  #transaction<Result>(work: () => Result): Result {
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
    const nextPos = this.#nextPos;
    run.begin.run();
    try {
      const result = work();
      run.commit.run();
      this.account.keep();
      return result;
    } catch (error) {
      this.account.undo();
      this.#nextPos = nextPos;
      this.#dropFrom = 0;
      // SQLite has rolled back by itself when the disk is full.
      if (database.isTransaction) run.rollback.run();
      throw error;
    }
  }
}

/** Tells two states of a row apart. */
function key(of: Row): string {
  return of.reason === 0 ? `${of.epoch}:${of.first}` : gapId(of.epoch, of.first, of.records, of.reason as Reason);
}

export { key as rowId };

function row(from: unknown): Row | undefined {
  return from as Row | undefined;
}

/** Bytes that a payload takes in the file, entries of its indices included: whole pages when it does not fit into a quarter of one. */
function charge(length: number): number {
  return 320 + (length <= PAGE_BYTES / 4 ? length : Math.ceil(length / (PAGE_BYTES - 4)) * PAGE_BYTES);
}
