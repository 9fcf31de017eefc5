// How a command that runs until it is told otherwise is told: Ctrl-C, SIGTERM, or that nobody reads its output any more. The first ends
// it well, with what it has still to say; another Ctrl-C, half a second later at the least, ends it at once: some programs pass a signal on
// that the terminal has sent already.

import { atClosedPipe } from './output.ts';

export interface Interruption extends Disposable {
  readonly signal: AbortSignal;
  /** Ends the command from within. */
  stop(): void;
}

const AGAIN_AFTER_MS = 500;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export function interruption(): Interruption {
  const ending = new AbortController();
  const forget = (): void => {
    for (const name of SIGNALS) process.off(name, stop);
  };
  const stop = (): void => {
    if (!ending.signal.aborted) setTimeout(forget, AGAIN_AFTER_MS).unref();
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
