// A subscriber that stops reading costs only itself. `npm run bench -- slow-subscriber` does the same for a minute.

import { expect, it } from 'vitest';
import { bound } from '../harness/bound.ts';
import { slowSubscriber } from '../harness/slow-subscriber.ts';

it('costs no memory beyond its bound, no frame of another, no time of a ping, and its account is exact', async () => {
  const seen = await slowSubscriber(10, 50_000);
  console.log(
    `${seen.perSecond.toFixed(0)} packets/s; memory ${(seen.grownBytes / 2 ** 20).toFixed(1)} MiB; ping ${seen.pingBeforeMs} -> ${seen.pingMeanwhileMs} ms; ` +
      `stalled ${seen.offered} = ${seen.delivered} + ${seen.filtered} + ${seen.dropped}; reader lost ${seen.readerLost} of ${seen.readerReceived}`,
  );
  expect(seen.problems).toEqual([]);
  expect(seen.grownBytes).toBeLessThan(64 * 2 ** 20);
  expect(seen.offered).toBe(seen.delivered + seen.filtered + seen.dropped);
  // The fault fired: it lost most of what passed.
  expect(seen.dropped).toBeGreaterThan(seen.offered / 3);
  // Where others use the processor, who reads may fall behind for lack of it: a hundredth was seen. The stalled one loses most.
  expect(seen.readerLost).toBeLessThanOrEqual(bound(0, seen.readerReceived / 10));
  expect(seen.pingsLost).toBeLessThanOrEqual(bound(0, 20));
  // Both medians are far below a millisecond.
  expect(seen.pingMeanwhileMs).toBeLessThan(bound(Math.max(5, 4 * seen.pingBeforeMs), 100));
});
