import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { prepare } from '../../src/interface/canonical.ts';
import { INTERFACE_RECORDS, type Record } from '../../src/interface/record.ts';
import { Store } from '../../src/resource/store.ts';
import { address, tap } from '../interface/specs.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tpl-store-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function record(name: string, fields: Partial<Record> = {}): Record {
  const spec = prepare(tap({ mtu: 1400, addresses: [address('10.0.0.1/24')] }));
  return {
    name,
    uid: `uid-${name}`,
    phase: 'ready',
    labels: { a: 'b' },
    spec,
    generation: 1,
    createTimeMs: 1,
    updateTimeMs: 2,
    addressSinceMs: {},
    ...fields,
  };
}

/** Opens, looks, closes. */
function using<T>(look: (store: Store<Record>) => T, now: () => number = Date.now): T {
  const store = new Store(folder, INTERFACE_RECORDS, now);
  try {
    return look(store);
  } finally {
    store.close();
  }
}

const file = () => join(folder, 'state.db');

describe('a commit', () => {
  it('that has resolved is there after a reopen, byte for byte; node uid and answers too', async () => {
    const store = new Store(folder, INTERFACE_RECORDS, Date.now);
    const answer = new Uint8Array([1, 2, 3]);
    await store.commit({ put: record('a'), replay: { requestId: 'r', fingerprint: 'f', answer } });
    await store.commit({
      put: record('b', { phase: 'updating', before: { record: record('b', { generation: 7 }), restore: record('b').spec } }),
    });
    const { nodeUid } = store;
    // No close: as after a kill -9, all is in the log.
    const again = new Store(folder, INTERFACE_RECORDS, Date.now);
    expect(again.records).toEqual([
      record('a'),
      record('b', { phase: 'updating', before: { record: record('b', { generation: 7 }), restore: record('b').spec } }),
    ]);
    expect(again.nodeUid).toBe(nodeUid);
    expect(again.recall('r')).toEqual({ fingerprint: 'f', answer });
    expect(again.findings).toMatchObject({ corruptFiles: [], badRecords: [] });
    again.close();
    store.close();
  });

  it('is one of a group in the order of the calls, with one transaction for all of the same turn', async () => {
    const store = new Store(folder, INTERFACE_RECORDS, Date.now);
    const resolved: number[] = [];
    const before = statSync(`${file()}-wal`).size;
    await Promise.all(
      Array.from({ length: 100 }, (_, n) => store.commit({ put: record('a', { generation: n }) }).then(() => resolved.push(n))),
    );
    expect(resolved).toEqual(Array.from({ length: 100 }, (_, n) => n));
    // A hundred transactions would write a hundred times these few pages.
    expect(statSync(`${file()}-wal`).size - before).toBeLessThan(10 * 4200);
    await Promise.all([
      store.commit({ put: record('b') }),
      store.commit({ remove: 'b' }),
      store.commit({ remove: 'a' }),
      store.commit({ put: record('a', { generation: 7 }) }),
    ]);
    store.close();
    expect(using(({ records }) => records)).toEqual([record('a', { generation: 7 })]);
  });

  it('under way when the store closes is written; one after it is refused', async () => {
    const store = new Store(folder, INTERFACE_RECORDS, Date.now);
    const last = store.commit({ put: record('a') });
    store.close();
    await last;
    store.close();
    await expect(store.commit({ put: record('b') })).rejects.toMatchObject({ code: 'UNAVAILABLE', reason: 'SHUTTING_DOWN' });
    expect(using(({ records }) => records.map(({ name }) => name))).toEqual(['a']);
  });
});

describe('answers', () => {
  it('are remembered for a day by the clock that is given, then forgotten and pruned', async () => {
    let nowMs = 1_000_000_000;
    const store = new Store(folder, INTERFACE_RECORDS, () => nowMs);
    const keep = (requestId: string) => store.commit({ replay: { requestId, fingerprint: 'f', answer: new Uint8Array() } });
    await keep('old');
    nowMs += DAY_MS - 1;
    await keep('new');
    expect(store.recall('old')).toBeDefined();
    nowMs += 1;
    expect(store.recall('old')).toBeUndefined();
    store.prune();
    const rows = () => {
      const database = new DatabaseSync(file(), { readOnly: true });
      const found = database
        .prepare('SELECT request_id FROM replay')
        .all()
        .map((row) => row['request_id']);
      database.close();
      return found;
    };
    expect(rows()).toEqual(['new']);
    nowMs -= 2 * DAY_MS; // the clock was set back
    expect(store.recall('new')).toBeDefined();
    store.close();
  });
});

describe('a bad record', () => {
  it('goes to quarantine, once, with all that was written; the others are read', async () => {
    const store = new Store(folder, INTERFACE_RECORDS, Date.now);
    for (const name of ['a', 'b', 'c']) await store.commit({ put: record(name) });
    store.close();
    const database = new DatabaseSync(file());
    const body = Buffer.from(database.prepare("SELECT body FROM interface WHERE name = 'b'").get()?.['body'] as Uint8Array);
    body[10] = (body[10] ?? 0) ^ 4;
    database.prepare("UPDATE interface SET body = ? WHERE name = 'b'").run(body);
    database.close();
    for (let opened = 0; opened < 2; opened++) {
      using(({ records, findings }) => {
        expect(records.map(({ name }) => name)).toEqual(['a', 'c']);
        expect(findings).toMatchObject({ corruptFiles: [], badRecords: ['b'] });
      });
    }
    const after = new DatabaseSync(file());
    expect(after.prepare('SELECT name, body FROM quarantine').all()).toEqual([
      expect.objectContaining({ name: 'b', body: new Uint8Array(body) }),
    ]);
    after.close();
  });
});

describe('a file of a newer version', () => {
  it.each([
    ['closed', true],
    ['killed while its log was not yet folded in', false],
  ])('%s is refused and not touched', (_, closed) => {
    using(() => {});
    const source = `${folder}-source`;
    renameSync(folder, source);
    const newer = new DatabaseSync(join(source, 'state.db'));
    newer.exec('PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE future (x); PRAGMA user_version = 2');
    if (closed) newer.close();
    cpSync(source, folder, { recursive: true });
    if (!closed) newer.close();
    rmSync(source, { recursive: true });
    expect(existsSync(`${file()}-wal`)).toBe(!closed);
    // An empty log and its index are no content.
    const content = () =>
      readdirSync(folder)
        .filter((name) => !name.endsWith('-shm') && statSync(join(folder, name)).size > 0)
        .sort()
        .map((name) => [name, readFileSync(join(folder, name)).toString('hex')]);
    const before = content();
    expect(() => new Store(folder, INTERFACE_RECORDS, Date.now)).toThrow(
      expect.objectContaining({ code: 'FAILED_PRECONDITION', reason: 'STATE_NEWER' }),
    );
    expect(content()).toEqual(before);
  });
});

describe('a file that is none of ours', () => {
  it.each<[string, () => Buffer]>([
    ['text', () => Buffer.from('this is not a database'.repeat(500))],
    ['zeros', () => Buffer.alloc(16_384)],
    ['zeros of half a page', () => Buffer.alloc(2048)],
    ['one byte', () => Buffer.alloc(1)],
  ])('%s is put aside whole, and the store begins anew', (_, content) => {
    writeFileSync(file(), content());
    using(({ records, findings }) => {
      expect(records).toEqual([]);
      expect(findings.corruptFiles).toHaveLength(1);
    });
    const [aside = ''] = readdirSync(folder).filter((name) => name.includes('corrupt'));
    expect(readFileSync(join(folder, aside))).toEqual(content());
    expect(using(({ findings }) => findings.corruptFiles)).toEqual([aside]);
  });

  it('empty is as good as none', () => {
    writeFileSync(file(), '');
    using(({ records, findings }) => expect([records, findings.corruptFiles]).toEqual([[], []]));
  });

  it('a database of somebody else is put aside', () => {
    const database = new DatabaseSync(file());
    database.exec('CREATE TABLE interface (something TEXT); CREATE TABLE meta (x)');
    database.close();
    using(({ records, findings }) => expect([records, findings.corruptFiles.length]).toEqual([[], 1]));
  });
});
