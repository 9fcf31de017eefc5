// The one exit for errors on the wire: whatever a handler throws becomes a google.rpc.Status with one ErrorInfo of domain
// taplane.dev, in the trailer `grpc-status-details-bin`, and back again for clients.
//
// What is not a TaplaneError is a bug of ours: it goes to the log once, under an id, and the client sees only the id.
// A status always fits into the 8 KiB of headers that the smallest clients accept; what is left out is counted.

import { randomUUID } from 'node:crypto';
import { Metadata, type ServiceError, status as StatusCode } from '@grpc/grpc-js';
import { type ErrorCode, type FieldViolation, type PreconditionViolation, TaplaneError } from '../errors.ts';
import { BadRequest, ErrorInfo, PreconditionFailure, QuotaFailure, RetryInfo } from '../gen/google/rpc/error_details.ts';
import { Status } from '../gen/google/rpc/status.ts';

const ERROR_DOMAIN = 'taplane.dev';
const DETAILS_KEY = 'grpc-status-details-bin';
const TYPE_PREFIX = 'type.googleapis.com/google.rpc.';

// 4 KiB become 5.4 KiB in base64; with the message and the fixed headers that stays under 8 KiB.
const MAX_DETAILS_BYTES = 4096;
const MAX_MESSAGE_BYTES = 1024;
const MAX_TEXT_BYTES = 400;

/** What the exit needs of a logger; pino fits. */
export interface ErrorLog {
  error(fields: object, message: string): void;
}

/** Turns anything thrown by the method `path` into the error that grpc-js sends. Never throws. */
export type ErrorExit = (error: unknown, path: string) => ServiceError;

/** An exit that logs bugs to `log` under an id from `newId`. */
export function errorExit(log: ErrorLog, newId: () => string = randomUUID): ErrorExit {
  return (error, path) => {
    if (error instanceof TaplaneError && error.code !== 'INTERNAL') return toServiceError(error);
    const errorId = newId();
    log.error({ error, error_id: errorId, path }, 'internal error');
    const known = error instanceof TaplaneError;
    const message = known ? error.message : `internal error: the log of the agent tells more under id ${errorId}`;
    const metadata = { ...(known ? error.metadata : {}), errorId };
    return toServiceError(new TaplaneError('INTERNAL', known ? error.reason : 'INTERNAL', message, { metadata }));
  };
}

/** The status of `error` as grpc-js sends it. */
export function toServiceError(error: TaplaneError): ServiceError {
  const code = StatusCode[error.code];
  const message = clip(error.message, MAX_MESSAGE_BYTES);
  const metadata = new Metadata();
  metadata.set(DETAILS_KEY, Buffer.from(fittingStatus(code, message, error)));
  return Object.assign(new Error(message), { code, details: message, metadata });
}

function fittingStatus(code: number, message: string, error: TaplaneError): Uint8Array {
  const violations = error.fields.length + error.preconditions.length;
  for (let keep = violations; ; keep = Math.floor(keep / 2)) {
    const bytes = encodeStatus(code, message, error, keep, violations - keep);
    if (bytes.length <= MAX_DETAILS_BYTES) return bytes;
    if (keep === 0) return encodeStatus(code, message, new TaplaneError(error.code, error.reason, message), 0, violations);
  }
}

function encodeStatus(code: number, message: string, error: TaplaneError, keep: number, omitted: number): Uint8Array {
  const metadata: Record<string, string> = {};
  for (const [key, value] of Object.entries(error.metadata)) metadata[key] = clip(value, MAX_TEXT_BYTES);
  if (omitted > 0) metadata['omittedViolations'] = String(omitted);
  const fields = error.fields.slice(0, keep).map((violation) => ({
    field: clip(violation.field, MAX_TEXT_BYTES),
    description: clip(violation.description, MAX_TEXT_BYTES),
  }));
  const preconditions = error.preconditions.slice(0, Math.max(0, keep - error.fields.length)).map((violation) => ({
    type: violation.type,
    subject: clip(violation.subject, MAX_TEXT_BYTES),
    description: clip(violation.description, MAX_TEXT_BYTES),
  }));
  const info = ErrorInfo.encode({ reason: error.reason, domain: ERROR_DOMAIN, metadata }).finish();
  const details = [detail('ErrorInfo', info)];
  if (fields.length > 0) {
    details.push(detail('BadRequest', BadRequest.encode(BadRequest.fromPartial({ fieldViolations: fields })).finish()));
  }
  if (preconditions.length > 0) {
    details.push(detail('PreconditionFailure', PreconditionFailure.encode({ violations: preconditions }).finish()));
  }
  if (error.code === 'RESOURCE_EXHAUSTED') {
    const quota = QuotaFailure.fromPartial({
      violations: [{ subject: error.metadata['subject'] ?? 'node', description: clip(message, MAX_TEXT_BYTES) }],
    });
    details.push(detail('QuotaFailure', QuotaFailure.encode(quota).finish()));
  }
  if (error.retryAfterMs !== undefined) {
    const seconds = Math.floor(error.retryAfterMs / 1000);
    const nanos = Math.round((error.retryAfterMs - seconds * 1000) * 1e6);
    details.push(detail('RetryInfo', RetryInfo.encode({ retryDelay: { seconds: BigInt(seconds), nanos } }).finish()));
  }
  return Status.encode({ code, message, details }).finish();
}

function detail(type: string, value: Uint8Array) {
  return { typeUrl: TYPE_PREFIX + type, value: Buffer.from(value) };
}

/**
 * The longest well-formed prefix of at most `maxBytes` bytes as grpc-js encodes it in a header. Well-formed, because its
 * `encodeURI` throws on a lone surrogate, out of every handler.
 */
function clip(text: string, maxBytes: number): string {
  const whole = text.toWellFormed();
  if (encodeURI(whole).length <= maxBytes) return whole;
  let bytes = 0;
  let kept = '';
  for (const character of whole) {
    bytes += encodeURI(character).length;
    if (bytes > maxBytes - 9) break;
    kept += character;
  }
  return `${kept}…`;
}

/** What a status says, for clients. */
export interface DecodedStatus {
  code: ErrorCode | 'UNKNOWN' | 'DATA_LOSS';
  message: string;
  /** Reason of the ErrorInfo; empty when the error did not come from an agent. */
  reason: string;
  fields: FieldViolation[];
  preconditions: PreconditionViolation[];
  metadata: Record<string, string>;
  retryAfterMs: number | undefined;
}

/** Reads a grpc-js error. Details that do not parse are left out: the code and the message always stand. */
export function decodeStatus(error: Pick<ServiceError, 'code' | 'details' | 'metadata'>): DecodedStatus {
  const code = (StatusCode[error.code] ?? 'UNKNOWN') as DecodedStatus['code'];
  const decoded: DecodedStatus = {
    code,
    message: error.details,
    reason: '',
    fields: [],
    preconditions: [],
    metadata: {},
    retryAfterMs: undefined,
  };
  const trailer = error.metadata?.get(DETAILS_KEY)[0];
  if (!(trailer instanceof Uint8Array)) return decoded;
  try {
    for (const { typeUrl, value } of Status.decode(trailer).details) readDetail(decoded, typeUrl.slice(TYPE_PREFIX.length), value);
  } catch {
    // A peer's broken trailer must not hide the error that it belongs to.
  }
  return decoded;
}

function readDetail(into: DecodedStatus, type: string, value: Uint8Array): void {
  if (type === 'ErrorInfo') {
    const info = ErrorInfo.decode(value);
    into.reason = info.reason;
    into.metadata = info.metadata;
  } else if (type === 'BadRequest') {
    into.fields = BadRequest.decode(value).fieldViolations.map(({ field, description }) => ({ field, description }));
  } else if (type === 'PreconditionFailure') {
    into.preconditions = PreconditionFailure.decode(value).violations;
  } else if (type === 'RetryInfo') {
    const delay = RetryInfo.decode(value).retryDelay;
    if (delay) into.retryAfterMs = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
  }
}
