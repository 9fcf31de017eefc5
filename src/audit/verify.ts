// Reads a log and says whether it is as it was written: each record, the chain between them, and its two ends as `head` has them. Yields now and then,
// so that it can be done beside other work. Needs nothing but the files.

import { statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Head, linesOf, logFiles, readHead } from './files.ts';
import { brokenAt, decodeRecord, type Link, NO_HASH } from './record.ts';

export interface Break {
  /** That was expected there. */
  readonly sequence: number;
  readonly file: string;
  /** From 1; 0 for a file as a whole. */
  readonly line: number;
  readonly message: string;
}

export interface Verdict {
  chain: string;
  /** 0: no record. */
  first: number;
  last: Link;
  records: number;
  files: number;
  /** Undefined: intact. */
  firstBreak: Break | undefined;
}

/** How many records are read in one go. */
const GO = 200;

/** Reads a folder of a log, up to record `upTo` where it is given. Each step is some milliseconds of work. Throws what the disk says. */
export function* verifyFolder(folder: string, known?: Head): Generator<void, Verdict> {
  const head = known ?? readHead(folder);
  const files = logFiles(folder);
  const verdict = emptyVerdict(files.length);
  const first = files[0];
  if (head === undefined) {
    if (first !== undefined) breakAt(verdict, first.first, 'head', 0, 'the file is missing or unreadable: nothing says where the log ends');
  } else {
    verdict.chain = head.chain;
    if (first !== undefined && first.first > head.first)
      breakAt(verdict, head.first, first.name, 0, `files before it are missing, from record ${head.first} on`);
    if (first !== undefined && first.first > 1) verdict.last = { sequence: first.first - 1, hash: '' };
  }
  for (const { name, first: begin } of files) {
    const isLast = head !== undefined && name === head.file;
    // What lies behind the head was never answered, and may be written just now.
    const end = isLast ? head.offset : undefined;
    if (head !== undefined && name > head.file && head.file !== '') break;
    if (begin !== verdict.last.sequence + 1 && verdict.records > 0)
      breakAt(verdict, verdict.last.sequence + 1, name, 0, `the file begins with record ${begin}: records are missing`);
    yield* verifyLines(join(folder, name), verdict, { end });
  }
  if (head !== undefined && (verdict.last.sequence !== head.sequence || (verdict.last.hash !== head.hash && verdict.records > 0)))
    breakAt(
      verdict,
      verdict.last.sequence + 1,
      head.file,
      0,
      `the log ends with record ${verdict.last.sequence}, but ${head.sequence} was written`,
    );
  return verdict;
}

/** Reads one file, such as a copy; nothing says where it has to end. Throws what the disk says. */
function* verifyFile(path: string): Generator<void, Verdict> {
  const verdict = emptyVerdict(1);
  yield* verifyLines(path, verdict, { anyStart: true });
  return verdict;
}

/** A folder or a file. Throws what the disk says. */
export function verifyPath(path: string): Verdict {
  const steps = statSync(path).isDirectory() ? verifyFolder(path) : verifyFile(path);
  let step = steps.next();
  while (!step.done) step = steps.next();
  return step.value;
}

/** With `anyStart` the first record may have any number: of a copy of a file nothing says with which it has to begin. */
function* verifyLines(
  path: string,
  verdict: Verdict,
  { end, anyStart = false }: { end?: number | undefined; anyStart?: boolean },
): Generator<void, void> {
  const file = basename(path);
  let line = 0;
  for (const { text, whole } of linesOf(path, 0, end)) {
    line += 1;
    if (line % GO === 0) yield;
    const expected = verdict.last.sequence + 1;
    const record = whole ? decodeRecord(text) : 'is cut';
    if (typeof record === 'string') {
      breakAt(verdict, expected, file, line, `the line ${record}`);
      // The next one is not to be blamed for it.
      verdict.last = { sequence: expected, hash: '' };
      continue;
    }
    verdict.chain ||= record.chain;
    verdict.first ||= record.sequence;
    verdict.records += 1;
    // Of the oldest record that is kept nothing says what was before it.
    const before = verdict.last.hash === '' ? { ...verdict.last, hash: record.previous } : verdict.last;
    const isOldest = anyStart && verdict.records === 1 && verdict.last.sequence === 0 && record.sequence > 1;
    const wrong = brokenAt(record, verdict.chain, isOldest ? { sequence: record.sequence - 1, hash: record.previous } : before);
    if (wrong !== undefined) breakAt(verdict, expected, file, line, `the record ${wrong}`);
    verdict.last = { sequence: record.sequence, hash: record.hash };
  }
}

function emptyVerdict(files: number): Verdict {
  return { chain: '', first: 0, last: { sequence: 0, hash: NO_HASH }, records: 0, files, firstBreak: undefined };
}

function breakAt(verdict: Verdict, sequence: number, file: string, line: number, message: string): void {
  verdict.firstBreak ??= { sequence, file, line, message };
}
