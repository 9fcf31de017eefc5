// What the spool knows without asking the disk: subjects, epochs, and how much waits and is kept. Every change can be undone, since the
// transaction that it belongs to may fail.

import type { DatabaseSync } from 'node:sqlite';
import type { RecordLoss_Reason as Reason } from '../gen/taplane/v1/flow.ts';
import { WAITING } from './spool-file.ts';

/** A message, or a gap, without its payload. */
export interface Row {
  pos: number;
  /** Id of its subject. */
  subject: number;
  state: number;
  epoch: string;
  first: number;
  records: number;
  /** As they are counted against the limits. */
  bytes: number;
  /** 0 for a message; of a gap why its records are lost. */
  reason: number;
  crc: number;
  /** Unix milliseconds. */
  put: number;
}

export interface Subject {
  readonly id: number;
  readonly kind: 'flow' | 'event';
  readonly name: string;
  /** Sequence, in the stream, of its last message that NATS acknowledged; 0 for none. */
  sequence: number;
  /** The stream that it was. */
  incarnation: string;
  /** Rows. */
  waiting: number;
  acked: number;
}

/** Positions from one message to the next. A message has the first; those behind it are for what is left of a gap that was cut. */
export const PLACES = 16;
/** Position behind a message where a gap before the next one goes, and behind it for what is left of it. */
export const GAP_PLACE = 8;

export class Account {
  readonly subjects = new Map<number, Subject>();
  /** Number that the next message of an epoch has, in the order of last use. */
  readonly epochs = new Map<string, number>();
  readonly lost = new Map<Reason, number>();
  waitingMessages = 0;
  waitingBytes = 0;
  ackedMessages = 0;
  ackedBytes = 0;
  /** Of gaps that wait. */
  gapBytes = 0;
  /** Of waiting rows that had been acknowledged before: they may exceed the limit for what waits, since they are within that of what is kept. */
  returnedBytes = 0;
  /** Position of the next message. */
  nextPos = PLACES;
  /** Before it no waiting row can be dropped. */
  dropFrom = 0;
  readonly #names = new Map<string, Subject>();
  #undo: (() => void)[] = [];

  /** Reads all of it. Throws when the database is damaged. */
  load(database: DatabaseSync): void {
    this.clear();
    for (const { id, kind, name, seq, incarnation } of database.prepare('SELECT * FROM subject').all()) {
      const known = { id: Number(id), kind: kind as Subject['kind'], name: String(name), incarnation: String(incarnation) };
      this.addSubject({ ...known, sequence: Number(seq), waiting: 0, acked: 0 });
    }
    for (const { epoch, next } of database.prepare('SELECT epoch, next FROM epoch ORDER BY touched').all()) {
      this.epochs.set(String(epoch), Number(next));
    }
    const sums = database.prepare(
      'SELECT subject, state, count(*) AS n, sum(bytes) AS bytes, sum(iif(reason <> 0, bytes, 0)) AS gaps FROM message GROUP BY subject, state',
    );
    for (const { subject, state, n, bytes, gaps } of sums.all()) {
      this.count(Number(subject), Number(state), Number(n), Number(bytes));
      if (Number(state) === WAITING) this.countGaps(Number(gaps));
    }
    const last = Number(database.prepare('SELECT max(pos) AS pos FROM message').get()?.['pos'] ?? 0);
    this.nextPos = (Math.floor(last / PLACES) + 1) * PLACES;
    this.keep();
  }

  clear(): void {
    this.subjects.clear();
    this.#names.clear();
    this.epochs.clear();
    this.waitingMessages = this.waitingBytes = this.ackedMessages = this.ackedBytes = this.gapBytes = this.returnedBytes = 0;
    this.dropFrom = 0;
    this.#undo = [];
  }

  subject(kind: Subject['kind'], name: string): Subject | undefined {
    return this.#names.get(`${kind}.${name}`);
  }

  addSubject(subject: Subject): Subject {
    this.subjects.set(subject.id, subject);
    this.#names.set(`${subject.kind}.${subject.name}`, subject);
    this.#undo.push(() => this.#forget(subject));
    return subject;
  }

  removeSubject(subject: Subject): void {
    this.#forget(subject);
    this.#undo.push(() => {
      this.subjects.set(subject.id, subject);
      this.#names.set(`${subject.kind}.${subject.name}`, subject);
    });
  }

  /** Takes the next position. */
  takePos(): number {
    this.nextPos += PLACES;
    this.#undo.push(() => {
      this.nextPos -= PLACES;
    });
    return this.nextPos - PLACES;
  }

  setSubject(subject: Subject, sequence: number, incarnation: string): void {
    const before = { sequence: subject.sequence, incarnation: subject.incarnation };
    Object.assign(subject, { sequence, incarnation });
    this.#undo.push(() => Object.assign(subject, before));
  }

  /** Some that have no rows; the oldest. */
  idleSubjects(most: number): Subject[] {
    const idle: Subject[] = [];
    for (const subject of this.subjects.values()) {
      if (idle.length >= most) break;
      if (subject.waiting + subject.acked === 0) idle.push(subject);
    }
    return idle;
  }

  /** Answers with epochs that are forgotten for it. */
  setEpoch(epoch: string, next: number, most: number): string[] {
    const before = this.epochs.get(epoch);
    this.epochs.delete(epoch);
    this.epochs.set(epoch, next);
    this.#undo.push(() => (before === undefined ? this.epochs.delete(epoch) : this.epochs.set(epoch, before)));
    if (this.epochs.size <= most) return [];
    const [oldest] = this.epochs;
    if (oldest === undefined) return [];
    this.epochs.delete(oldest[0]);
    this.#undo.push(() => this.epochs.set(...oldest));
    return [oldest[0]];
  }

  count(subjectId: number, state: number, messages: number, bytes: number): void {
    this.#count(subjectId, state, messages, bytes);
    this.#undo.push(() => this.#count(subjectId, state, -messages, -bytes));
  }

  countGaps(bytes: number): void {
    this.gapBytes += bytes;
    this.#undo.push(() => {
      this.gapBytes -= bytes;
    });
  }

  /** Given back by the server, or, below 0, gone again. */
  given(bytes: number): void {
    const before = this.returnedBytes;
    this.returnedBytes = Math.max(0, before + bytes);
    this.#undo.push(() => {
      this.returnedBytes = before;
    });
  }

  lose(reason: Reason, records: number): void {
    const before = this.lost.get(reason) ?? 0;
    this.lost.set(reason, Math.max(0, before + records));
    this.#undo.push(() => this.lost.set(reason, before));
  }

  /** What changed since stays. */
  keep(): void {
    this.#undo = [];
  }

  /** Takes back what changed since `keep`. */
  undo(): void {
    for (const step of this.#undo.reverse()) step();
    this.#undo = [];
    this.dropFrom = 0;
  }

  #forget(subject: Subject): void {
    this.subjects.delete(subject.id);
    this.#names.delete(`${subject.kind}.${subject.name}`);
  }

  #count(subjectId: number, state: number, messages: number, bytes: number): void {
    const subject = this.subjects.get(subjectId);
    if (state === WAITING) {
      this.waitingMessages += messages;
      this.waitingBytes += bytes;
      if (subject) subject.waiting += messages;
    } else {
      this.ackedMessages += messages;
      this.ackedBytes += bytes;
      if (subject) subject.acked += messages;
    }
  }
}
