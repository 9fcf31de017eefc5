// Moments as protobuf tells them. Pure.

import type { Timestamp } from '../gen/google/protobuf/timestamp.ts';

/** Of milliseconds since 1970, to the millisecond. */
export function timestamp(ms: number): Timestamp {
  const whole = Math.floor(ms);
  return { seconds: BigInt(Math.floor(whole / 1000)), nanos: (whole % 1000) * 1_000_000 };
}
