// What an encoded `FlowBatch` says of itself, read without decoding its records: one pass over the fields of its top level. For who keeps
// batches as bytes: agent, ring, spool. Pure; never throws, whatever the bytes: what is no batch is told as `malformed`.
//
// Records are not looked into, so one of them may still prove malformed when it is decoded. Of a field that stands there twice the last
// counts, as with `FlowBatch.decode`; groups, field 0 and lengths beyond the end are refused, where that one stops early or throws.

import { Timestamp } from '../gen/google/protobuf/timestamp.ts';
import { FlowBatch_LabelsEntry, MeterTotals, RecordLoss } from '../gen/taplane/v1/flow.ts';
import { type Cursor, readVarint } from '../packet/varint.ts';

export interface BatchHead {
  cluster: string;
  node: string;
  /** Kernel name. */
  interface: string;
  interfaceUid: string;
  labels: Record<string, string>;
  epoch: string;
  firstSequence: bigint;
  /** Records in it. */
  records: number;
  /** Sum of the counts of its `lost`: records lost behind them. */
  lost: bigint;
  totals?: MeterTotals;
  exportTime?: Timestamp;
}

export interface Malformed {
  /** Where and why, in a few words. */
  malformed: string;
}

/** *Borrows* the bytes; nothing of the answer points into them. */
export function readBatchHead(bytes: Uint8Array): BatchHead | Malformed {
  const head: BatchHead = {
    cluster: '',
    node: '',
    interface: '',
    interfaceUid: '',
    labels: {},
    epoch: '',
    firstSequence: 0n,
    records: 0,
    lost: 0n,
  };
  const labels: [string, string][] = [];
  let failed = '';
  const failure = scan(bytes, (tag, start, end) => {
    if (tag === RECORD) head.records++;
    else if (tag === FIRST_SEQUENCE) head.firstSequence = wide(bytes, start, end);
    else if (tag === LABEL || tag === LOST || tag === TOTALS || tag === EXPORT_TIME)
      failed ||= take(tag, bytes.subarray(start, end), head, labels);
    else {
      const name = TEXTS[tag];
      if (name !== undefined) head[name] = text(bytes, start, end);
    }
  });
  if (failure !== '' || failed !== '') return { malformed: failure || failed };
  // Not by assignment: a label may be called `__proto__`.
  head.labels = Object.fromEntries(labels);
  return head;
}

/** Where the records of a batch stand: start and end of each, in turn. Of what is no batch: as far as it was readable. *Borrows* the bytes. */
export function recordPlaces(bytes: Uint8Array): number[] {
  const places: number[] = [];
  scan(bytes, (tag, start, end) => {
    if (tag === RECORD) places.push(start, end);
  });
  return places;
}

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
const LABEL = (5 << 3) | BYTES;
const FIRST_SEQUENCE = (7 << 3) | VARINT;
const RECORD = (8 << 3) | BYTES;
const LOST = (9 << 3) | BYTES;
const TOTALS = (10 << 3) | BYTES;
const EXPORT_TIME = (11 << 3) | BYTES;
const NAMES: Record<number, string> = { [LABEL]: 'label', [LOST]: 'loss', [TOTALS]: 'totals', [EXPORT_TIME]: 'time' };
const TEXTS: Record<number, 'cluster' | 'node' | 'interface' | 'interfaceUid' | 'epoch'> = {
  [(1 << 3) | BYTES]: 'cluster',
  [(2 << 3) | BYTES]: 'node',
  [(3 << 3) | BYTES]: 'interface',
  [(4 << 3) | BYTES]: 'interfaceUid',
  [(6 << 3) | BYTES]: 'epoch',
};

/** Calls `found` with the tag of each field and where its value stands. Answers why it could not go on, empty at the end. */
function scan(bytes: Uint8Array, found: (tag: number, start: number, end: number) => void): string {
  const cursor: Cursor = { at: 0 };
  while (cursor.at < bytes.length) {
    const at = cursor.at;
    const tag = readVarint(bytes, cursor, bytes.length);
    if (tag < 8 || tag > 0xffff_ffff) return `no field at byte ${at}`;
    const wire = tag & 7;
    let start = cursor.at;
    let length = wire === FIXED64 ? 8 : 4;
    if (wire === VARINT) {
      length = varintLength(bytes, start);
      if (length === 0) return `no number at byte ${start}`;
    } else if (wire === BYTES) {
      length = readVarint(bytes, cursor, bytes.length);
      start = cursor.at;
    } else if (wire !== FIXED64 && wire !== FIXED32) return `no field at byte ${at}`;
    if (length < 0 || length > bytes.length - start) return `the field at byte ${at} ends beyond the message`;
    cursor.at = start + length;
    found(tag, start, cursor.at);
  }
  return '';
}

/** Bytes of the varint at `at`, ten at most; 0 where none ends. */
function varintLength(bytes: Uint8Array, at: number): number {
  for (let length = 1; length <= 10; length++) {
    const byte = bytes[at + length - 1];
    if (byte === undefined) return 0;
    if (byte < 0x80) return length;
  }
  return 0;
}

function wide(bytes: Uint8Array, start: number, end: number): bigint {
  let value = 0n;
  for (let at = end - 1; at >= start; at--) value = (value << 7n) | BigInt((bytes[at] as number) & 0x7f);
  return BigInt.asUintN(64, value);
}

function text(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8');
}

/** Messages within the head are few and small: the generated code reads them. */
function take(tag: number, value: Uint8Array, head: BatchHead, labels: [string, string][]): string {
  try {
    if (tag === TOTALS) head.totals = MeterTotals.decode(value);
    else if (tag === EXPORT_TIME) head.exportTime = Timestamp.decode(value);
    else if (tag === LOST) head.lost += RecordLoss.decode(value).count;
    else {
      const label = FlowBatch_LabelsEntry.decode(value);
      labels.push([label.key, label.value]);
    }
    return '';
  } catch {
    return `no ${NAMES[tag]} in field ${tag >>> 3}`;
  }
}
