// The spool: messages on disk until NATS has them, and for a while after, in case NATS loses them. Bounded in bytes, always.
//
//   put -> WAITING --acked--> ACKED --pruned, oldest first--> (gone)
//             |      <--giveBack--- (the server lost it)
//             '-- no room: oldest first --> gap: one row for each contiguous lost range of an epoch; an event just goes
//
// Rows of a subject are published in the order of `pos`. A gap takes the place of the first row that it tells of. A row that may have been
// sent can be dropped too: when it turns out to be stored, the gap in its place is cut (`acked`, `storedUpTo`), so that counts stay exact.
// Every change is one transaction; when it fails, memory goes back with it. A damaged file is put aside, also in the middle of work.

import { crc32 } from 'node:zlib';
import { RecordLoss_Reason as Reason } from '../gen/taplane/v1/flow.ts';
import type { Outgoing } from './contract.ts';
import { gapTemplate } from './gap.ts';
import { type Account, GAP_PLACE, PLACES, type Row, type Subject } from './spool-account.ts';
import { ACKED, PAGE_BYTES, WAITING } from './spool-file.ts';
import { charge, row, rowId, type SpoolOptions, SpoolRows } from './spool-rows.ts';

export type { Row, Subject };

/** Rows that one call changes at most, so that none holds up the event loop. */
const CHUNK = 64;
/** Epochs that are remembered to tell messages that come again; they come soon or never. */
const EPOCHS_MOST = 8192;
const SUBJECTS_MOST = 8192;
/** Share of the limit that gaps may take before the oldest tell of what follows them as well, or go without a word. */
const GAPS_MOST = 0.25;

export class Spool {
  readonly #limits: SpoolOptions['limits'];
  readonly #now: () => number;
  readonly #rows: SpoolRows;
  #puts = 0;

  /** Throws when the disk fails. */
  constructor(options: SpoolOptions) {
    this.#limits = options.limits;
    this.#now = options.now;
    this.#rows = new SpoolRows(options);
  }

  /** How much there is; read it, do not change it. */
  get account(): Account {
    return this.#rows.account;
  }

  /** Why a damaged file was put aside last; empty for never. */
  get putAside(): string {
    return this.#rows.putAside;
  }

  /** All or none on disk once it returns; answers with the subjects that have something new. Throws when the disk fails. */
  put(messages: readonly Outgoing[]): Set<Subject> {
    return this.#rows.transaction(() => {
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
    return this.#rows.read(() => row(this.#rows.run.firstAfter.get(subject.id, WAITING, behind)));
  }

  /** What is stored for a row: the message in bytes, or the template of a gap. A damaged one becomes a gap, and undefined. */
  payload(of: Row): Uint8Array | undefined {
    const data = this.#rows.read(() => this.#rows.run.payload.get(of.pos)?.['data']) as Uint8Array | undefined;
    if (data !== undefined && crc32(data) === of.crc) return data;
    this.replace(of, Reason.SPOOL_FAILED);
    return undefined;
  }

  /** NATS has stored what was sent as `of`, at this sequence of a stream. */
  acked(of: Row, sequence: number, incarnation: string): void {
    this.#rows.transaction(() => {
      const now = row(this.#rows.run.at.get(of.pos));
      const subject = this.account.subjects.get(of.subject);
      if (subject === undefined) return;
      if (now !== undefined && now.state === WAITING && rowId(now) === rowId(of)) {
        this.#rows.setState(now, ACKED);
        this.account.given(-now.bytes);
      } else if (now !== undefined && now.reason !== 0) this.#rows.cut(now, of.epoch, of.first + of.records);
      this.#rows.setSubject(subject, sequence, incarnation);
      this.#prune(CHUNK);
    });
  }

  /** The sequence that the next message of a subject has to follow. */
  follow(subject: Subject, sequence: number, incarnation: string): void {
    if (subject.sequence === sequence && subject.incarnation === incarnation) return;
    this.#rows.transaction(() => this.#rows.setSubject(subject, sequence, incarnation));
  }

  /** In the place of a message that cannot be sent comes a gap; an event just goes. */
  replace(of: Row, reason: Reason): void {
    this.#rows.transaction(() => {
      const now = row(this.#rows.run.at.get(of.pos));
      if (now === undefined || rowId(now) !== rowId(of)) return;
      this.account.lose(reason, of.records);
      if (of.reason === 0 && this.account.subjects.get(of.subject)?.kind === 'flow') this.#rows.makeGap(now, reason);
      else this.#rows.remove(now);
    });
  }

  /** Last row of an epoch on a subject that does not begin behind `first`. */
  find(subject: Subject, epoch: string, first: number): Row | undefined {
    return this.#rows.read(() => row(this.#rows.run.upTo.get(epoch, first, subject.id)));
  }

  lastAcked(subject: Subject): Row | undefined {
    return this.#rows.read(() => row(this.#rows.run.lastAcked.get(subject.id)));
  }

  /** NATS has all up to and with the row at `pos`, which reaches up to `end` (not included). Call again until it answers false. */
  storedUpTo(subject: Subject, at: Row, end: number): boolean {
    return this.#rows.transaction(() => {
      // An older copy of the stream has only part of what a gap told of later: the rest has to be told again, by whoever finds the hole.
      const isLess = at.state === ACKED && at.reason !== 0 && at.first < end && at.first + at.records > end;
      if (isLess) this.#rows.run.setRange.run(at.first, end - at.first, at.pos);
      for (let done = 0; done < CHUNK; done += 1) {
        const waiting = row(this.#rows.run.nextWaiting.get(subject.id));
        if (waiting === undefined || waiting.pos > at.pos) return false;
        if (waiting.pos === at.pos && waiting.reason !== 0 && waiting.first + waiting.records > end) {
          this.#rows.cut(waiting, at.epoch, end);
          return false;
        }
        this.#rows.setState(waiting, ACKED);
      }
      return true;
    });
  }

  /** NATS has lost what came behind `pos`: it waits again. Answers how many rows; call again until it is 0. */
  giveBack(subject: Subject, pos: number): number {
    return this.#rows.transaction(() => {
      let done = 0;
      for (; done < CHUNK; done += 1) {
        const lost = row(this.#rows.run.firstAfter.get(subject.id, ACKED, pos));
        if (lost === undefined) break;
        this.#rows.setState(lost, WAITING);
        if (lost.reason === Reason.SERVER_LOST) this.account.lose(Reason.SERVER_LOST, lost.records);
        this.account.given(lost.bytes);
        this.account.dropFrom = Math.min(this.account.dropFrom, lost.pos);
      }
      return done;
    });
  }

  /** Tells of lost records before a row: those from `first` up to it. */
  addGap(before: Row, first: number, reason: Reason): void {
    const template = this.payload(before);
    if (template === undefined) return;
    this.#rows.transaction(() => {
      const { run } = this.#rows;
      const count = before.first - first;
      if (count <= 0) return;
      const pos = before.pos - PLACES + GAP_PLACE;
      if (before.pos % PLACES !== 0 || run.at.get(pos) !== undefined) {
        // A gap can tell of them as well; before a message there is room.
        if (before.reason === 0) return;
        run.setRange.run(first, before.records + count, before.pos);
        this.account.lose(before.reason as Reason, count);
        return;
      }
      const data = before.reason === 0 ? gapTemplate(template) : template;
      const gap = { ...before, pos, first, records: count, bytes: charge(data.length), reason, crc: crc32(data), put: this.#now() };
      this.#rows.add(gap, data);
      this.account.lose(reason, count);
    });
  }

  /** Some work that was left over: prunes, drops, gives room back. Call it now and then; true when there is more. */
  tidy(): boolean {
    return this.#rows.transaction(() => {
      this.#bound(CHUNK);
      const { pages, free } = this.#rows.pages();
      // Room that a smaller limit, or a past peak, left behind.
      if (free * PAGE_BYTES > this.#most() / 4 && pages * PAGE_BYTES > this.#most()) this.#rows.vacuum(64);
      else return this.#isOver();
      return true;
    });
  }

  /** When the oldest waiting row was put, Unix milliseconds. */
  oldestMs(): number | undefined {
    return this.#rows.read(() => row(this.#rows.run.waitingAfter.get(0))?.put);
  }

  /** Bytes of the file itself. */
  fileBytes(): number {
    return this.#rows.pages().pages * PAGE_BYTES;
  }

  close(): void {
    this.#rows.close();
  }

  // --- within a transaction

  #add(message: Outgoing): Subject | undefined {
    const { account } = this;
    const { run } = this.#rows;
    const first = Number(message.firstSequence);
    const next = account.epochs.get(message.epoch);
    if (next !== undefined && first < next) return undefined;
    const now = this.#now();
    const subject = account.subject(message.kind, message.name) ?? this.#addSubject(message.kind, message.name, now);
    const bytes = charge(message.payload.length);
    const pos = account.takePos();
    const { epoch, records, payload } = message;
    const added = { pos, subject: subject.id, state: WAITING, epoch, first, records, bytes, reason: 0, crc: crc32(payload), put: now };
    this.#rows.add(added, payload);
    run.setEpoch.run(message.epoch, first + message.records, now);
    for (const old of account.setEpoch(message.epoch, first + message.records, EPOCHS_MOST)) run.removeEpoch.run(old);
    return subject;
  }

  #addSubject(kind: Outgoing['kind'], name: string, now: number): Subject {
    if (this.account.subjects.size >= SUBJECTS_MOST) {
      for (const idle of this.account.idleSubjects(CHUNK)) {
        this.#rows.run.removeSubject.run(idle.id);
        this.account.removeSubject(idle);
      }
    }
    const id = Number(this.#rows.run.addSubject.run(kind, name, now).lastInsertRowid);
    return this.account.addSubject({ id, kind, name, sequence: 0, incarnation: '', waiting: 0, acked: 0 });
  }

  #bound(chunk: number): void {
    const limits = this.#limits;
    this.#prune(chunk);
    for (let done = 0; done < chunk && this.account.waitingBytes > limits.spoolBytes + this.account.returnedBytes; done += 1) {
      if (!this.#dropOldest()) break;
    }
    // Bytes are counted by an estimate; the file has the last word.
    this.#puts += 1;
    if (this.#puts % 64 !== 0) return;
    for (let done = 0; done < chunk && this.#isOver(); done += 1) {
      const acked = row(this.#rows.run.oldestAcked.get());
      if (acked) this.#rows.remove(acked);
      else if (!this.#dropOldest()) break;
    }
  }

  #prune(chunk: number): void {
    for (let done = 0; done < chunk && this.account.ackedBytes > this.#limits.retainedBytes; done += 1) {
      const acked = row(this.#rows.run.oldestAcked.get());
      if (acked === undefined) return;
      this.#rows.remove(acked);
    }
  }

  /** Whether there was something to drop. */
  #dropOldest(): boolean {
    const { run } = this.#rows;
    const oldest = row(run.oldestWaiting.get(this.account.dropFrom));
    if (oldest === undefined || this.account.gapBytes > this.#limits.spoolBytes * GAPS_MOST) return this.#dropGap();
    this.account.dropFrom = oldest.pos;
    this.account.given(-oldest.bytes);
    this.account.lose(Reason.SPOOL_FULL, oldest.records);
    if (this.account.subjects.get(oldest.subject)?.kind !== 'flow') {
      this.#rows.remove(oldest);
      return true;
    }
    const before = row(run.waitingBefore.get(oldest.subject, oldest.pos));
    const grows =
      before !== undefined &&
      before.reason === Reason.SPOOL_FULL &&
      before.epoch === oldest.epoch &&
      before.first + before.records === oldest.first;
    if (grows) {
      run.setRange.run(before.first, before.records + oldest.records, before.pos);
      this.#rows.remove(oldest);
    } else this.#rows.makeGap(oldest, Reason.SPOOL_FULL);
    return true;
  }

  /** Fewer gaps: the oldest one that can also tell of what follows does; else the oldest goes without a word. */
  #dropGap(): boolean {
    const { run } = this.#rows;
    let oldest: Row | undefined;
    let gap = row(run.waitingAfter.get(0));
    for (let seen = 0; gap !== undefined && seen < CHUNK; seen += 1, gap = row(run.waitingAfter.get(gap.pos))) {
      if (gap.reason === 0) continue;
      oldest ??= gap;
      const behind = row(run.firstAfter.get(gap.subject, WAITING, gap.pos));
      if (behind === undefined || behind.epoch !== gap.epoch || gap.first + gap.records !== behind.first) continue;
      if (behind.reason !== 0) this.account.lose(behind.reason as Reason, -behind.records);
      this.account.lose(gap.reason as Reason, behind.records);
      run.setRange.run(gap.first, gap.records + behind.records, gap.pos);
      this.#rows.remove(behind);
      return true;
    }
    if (oldest !== undefined) this.#rows.remove(oldest);
    return oldest !== undefined;
  }

  #most(): number {
    return this.#limits.spoolBytes + this.#limits.retainedBytes;
  }

  #isOver(): boolean {
    const { pages, free } = this.#rows.pages();
    return (pages - free) * PAGE_BYTES > this.#most() * 1.2 + 1024 * 1024;
  }
}
