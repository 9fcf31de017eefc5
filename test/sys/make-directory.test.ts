import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { makeDirectory } from '../../src/sys/make-directory.ts';

const base = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-`));
afterAll(() => rmSync(base, { recursive: true }));
const modeOf = (...path: string[]) => statSync(join(base, ...path)).mode & 0o7777;

test('what is missing is made with the mode, whatever the mask; what is there stays as it is', () => {
  const before = modeOf();
  const mask = process.umask(0o077);
  try {
    makeDirectory(join(base, 'a', 'b', 'c'), 0o755);
    makeDirectory(join(base, 'a', 'b'), 0o700);
  } finally {
    process.umask(mask);
  }
  expect([modeOf('a'), modeOf('a', 'b'), modeOf('a', 'b', 'c'), modeOf()]).toEqual([0o755, 0o755, 0o755, before]);
});

test('where nothing can be made, it says so, and ends', () => {
  writeFileSync(join(base, 'file'), '');
  expect(() => makeDirectory(join(base, 'file', 'x'), 0o700)).toThrow('ENOTDIR');
  expect(() => makeDirectory('/proc/nope/x', 0o700)).toThrow('ENOENT');
});
