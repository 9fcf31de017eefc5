// How a command that runs until it is told otherwise is told: Ctrl-C, SIGTERM, or that nobody reads its output any more. The first ends
// it well, with what it has still to say; a second Ctrl-C ends it at once.

import { atClosedPipe } from './output.ts';

export interface Interruption extends Disposable {
  readonly signal: AbortSignal;
  /** Ends the command from within. */
  stop(): void;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export function interruption(): Interruption {
  const ending = new AbortController();
  const forget = (): void => {
    for (const name of SIGNALS) process.off(name, stop);
  };
  const stop = (): void => {
    forget();
    ending.abort();
  };
  for (const name of SIGNALS) process.on(name, stop);
  const pipe = atClosedPipe(stop);
  return {
    signal: ending.signal,
    stop,
    [Symbol.dispose]() {
      forget();
      pipe[Symbol.dispose]();
    },
  };
}
