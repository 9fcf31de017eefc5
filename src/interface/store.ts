// The intent on disk: SQLite with write-ahead log and synchronous=FULL in `state.db`. A resolved `commit` is on disk. Commits that
// come in together share one transaction and one fsync, in their order.
//
// A file that SQLite or a checksum disowns is moved aside (`state.db.corrupt-<time>`), never repaired in place and never obeyed;
// single bad records go to the table `quarantine`. A file of a newer version is left alone and refused.

import { randomUUID } from 'node:crypto';
import { closeSync, existsSync, openSync, readdirSync, readSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { TaplaneError } from '../errors.ts';
import { BadRecord, decodeRecord, encodeRecord, type Record } from './record.ts';

const VERSION = 1;
const FILE = 'state.db';
const PAGE_BYTES = 4096;
const IOERR_SHORT_READ = 522;
const SQLITE_CORRUPT = 11;
const REPLAY_MS = 24 * 60 * 60 * 1000;
const REPLAY_MOST = 100_000;

/** The remembered answer to a request id. */
export interface Replay {
  requestId: string;
  /** Digest of method and request: the same id with another request is a mistake of the client. */
  fingerprint: string;
  answer: Uint8Array;
}

export interface Change {
  put?: Record;
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
}

interface Waiting {
  change: Change;
  resolve(): void;
  reject(error: Error): void;
}

interface Statements {
  put: StatementSync;
  remove: StatementSync;
  remember: StatementSync;
  recall: StatementSync;
  forgetOld: StatementSync;
}

export class Store {
  readonly nodeUid: string;
  readonly findings: Findings;
  readonly records: Record[];
  readonly #database: DatabaseSync;
  readonly #statements: Statements;
  readonly #now: () => number;
  #waiting: Waiting[] = [];
  #closed = false;

  /** Opens or makes the store in a directory that this process alone uses. Throws TaplaneError STATE_NEWER, or what the disk says. */
  constructor(directory: string, now: () => number) {
    this.#now = now;
    const path = join(directory, FILE);
    const { database: opened, nodeUid, records, bad, statements } = openDatabase(path, now);
    this.#database = opened;
    this.nodeUid = nodeUid;
    this.records = records;
    this.#statements = statements;
    this.findings = {
      corruptFiles: readdirSync(directory).filter((file) => file.startsWith(`${FILE}.corrupt-`) && !/-(wal|shm)$/.test(file)),
      badRecords: bad,
    };
  }

  /** Resolves once the change is on disk. Rejects with RESOURCE_EXHAUSTED or UNAVAILABLE, and then it is not. */
  commit(change: Change): Promise<void> {
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
      const failure = diskFailure(error);
      for (const { reject } of batch) reject(failure);
      return;
    }
    for (const { resolve } of batch) resolve();
  }

  #write(change: Change): void {
    if (change.put !== undefined) {
      const { body, sum } = encodeRecord(change.put);
      this.#statements.put.run(change.put.name, change.put.phase, body, sum);
    }
    if (change.remove !== undefined) this.#statements.remove.run(change.remove);
    if (change.replay !== undefined)
      this.#statements.remember.run(change.replay.requestId, change.replay.fingerprint, change.replay.answer, this.#now());
  }
}

interface Opened {
  database: DatabaseSync;
  nodeUid: string;
  records: Record[];
  bad: string[];
  statements: Statements;
}

function openDatabase(path: string, now: () => number): Opened {
  const fresh = !existsSync(path);
  try {
    if (!fresh) {
      checkHeader(path);
      refuseNewer(path);
    }
    return readDatabase(path, fresh, now);
  } catch (error) {
    if (error instanceof TaplaneError) throw error;
    if (fresh || !isCorruption(error)) throw diskFailure(error);
    const stamp = new Date(now()).toISOString().replaceAll(':', '');
    for (const suffix of ['', '-wal', '-shm']) {
      if (existsSync(`${path}${suffix}`)) renameSync(`${path}${suffix}`, `${path}.corrupt-${stamp}${suffix}`);
    }
    return readDatabase(path, true, now);
  }
}

/** SQLite takes a stump of a page for an empty database, and an unknown write version for a read-only one: both would hide a damage. */
function checkHeader(path: string): void {
  const size = statSync(path).size;
  if (size === 0) return; // dead before the first write
  const header = Buffer.alloc(20);
  const fd = openSync(path, 'r');
  try {
    readSync(fd, header, 0, header.length, 0);
  } finally {
    closeSync(fd);
  }
  const sound =
    size >= PAGE_BYTES &&
    header.toString('latin1', 0, 16) === 'SQLite format 3\0' &&
    [header[18], header[19]].every((version) => version === 1 || version === 2);
  if (!sound) throw Object.assign(new Error('not a database, or cut'), { errcode: 26 });
}

/** Read-only, so that the log of a file that is not ours to change is not folded into it. */
function refuseNewer(path: string): void {
  let version = 0;
  try {
    const database = new DatabaseSync(path, { readOnly: true });
    try {
      version = Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0);
    } finally {
      database.close();
    }
  } catch {
    return; // what follows says what is wrong
  }
  if (version > VERSION) {
    throw new TaplaneError(
      'FAILED_PRECONDITION',
      'STATE_NEWER',
      `open ${path}: made by a newer version (schema ${version}, this agent knows ${VERSION}); run that version, or give this one another state directory`,
    );
  }
}

function readDatabase(path: string, fresh: boolean, now: () => number): Opened {
  const database = new DatabaseSync(path);
  try {
    prepareSchema(database, fresh);
    const statements = prepareStatements(database);
    return { database, statements, nodeUid: identity(database), ...readRecords(database, now()) };
  } catch (error) {
    database.close();
    throw error;
  }
}

function prepareSchema(database: DatabaseSync, fresh: boolean): void {
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 0');
  if (!fresh) {
    const verdict = database.prepare('PRAGMA integrity_check(1)').get()?.['integrity_check'];
    if (verdict !== 'ok') throw corrupt(`integrity check: ${String(verdict)}`);
  }
  const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
  // A table that is missing here has been damaged: making it anew would hide that its rows are lost.
  if (version === VERSION) return;
  if (version !== 0) throw corrupt(`schema version ${version}`);
  database.exec(`
      BEGIN;
      CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS interface (name TEXT PRIMARY KEY, phase TEXT NOT NULL, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS replay (request_id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, answer BLOB NOT NULL, at INTEGER NOT NULL) STRICT;
      CREATE INDEX IF NOT EXISTS replay_at ON replay (at);
      CREATE TABLE IF NOT EXISTS quarantine (name TEXT NOT NULL, phase TEXT NOT NULL, body BLOB NOT NULL, sum BLOB NOT NULL, at INTEGER NOT NULL) STRICT;
      INSERT OR IGNORE INTO meta (key, value) VALUES ('node_uid', '${randomUUID()}');
      PRAGMA user_version = ${VERSION};
      COMMIT`);
}

function corrupt(what: string): Error {
  return Object.assign(new Error(what), { errcode: SQLITE_CORRUPT });
}

function prepareStatements(database: DatabaseSync): Statements {
  return {
    put: database.prepare(
      'INSERT INTO interface (name, phase, body, sum) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET phase = excluded.phase, body = excluded.body, sum = excluded.sum',
    ),
    remove: database.prepare('DELETE FROM interface WHERE name = ?'),
    remember: database.prepare('INSERT OR REPLACE INTO replay (request_id, fingerprint, answer, at) VALUES (?, ?, ?, ?)'),
    recall: database.prepare('SELECT fingerprint, answer FROM replay WHERE request_id = ? AND at > ?'),
    forgetOld: database.prepare(
      'DELETE FROM replay WHERE at <= ? OR request_id IN (SELECT request_id FROM replay ORDER BY at DESC LIMIT -1 OFFSET ?)',
    ),
  };
}

/** SQLITE_CORRUPT and SQLITE_NOTADB, also in their extended forms, and a file that ends too early; a schema that is not ours is SQLITE_ERROR. */
function isCorruption(error: unknown): boolean {
  const code = (error as { errcode?: number }).errcode ?? 0;
  return code === IOERR_SHORT_READ || [1, 11, 26].includes(code & 0xff);
}

/** A full or failing disk as the API tells it. */
function diskFailure(error: unknown): TaplaneError {
  const code = ((error as { errcode?: number }).errcode ?? 0) & 0xff;
  const message = `keep the state: ${error instanceof Error ? error.message : String(error)}`;
  // 13 SQLITE_FULL
  if (code === 13)
    return new TaplaneError('RESOURCE_EXHAUSTED', 'DISK_FULL', `${message}; make room in the state directory`, {
      cause: error,
      retryAfterMs: 5000,
    });
  return new TaplaneError('UNAVAILABLE', 'STATE_NOT_WRITABLE', `${message}; look at the disk of the state directory`, {
    cause: error,
    retryAfterMs: 5000,
  });
}

function identity(database: DatabaseSync): string {
  const uid = database.prepare("SELECT value FROM meta WHERE key = 'node_uid'").get()?.['value'];
  if (typeof uid !== 'string' || !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uid)) throw corrupt('no uid of the node');
  return uid;
}

function readRecords(database: DatabaseSync, now: number): { records: Record[]; bad: string[] } {
  const records: Record[] = [];
  for (const row of database.prepare('SELECT name, phase, body, sum FROM interface ORDER BY name').all()) {
    const name = String(row['name']);
    try {
      records.push(decodeRecord(name, String(row['phase']), row['body'] as Uint8Array, row['sum'] as Uint8Array));
    } catch (error) {
      if (!(error instanceof BadRecord)) throw error;
      database.prepare('INSERT INTO quarantine SELECT name, phase, body, sum, ? FROM interface WHERE name = ?').run(now, name);
      database.prepare('DELETE FROM interface WHERE name = ?').run(name);
    }
  }
  const bad = database.prepare('SELECT DISTINCT name FROM quarantine ORDER BY name').all();
  return { records, bad: bad.map((row) => String(row['name'])) };
}
