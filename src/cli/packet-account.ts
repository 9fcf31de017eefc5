// What became of packets, in words: the summary at the end of a capture, losses as they happen, what an interface did not take. Pure.

import {
  type InjectTotals,
  injectRejection_ReasonToJSON,
  type Loss,
  loss_ReasonToJSON,
  type PacketBatch,
  StreamTotals,
} from '../gen/taplane/v1/packet.ts';
import { human } from './interface-view.ts';

const WHY_LOST: Record<string, string> = {
  'queue-full': 'this reader was too slow (queue-full)',
  kernel: 'the agent was too slow (kernel)',
  malformed: 'their virtio header was wrong (malformed)',
  'in-transit': 'the connection broke on their way (in-transit)',
};

/** As tcpdump tells it: captured, passed, filtered, dropped by reason. One fact a line. */
export function totalsLines({ offered, delivered, filtered, sampledOut, dropped }: StreamTotals, captured = delivered): string[] {
  const lines = [`${packets(captured)} captured`, `${packets(offered)} passed the interface`];
  if (filtered > 0n) lines.push(`${packets(filtered)} left out by the filter`);
  if (sampledOut > 0n) lines.push(`${packets(sampledOut)} left out by sampling`);
  const lost = dropped.filter(({ count }) => count > 0n);
  if (lost.length === 0) lines.push('0 packets dropped');
  for (const loss of lost) lines.push(`${packets(loss.count)} dropped: ${why(loss)}`);
  return lines;
}

export function lossLine(loss: Loss): string {
  return `lost ${packets(loss.count)}: ${why(loss)}`;
}

export function sum(counts: readonly { count: bigint }[]): bigint {
  return counts.reduce((total, { count }) => total + count, 0n);
}

/** `too-short` and such, with how many. */
export function rejections({ rejected }: Pick<InjectTotals, 'rejected'>): { reason: string; count: bigint }[] {
  return rejected
    .filter(({ count }) => count > 0n)
    .map(({ reason, count }) => ({ reason: human(injectRejection_ReasonToJSON(reason), 'REASON'), count }));
}

export function packets(count: bigint | number): string {
  return `${count} ${count === 1n || count === 1 ? 'packet' : 'packets'}`;
}

/** The account of several subscriptions after one another as one. */
export class Totals {
  #before = StreamTotals.create();
  #now = StreamTotals.create();

  take({ totals }: PacketBatch): void {
    if (totals !== undefined) this.#now = totals;
  }

  /** What comes next counts from 0 again. */
  begin(): void {
    this.#before = this.all;
    this.#now = StreamTotals.create();
  }

  get all(): StreamTotals {
    const [a, b] = [this.#before, this.#now];
    const dropped = new Map(a.dropped.map(({ reason, count }) => [reason, count]));
    for (const { reason, count } of b.dropped) dropped.set(reason, (dropped.get(reason) ?? 0n) + count);
    return {
      offered: a.offered + b.offered,
      delivered: a.delivered + b.delivered,
      filtered: a.filtered + b.filtered,
      sampledOut: a.sampledOut + b.sampledOut,
      dropped: [...dropped].map(([reason, count]) => ({ reason, count })),
    };
  }
}

function why({ reason }: Loss): string {
  const word = human(loss_ReasonToJSON(reason), 'REASON');
  return WHY_LOST[word] ?? (word || 'no reason given');
}
