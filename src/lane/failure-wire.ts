// Errors on a packet connection: as the lane sends them, and as the agent reads them. Pure.

import { type ErrorCode, TaplaneError } from '../errors.ts';
import type { StreamFailure } from '../gen/taplane/lane/v1/lane_service.ts';

/** An error as it goes to the agent. */
export function failureOf(error: TaplaneError): StreamFailure {
  return {
    code: error.code,
    reason: error.reason,
    message: error.message,
    fields: [...error.fields],
    preconditions: [...error.preconditions],
    metadata: { ...error.metadata },
    retryAfterMs: error.retryAfterMs ?? 0,
  };
}

/** And back again. */
export function errorOf(failure: StreamFailure): TaplaneError {
  return new TaplaneError(failure.code as ErrorCode, failure.reason, failure.message, {
    fields: failure.fields,
    preconditions: failure.preconditions,
    metadata: failure.metadata,
    ...(failure.retryAfterMs > 0 ? { retryAfterMs: failure.retryAfterMs } : {}),
  });
}
