// Streams that go on, and what each of them still has to be allowed: a policy that changes ends those that it no longer allows. Of a request only its
// demands are kept.

import type { TaplaneError } from '../errors.ts';
import type { AuthorizedCall, Authorizer } from './authorize.ts';
import type { Caller } from './caller.ts';
import type { Demand } from './demands.ts';
import { METHODS } from './methods.ts';

interface OpenStream {
  readonly path: string;
  readonly caller: Caller;
  readonly demands: readonly Demand[];
  end(error: TaplaneError): void;
}

export class OpenStreams {
  readonly #decide: Authorizer['decide'];
  readonly #all = new Set<OpenStream>();

  constructor({ decide }: Pick<Authorizer, 'decide'>) {
    this.#decide = decide;
  }

  /** Calls `end` once when the stream is no longer allowed, also before this returns. The answer forgets it. `end` must not throw. */
  add({ path, caller, request }: AuthorizedCall, end: (error: TaplaneError) => void): () => void {
    const stream = { path, caller, demands: METHODS[path]?.demands(request) ?? [], end };
    this.#all.add(stream);
    this.#check(stream);
    return () => void this.#all.delete(stream);
  }

  /** To be called after each change of what is allowed. */
  check(): void {
    for (const stream of this.#all) this.#check(stream);
  }

  #check(stream: OpenStream): void {
    try {
      this.#decide(stream.path, stream.caller, stream.demands);
    } catch (error) {
      this.#all.delete(stream);
      stream.end(error as TaplaneError);
    }
  }
}
