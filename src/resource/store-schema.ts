// What a store's file looks like, and how a file of an older version becomes one of this. The version of a file is how many steps it has taken: a step
// that was ever shipped does not change, a new one goes behind the last. What there was before is kept beside it, so that there is a way back.

import { randomUUID } from 'node:crypto';
import { closeSync, openSync, rmSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';

/** SQL that makes the next version of a file whose records are in `table`. */
export type SchemaStep = (table: string) => string;

export const SCHEMA: readonly SchemaStep[] = [
  (table) => `
      CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS ${table} (name TEXT PRIMARY KEY, phase TEXT NOT NULL, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS replay (request_id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, answer BLOB NOT NULL, at INTEGER NOT NULL) STRICT;
      CREATE INDEX IF NOT EXISTS replay_at ON replay (at);
      CREATE TABLE IF NOT EXISTS quarantine (name TEXT NOT NULL, phase TEXT NOT NULL, body BLOB NOT NULL, sum BLOB NOT NULL, at INTEGER NOT NULL) STRICT;
      INSERT OR IGNORE INTO meta (key, value) VALUES ('node_uid', '${randomUUID()}');`,
];

const SQLITE_CORRUPT = 11;
const OWNER_ONLY = 0o600;

function versionOf(database: DatabaseSync): number {
  return Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0);
}

/**
 * Takes the steps that the file has not taken, all or none. Of a file that has records a copy `<path>.schema-<version>` is made before. A newer file
 * has been refused already. Throws what SQLite says.
 */
export function bringUpToDate(database: DatabaseSync, path: string, table: string, steps: readonly SchemaStep[]): void {
  const version = versionOf(database);
  // A table that is missing in a file of this version has been damaged: making it anew would hide that its rows are lost.
  if (version === steps.length) return;
  if (version < 0 || version > steps.length) throw corrupt(`schema version ${version}`);
  if (version > 0) keepCopy(database, `${path}.schema-${version}`);
  database.exec('BEGIN IMMEDIATE');
  try {
    for (const step of steps.slice(version)) database.exec(step(table));
    database.exec(`PRAGMA user_version = ${steps.length}; COMMIT`);
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

/** What SQLite says of a damaged file, said by us. */
export function corrupt(what: string): Error {
  return Object.assign(new Error(what), { errcode: SQLITE_CORRUPT });
}

/** SQLite writes into an empty file, which has its mode before it has secrets. */
function keepCopy(database: DatabaseSync, path: string): void {
  rmSync(path, { force: true });
  closeSync(openSync(path, 'wx', OWNER_ONLY));
  try {
    database.prepare('VACUUM INTO ?').run(path);
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  }
}
