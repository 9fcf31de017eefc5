// The file behind the store: opened and checked, or put aside when SQLite or a checksum disowns it. A damaged file is copied or
// moved to `<file>.corrupt-<time>`, never repaired in place; single bad records go to the table `quarantine`. A file of a newer
// version is left alone and refused.

import { chmodSync, closeSync, copyFileSync, existsSync, openSync, readFileSync, renameSync, statSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { TaplaneError } from '../errors.ts';
import { BadRecord, type RecordKind, type StoredRecord } from './record-kind.ts';
import { bringUpToDate, corrupt, SCHEMA, type SchemaStep } from './store-schema.ts';
import { headerOf, versionOfFile } from './store-version.ts';
import { isLogDamaged } from './write-ahead-log.ts';

const PAGE_BYTES = 4096;
const IOERR_SHORT_READ = 522;
const OWNER_ONLY = 0o600;

export interface Statements {
  put: StatementSync;
  remove: StatementSync;
  /** Writes something. */
  touch: StatementSync;
  remember: StatementSync;
  recall: StatementSync;
  forgetOld: StatementSync;
}

/** An open store. */
export interface Opened<R> {
  database: DatabaseSync;
  nodeUid: string;
  records: R[];
  bad: string[];
  statements: Statements;
  /** The file lost writes; what it says may be older than what was answered. */
  damaged: boolean;
}

/** Opens or makes the file. Throws TaplaneError. */
export function openDatabase<R extends StoredRecord>(
  path: string,
  kind: RecordKind<R>,
  now: () => number,
  steps: readonly SchemaStep[] = SCHEMA,
): Opened<R> {
  const fresh = !existsSync(path);
  try {
    if (kind.secret) keepSecret(path);
    if (!fresh) {
      checkHeader(path);
      refuseNewer(path, steps.length);
    }
    // SQLite silently ends at a damaged frame of its log, as if what came after had never been answered.
    const damaged = existsSync(`${path}-wal`) && isLogDamaged(readFileSync(`${path}-wal`));
    if (damaged) putAside(path, now, copyFileSync);
    const opened = readDatabase(path, kind, fresh, now, steps);
    return { ...opened, damaged: damaged || opened.damaged };
  } catch (error) {
    if (error instanceof TaplaneError) throw error;
    if (fresh || !isCorruption(error)) throw diskFailure(error);
    putAside(path, now, renameSync);
    if (kind.secret) keepSecret(path);
    return { ...readDatabase(path, kind, true, now, steps), damaged: true };
  }
}

/** Makes the file for its owner alone, or takes it away from others: a copy that was put back. What is made beside it later gets its mode. */
function keepSecret(path: string): void {
  if (!existsSync(path)) closeSync(openSync(path, 'wx', OWNER_ONLY));
  for (const suffix of ['', '-wal', '-shm']) if (existsSync(`${path}${suffix}`)) chmodSync(`${path}${suffix}`, OWNER_ONLY);
}

function putAside(path: string, now: () => number, put: (from: string, to: string) => void): void {
  const stamp = new Date(now()).toISOString().replaceAll(':', '');
  for (const suffix of ['', '-wal', '-shm']) {
    if (existsSync(`${path}${suffix}`)) put(`${path}${suffix}`, `${path}.corrupt-${stamp}${suffix}`);
  }
}

/** SQLite takes a stump of a page for an empty database, and an unknown write version for a read-only one: both would hide a damage. */
function checkHeader(path: string): void {
  const size = statSync(path).size;
  if (size === 0) return; // dead before the first write
  const header = headerOf(path);
  const sound =
    size >= PAGE_BYTES &&
    header.toString('latin1', 0, 16) === 'SQLite format 3\0' &&
    [header[18], header[19]].every((version) => version === 1 || version === 2);
  if (!sound) throw Object.assign(new Error('not a database, or cut'), { errcode: 26 });
}

/** Leaves it as it is, byte by byte: what waits in the log of a newer file is not folded into it. */
function refuseNewer(path: string, known: number): void {
  const version = versionOfFile(path);
  if (version > known) {
    throw new TaplaneError(
      'FAILED_PRECONDITION',
      'STATE_NEWER',
      `open ${path}: made by a newer version (schema ${version}, this agent knows ${known}); run that version, or give this one another state directory`,
    );
  }
}

function readDatabase<R extends StoredRecord>(
  path: string,
  kind: RecordKind<R>,
  fresh: boolean,
  now: () => number,
  steps: readonly SchemaStep[],
): Opened<R> {
  const database = new DatabaseSync(path);
  try {
    prepareSchema(database, path, kind, fresh, steps);
    const statements = prepareStatements(database, kind);
    const opened = { database, statements, nodeUid: identity(database), ...readRecords(database, kind, now()) };
    database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    return opened;
  } catch (error) {
    database.close();
    throw error;
  }
}

function prepareSchema(
  database: DatabaseSync,
  path: string,
  { table, secret }: Pick<RecordKind<StoredRecord>, 'table' | 'secret'>,
  fresh: boolean,
  steps: readonly SchemaStep[],
): void {
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 0');
  if (secret) database.exec('PRAGMA secure_delete = ON');
  if (!fresh) {
    const verdict = database.prepare('PRAGMA integrity_check(1)').get()?.['integrity_check'];
    if (verdict !== 'ok') throw corrupt(`integrity check: ${String(verdict)}`);
  }
  bringUpToDate(database, path, table, steps);
}

function prepareStatements(database: DatabaseSync, { table }: { table: string }): Statements {
  return {
    put: database.prepare(
      `INSERT INTO ${table} (name, phase, body, sum) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET phase = excluded.phase, body = excluded.body, sum = excluded.sum`,
    ),
    remove: database.prepare(`DELETE FROM ${table} WHERE name = ?`),
    touch: database.prepare("INSERT OR REPLACE INTO meta (key, value) VALUES ('touched', ?)"),
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
export function diskFailure(error: unknown): TaplaneError {
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

function readRecords<R extends StoredRecord>(
  database: DatabaseSync,
  kind: RecordKind<R>,
  now: number,
): { records: R[]; bad: string[]; damaged: boolean } {
  const { table } = kind;
  const records: R[] = [];
  let damaged = false;
  for (const row of database.prepare(`SELECT name, phase, body, sum FROM ${table} ORDER BY name`).all()) {
    const name = String(row['name']);
    try {
      records.push(kind.decode(name, String(row['phase']), row['body'] as Uint8Array, row['sum'] as Uint8Array));
    } catch (error) {
      if (!(error instanceof BadRecord)) throw error;
      damaged = true;
      database.prepare(`INSERT INTO quarantine SELECT name, phase, body, sum, ? FROM ${table} WHERE name = ?`).run(now, name);
      database.prepare(`DELETE FROM ${table} WHERE name = ?`).run(name);
    }
  }
  const bad = database.prepare('SELECT DISTINCT name FROM quarantine ORDER BY name').all();
  return { records, bad: bad.map((row) => String(row['name'])), damaged };
}
