// The state and the runtime directory, read only: who owns them, whether they can be written, what was quarantined in them.

import { accessSync, constants, readdirSync, type Stats, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { stateDirProblem } from '../state-dir.ts';
import { type Check, fail, pass, warn } from './check.ts';

export interface Directory {
  path: string;
  /** errno name of stat; ENOENT means that it will be made. */
  statError: string;
  stats?: Pick<Stats, 'isDirectory' | 'uid' | 'mode'>;
  /** The directory, or while it is missing the nearest one above it. */
  writableAt: string;
  /** errno name, empty when writable. */
  writeError: string;
  freeBytes: number;
  /** Names in it. */
  entries: string[];
}

export function readDirectory(path: string): Directory {
  const reading: Directory = { path, statError: '', writableAt: path, writeError: '', freeBytes: Number.POSITIVE_INFINITY, entries: [] };
  try {
    reading.stats = statSync(path);
    reading.entries = readdirSync(path);
  } catch (error) {
    reading.statError = code(error);
    if (reading.statError !== 'ENOENT') return reading;
    reading.writableAt = nearest(dirname(path));
  }
  try {
    accessSync(reading.writableAt, constants.W_OK | constants.X_OK);
    const { bavail, bsize } = statfsSync(reading.writableAt);
    reading.freeBytes = bavail * bsize;
  } catch (error) {
    reading.writeError = code(error);
  }
  return reading;
}

const FREE_FLOOR = 64 * 1024 * 1024;
/** What the store renames a file to that it could not read. */
const QUARANTINED = /^state\.db\.corrupt-/;

const STAT_CURES: Record<string, string> = { ENOTDIR: 'a part of the path is a file: ', EACCES: 'run as root, or ' };

/** `strict` directories must be ours alone, as the state directory. */
export function judgeDirectory(name: string, flag: string, reading: Directory, strict: boolean, uid: number): Check[] {
  const { path } = reading;
  const another = `give another directory with ${flag}`;
  if (reading.statError !== '' && reading.statError !== 'ENOENT')
    return [fail(name, `${path}: ${reading.statError}`, `${STAT_CURES[reading.statError] ?? ''}${another}`)];
  const problem =
    reading.stats && strict
      ? stateDirProblem(reading.stats, uid, path)
      : reading.stats && !reading.stats.isDirectory()
        ? { cause: 'not a directory', cure: `move the file away, or ${another}` }
        : undefined;
  if (problem) return [fail(name, `${path}: ${problem.cause}`, problem.cure)];
  if (reading.writeError !== '') {
    const cure =
      reading.writeError === 'EROFS'
        ? `the file system is read-only: mount a writable volume at ${path}, or ${another}`
        : `run as root, or ${another}`;
    return [fail(name, `${reading.writableAt} cannot be written: ${reading.writeError}`, cure)];
  }
  const checks: Check[] = [];
  if (strict && reading.freeBytes < FREE_FLOOR)
    checks.push(
      warn(
        name,
        `${path}: only ${Math.floor(reading.freeBytes / 1024 / 1024)} MiB free`,
        'free some space: without it no change can be acknowledged',
      ),
    );
  else checks.push(pass(name, reading.stats ? `${path} is ours to write` : `${path} will be made in ${reading.writableAt}`));
  if (strict) checks.push(judgeQuarantine(path, reading.entries));
  return checks;
}

function judgeQuarantine(path: string, entries: string[]): Check {
  const files = entries.filter((entry) => QUARANTINED.test(entry)).sort();
  if (files.length === 0) return pass('quarantine', 'no state file was quarantined');
  return warn(
    'quarantine',
    `${path} holds ${files.join(', ')}: the agent could not read its state and began anew`,
    `compare taplane interface list with what should be there, create or adopt what is missing, then remove ${path}/${files[0]}${files.length > 1 ? ' and the others' : ''}`,
  );
}

function nearest(path: string): string {
  try {
    statSync(path);
    return path;
  } catch {
    return path === dirname(path) ? path : nearest(dirname(path));
  }
}

function code(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}
