// Reads what a stream of JetStream keeps of a subject, up to where it ended when it was asked: by ordered consumers, which belong to the
// reader alone, leave nothing on the server and need no acknowledgement.

import { DeliverPolicy, type JetStreamClient, jetstream } from '@nats-io/jetstream';
import type { MsgHdrs, NatsConnection } from '@nats-io/transport-node';

export interface StoredMessage {
  subject: string;
  data: Uint8Array;
  headers: MsgHdrs | undefined;
  /** Number in the stream. */
  sequence: number;
}

export interface JetStreamReader {
  /** Numbers of the first and the last message that the stream held; the last is one less than the first where there were none. */
  readonly first: number;
  readonly last: number;
  /** From a number or a time (milliseconds since 1970) to `last`, in order. Ends with the signal. Throws what the client library throws. */
  read(from: { sequence: number } | { timeMs: number }, signal: AbortSignal): AsyncIterable<StoredMessage>;
}

/** Bytes that wait in the client library. */
const WINDOW_BYTES = 4 * 1024 * 1024;

/** Undefined when no stream keeps the subject, or the server has no JetStream, or does not let this user ask. */
export async function openJetStreamReader(
  connection: NatsConnection,
  subject: string,
  timeoutMs: number,
): Promise<JetStreamReader | undefined> {
  let client: JetStreamClient;
  let stream: string | undefined;
  let bounds: { first: number; last: number };
  try {
    client = jetstream(connection, { timeout: timeoutMs });
    const manager = await client.jetstreamManager(false);
    for await (const name of manager.streams.names(subject)) stream ??= name;
    if (stream === undefined) return undefined;
    const { first_seq, last_seq } = (await manager.streams.info(stream)).state;
    bounds = { first: first_seq, last: last_seq };
  } catch {
    return undefined;
  }
  const name = stream;
  return {
    ...bounds,
    async *read(from, signal) {
      if (bounds.last < bounds.first || ('sequence' in from && from.sequence > bounds.last) || signal.aborted) return;
      const start =
        'sequence' in from
          ? { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: Math.max(1, from.sequence) }
          : { deliver_policy: DeliverPolicy.StartTime, opt_start_time: new Date(from.timeMs).toISOString() };
      // Text, no list: that is for servers from 2.10 on.
      const consumer = await client.consumers.get(name, { filter_subjects: subject, ...start });
      if ((await consumer.info(true)).num_pending === 0) return;
      const messages = await consumer.consume({ max_bytes: WINDOW_BYTES });
      const stop = (): void => messages.stop();
      signal.addEventListener('abort', stop, { once: true });
      try {
        for await (const message of messages) {
          if (signal.aborted || message.seq > bounds.last) return;
          yield { subject: message.subject, data: message.data, headers: message.headers, sequence: message.seq };
          if (message.info.pending === 0 || message.seq === bounds.last) return;
        }
      } finally {
        signal.removeEventListener('abort', stop);
        stop();
        await consumer.delete().catch(() => undefined);
      }
    },
  };
}
