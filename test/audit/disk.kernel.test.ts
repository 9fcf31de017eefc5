// The audit log on a disk that is full or read-only: typed failures, nothing let in, nothing that was let in lost.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { AuditLog } from '../../src/audit/log.ts';
import { verifyPath } from '../../src/audit/verify.ts';
import { runSync } from '../harness/process.ts';
import { allRecords, entry, WIDE } from './entries.ts';

let root: string;
let folder: string;
let disk: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-audit-`));
  disk = join(root, 'disk');
  mkdirSync(disk);
  runSync('mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk);
  folder = join(disk, 'audit');
});
afterEach(() => {
  runSync('umount', '-l', disk);
  rmSync(root, { recursive: true, force: true });
});
const fill = (): void => {
  try {
    writeFileSync(join(disk, 'ballast'), Buffer.alloc(2 * 1024 * 1024));
  } catch {
    // full, as wanted
  }
};
const reasonOf = (work: () => void): string => {
  try {
    work();
    return '';
  } catch (error) {
    return (error as { reason: string }).reason;
  }
};

test('a disk that is full: what was let in is written in the room that was kept, nothing more is let in until there is room', async () => {
  const said: (string | undefined)[] = [];
  const log = new AuditLog({ folder, limits: WIDE, changed: (failure) => void said.push(failure?.reason) });
  await log.append(entry(0));
  log.admit();
  fill();
  // Pages that the file has already may take a few more.
  for (let n = 1; n < 30; n++) await log.append(entry(n));
  expect(reasonOf(() => log.admit())).toBe('DISK_FULL');
  log.appendLate(entry(30));
  expect(said).toEqual(['DISK_FULL']);
  rmSync(join(disk, 'ballast'));
  log.admit();
  expect(said).toEqual(['DISK_FULL', undefined]);
  await log.append(entry(31));
  await log.close();
  expect(verifyPath(folder)).toMatchObject({ records: 32, firstBreak: undefined });
  expect(allRecords(folder).map(({ request, late = false }) => `${request}${late ? ' late' : ''}`)).toEqual(
    Array.from({ length: 32 }, (_, n) => `${entry(n).request}${n === 30 ? ' late' : ''}`),
  );
});

test('a disk that is read-only: typed failures, and what happened is written late; what finds no room in memory is counted', async () => {
  const log = new AuditLog({ folder, limits: WIDE });
  await log.append(entry(0));
  // An open file keeps a mount from becoming read-only: the failure is made below it.
  await log.close();
  runSync('mount', '-o', 'remount,ro', disk);
  const blind = new AuditLog({ folder, limits: WIDE });
  expect(reasonOf(() => blind.admit())).toBe('AUDIT_NOT_WRITABLE');
  await expect(blind.append(entry(1))).rejects.toMatchObject({ code: 'UNAVAILABLE', reason: 'AUDIT_NOT_WRITABLE' });
  for (let n = 2; n < 1102; n++) blind.appendLate(entry(n));
  expect(blind.late).toEqual({ waiting: 1000, lost: 101 });
  runSync('mount', '-o', 'remount,rw', disk);
  blind.admit();
  await blind.append(entry(2000));
  await blind.close();
  expect(verifyPath(folder)).toMatchObject({ firstBreak: undefined, records: 1003 });
  expect(allRecords(folder).at(-2)).toMatchObject({ reason: 'RECORDS_LOST', request: '101' });
  expect(allRecords(folder).filter(({ late }) => late)).toHaveLength(1000);
});
