// Audit records on their way to NATS, as events that are numbered as the records are. The log itself is the queue: a file beside it remembers how far
// the exporter has taken them, and what it did not take, or what a crash came between, is read again from there. So none is left out, unless rotation
// removes it first, which the numbers tell. Nothing here throws.

import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Head } from '../audit/files.ts';
import { listRecords } from '../audit/list.ts';
import type { Chained } from '../audit/record.ts';
import { recordMessage } from '../audit/wire.ts';
import type { Exporter, Outgoing } from '../flow/contract.ts';
import { Event, Event_Kind as Kind } from '../gen/taplane/v1/event.ts';
import { nameOf } from './events.ts';
import type { Log } from './log.ts';

export interface FeedNeeds {
  exporter: Pick<Exporter, 'put'>;
  /** Of the log. */
  folder: string;
  audit: { readonly head: Head | undefined };
  cluster: string;
  node: string;
  log: Log;
}

export interface AuditFeed {
  /** The next records are on disk. */
  written(records: readonly Chained[]): void;
  /** Hands over what there is, once more. */
  close(): void;
}

const FILE = 'told';
const RETRY_MS = 1_000;
const COMPLAIN_MS = 60_000;
/** Records that are read and handed over in one go. */
const GO = 100;

/** Hands records over from where the file beside the log says. */
export function auditFeed({ exporter, folder, audit, cluster, node, log }: FeedNeeds): AuditFeed {
  /** Up to and with this sequence all are handed over; undefined until the log is open. */
  let told: number | undefined;
  let fresh: Chained[] = [];
  let soon: NodeJS.Immediate | undefined;
  let later: NodeJS.Timeout | undefined;
  let fd = -1;
  let complainedAt = Number.NEGATIVE_INFINITY;
  let closed = false;

  /** Answers whether there is more. Throws. */
  function go(): boolean {
    const { head } = audit;
    if (head === undefined) return false;
    told ??= begin(head);
    if (told >= head.sequence) {
      fresh = [];
      return false;
    }
    const next = told + 1;
    const from = fresh.findIndex(({ sequence }) => sequence === next);
    const records = from >= 0 ? fresh.slice(from, from + GO) : read(head, told);
    const last = records.at(-1);
    if (last === undefined) {
      told = head.sequence;
    } else {
      exporter.put(records.map(outgoing));
      told = last.sequence;
    }
    fresh = fresh.filter(({ sequence }) => sequence > (told ?? 0));
    writeSync(fd, `${head.chain} ${String(told).padStart(16, '0')}\n`, 0);
    return told < head.sequence;
  }

  /** A log that was never told of is told of from now on. */
  function begin(head: Head): number {
    const path = join(folder, FILE);
    let text = '';
    try {
      text = readFileSync(path, 'latin1');
    } catch {
      // there is none yet
    }
    fd = openSync(path, text === '' ? 'w+' : 'r+', 0o600);
    const [, chain, sequence] = /^([0-9a-f]{16}) (\d{16})\n/.exec(text) ?? [];
    if (chain === head.chain) return Number(sequence);
    return (fresh[0]?.sequence ?? head.sequence + 1) - 1;
  }

  function read(head: Head, after: number): Chained[] {
    const steps = listRecords(folder, head, { order: 'oldest', after, most: GO, holds: () => true });
    let step = steps.next();
    while (!step.done) step = steps.next();
    return step.value.records;
  }

  const outgoing = (record: Chained): Outgoing => {
    const { chain: epoch } = record;
    const sequence = BigInt(record.sequence);
    const audited = recordMessage(record);
    const what = { kind: Kind.CALL_AUDITED, resource: record.resources[0] ?? '', time: audited.time, audit: audited };
    const payload = Event.encode(Event.fromPartial({ ...what, cluster, node, epoch, sequence })).finish();
    return {
      kind: 'event',
      name: nameOf(Kind.CALL_AUDITED),
      id: `${epoch}:${sequence}`,
      epoch,
      firstSequence: sequence,
      records: 1,
      payload,
    };
  };

  function run(): void {
    clearImmediate(soon);
    clearTimeout(later);
    soon = later = undefined;
    try {
      if (go() && !closed) soon = setImmediate(run);
    } catch (error) {
      // What is on disk need not be in memory as well.
      fresh = [];
      later = setTimeout(run, RETRY_MS);
      later.unref();
      if (performance.now() - complainedAt < COMPLAIN_MS) return;
      complainedAt = performance.now();
      log.warn({ err: String(error) }, 'audit records not handed to nats; tried again');
    }
  }

  soon = setImmediate(run);
  return {
    written(records) {
      if (closed) return;
      if (fresh.length < GO * 10) fresh.push(...records);
      if (later === undefined) soon ??= setImmediate(run);
    },
    close() {
      closed = true;
      run();
      clearTimeout(later);
      if (fd >= 0) closeSync(fd);
      fd = -1;
    },
  };
}
