// The audit log on a real disk: the chain over groups, files and runs; what a crash leaves; what is told of damage.

import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readHead } from '../../src/audit/files.ts';
import { AuditLog } from '../../src/audit/log.ts';
import { type Chained, decodeRecord, encodeRecord } from '../../src/audit/record.ts';
import { verifyPath } from '../../src/audit/verify.ts';
import { bound } from '../harness/bound.ts';
import { runSync } from '../harness/process.ts';
import { random, seed } from '../harness/random.ts';
import { allRecords, entry, WIDE, written } from './entries.ts';

let root: string;
let folder: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-audit-`));
  folder = join(root, 'audit');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const SMALL = { maxBytes: 4096, files: 3 };
const files = (): string[] => readdirSync(folder).filter((name) => name.endsWith('.jsonl'));
const newest = (): string => join(folder, files().at(-1) ?? '');

const all = (order?: 'newest' | 'oldest', after?: number, most?: number) => allRecords(folder, order, after, most);

describe('a log', () => {
  test('goes on over groups, files and runs, within its bounds, for its owner alone', async () => {
    const told: number[] = [];
    for (let run = 0; run < 4; run++) {
      const log = new AuditLog({ folder, limits: SMALL, written: (records) => void told.push(...records.map(({ sequence }) => sequence)) });
      expect(log.damage).toBe('');
      for (let n = 0; n < 10; n++) await log.append(entry(n));
      await Promise.all(Array.from({ length: 10 }, (_, n) => log.append(entry(n))));
      expect(log.head?.sequence).toBe((run + 1) * 20);
      await log.close();
      expect(verifyPath(folder)).toMatchObject({ firstBreak: undefined, last: { sequence: (run + 1) * 20 } });
    }
    expect(told).toEqual(Array.from({ length: 80 }, (_, n) => n + 1));
    expect(files()).toHaveLength(3);
    for (const name of readdirSync(folder))
      expect(`${name} ${(statSync(join(folder, name)).mode & 0o777).toString(8)}`).toBe(`${name} 600`);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    const kept = all();
    expect(kept[0]?.sequence).toBeGreaterThan(1);
    expect(all('newest')).toEqual(kept.toReversed());
    // Page by page it is the same, in both directions.
    for (const order of ['oldest', 'newest'] as const) {
      const pages: Chained[] = [];
      for (let page = all(order, undefined, 7); page.length > 0; page = all(order, page.at(-1)?.sequence, 7)) pages.push(...page);
      expect(pages).toEqual(all(order));
    }
  });

  test('is checked by anybody with sha256sum', async () => {
    await written(folder, 3);
    const [line = ''] = readFileSync(newest(), 'utf8').split('\n');
    const { hash } = JSON.parse(line) as { hash: string };
    const sum = runSync('sh', '-c', `head -n 1 ${newest()} | sed 's/,"hash":"[0-9a-f]*"}$/}/' | tr -d '\\n' | sha256sum`);
    expect(sum.split(' ')[0]).toBe(hash);
  });

  test('many at once share a few writes', async () => {
    const log = new AuditLog({ folder, limits: WIDE });
    let groups = 0;
    const counting = new AuditLog({ folder: join(root, 'other'), limits: WIDE, written: () => void groups++ });
    await Promise.all(Array.from({ length: 100 }, (_, n) => counting.append(entry(n))));
    expect(groups).toBeLessThan(5);
    await counting.close();
    await log.close();
    expect(verifyPath(join(root, 'other'))).toMatchObject({ records: 100, firstBreak: undefined });
  });
});

describe('a crash', () => {
  test('at any byte of what was never answered: cut off, nothing else lost, the chain goes on', async () => {
    console.log(`TAPLANE_SEED=${seed}`);
    const dice = random('torn');
    await written(folder, 20);
    const sound = readFileSync(newest());
    const head = readFileSync(join(folder, 'head'));
    const log = new AuditLog({ folder, limits: WIDE });
    await log.append(entry(20));
    await log.append(entry(21));
    await log.close();
    const more = readFileSync(newest()).subarray(sound.length);
    for (let round = 0; round < bound(60, 20); round++) {
      const length = round === 0 ? 0 : dice.integer(1, more.length);
      const tail = Buffer.from(more.subarray(0, length));
      // What a loss of power leaves: a hole where a block never came.
      if (round % 3 === 2) tail.fill(0, 0, dice.integer(0, tail.length));
      writeFileSync(newest(), Buffer.concat([sound, tail]));
      writeFileSync(join(folder, 'head'), head);
      const again = new AuditLog({ folder, limits: WIDE });
      expect(again.damage).toBe('');
      // A record that is whole was on its way out, and stays.
      expect(again.head?.sequence).toBeGreaterThanOrEqual(20);
      await again.append(entry(99));
      await again.close();
      const verdict = verifyPath(folder);
      expect(verdict, `${round}: ${length} bytes`).toMatchObject({ firstBreak: undefined });
      expect(
        all()
          .slice(0, 20)
          .map(({ request }) => request),
      ).toEqual(Array.from({ length: 20 }, (_, n) => entry(n).request));
    }
  });

  test('between rotation and its first record', async () => {
    await written(folder, 20, SMALL);
    const { sequence = 0 } = readHead(folder) ?? {};
    writeFileSync(join(folder, `${String(sequence + 1).padStart(16, '0')}.jsonl`), '');
    const log = new AuditLog({ folder, limits: SMALL });
    expect(log.damage).toBe('');
    await log.append(entry(1));
    await log.close();
    expect(verifyPath(folder)).toMatchObject({ firstBreak: undefined, last: { sequence: sequence + 1 } });
  });

  test('with a head that is older than the log, as a loss of power leaves it: nothing that was answered is cut off', async () => {
    await written(folder, 5);
    const old = readFileSync(join(folder, 'head'));
    await written(folder, 20);
    writeFileSync(join(folder, 'head'), old);
    const log = new AuditLog({ folder, limits: WIDE });
    expect([log.damage, log.head?.sequence]).toEqual(['', 25]);
    await log.close();
  });
});

test('a log of a newer version is refused, and is as it was', async () => {
  await written(folder, 3);
  const head = readFileSync(join(folder, 'head'), 'utf8').replace('"version":1', '"version":2');
  writeFileSync(join(folder, 'head'), head);
  const bytes = () => Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'latin1')]));
  const before = bytes();
  const log = new AuditLog({ folder, limits: WIDE });
  expect(() => log.admit()).toThrow(expect.objectContaining({ code: 'FAILED_PRECONDITION', reason: 'AUDIT_NEWER' }));
  await log.close();
  expect(bytes()).toEqual(before);
});

describe('damage', () => {
  /** What the next run finds, and what it says for ever after. */
  async function found(harm: () => void, count = 20, limits = WIDE): Promise<string> {
    await written(folder, count, limits);
    harm();
    expect(verifyPath(folder).firstBreak).toBeDefined();
    const log = new AuditLog({ folder, limits });
    await log.append(entry(0));
    await log.close();
    const own = all().find(({ method }) => method === '');
    expect(own).toMatchObject({ reason: 'LOG_DAMAGED', caller: { name: 'agent' }, request: log.damage });
    // It is not mended.
    expect(verifyPath(folder).firstBreak).toBeDefined();
    return log.damage;
  }
  const cutRecords = (count: number) => (): void => {
    const text = readFileSync(newest(), 'utf8')
      .split('\n')
      .slice(0, -1 - count);
    writeFileSync(newest(), `${text.join('\n')}\n`);
  };

  test('records missing at the end', async () => {
    expect(await found(cutRecords(2))).toMatch(/ends before record 20/);
  });
  test('the last record cut', async () => {
    expect(await found(() => truncateSync(newest(), statSync(newest()).size - 10))).toMatch(/ends before record 20/);
  });
  test('the last record changed', async () => {
    const flip = (): void => {
      const bytes = readFileSync(newest());
      bytes[bytes.length - 200] = (bytes[bytes.length - 200] ?? 0) ^ 1;
      writeFileSync(newest(), bytes);
    };
    expect(await found(flip)).toMatch(/record 20 is not as it was written/);
  });
  test('the last file missing', async () => {
    expect(await found(() => rmSync(newest()), 30, SMALL)).toMatch(/is missing/);
  });
  test('the first file missing', async () => {
    expect(await found(() => rmSync(join(folder, files()[0] ?? '')), 30, SMALL)).toMatch(/are missing/);
  });
  test('all files missing', async () => {
    expect(await found(() => rmSync(newest()))).toMatch(/all records up to 20 are missing/);
  });
  test('the head missing', async () => {
    await written(folder, 20);
    rmSync(join(folder, 'head'));
    expect(verifyPath(folder).firstBreak?.message).toMatch(/head|missing/);
    const log = new AuditLog({ folder, limits: WIDE });
    expect(log.damage).toMatch(/head/);
    await log.append(entry(0));
    await log.close();
    expect(all().map(({ sequence }) => sequence)).toEqual(Array.from({ length: 22 }, (_, n) => n + 1));
  });
  test('records of another log behind the end stay where they are', async () => {
    await written(join(root, 'other'), 3);
    const [stray = ''] = readFileSync(join(root, 'other', '0000000000000001.jsonl'), 'utf8').split('\n');
    await written(folder, 20);
    appendFileSync(newest(), `${stray}\n`);
    const log = new AuditLog({ folder, limits: WIDE });
    expect(log.damage).toMatch(/has sequence 1/);
    await log.close();
    expect(readFileSync(join(folder, '0000000000000001.jsonl'), 'utf8')).toContain(stray);
  });
});

describe('any change of a log', () => {
  test('is found: a flipped byte, a record removed, two swapped, one cut, repeated or forged, a file gone, and the end taken away', async () => {
    console.log(`TAPLANE_SEED=${seed}`);
    const dice = random('tamper');
    await written(folder, 60, { maxBytes: 8192, files: 8 });
    const names = files();
    expect(names.length).toBeGreaterThan(2);
    const pristine = new Map(names.map((name) => [name, readFileSync(join(folder, name))]));
    const copy = join(root, 'copy');
    const missed: string[] = [];
    const HARMS: ((lines: string[]) => string[])[] = [
      (lines) => lines.toSpliced(dice.integer(0, lines.length - 1), 1),
      (lines) => {
        const at = dice.integer(0, lines.length - 2);
        return lines.with(at, lines[at + 1] ?? '').with(at + 1, lines[at] ?? '');
      },
      (lines) => {
        const at = dice.integer(0, lines.length - 1);
        return lines.with(at, (lines[at] ?? '').slice(0, dice.integer(0, (lines[at] ?? '').length - 1)));
      },
      (lines) => {
        // Not the last: a second one lies behind the end that the head tells, where nothing counts.
        const at = dice.integer(0, lines.length - 2);
        return lines.toSpliced(at, 0, lines[at] ?? '');
      },
      () => [],
      // One who knows how a hash is made, and makes that of the record anew.
      (lines) => {
        const at = dice.integer(0, lines.length - 1);
        const { sequence, chain, previous, hash: _, ...rest } = decodeRecord(lines[at] ?? '') as Chained;
        return lines.with(
          at,
          encodeRecord({ ...rest, reason: 'forged' }, chain, { sequence: sequence - 1, hash: previous }).line.trimEnd(),
        );
      },
      (lines) => lines.slice(0, -1),
    ];
    for (let round = 0; round < bound(1000, 100); round++) {
      rmSync(copy, { recursive: true, force: true });
      mkdirSync(copy);
      for (const name of [...names, 'head']) copyFileSync(join(folder, name), join(copy, name));
      const name = names[dice.integer(0, names.length - 1)] ?? '';
      const bytes = Buffer.from(pristine.get(name) ?? '');
      const harm = dice.integer(0, HARMS.length);
      if (harm === HARMS.length) {
        const at = dice.integer(0, bytes.length - 1);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << dice.integer(0, 7));
        writeFileSync(join(copy, name), bytes);
      } else {
        const lines = HARMS[harm]?.(bytes.toString().trimEnd().split('\n')) ?? [];
        if (lines.length === 0) rmSync(join(copy, name));
        else writeFileSync(join(copy, name), `${lines.join('\n')}\n`);
      }
      if (verifyPath(copy).firstBreak === undefined) missed.push(`${round}: harm ${harm} of ${name}`);
    }
    expect(missed).toEqual([]);
    expect(verifyPath(folder).firstBreak).toBeUndefined();
  });
});
