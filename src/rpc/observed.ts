// What is noted of each call that the handlers run: how it ended and how long it took, and its span. Who counts is decided by who composes the
// server. Health checks and reflection are not among them.

import type { Metadata } from '@grpc/grpc-js';
import { TaplaneError } from '../errors.ts';
import { serverSpan } from '../tracing/span.ts';

/** Hears of calls. Must not throw. */
export interface CallObserver {
  /** A call begins; `unary` is false for streams. The answer is called at its end, with the name of its code; only the first time counts. */
  begin(path: string, unary: boolean): (code: string) => void;
}

export const NOBODY: CallObserver = { begin: () => () => {} };

/** Runs a call, tells how it ended, and passes on what it answers or rejects with. */
export function observed<T>(
  calls: CallObserver,
  path: string,
  unary: boolean,
  metadata: Metadata,
  signal: AbortSignal,
  run: () => Promise<T>,
): Promise<T> {
  const end = calls.begin(path, unary);
  return serverSpan(path, headerOf(metadata), (error) => codeOf(error, signal), run).then(
    (answer) => {
      end(!unary && signal.aborted ? 'CANCELLED' : 'OK');
      return answer;
    },
    (error: unknown) => {
      end(codeOf(error, signal));
      throw error;
    },
  );
}

/** The code that the client is told. */
export function codeOf(error: unknown, signal?: AbortSignal): string {
  if (error instanceof TaplaneError) return error.code;
  return signal?.aborted ? 'CANCELLED' : 'INTERNAL';
}

function headerOf(metadata: Metadata): (key: string) => string | undefined {
  return (key) => {
    const value = metadata.get(key)[0];
    return typeof value === 'string' ? value : undefined;
  };
}
