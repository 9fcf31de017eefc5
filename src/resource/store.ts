// The intent of one kind of resource on disk: SQLite with write-ahead log and synchronous=FULL. A resolved `commit` is on disk. Commits that
// come in together share one transaction and one fsync, in their order.
//
// A commit that failed may lie in the log all the same, and would come true if we died now. So after a failure something else is
// written over it as soon as the disk takes it.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { TaplaneError } from '../errors.ts';
import type { RecordKind, StoredRecord } from './record-kind.ts';
import { diskFailure, openDatabase, type Statements } from './store-file.ts';
import type { SchemaStep } from './store-schema.ts';

const REPLAY_MS = 24 * 60 * 60 * 1000;
const REPLAY_MOST = 100_000;
const OVERWRITE_MS = 500;

/** The remembered answer to a request id. */
export interface Replay {
  requestId: string;
  /** Digest of method and request: the same id with another request is a mistake of the client. */
  fingerprint: string;
  answer: Uint8Array;
}

export interface Change<R> {
  put?: R;
  /** Name of the record to remove. */
  remove?: string;
  replay?: Replay;
}

/** What was found when the store was opened. */
export interface Findings {
  /** Files moved aside, now or earlier. */
  corruptFiles: string[];
  /** Names of records in quarantine. */
  badRecords: string[];
  /** This start found a damage: what the records say may be older than what was answered. */
  damaged: boolean;
}

interface Waiting<R> {
  change: Change<R>;
  resolve(): void;
  reject(error: Error): void;
}

export class Store<R extends StoredRecord> {
  readonly nodeUid: string;
  readonly findings: Findings;
  readonly records: R[];
  readonly #kind: RecordKind<R>;
  readonly #database: DatabaseSync;
  readonly #statements: Statements;
  readonly #now: () => number;
  #waiting: Waiting<R>[] = [];
  #closed = false;
  /** A failed commit has not been written over. */
  #owes = false;

  /** Opens or makes the store in a directory that this process alone uses. Throws TaplaneError STATE_NEWER, or what the disk says. */
  constructor(directory: string, kind: RecordKind<R>, now: () => number, steps?: readonly SchemaStep[]) {
    this.#kind = kind;
    this.#now = now;
    const path = join(directory, kind.file);
    const { database: opened, nodeUid, records, bad, statements, damaged } = openDatabase(path, kind, now, steps);
    this.#database = opened;
    this.nodeUid = nodeUid;
    this.records = records;
    this.#statements = statements;
    this.findings = {
      corruptFiles: readdirSync(directory).filter((file) => file.startsWith(`${kind.file}.corrupt-`) && !/-(wal|shm)$/.test(file)),
      badRecords: bad,
      damaged,
    };
  }

  /** Resolves once the change is on disk. Rejects with RESOURCE_EXHAUSTED or UNAVAILABLE, and then it is not. */
  commit(change: Change<R>): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(new TaplaneError('UNAVAILABLE', 'SHUTTING_DOWN', 'store: the agent is stopping', { retryAfterMs: 1000 }));
        return;
      }
      if (this.#waiting.length === 0) setImmediate(() => this.#flush());
      this.#waiting.push({ change, resolve, reject });
    });
  }

  /** The answer given earlier to this request id. */
  recall(requestId: string): { fingerprint: string; answer: Uint8Array } | undefined {
    const row = this.#statements.recall.get(requestId, this.#now() - REPLAY_MS);
    return row === undefined ? undefined : { fingerprint: String(row['fingerprint']), answer: row['answer'] as Uint8Array };
  }

  /** Forgets answers that are too old or too many. */
  prune(): void {
    try {
      this.#statements.forgetOld.run(this.#now() - REPLAY_MS, REPLAY_MOST);
    } catch {
      // A full disk: nothing is lost by keeping them longer.
      this.#owe();
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#database.close();
  }

  #flush(): void {
    const batch = this.#waiting;
    this.#waiting = [];
    if (batch.length === 0) return;
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      for (const { change } of batch) this.#write(change);
      this.#database.exec('COMMIT');
    } catch (error) {
      try {
        if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      } catch {
        // the transaction is gone already
      }
      this.#owe();
      const failure = diskFailure(error);
      for (const { reject } of batch) reject(failure);
      return;
    }
    for (const { resolve } of batch) resolve();
  }

  /** Writes over a failed commit as soon as it can, and empties the log. */
  #owe(): void {
    if (this.#owes) return;
    this.#owes = true;
    const attempt = (): void => {
      if (!this.#owes || this.#closed) return;
      try {
        this.#statements.touch.run(String(this.#now()));
        const { busy } = this.#database.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get() ?? {};
        if (busy !== 0) throw new Error('the log is in use');
        this.#owes = false;
      } catch {
        setTimeout(attempt, OVERWRITE_MS).unref();
      }
    };
    setImmediate(attempt);
  }

  #write(change: Change<R>): void {
    if (change.put !== undefined) {
      const { body, sum } = this.#kind.encode(change.put);
      this.#statements.put.run(change.put.name, change.put.phase, body, sum);
    }
    if (change.remove !== undefined) this.#statements.remove.run(change.remove);
    if (change.replay !== undefined)
      this.#statements.remember.run(change.replay.requestId, change.replay.fingerprint, change.replay.answer, this.#now());
  }
}
