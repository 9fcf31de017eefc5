// What a request to observe asks for, checked and compiled. Pure.

import { type FieldViolation, invalidFields, TaplaneError } from '../errors.ts';
import type { Timestamp } from '../gen/google/protobuf/timestamp.ts';
import type { Flow } from '../gen/taplane/v1/flow.ts';
import type { ObserveFlowsRequest } from '../gen/taplane/v1/flow_service.ts';
import { type BatchTest, compileFilters } from './filter.ts';
import { compileMask, type FlowMask } from './flow-mask.ts';

export interface Observation {
  /** Filters and times together. */
  test: BatchTest;
  mask: FlowMask;
  /** 0 for all. */
  first: bigint;
  last: bigint;
  follow: boolean;
  /** Since 1970, milliseconds; undefined for never. */
  untilMs: number | undefined;
}

/** Throws invalidFields: all violations at once. */
export function observation(request: ObserveFlowsRequest): Observation {
  const { since, until, first, last, follow, allow, deny, fieldMask } = request;
  const violations: FieldViolation[] = [];
  checkTime('since', since, violations);
  checkTime('until', until, violations);
  if (violations.length === 0 && since && until && !earlier(since, until))
    violations.push({ field: 'until', description: 'must be later than since' });
  if (first > 0n && last > 0n) violations.push({ field: 'first', description: 'cannot be given together with last' });
  if (first > 0n && follow) violations.push({ field: 'first', description: 'cannot be given together with follow' });
  const mask = compileMask(fieldMask, violations);
  const test = attempt(() => compileFilters(allow, deny), violations);
  if (test === undefined || violations.length > 0) throw invalidFields(violations);
  const inTime = between(since, until);
  return {
    test: (batch) => {
      const matches = test(batch);
      return matches && ((flow) => inTime(flow) && matches(flow));
    },
    mask,
    first,
    last,
    follow,
    untilMs: until && Number(until.seconds) * 1000 + until.nanos / 1e6,
  };
}

/** Of its packets some were at or after `since`, some before `until`, as far as a record can tell. */
function between(since: Timestamp | undefined, until: Timestamp | undefined): (flow: Flow) => boolean {
  return ({ startTime, endTime }) =>
    (since === undefined || (endTime !== undefined && !earlier(endTime, since))) &&
    (until === undefined || (startTime !== undefined && earlier(startTime, until)));
}

function earlier(a: Timestamp, b: Timestamp): boolean {
  return a.seconds < b.seconds || (a.seconds === b.seconds && a.nanos < b.nanos);
}

/** As timestamp.proto has it: the years 1 to 9999. */
function checkTime(field: string, time: Timestamp | undefined, violations: FieldViolation[]): void {
  if (time === undefined) return;
  const { seconds, nanos } = time;
  if (seconds < -62_135_596_800n || seconds > 253_402_300_799n || nanos < 0 || nanos > 999_999_999)
    violations.push({ field, description: 'is no time' });
}

function attempt<Result>(work: () => Result, violations: FieldViolation[]): Result | undefined {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof TaplaneError)) throw error;
    violations.push(...error.fields);
    return undefined;
  }
}
