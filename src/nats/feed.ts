// A subscription to core NATS that survives its connections, with a queue that is bounded in bytes: when it is full the oldest message goes.
// What went, and what was published while there was no connection, only the numbers within the messages tell.

import type { Msg, NatsConnection } from '@nats-io/transport-node';
import { TaplaneError } from '../errors.ts';
import type { NatsLink, NatsOptions } from './connection.ts';

/** What a message takes beside its payload, about. */
const MESSAGE_BYTES = 512;

export class Feed {
  readonly #subject: string;
  readonly #maxBytes: number;
  readonly #say: (line: string) => void;
  #connection: NatsConnection | undefined;
  #queue: Msg[] = [];
  #bytes = 0;
  #wake: () => void = () => undefined;
  #failed = '';

  constructor(subject: string, maxBytes: number, say: (line: string) => void) {
    this.#subject = subject;
    this.#maxBytes = maxBytes;
    this.#say = say;
  }

  /** The link tells its log of each change at once, so that is where it is looked at. */
  log(link: () => NatsLink): NatsOptions['log'] {
    const changed = (): void => {
      const connection = link().connection();
      if (this.#connection !== undefined && connection === undefined)
        this.#say(`connection to NATS lost, resuming: ${link().status().reason}`);
      if (connection !== undefined && connection !== this.#connection) this.#subscribe(connection);
      this.#connection = connection;
      this.wake();
    };
    return { debug: changed, info: changed, warn: changed };
  }

  /** The first connection, once the server has taken the subscription; undefined when `signal` aborts before. Throws `unavailable`. */
  async connected(link: NatsLink, timeoutMs: number, signal: AbortSignal): Promise<NatsConnection | undefined> {
    const late = AbortSignal.timeout(timeoutMs);
    const wake = (): void => this.wake();
    late.addEventListener('abort', wake, { once: true });
    try {
      while (this.#connection === undefined && !signal.aborted && !late.aborted && this.#failed === '' && !isRefused(link))
        await this.#changed();
      if (this.#connection === undefined && !signal.aborted && (late.aborted || isRefused(link)))
        throw unavailable(`reach NATS on ${link.status().server}: ${link.status().reason || `no answer within ${timeoutMs} ms`}`);
      // The server answers to a subscription that it refuses; what follows this has been taken by it.
      if (this.#connection !== undefined) await this.#connection.flush().catch(() => undefined);
      if (this.#failed !== '') throw unavailable(this.#failed);
      return this.#connection;
    } finally {
      late.removeEventListener('abort', wake);
    }
  }

  /** The oldest message that waits. */
  take(): Msg | undefined {
    const message = this.#queue.shift();
    if (message !== undefined) this.#bytes -= message.data.length + MESSAGE_BYTES;
    return message;
  }

  /** Resolves when there is something to take, or after `wake`. Throws `unavailable` when the server refused the subscription. */
  async more(): Promise<void> {
    if (this.#failed !== '') throw unavailable(this.#failed);
    if (this.#queue.length === 0) await this.#changed();
  }

  wake(): void {
    this.#wake();
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #subscribe(connection: NatsConnection): void {
    connection.subscribe(this.#subject, {
      callback: (error, message) => {
        if (error !== null) this.#failed = `subscribe to ${this.#subject}: ${error.message}`;
        else {
          this.#queue.push(message);
          this.#bytes += message.data.length + MESSAGE_BYTES;
          while (this.#bytes > this.#maxBytes) this.take();
        }
        this.wake();
      },
    });
  }
}

/** Who may not log in now may not in a second either. */
function isRefused(link: NatsLink): boolean {
  return /authori[sz]ation|authentication/i.test(link.status().reason);
}

/** UNAVAILABLE (`NATS_UNAVAILABLE`). */
export function unavailable(message: string): TaplaneError {
  return new TaplaneError('UNAVAILABLE', 'NATS_UNAVAILABLE', message);
}
