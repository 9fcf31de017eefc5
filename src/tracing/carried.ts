// Which message was made in which span, for messages that go through a spool: they are published later, perhaps by another process, and a trace is
// worth nothing there. So this is memory alone, and bounded: the oldest is forgotten.

import type { TraceHeaders } from './span.ts';

const MOST = 1024;

export class Carried {
  readonly #headers = new Map<string, TraceHeaders>();

  /** Remembers the span of a message by its id; undefined remembers nothing. */
  note(id: string, headers: TraceHeaders | undefined): void {
    if (headers === undefined) return;
    this.#headers.set(id, headers);
    if (this.#headers.size <= MOST) return;
    const oldest = this.#headers.keys().next().value;
    if (oldest !== undefined) this.#headers.delete(oldest);
  }

  of(id: string): TraceHeaders | undefined {
    return this.#headers.size === 0 ? undefined : this.#headers.get(id);
  }

  forget(id: string): void {
    if (this.#headers.size > 0) this.#headers.delete(id);
  }
}
