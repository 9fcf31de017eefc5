// Tells of records that are missing from what is printed, when it happens, at most once a second.

import type { ObserveFlowsResponse } from '../gen/taplane/v1/flow_service.ts';

const EVERY_MS = 1000;

export interface FlowLosses extends Disposable {
  take(answer: Pick<ObserveFlowsResponse, 'missed' | 'lost'>): void;
}

/** `missed` says why records are missed. What waits is told when it is disposed of. */
export function flowLosses(missed: string, say: (line: string) => void): FlowLosses {
  const waiting = { missed: 0n, lost: 0n };
  let timer: NodeJS.Timeout | undefined;
  const tell = (): boolean => {
    const some = waiting.missed > 0n || waiting.lost > 0n;
    if (waiting.missed > 0n) say(`missed ${records(waiting.missed)}: ${missed}`);
    if (waiting.lost > 0n) say(`lost ${records(waiting.lost)} before they came to the agent or to NATS`);
    waiting.missed = waiting.lost = 0n;
    return some;
  };
  const pause = (): void => {
    timer = setTimeout(() => {
      timer = undefined;
      if (tell()) pause();
    }, EVERY_MS);
    timer.unref();
  };
  return {
    take({ missed, lost }) {
      waiting.missed += missed;
      waiting.lost += lost;
      if (timer === undefined && tell()) pause();
    },
    [Symbol.dispose]() {
      clearTimeout(timer);
      tell();
    },
  };
}

function records(count: bigint): string {
  return `${count} record${count === 1n ? '' : 's'}`;
}
