// A stream never ends by itself, but it begins with an answer at once: without one within --timeout it has not begun.

import type { Settings } from './settings.ts';

export interface FirstAnswer extends Disposable {
  /** An answer came: nothing is waited for any more. */
  came(): void;
  /** To be asked when the stream has ended: throws DEADLINE_EXCEEDED when it was given up. */
  check(): Promise<void>;
}

/** `what` in the words of an error: `capture tun0`. `giveUp` ends the stream. */
export function firstAnswer(what: string, { server, timeout }: Settings, giveUp: () => void): FirstAnswer {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    giveUp();
  }, timeout);
  const came = (): void => clearTimeout(timer);
  return {
    came,
    async check() {
      if (!late) return;
      const { ClientError } = await import('../rpc/client.ts');
      const nothing = { reason: '', fields: [], preconditions: [], metadata: {}, retryAfterMs: undefined };
      const text = `${what}: no answer from ${server} within ${timeout} ms`;
      throw new ClientError({ code: 'DEADLINE_EXCEEDED', message: text, ...nothing }, server);
    },
    [Symbol.dispose]: came,
  };
}
