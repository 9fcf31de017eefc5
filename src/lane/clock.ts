// The time at which frames passed, read once for each round of reading. CLOCK_MONOTONIC is told as a distance from the wall clock.

import type { FrameClock } from './batch.ts';

/** A clock that stands at 0 until it is set. */
export function frameClock(): FrameClock {
  return { seconds: 0, nanos: 0, monotonicOffsetNs: 0n };
}

/** A smaller distance is the coarseness of Date.now(). */
const STEP_LEAST_MS = 5;
/** How far the wall clock has been set since the process began, milliseconds. */
let stepMs = 0;

/** Milliseconds since 1970, finer than Date.now(). */
function wallMs(): number {
  return performance.timeOrigin + performance.now() + stepMs;
}

/** Nanoseconds since 1970. */
export function wallNs(): bigint {
  return BigInt(Math.round(wallMs() * 1000)) * 1000n;
}

/** Looks whether somebody has set the wall clock. To be called about once a second by whoever tells times. */
export function followWallClock(): void {
  const step = Date.now() - wallMs();
  if (Math.abs(step) >= STEP_LEAST_MS) stepMs += step;
}

/** Sets a clock to now. */
export function setNow(clock: FrameClock): void {
  const milliseconds = wallMs();
  clock.seconds = Math.floor(milliseconds / 1000);
  clock.nanos = Math.min(999_999_999, Math.round((milliseconds - clock.seconds * 1000) * 1e6));
}

/** Reads the distance of CLOCK_MONOTONIC from the wall clock, nanoseconds; it changes only when the wall clock is set. */
export function monotonicOffsetNs(): bigint {
  return process.hrtime.bigint() - wallNs();
}
