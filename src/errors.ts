// The one error that rooms throw at each other. It says what went wrong in the words of the API (a canonical code, a reason,
// the fields) and knows nothing of gRPC: `rpc/status.ts` turns it into a status, the CLI into lines.

/** Canonical status codes that Taplane answers with, by the names of google.rpc.Code. */
export type ErrorCode =
  | 'INVALID_ARGUMENT'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'UNAUTHENTICATED'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'ABORTED'
  | 'OUT_OF_RANGE'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE'
  | 'CANCELLED'
  | 'DEADLINE_EXCEEDED';

/** One bad field of a request: `field` is its path in the request, such as `interface.spec.addresses[0].cidr`. */
export interface FieldViolation {
  field: string;
  description: string;
}

/** What the node lacks: `type` is CAPABILITY, DEVICE, STATE..., `subject` the thing, `description` the cure. */
export interface PreconditionViolation {
  type: string;
  subject: string;
  description: string;
}

export interface TaplaneErrorOptions {
  /** Bad fields, all of them at once. */
  fields?: FieldViolation[];
  /** Missing preconditions. */
  preconditions?: PreconditionViolation[];
  /** Everything dynamic, for programs: errno, step, holder. Keys in camelCase. */
  metadata?: Record<string, string>;
  /** Waiting this long may help, milliseconds. */
  retryAfterMs?: number;
  cause?: unknown;
}

/** An error with a canonical code, a machine-readable reason (UPPER_SNAKE_CASE, at most 63 bytes) and a message that reads verb, object, cause. */
export class TaplaneError extends Error {
  override readonly name = 'TaplaneError';
  readonly code: ErrorCode;
  readonly reason: string;
  readonly fields: readonly FieldViolation[];
  readonly preconditions: readonly PreconditionViolation[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, reason: string, message: string, options: TaplaneErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.reason = reason;
    this.fields = options.fields ?? [];
    this.preconditions = options.preconditions ?? [];
    this.metadata = options.metadata ?? {};
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** INVALID_ARGUMENT with every violation at once; the message names the first. */
export function invalidFields(fields: FieldViolation[]): TaplaneError {
  const first = fields[0];
  const more = fields.length > 1 ? ` (and ${fields.length - 1} more)` : '';
  return new TaplaneError('INVALID_ARGUMENT', 'INVALID_FIELDS', `${first?.field ?? 'request'}: ${first?.description ?? 'invalid'}${more}`, {
    fields,
  });
}
