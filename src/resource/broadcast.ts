// Tells watchers what happens, in one order for all. The last events are kept, encoded, for watchers that come back with a token.
// A watcher that does not read holds a bounded backlog and is then ended; it never slows the others. Both are bounded in events
// and in bytes.
//
// A token is `<epoch>.<sequence>`; the epoch is new with each start of the agent, so that an old token is known as such.

import { TaplaneError } from '../errors.ts';

/** A message to a watcher. */
export interface Told<E> {
  event: E | undefined;
  resumeToken: string;
}

/** What is watched. */
export interface Watched<E> {
  /** For messages, such as `interfaces`. */
  noun: string;
  encode(message: Told<E>): { finish(): Uint8Array };
  decode(bytes: Uint8Array): Told<E>;
  /** The event that ends a snapshot. */
  synced: E;
}

const HISTORY = 8192;
const HISTORY_BYTES = 16 * 1024 * 1024;
const BACKLOG = 8192;
/** Encoded; as objects they take some five times as much, shared by all watchers. */
const BACKLOG_BYTES = 8 * 1024 * 1024;

interface Entry<E> {
  sequence: number;
  event: E;
  bytes: number;
}

interface Kept {
  sequence: number;
  encoded: Uint8Array;
}

interface Watcher<E> {
  backlog: Entry<E>[];
  bytes: number;
  overflown: boolean;
  wake(): void;
}

export class Broadcast<E> {
  readonly #watched: Watched<E>;
  readonly #epoch: string;
  readonly #most: number;
  readonly #history: Kept[] = [];
  #historyBytes = 0;
  readonly #watchers = new Set<Watcher<E>>();
  #ended = false;
  #sequence = 0;
  readonly #told: (event: E) => void;

  /** `told` hears every event first, in the same turn; it must not throw. */
  constructor(watched: Watched<E>, epoch: string, mostWatchers: number, told: (event: E) => void = () => {}) {
    this.#watched = watched;
    this.#epoch = epoch;
    this.#most = mostWatchers;
    this.#told = told;
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  publish(event: E): void {
    this.#told(event);
    const encoded = this.#watched.encode({ event, resumeToken: '' }).finish();
    const entry = { sequence: ++this.#sequence, event, bytes: encoded.length };
    this.#keep({ sequence: entry.sequence, encoded });
    for (const watcher of this.#watchers) {
      // Once one was lost none may follow it: the last token that it gets must be of the event before the gap.
      if (!watcher.overflown && watcher.backlog.length < BACKLOG && watcher.bytes + entry.bytes <= BACKLOG_BYTES) {
        watcher.backlog.push(entry);
        watcher.bytes += entry.bytes;
      } else watcher.overflown = true;
      watcher.wake();
    }
  }

  #keep(kept: Kept): void {
    this.#history.push(kept);
    this.#historyBytes += kept.encoded.length;
    while (this.#history.length > HISTORY || this.#historyBytes > HISTORY_BYTES)
      this.#historyBytes -= this.#history.shift()?.encoded.length ?? 0;
  }

  /** Ends every watch: the agent stops. */
  end(): void {
    this.#ended = true;
    for (const watcher of this.#watchers) watcher.wake();
  }

  /**
   * Events that `wanted` lets through, until the signal aborts. With a token: what came after it; without: `snapshot`, then
   * `synced`, then what comes. `snapshot` runs in the same turn in which the watcher is registered, so that nothing falls between.
   */
  async *watch(token: string, snapshot: () => E[], wanted: (event: E) => boolean, signal: AbortSignal): AsyncGenerator<Told<E>> {
    const { noun } = this.#watched;
    if (this.#watchers.size >= this.#most) {
      throw new TaplaneError('RESOURCE_EXHAUSTED', 'TOO_MANY_WATCHERS', `watch ${noun}: ${this.#most} watchers already`, {
        retryAfterMs: 5000,
      });
    }
    let wake: () => void = () => {};
    const watcher: Watcher<E> = { backlog: token === '' ? [] : this.#since(token), bytes: 0, overflown: false, wake: () => wake() };
    const aborted = (): void => wake();
    signal.addEventListener('abort', aborted);
    this.#watchers.add(watcher);
    try {
      if (token === '') {
        const start = this.#sequence;
        for (const event of snapshot()) yield { event, resumeToken: '' };
        yield { event: this.#watched.synced, resumeToken: this.#token(start) };
      }
      while (!signal.aborted) {
        const entries = watcher.backlog;
        watcher.backlog = [];
        watcher.bytes = 0;
        for (const { event, sequence } of entries) {
          if (signal.aborted) return;
          if (wanted(event)) yield { event, resumeToken: this.#token(sequence) };
        }
        if (watcher.overflown && watcher.backlog.length === 0) {
          throw new TaplaneError(
            'RESOURCE_EXHAUSTED',
            'WATCHER_TOO_SLOW',
            `watch ${noun}: more than ${BACKLOG} events waited; watch again with the last token`,
            { retryAfterMs: 100 },
          );
        }
        if (watcher.backlog.length > 0) continue;
        if (this.#ended)
          throw new TaplaneError('UNAVAILABLE', 'SHUTTING_DOWN', `watch ${noun}: the agent is stopping`, { retryAfterMs: 1000 });
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (signal.aborted || this.#ended || watcher.backlog.length > 0) resolve();
        });
      }
    } finally {
      this.#watchers.delete(watcher);
      signal.removeEventListener('abort', aborted);
    }
  }

  #token(sequence: number): string {
    return `${this.#epoch}.${sequence}`;
  }

  #since(token: string): Entry<E>[] {
    const [epoch, number, ...rest] = token.split('.');
    const sequence = Number(number);
    if (rest.length > 0 || number === undefined || !/^\d{1,15}$/.test(number)) {
      throw new TaplaneError('INVALID_ARGUMENT', 'INVALID_FIELDS', 'resume_token: is not a token of this service', {
        fields: [{ field: 'resume_token', description: 'is not a token of this service' }],
      });
    }
    const oldest = this.#history[0]?.sequence ?? this.#sequence + 1;
    if (epoch !== this.#epoch || sequence > this.#sequence || sequence + 1 < oldest) {
      throw new TaplaneError(
        'OUT_OF_RANGE',
        'RESUME_TOKEN_TOO_OLD',
        `watch ${this.#watched.noun}: the resume token is too old; watch again without it`,
      );
    }
    return this.#history
      .filter((kept) => kept.sequence > sequence)
      .flatMap(({ sequence: number, encoded }) => {
        const { event } = this.#watched.decode(encoded);
        return event === undefined ? [] : [{ sequence: number, event, bytes: encoded.length }];
      });
  }
}
