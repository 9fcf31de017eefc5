// Records, verdicts and requests between the log and the API. Pure.

import { invalidFields } from '../errors.ts';
import type { Timestamp } from '../gen/google/protobuf/timestamp.ts';
import type { AuditRecord, ListAuditRecordsRequest, VerifyAuditLogResponse } from '../gen/taplane/v1/audit_service.ts';
import { ListAuditRecordsRequest_Order as Order } from '../gen/taplane/v1/audit_service.ts';
import type { Wanted } from './list.ts';
import type { Chained } from './record.ts';
import type { Verdict } from './verify.ts';

const PAGE_DEFAULT = 100;
const PAGE_MOST = 1000;

/** As the API shows it. */
export function recordMessage(record: Chained): AuditRecord {
  const { caller, durationMs, digest, roles = [], late = false, sequence, time, ...rest } = record;
  const { method, resources, code, reason, request, chain, previous, hash } = rest;
  const { name, kind, uid, gid, pid, fingerprint = '', address = '' } = caller;
  const ms = Date.parse(time);
  const nanos = Math.round(durationMs * 1e6);
  return {
    sequence: BigInt(sequence),
    time: { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1e6 },
    caller: { name, kind, uid, gid, pid, fingerprint, address },
    method,
    resources: [...resources],
    code,
    reason,
    duration: { seconds: BigInt(Math.floor(nanos / 1e9)), nanos: nanos % 1e9 },
    requestDigest: digest,
    request,
    roles: [...roles],
    late,
    chain,
    previous,
    hash,
  };
}

/** Throws INVALID_ARGUMENT. */
export function wantedOf(request: ListAuditRecordsRequest): Wanted {
  const { pageSize, pageToken, order, caller, method, code, resource, startTime, endTime } = request;
  const fields: { field: string; description: string }[] = [];
  if (pageSize < 0) fields.push({ field: 'page_size', description: `must not be negative, got ${pageSize}` });
  if (order < Order.UNSPECIFIED || order > Order.OLDEST_FIRST) fields.push({ field: 'order', description: 'is not known' });
  const after = pageToken === '' ? undefined : Number(/^s(\d{1,15})$/.exec(pageToken)?.[1] ?? Number.NaN);
  if (Number.isNaN(after)) fields.push({ field: 'page_token', description: 'is not a token of this service' });
  if (fields.length > 0) throw invalidFields(fields);
  const from = startTime === undefined ? undefined : millis(startTime);
  const to = endTime === undefined ? undefined : millis(endTime);
  return {
    order: order === Order.OLDEST_FIRST ? 'oldest' : 'newest',
    after,
    most: pageSize === 0 ? PAGE_DEFAULT : Math.min(pageSize, PAGE_MOST),
    holds(record) {
      if (caller !== '' && record.caller.name !== caller) return false;
      if (method !== '' && record.method !== method && !record.method.endsWith(`/${method}`)) return false;
      if (code !== '' && record.code !== code) return false;
      if (resource !== '' && !record.resources.includes(resource)) return false;
      const at = Date.parse(record.time);
      return (from === undefined || at >= from) && (to === undefined || at < to);
    },
  };
}

/** Page token that goes on behind this sequence; empty at the end. */
export function tokenOf(after: number | undefined): string {
  return after === undefined ? '' : `s${after}`;
}

/** As the API shows it; sequence and hash of the last record only where there is one. */
export function verdictMessage({ chain, first, last, records, files, firstBreak }: Verdict): VerifyAuditLogResponse {
  return {
    intact: firstBreak === undefined,
    chain,
    firstSequence: BigInt(first),
    lastSequence: BigInt(records === 0 ? 0 : last.sequence),
    lastHash: records === 0 ? '' : last.hash,
    recordCount: BigInt(records),
    fileCount: files,
    firstBreak: firstBreak === undefined ? undefined : { ...firstBreak, sequence: BigInt(firstBreak.sequence) },
  };
}

function millis({ seconds, nanos }: Timestamp): number {
  return Number(seconds) * 1000 + nanos / 1e6;
}
