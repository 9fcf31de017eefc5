// A subscriber that stops reading for a minute at 50,000 packets a second, and what that costs the others.

import { slowSubscriber } from '../test/harness/slow-subscriber.ts';

export async function slowSubscriberBench(): Promise<string[]> {
  const seen = await slowSubscriber(60, 50_000);
  const exact = seen.offered === seen.delivered + seen.filtered + seen.dropped && seen.problems.length === 0;
  return [
    `${seen.perSecond.toFixed(0)} packets/s for 60 s; agent and lane grew by ${(seen.grownBytes / 2 ** 20).toFixed(1)} MiB (bound 64)`,
    `the stalled: ${seen.offered} offered = ${seen.delivered} delivered + ${seen.filtered} filtered + ${seen.dropped} dropped, ${exact ? 'exactly' : `NOT EXACT: ${seen.problems.join('; ')}`}`,
    `the other: ${seen.readerReceived} received, ${seen.readerLost} lost; ping median ${seen.pingBeforeMs} -> ${seen.pingMeanwhileMs} ms, ${seen.pingsLost} lost`,
  ];
}
