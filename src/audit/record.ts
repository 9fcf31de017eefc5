// A record as a line of text. It is chained: each has the hash of the one before, and its own is over all that stands in front of it, so that a
// line which was changed, removed, added or moved shows. Anybody can check it: the SHA-256 of a line up to `,"hash":`, with a closing brace. Pure.

import { createHash } from 'node:crypto';

/** What is written down of a call. */
export interface Entry {
  /** When it came, RFC 3339 in UTC with milliseconds. */
  readonly time: string;
  readonly caller: {
    readonly name: string;
    readonly kind: string;
    readonly uid?: number;
    readonly gid?: number;
    readonly pid?: number;
    readonly fingerprint?: string;
    readonly address?: string;
  };
  /** Full path; empty for what the log says of itself. */
  readonly method: string;
  readonly resources: readonly string[];
  /** Canonical code of the answer. */
  readonly code: string;
  readonly reason: string;
  readonly durationMs: number;
  /** SHA-256 of the request as protobuf, hexadecimal. */
  readonly digest: string;
  /** The request without secrets, as JSON in a string. */
  readonly request: string;
  readonly roles?: readonly string[];
  /** Written after its answer. */
  readonly late?: true;
}

/** The place of a record in the chain. */
export interface Link {
  /** From 1. */
  readonly sequence: number;
  /** 64 hexadecimal digits. */
  readonly hash: string;
}

export interface Chained extends Entry, Link {
  readonly chain: string;
  readonly previous: string;
}

/** Before the first record. */
export const NO_HASH = '0'.repeat(64);

/** Longest line, its end included, in bytes: what an entry may hold is bounded so that none is longer. */
export const LINE_MOST = 32 * 1024;

const TAIL = /^,"hash":"([0-9a-f]{64})"\}$/;
const TAIL_LENGTH = ',"hash":""}'.length + 64;

/** The line of an entry behind `before`, its end included, and its place. */
export function encodeRecord(entry: Entry, chain: string, before: Link): { line: string; at: Link } {
  const sequence = before.sequence + 1;
  const body = JSON.stringify({ sequence, chain, previous: before.hash, ...entry });
  const hash = sha256(body);
  return { line: `${body.slice(0, -1)},"hash":"${hash}"}\n`, at: { sequence, hash } };
}

/** The record of a line without its end, or what is wrong with the line. */
export function decodeRecord(line: string): Chained | string {
  const tail = TAIL.exec(line.slice(-TAIL_LENGTH));
  if (tail === null) return 'is no record';
  const body = `${line.slice(0, -TAIL_LENGTH)}}`;
  if (sha256(body) !== tail[1]) return 'was changed: its hash is another';
  try {
    const record = { ...(JSON.parse(body) as Omit<Chained, 'hash'>), hash: tail[1] as string };
    return Number.isSafeInteger(record.sequence) ? record : 'is no record';
  } catch {
    return 'is no record';
  }
}

/** What is wrong with `record` behind `before`; undefined when nothing is. */
export function brokenAt(record: Chained, chain: string, before: Link): string | undefined {
  if (record.sequence !== before.sequence + 1) return `has sequence ${record.sequence}: records are missing, or were moved`;
  if (record.previous !== before.hash) return 'does not follow the record before it';
  return record.chain === chain ? undefined : `is of another log, ${record.chain}`;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
