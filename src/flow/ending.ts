// When an observer has seen enough: a moment, or a signal before it.

/** Timers count in 31 bits. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Its signal aborts with `signal`, or when the clock says `untilMs`; dispose of it to forget both. */
export function endingAt(untilMs: number | undefined, signal: AbortSignal, now: () => number): Disposable & { signal: AbortSignal } {
  const ending = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const end = (): void => ending.abort();
  const wait = (until: number): void => {
    const leftMs = until - now();
    if (leftMs <= 0) end();
    else timer = setTimeout(() => wait(until), Math.min(Math.ceil(leftMs), MAX_TIMER_MS)).unref();
  };
  if (untilMs !== undefined) wait(untilMs);
  if (signal.aborted) end();
  else signal.addEventListener('abort', end, { once: true });
  return {
    signal: ending.signal,
    [Symbol.dispose]() {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
    },
  };
}
