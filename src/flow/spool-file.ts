// The file behind the spool: opened, or put aside when SQLite disowns it. Knows tables and statements; what they mean is the spool's.
//
// WAL with synchronous=NORMAL: a killed process loses nothing, a power failure the last moments, which the lanes would have lost as well.
// A message is two rows, so that an acknowledgement does not write its payload anew. Pages of 8 KiB: batches of 45 KB take few of them.

import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { TaplaneError } from '../errors.ts';
import { versionOfFile } from '../resource/store-version.ts';

export const PAGE_BYTES = 8192;
/** Folded into the file by a megabyte: more at once would hold up the event loop for longer. */
const CHECKPOINT_PAGES = 128;

/** `message.state`. */
export const WAITING = 0;
export const ACKED = 1;

/** Each makes the next version of a file; one that was ever shipped does not change, a new one goes behind the last. */
export const SPOOL_SCHEMA: readonly string[] = [
  `
CREATE TABLE IF NOT EXISTS subject(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, seq INTEGER NOT NULL,
  incarnation TEXT NOT NULL, touched INTEGER NOT NULL, UNIQUE(kind, name));
CREATE TABLE IF NOT EXISTS message(pos INTEGER PRIMARY KEY, subject INTEGER NOT NULL, state INTEGER NOT NULL, epoch TEXT NOT NULL,
  first INTEGER NOT NULL, records INTEGER NOT NULL, bytes INTEGER NOT NULL, reason INTEGER NOT NULL, crc INTEGER NOT NULL, put INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS message_subject ON message(subject, state, pos);
CREATE INDEX IF NOT EXISTS message_state ON message(state, pos);
CREATE INDEX IF NOT EXISTS message_epoch ON message(epoch, first);
CREATE TABLE IF NOT EXISTS payload(pos INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS epoch(epoch TEXT PRIMARY KEY, next INTEGER NOT NULL, touched INTEGER NOT NULL) WITHOUT ROWID;
`,
];

const STATEMENTS = {
  begin: 'BEGIN IMMEDIATE',
  commit: 'COMMIT',
  rollback: 'ROLLBACK',
  addSubject: "INSERT INTO subject(kind, name, seq, incarnation, touched) VALUES (?, ?, 0, '', ?)",
  setSubject: 'UPDATE subject SET seq = ?, incarnation = ?, touched = ? WHERE id = ?',
  removeSubject: 'DELETE FROM subject WHERE id = ?',
  addMessage: 'INSERT INTO message VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?)',
  addPayload: 'INSERT INTO payload VALUES (?, ?)',
  setEpoch: 'INSERT INTO epoch VALUES (?1, ?2, ?3) ON CONFLICT(epoch) DO UPDATE SET next = ?2, touched = ?3',
  removeEpoch: 'DELETE FROM epoch WHERE epoch = ?',
  at: 'SELECT * FROM message WHERE pos = ?',
  payload: 'SELECT data FROM payload WHERE pos = ?',
  nextWaiting: 'SELECT * FROM message WHERE subject = ? AND state = 0 ORDER BY pos LIMIT 1',
  waitingBefore: 'SELECT * FROM message WHERE subject = ? AND state = 0 AND pos < ? ORDER BY pos DESC LIMIT 1',
  lastAcked: 'SELECT * FROM message WHERE subject = ? AND state = 1 ORDER BY pos DESC LIMIT 1',
  firstAcked: 'SELECT * FROM message WHERE subject = ? AND state = 1 ORDER BY pos LIMIT 1',
  firstAfter: 'SELECT * FROM message WHERE subject = ? AND state = ? AND pos > ? ORDER BY pos LIMIT 1',
  upTo: 'SELECT * FROM message WHERE epoch = ? AND first <= ? AND subject = ? ORDER BY first DESC LIMIT 1',
  oldestAcked: 'SELECT * FROM message WHERE state = 1 ORDER BY pos LIMIT 1',
  oldestWaiting: 'SELECT * FROM message WHERE state = 0 AND reason = 0 AND pos >= ? ORDER BY pos LIMIT 1',
  waitingAfter: 'SELECT * FROM message WHERE state = 0 AND pos > ? ORDER BY pos LIMIT 1',
  setState: 'UPDATE message SET state = ? WHERE pos = ?',
  setRange: 'UPDATE message SET first = ?, records = ? WHERE pos = ?',
  makeGap: 'UPDATE message SET reason = ?, bytes = ?, crc = ? WHERE pos = ?',
  setPayload: 'UPDATE payload SET data = ? WHERE pos = ?',
  removeMessage: 'DELETE FROM message WHERE pos = ?',
  removePayload: 'DELETE FROM payload WHERE pos = ?',
  pages: 'PRAGMA page_count',
  freePages: 'PRAGMA freelist_count',
} as const;

export type Statements = { [name in keyof typeof STATEMENTS]: StatementSync };

export interface SpoolFile {
  database: DatabaseSync;
  run: Statements;
}

/**
 * Opens or makes the file. A damaged one is moved to `<path>.corrupt-<time>`, of which the newest is kept. Throws when the disk fails, and TaplaneError
 * SPOOL_NEWER for a file of a newer version, which is not touched.
 */
export function openSpoolFile(path: string, nowMs: number, steps: readonly string[] = SPOOL_SCHEMA): SpoolFile & { putAside: string } {
  refuseNewer(path, steps.length);
  try {
    return { ...open(path, steps), putAside: '' };
  } catch (error) {
    if (!isDamage(error)) throw error;
    const reason = `spool was damaged and put aside: ${(error as Error).message}`;
    putAside(path, nowMs);
    return { ...open(path, steps), putAside: reason };
  }
}

/** SQLite says that what it reads is no database, or a damaged one, or one of another make. */
export function isDamage(error: unknown): boolean {
  const code = Number((error as { errcode?: number }).errcode ?? 0) & 0xff;
  return code === 11 || code === 26 || (error as { code?: string }).code === 'SPOOL_DAMAGED';
}

/** An error that `isDamage` knows. */
export function damage(message: string): Error {
  return Object.assign(new Error(message), { code: 'SPOOL_DAMAGED' });
}

/** Moves the file and what SQLite keeps beside it to `<path>.corrupt-<time>`; those put aside before go. Throws what the disk says. */
export function putAside(path: string, nowMs: number): void {
  const folder = dirname(path);
  const prefix = `${basename(path)}.corrupt-`;
  for (const name of readdirSync(folder)) if (name.startsWith(prefix)) rmSync(join(folder, name), { force: true, recursive: true });
  const stamp = new Date(nowMs).toISOString().replaceAll(':', '');
  for (const suffix of ['', '-wal', '-shm']) {
    if (existsSync(`${path}${suffix}`)) renameSync(`${path}${suffix}`, `${folder}/${prefix}${stamp}${suffix}`);
  }
}

/** Leaves it as it is, byte by byte: what waits in the log of a newer file is not folded into it. */
function refuseNewer(path: string, known: number): void {
  const version = versionOfFile(path);
  if (version > known) {
    throw new TaplaneError(
      'FAILED_PRECONDITION',
      'SPOOL_NEWER',
      `open ${path}: made by a newer version (schema ${version}, this agent knows ${known}); run that version until it is empty, or move the file away and lose what waits in it`,
    );
  }
}

function open(path: string, steps: readonly string[]): SpoolFile {
  const database = new DatabaseSync(path);
  try {
    database.exec(`PRAGMA page_size = ${PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
      PRAGMA synchronous = NORMAL; PRAGMA secure_delete = OFF; PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES};
      PRAGMA journal_size_limit = ${4 * CHECKPOINT_PAGES * PAGE_BYTES}; PRAGMA cache_size = -4096`);
    const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
    if (version < 0 || version > steps.length) throw damage(`it has version ${version}, not ${steps.length}`);
    // The first one also makes anew what is missing: of a spool that has lost a table the rest is still worth sending.
    const due = [steps[0] ?? '', ...steps.slice(Math.max(1, version))];
    database.exec(`BEGIN; ${due.join('\n')} PRAGMA user_version = ${steps.length}; COMMIT`);
    const run = Object.fromEntries(Object.entries(STATEMENTS).map(([name, sql]) => [name, database.prepare(sql)])) as Statements;
    return { database, run };
  } catch (error) {
    database.close();
    throw /no such column|has no column|columns but/.test((error as Error).message) ? damage((error as Error).message) : error;
  }
}
