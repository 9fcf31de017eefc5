// The files of an audit log: `<sequence of the first record>.jsonl`, and `head`, which says where the log ends. Reads and names; who writes is the log.
//
// `head` is written behind each group of records once that is on disk, and so never says more than is there: a log that ends before it has lost
// records, and what lies behind it was never answered. It also says which file is the oldest that has to be there.

import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { TaplaneError } from '../errors.ts';
import { LINE_MOST, type Link } from './record.ts';

export const HEAD = 'head';
/** `head` has always this size, so that it is written in one piece. */
export const HEAD_BYTES = 512;
const BLOCK_BYTES = 256 * 1024;
/** Of all files of a log. */
const VERSION = 1;

export interface Head extends Link {
  readonly chain: string;
  /** First sequence of the oldest file. */
  readonly first: number;
  /** Name of the file with the last record, and how long it is up to and with that. */
  readonly file: string;
  readonly offset: number;
}

export interface LogFile {
  readonly name: string;
  /** Sequence of its first record. */
  readonly first: number;
}

/** Name of the file whose first record has this sequence. */
export function fileName(first: number): string {
  return `${String(first).padStart(16, '0')}.jsonl`;
}

/** All files of a log by age, the oldest first. Throws what the disk says. */
export function logFiles(folder: string): LogFile[] {
  return readdirSync(folder)
    .filter((name) => /^\d{16}\.jsonl$/.test(name))
    .sort()
    .map((name) => ({ name, first: Number.parseInt(name, 10) }));
}

/** In HEAD_BYTES. */
export function encodeHead(head: Head): Buffer {
  return Buffer.from(`${JSON.stringify({ version: VERSION, ...head }).padEnd(HEAD_BYTES - 1)}\n`);
}

/** What `head` says; undefined when it is absent or unreadable. Throws TaplaneError AUDIT_NEWER for a log of a newer version, before anything is touched. */
export function readHead(folder: string): Head | undefined {
  try {
    const head = JSON.parse(readFileSync(join(folder, HEAD), 'utf8').slice(0, HEAD_BYTES)) as Head & { version: number };
    if (head.version > VERSION) throw newer(folder, head.version);
    const isSound =
      [head.sequence, head.first, head.offset].every((n) => Number.isSafeInteger(n) && n >= 0) &&
      /^[0-9a-f]{64}$/.test(head.hash) &&
      /^[0-9a-f]{16}$/.test(head.chain) &&
      /^(\d{16}\.jsonl)?$/.test(head.file);
    return isSound ? head : undefined;
  } catch (error) {
    if (error instanceof TaplaneError) throw error;
    return undefined;
  }
}

function newer(folder: string, version: number): TaplaneError {
  return new TaplaneError(
    'FAILED_PRECONDITION',
    'AUDIT_NEWER',
    `open ${folder}: made by a newer version (${version}, this agent knows ${VERSION}); run that version, or move the folder away and keep it`,
  );
}

/** A line and where it is. */
export interface Line {
  readonly text: string;
  /** Offset of its first byte. */
  readonly from: number;
  /** Offset behind its end. */
  readonly to: number;
  /** It ends with a line feed, as every line that was wholly written. */
  readonly whole: boolean;
}

/** The lines of a file in bytes `from` to `to`, first to last, a block at a time. Throws what the disk says. */
export function* linesOf(path: string, from = 0, to = Number.MAX_SAFE_INTEGER): Generator<Line> {
  const fd = openSync(path, 'r');
  try {
    let left = Buffer.alloc(0);
    let at = from;
    for (let read = from; read < to; ) {
      const block = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, to - read));
      const length = readSync(fd, block, 0, block.length, read);
      if (length === 0) break;
      read += length;
      const bytes = Buffer.concat([left, block.subarray(0, length)]);
      let start = 0;
      for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
        yield { text: bytes.toString('utf8', start, end), from: at + start, to: at + end + 1, whole: true };
        start = end + 1;
      }
      at += start;
      left = bytes.subarray(start);
      // No line is that long; memory must not grow with what somebody else has put there.
      if (left.length > LINE_MOST) {
        yield { text: left.toString('utf8', 0, 64), from: at, to: at + left.length, whole: false };
        at += left.length;
        left = Buffer.alloc(0);
      }
    }
    if (left.length > 0) yield { text: left.toString('utf8'), from: at, to: at + left.length, whole: false };
  } finally {
    closeSync(fd);
  }
}

/** The whole lines of a file in front of byte `to`, last to first, a block at a time. Throws what the disk says. */
export function* linesBack(path: string, to: number): Generator<Line> {
  const fd = openSync(path, 'r');
  try {
    let right = Buffer.alloc(0);
    for (let end = to; end > 0; ) {
      const from = Math.max(0, end - BLOCK_BYTES);
      const block = Buffer.alloc(end - from);
      readSync(fd, block, 0, block.length, from);
      const bytes = Buffer.concat([block, right]);
      // The first one may begin in the block before.
      const first = from === 0 ? 0 : bytes.indexOf(10) + 1;
      for (let stop = bytes.length; stop > first; ) {
        const start = stop < 2 ? first : Math.max(first, bytes.lastIndexOf(10, stop - 2) + 1);
        if (bytes[stop - 1] === 10)
          yield { text: bytes.toString('utf8', start, stop - 1), from: from + start, to: from + stop, whole: true };
        stop = start;
      }
      right = bytes.subarray(0, first);
      if (right.length > LINE_MOST + BLOCK_BYTES) right = Buffer.alloc(0);
      end = from;
    }
  } finally {
    closeSync(fd);
  }
}
