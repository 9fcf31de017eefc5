// Where a log goes on that another run of the agent has left: behind its last record. What a crash has left behind that was never answered is cut
// off; what is missing or damaged is told, and stays as it is: evidence is not tidied away.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { type Head, linesOf, logFiles, readHead } from './files.ts';
import { brokenAt, decodeRecord, type Link, NO_HASH } from './record.ts';

export interface Start {
  /** Empty: a new log. */
  readonly chain: string;
  /** The last record; the next follows it. */
  readonly last: Link;
  /** Sequence of the oldest record. */
  readonly first: number;
  /** The file to go on with; empty: a new one. */
  readonly file: string;
  /** How much of it is to be kept. */
  readonly offset: number;
  /** Bytes behind that, which were never answered. */
  readonly cutBytes: number;
  /** What is not as it was written, in words; empty when all is well. */
  readonly damage: string;
}

/** Looks at the end of the log; all of it is for `verifyFolder`. Throws what the disk says. */
export function startOf(folder: string): Start {
  const files = logFiles(folder);
  const head = readHead(folder);
  const newest = files.at(-1);
  if (newest === undefined) return withoutFiles(head);
  const first = files[0]?.first ?? newest.first;
  if (head === undefined) return withoutHead(folder, newest.name, newest.first, first);
  const { chain } = head;
  const anew = (last: Link, damage: string): Start => ({
    chain,
    last: { sequence: last.sequence, hash: last.hash },
    first: Math.min(first, head.first),
    file: '',
    offset: 0,
    cutBytes: 0,
    damage,
  });
  if (newest.name < head.file) return anew(head, `the file ${head.file} is missing`);
  const path = join(folder, newest.name);
  const size = statSync(path).size;
  // A file that was begun behind the head: its records follow the head's.
  const from = newest.name === head.file ? head.offset : 0;
  if (size < from) return anew(head, `the log ends before record ${head.sequence}, which was written`);
  const { last, offset, stray } = follow(path, chain, head, from);
  if (stray !== '') return anew(last, `${newest.name}: ${stray}`);
  const missing = first > head.first ? `files before ${files[0]?.name} are missing` : '';
  const altered = from > 0 && hashBefore(path, from) !== head.hash ? `record ${head.sequence} is not as it was written` : '';
  const damage = [missing, altered].filter(Boolean).join('; ');
  return { chain, last, first: Math.min(first, head.first), file: newest.name, offset, cutBytes: size - offset, damage };
}

function withoutFiles(head: Head | undefined): Start {
  if (head === undefined || head.sequence === 0) {
    return { chain: head?.chain ?? '', last: { sequence: 0, hash: NO_HASH }, first: 1, file: '', offset: 0, cutBytes: 0, damage: '' };
  }
  const { chain, sequence, hash } = head;
  const damage = `all records up to ${sequence} are missing`;
  return { chain, last: { sequence, hash }, first: head.first, file: '', offset: 0, cutBytes: 0, damage };
}

/** The last file speaks for all. */
function withoutHead(folder: string, name: string, begin: number, first: number): Start {
  const path = join(folder, name);
  let chain = '';
  let last: Link = { sequence: begin - 1, hash: NO_HASH };
  let end = 0;
  let broken = '';
  let size = 0;
  for (const line of linesOf(path)) {
    const record = line.whole ? decodeRecord(line.text) : 'is cut';
    size = line.to;
    if (typeof record === 'string') {
      if (line.whole) broken = `; a line of ${name} ${record}`;
      continue;
    }
    chain ||= record.chain;
    last = { sequence: record.sequence, hash: record.hash };
    end = line.to;
  }
  // Only what is behind the last record, and never had an end, can be of a crash.
  const keep = broken === '' ? end : size;
  return {
    chain,
    last,
    first,
    file: keep === end ? name : '',
    offset: end,
    cutBytes: keep === end ? size - end : 0,
    damage: `the file head is missing or unreadable${broken}`,
  };
}

/** As far as records follow each other. `stray`: what is wrong with a sound record behind that, which no crash leaves. */
function follow(path: string, chain: string, before: Link, from: number): { last: Link; offset: number; stray: string } {
  let last: Link = { sequence: before.sequence, hash: before.hash };
  let offset = from;
  let isCut = false;
  for (const line of linesOf(path, from)) {
    const record = line.whole ? decodeRecord(line.text) : 'is cut';
    if (typeof record === 'string') {
      isCut = true;
      continue;
    }
    const wrong = brokenAt(record, chain, last);
    // Of a group that was never wholly written a later line may be there without an earlier one; it is not behind a sound one.
    if (wrong !== undefined && !isCut) return { last, offset, stray: `a record ${wrong}` };
    if (isCut) continue;
    last = { sequence: record.sequence, hash: record.hash };
    offset = line.to;
  }
  return { last, offset, stray: '' };
}

/** Hash of the record that ends at `offset`; empty when there is none. */
function hashBefore(path: string, offset: number): string {
  let hash = '';
  for (const line of linesOf(path, Math.max(0, offset - 64 * 1024), offset)) {
    const record = decodeRecord(line.text);
    hash = typeof record === 'string' ? '' : record.hash;
  }
  return hash;
}
