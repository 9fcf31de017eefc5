// The time at which frames passed, read once for each round of reading. CLOCK_MONOTONIC is told as a distance from the wall clock.

import type { FrameClock } from './batch.ts';

/** A clock that stands at 0 until it is set. */
export function frameClock(): FrameClock {
  return { seconds: 0, nanos: 0, monotonicOffsetNs: 0n };
}

/** Sets a clock to now. */
export function setNow(clock: FrameClock): void {
  const milliseconds = performance.timeOrigin + performance.now();
  clock.seconds = Math.floor(milliseconds / 1000);
  clock.nanos = Math.min(999_999_999, Math.round((milliseconds - clock.seconds * 1000) * 1e6));
}

/** Reads the distance of CLOCK_MONOTONIC from the wall clock, nanoseconds; it changes only when the wall clock is set. */
export function monotonicOffsetNs(): bigint {
  const wall = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
  return process.hrtime.bigint() - wall;
}
