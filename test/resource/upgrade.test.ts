// Files of stores over versions: those that an earlier agent wrote are read, an older schema becomes the newer one with a copy of what was before, and a
// newer one is refused as it is. The fixtures were written by the code of a commit long before.

import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Spool } from '../../src/flow/spool.ts';
import { openSpoolFile, SPOOL_SCHEMA } from '../../src/flow/spool-file.ts';
import { INTERFACE_RECORDS } from '../../src/interface/record.ts';
import { LINK_RECORDS } from '../../src/link/record.ts';
import type { RecordKind, StoredRecord } from '../../src/resource/record-kind.ts';
import { Store } from '../../src/resource/store.ts';
import { SCHEMA, type SchemaStep } from '../../src/resource/store-schema.ts';
import { meter } from '../flow/batches.ts';

const FIXTURES = join(import.meta.dirname, '../fixtures/stores-1');
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tpl-upgrade-'));
  for (const name of readdirSync(FIXTURES))
    writeFileSync(join(folder, name.replace('.gz', '')), gunzipSync(readFileSync(join(FIXTURES, name))));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const NEXT: readonly SchemaStep[] = [...SCHEMA, (table) => `ALTER TABLE ${table} ADD COLUMN note TEXT NOT NULL DEFAULT 'none';`];
const path = (file: string): string => join(folder, file);
/** Every file, byte by byte. */
const bytes = (): Record<string, string> =>
  Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((name) => [
        name,
        createHash('sha256')
          .update(readFileSync(path(name)))
          .digest('hex'),
      ]),
  );
const spool = (file = path('flows.db')): Spool =>
  new Spool({ file, limits: { spoolBytes: 1e7, retainedBytes: 1e6 }, now: () => 1_780_000_000_001 });

function opened<R extends StoredRecord, T>(kind: RecordKind<R>, use: (store: Store<R>) => T, steps?: readonly SchemaStep[]): T {
  const store = new Store(folder, kind, () => 1_780_000_000_001, steps);
  try {
    return use(store);
  } finally {
    store.close();
  }
}

describe('files of an earlier agent', () => {
  it('interfaces, their labels, generations and remembered answers', () => {
    opened(INTERFACE_RECORDS, (store) => {
      expect(store.findings).toEqual({ corruptFiles: [], badRecords: [], damaged: false });
      expect(
        store.records.map(({ name, labels, generation, spec }) => [name, labels['n'], generation, spec.mtu, spec.addresses[0]?.cidr]),
      ).toEqual([
        ['old0', '0', 1, 1400, '10.9.0.1/24'],
        ['old1', '1', 2, 1401, '10.9.1.1/24'],
        ['old2', '2', 3, 1402, '10.9.2.1/24'],
      ]);
      expect(Buffer.from(store.recall('r1')?.answer ?? '').toString()).toBe('answer');
    });
  });

  it('links, with their keys', () => {
    opened(LINK_RECORDS, (store) => {
      expect(store.findings.damaged).toBe(false);
      expect(store.records).toMatchObject([
        { name: 'west', labels: { site: 'west' }, spec: { interface: 'interfaces/old0', listen: ':51820' } },
      ]);
      expect(store.records[0]?.spec.wireguard?.privateKey).toEqual(Buffer.alloc(32, 9));
    });
    expect(statSync(path('links.db')).mode & 0o777).toBe(0o600);
  });

  it('messages that wait for NATS', () => {
    const found = spool();
    const [subject] = [...found.account.subjects.values()];
    const ids: string[] = [];
    for (let row = subject && found.next(subject); subject && row; row = found.next(subject, row.pos))
      ids.push(`${row.epoch}:${row.first}`);
    found.close();
    const lane = meter('t0', '0123456789abcdef', 5);
    expect(ids).toEqual([0, 1, 2, 3].map((n) => lane.batch(n).id));
  });
});

describe.each([
  ['state.db', INTERFACE_RECORDS as RecordKind<StoredRecord>, 3],
  ['links.db', LINK_RECORDS as unknown as RecordKind<StoredRecord>, 1],
])('%s', (file, kind, count) => {
  it('of an older schema takes the steps that it lacks, and a copy stays from before', () => {
    const before = opened(kind, (store) => [store.nodeUid, store.records]);
    expect(opened(kind, (store) => [store.nodeUid, store.records], NEXT)).toEqual(before);
    const database = new DatabaseSync(path(file), { readOnly: true });
    expect(database.prepare('PRAGMA user_version').get()).toEqual({ user_version: 2 });
    expect(database.prepare(`SELECT note FROM ${kind.table}`).all()).toHaveLength(count);
    database.close();
    // The way back: the copy in its place is a store of the version before.
    expect(statSync(path(`${file}.schema-1`)).mode & 0o777).toBe(0o600);
    cpSync(path(`${file}.schema-1`), path(file));
    expect(opened(kind, (store) => [store.nodeUid, store.records])).toEqual(before);
  });

  it('of a newer schema is refused, with the cure, and is as it was', () => {
    opened(kind, () => {}, NEXT);
    const before = bytes();
    expect(() => opened(kind, () => {})).toThrow(
      expect.objectContaining({
        code: 'FAILED_PRECONDITION',
        reason: 'STATE_NEWER',
        message: expect.stringMatching(/schema 2, this agent knows 1.*run that version/),
      }),
    );
    expect(bytes()).toEqual(before);
  });

  it('is as it was when a step fails', () => {
    const before = opened(kind, (store) => store.records);
    const failing: readonly SchemaStep[] = [...NEXT, () => 'INSERT INTO meta (key, value) VALUES (NULL, NULL); CREATE TABLE x (y);'];
    expect(() => opened(kind, () => {}, failing)).toThrow(expect.objectContaining({ reason: 'STATE_NOT_WRITABLE' }));
    expect(opened(kind, (store) => [store.records, store.findings.damaged])).toEqual([before, false]);
  });
});

describe('the spool', () => {
  const steps = [...SPOOL_SCHEMA, 'CREATE TABLE note(text TEXT);'];

  it('of an older schema takes the steps that it lacks; a newer one is refused, and is as it was', () => {
    const { database, putAside } = openSpoolFile(path('flows.db'), 0, steps);
    expect(putAside).toBe('');
    expect(database.prepare('SELECT pos FROM message').all()).toHaveLength(4);
    database.close();
    const before = bytes();
    expect(() => spool()).toThrow(
      expect.objectContaining({ code: 'FAILED_PRECONDITION', reason: 'SPOOL_NEWER', message: expect.stringMatching(/run that version/) }),
    );
    expect(bytes()).toEqual(before);
  });
});
