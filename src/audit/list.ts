// Looks through the log for records, from its end or from its beginning, a bounded part at a time. Yields now and then, so that it can be done beside
// other work.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { type Head, type Line, linesBack, linesOf, logFiles } from './files.ts';
import { type Chained, decodeRecord } from './record.ts';

export interface Wanted {
  readonly order: 'newest' | 'oldest';
  /** Goes on behind this sequence, in the order that is asked for; undefined: from the end of the log, or from its beginning. */
  readonly after: number | undefined;
  /** At most so many records. */
  readonly most: number;
  holds(record: Chained): boolean;
}

export interface Found {
  records: Chained[];
  /** Sequence to go on after; undefined at the end. */
  after: number | undefined;
}

/** How many records one answer looks at, and in how many it is done in one go. */
const LOOKED_AT_MOST = 50_000;
const GO = 200;

/** Records up to `head`. A line that is no record is passed over: `verifyFolder` tells of it. Throws what the disk says. */
export function* listRecords(folder: string, head: Head, { order, after, most, holds }: Wanted): Generator<void, Found> {
  const isBack = order === 'newest';
  const files = logFiles(folder).filter(({ name }) => name <= head.file);
  const ordered = isBack ? files.toReversed() : files;
  const records: Chained[] = [];
  let seen = 0;
  let last: number | undefined;
  for (const [index, { name, first }] of ordered.entries()) {
    // Where the file ends is where the next one begins.
    const next = isBack ? (ordered[index - 1]?.first ?? Number.POSITIVE_INFINITY) : (ordered[index + 1]?.first ?? Number.POSITIVE_INFINITY);
    if (after !== undefined && (isBack ? first >= after : next <= after + 1)) continue;
    for (const { text } of lines(join(folder, name), isBack, name === head.file ? head.offset : undefined)) {
      if (records.length >= most || seen >= LOOKED_AT_MOST) return { records, after: last };
      const record = decodeRecord(text);
      if (typeof record === 'string') continue;
      if (after !== undefined && (isBack ? record.sequence >= after : record.sequence <= after)) continue;
      seen += 1;
      if (seen % GO === 0) yield;
      last = record.sequence;
      if (holds(record)) records.push(record);
    }
  }
  return { records, after: undefined };
}

function lines(path: string, isBack: boolean, end: number | undefined): Generator<Line> {
  return isBack ? linesBack(path, end ?? statSync(path).size) : linesOf(path, 0, end);
}
