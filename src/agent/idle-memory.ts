// What a start or a burst of work needed stays in the heap: V8 gives nothing back while little is allocated. So it is asked, when the process is
// quiet after it was busy. The collection stops the process for about 40 ms, and is therefore rare.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const LOOK_MS = 2000;
/** Of one processor. */
const QUIET_SHARE = 0.05;
const REST_MS = 60_000;
/** After the start of the process; one that lives for less gives all back by its end. */
const FIRST_MS = 15_000;

/** Gives memory back when this process has used less than a twentieth of a processor for 2 s, once after each busy time. Keeps nothing alive. */
export function giveBackMemoryWhenIdle(): void {
  let before = process.cpuUsage();
  let wasBusy = true;
  let collectedAt = FIRST_MS - REST_MS;
  const look = (): void => {
    const { user, system } = process.cpuUsage(before);
    before = process.cpuUsage();
    if (user + system > QUIET_SHARE * LOOK_MS * 1000) {
      wasBusy = true;
      return;
    }
    if (!wasBusy || performance.now() - collectedAt < REST_MS) return;
    collectGarbage();
    wasBusy = false;
    collectedAt = performance.now();
    before = process.cpuUsage();
  };
  setInterval(look, LOOK_MS).unref();
}

/** All of it, also what is kept in reserve. V8 shows the function only to contexts that are made after it was asked to. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void;
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  setFlagsFromString('--no-expose-gc');
}
