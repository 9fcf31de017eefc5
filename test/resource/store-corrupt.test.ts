// A state file that a disk has damaged, in many ways: the store opens; it has exactly the records that were written, less those it
// says it lost; what it could not believe is kept aside.

import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TaplaneError } from '../../src/errors.ts';
import { prepare } from '../../src/interface/canonical.ts';
import { encodeRecord, INTERFACE_RECORDS, type Record } from '../../src/interface/record.ts';
import { Store } from '../../src/resource/store.ts';
import { random, seed } from '../harness/random.ts';
import { tap } from '../interface/specs.ts';

const root = mkdtempSync(join(tmpdir(), 'tpl-corrupt-'));
const pristine = join(root, 'pristine');
const written = new Map<string, string>();
const sum = (record: Record) => Buffer.from(encodeRecord(record).sum).toString('hex');

function fresh(n: number): Record {
  const spec = prepare(tap({ mtu: 1300 + n, addresses: [{ cidr: `10.0.${n}.1/24`, peer: '', scope: 0, validLifetime: 0 }] }));
  const at = { createTimeMs: n, updateTimeMs: n, addressSinceMs: {} };
  return { name: `tap${n}`, uid: `uid-${n}`, phase: 'ready', labels: { n: String(n) }, spec, generation: n, ...at };
}

beforeAll(async () => {
  console.log(`TAPLANE_SEED=${seed}`);
  cpSync(mkdtempSync(join(root, 'x')), pristine, { recursive: true });
  const store = new Store(pristine, INTERFACE_RECORDS, Date.now);
  for (let n = 0; n < 30; n++) {
    const record = fresh(n);
    written.set(record.name, sum(record));
    await store.commit({ put: record, replay: { requestId: `r${n}`, fingerprint: 'f', answer: new Uint8Array(50) } });
  }
  store.close();
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** What became of a damaged copy: `intact`, `aside` (the whole file), or `quarantine` (single records). */
function open(damage: (path: string) => void, files: string[] = ['state.db']): string {
  const folder = mkdtempSync(join(root, 'd'));
  try {
    for (const name of files) cpSync(join(pristine, name), join(folder, name));
    const path = join(folder, 'state.db');
    damage(path);
    const damaged = readFileSync(path);
    const store = new Store(folder, INTERFACE_RECORDS, Date.now);
    try {
      for (const record of store.records) expect(sum(record), record.name).toBe(written.get(record.name));
      const { corruptFiles, badRecords } = store.findings;
      if (corruptFiles.length > 0) {
        expect(readFileSync(join(folder, corruptFiles[0] ?? ''))).toEqual(damaged);
        expect(store.findings.damaged).toBe(true);
        if (store.records.length > 0) return 'log aside';
        return 'aside';
      }
      expect(store.records.length + badRecords.length).toBe(written.size);
      return badRecords.length > 0 ? 'quarantine' : 'intact';
    } finally {
      store.close();
    }
  } catch (error) {
    // It may refuse, as for a version number that was flipped to a newer one; but only in the words of the API.
    if (error instanceof TaplaneError) return error.reason;
    throw error;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function tally(outcomes: string[]): { [outcome: string]: number } {
  const counts: { [outcome: string]: number } = {};
  for (const outcome of outcomes) counts[outcome] = (counts[outcome] ?? 0) + 1;
  console.log(JSON.stringify(counts));
  return counts;
}

describe('a damaged state file', () => {
  it('with every 97th byte flipped, one at a time', { timeout: 60_000 }, () => {
    const { integer } = random('flips');
    const size = readFileSync(join(pristine, 'state.db')).length;
    const outcomes = Array.from({ length: Math.floor(size / 97) }, (_, n) =>
      open((path) => {
        const bytes = readFileSync(path);
        bytes[n * 97] = (bytes[n * 97] ?? 0) ^ integer(1, 255);
        writeFileSync(path, bytes);
      }),
    );
    const counts = tally(outcomes);
    // Void unless records were hit, and the structure too.
    expect(counts['quarantine']).toBeGreaterThan(0);
    expect(counts['aside']).toBeGreaterThan(0);
  });

  it('with each byte of its header flipped', { timeout: 60_000 }, () => {
    tally(
      Array.from({ length: 112 }, (_, at) =>
        open((path) => {
          const bytes = readFileSync(path);
          bytes[at] = (bytes[at] ?? 0) ^ 0x81;
          writeFileSync(path, bytes);
        }),
      ),
    );
  });

  it('cut at 50 lengths', { timeout: 60_000 }, () => {
    const size = readFileSync(join(pristine, 'state.db')).length;
    const outcomes = Array.from({ length: 50 }, (_, n) =>
      open((path) => truncateSync(path, n === 0 ? 1 : Math.floor((size * n) / 50) - (n % 3))),
    );
    expect(tally(outcomes)).toEqual({ aside: 50 });
  });

  it('with a page of zeros or of noise', { timeout: 60_000 }, () => {
    const { bytes: noise } = random('noise');
    const pages = readFileSync(join(pristine, 'state.db')).length / 4096;
    const fills = [() => Buffer.alloc(4096), () => Buffer.from(noise(4096)), () => Buffer.from(noise(512))];
    const outcomes = Array.from({ length: pages }, (_, page) => page).flatMap((page) =>
      fills.map((fill) =>
        open((path) => {
          const bytes = readFileSync(path);
          bytes.set(fill(), page * 4096);
          writeFileSync(path, bytes);
        }),
      ),
    );
    expect(tally(outcomes)['aside']).toBeGreaterThan(0);
  });

  it('beside a log that is noise', () => {
    const { bytes: noise } = random('log');
    const outcomes = [0, 1, 31, 32, 4152, 20_000].map((length) => open((path) => writeFileSync(`${path}-wal`, noise(length))));
    expect(tally(outcomes)).toEqual({ intact: 4, 'log aside': 2 });
  });

  it('beside a log with one bit flipped in any commit but the last: never silently older than what was answered', {
    timeout: 60_000,
  }, async () => {
    const folder = mkdtempSync(join(root, 'live'));
    const store = new Store(folder, INTERFACE_RECORDS, Date.now);
    for (const [name, from] of [
      ['tap0', 0],
      ['tap1', 1],
      ['tap2', 2],
    ] as const) {
      await store.commit({ put: { ...fresh(from), name, phase: 'creating' } });
      await store.commit({ put: { ...fresh(from), name } });
    }
    // As a kill leaves it: nothing folded into the file yet.
    const files = Object.fromEntries(['state.db', 'state.db-wal'].map((file) => [file, readFileSync(join(folder, file))]));
    store.close();
    const log = files['state.db-wal'] ?? Buffer.alloc(0);
    // Where the last commit begins: behind the commit before it.
    const commits = Array.from({ length: (log.length - 32) / 4120 }, (_, frame) => 32 + frame * 4120).filter(
      (at) => log.readUInt32BE(at + 4) !== 0,
    );
    const last = (commits.at(-2) ?? 0) + 4120;
    expect(last).toBeGreaterThan(5 * 4120);
    const outcomes: string[] = [];
    for (let at = 3; at < last; at += 331) {
      const copy = mkdtempSync(join(root, 'w'));
      const flipped = Buffer.from(log);
      flipped[at] = (flipped[at] ?? 0) ^ 0x10;
      writeFileSync(join(copy, 'state.db'), files['state.db'] ?? '');
      writeFileSync(join(copy, 'state.db-wal'), flipped);
      const again = new Store(copy, INTERFACE_RECORDS, Date.now);
      const whole = again.records.length === 3 && again.records.every(({ phase }) => phase === 'ready');
      outcomes.push(again.findings.damaged ? 'told' : whole ? 'whole' : `silently lost at ${at}`);
      again.close();
      rmSync(copy, { recursive: true, force: true });
    }
    expect(Object.keys(tally(outcomes)).filter((outcome) => outcome !== 'told' && outcome !== 'whole')).toEqual([]);
    expect(tally(outcomes)['told']).toBeGreaterThan(10);
  });

  it('pristine is intact', () => {
    expect(open(() => {})).toBe('intact');
    expect(readdirSync(pristine)).toEqual(['state.db']);
  });
});
