// Tells of lost packets when it happens, at most once a second: a flood of losses must not become a flood of lines.

import type { Loss } from '../gen/taplane/v1/packet.ts';
import { lossLine } from './packet-account.ts';

const EVERY_MS = 1000;

export interface LossTeller extends Disposable {
  take(losses: readonly Loss[]): void;
}

/** What waits is told when it is disposed of. */
export function lossTeller(say: (line: string) => void): LossTeller {
  const waiting = new Map<Loss['reason'], bigint>();
  let timer: NodeJS.Timeout | undefined;
  const tell = (): boolean => {
    const some = waiting.size > 0;
    for (const [reason, count] of waiting) say(lossLine({ reason, count }));
    waiting.clear();
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
    take(losses) {
      for (const { reason, count } of losses) if (count > 0n) waiting.set(reason, (waiting.get(reason) ?? 0n) + count);
      if (timer === undefined && tell()) pause();
    },
    [Symbol.dispose]() {
      clearTimeout(timer);
      tell();
    },
  };
}
