// How long a test lets things take. A bound that is an acceptance figure of docs/performance.md holds on a quiet machine; a machine
// that does other things beside is given several times as much, which a real defect still exceeds. TAPLANE_STRICT=1 says that this
// machine is quiet; `npm run bench -- soak` sets it.

import { test } from 'vitest';

const isStrict = process.env['TAPLANE_STRICT'] === '1';

/** `strict` on a quiet machine, else `patient`, 4 to 10 times as much (or as little). */
export function bound(strict: number, patient: number): number {
  return isStrict ? strict : patient;
}

/** For `expect.poll`: long enough for any machine. One that comes true is quick all the same. */
export const SOON = { timeout: 20_000, interval: 20 };

/** `test`, where the machine is quiet; elsewhere there is no such test. Files with one are among those of `npm run bench -- soak`. */
export const whenStrict = (isStrict ? test : Object.assign(() => {}, { each: () => () => {} })) as typeof test;
