// JetStream as the exporter needs it: streams found or made, messages published behind a fence, last messages looked at. The library is
// loaded when a connection is there. Answers are values: what NATS may say to a publisher is no exception here.
//
// The fence: a message is stored only when the last one of its subject has the sequence that we expect. So none is stored twice, also
// after the server's memory of ids (2 minutes) is over, and none before an earlier one.

import type { JetStreamManager, StreamConfig } from '@nats-io/jetstream';
import type { MsgHdrs, NatsConnection } from '@nats-io/transport-node';
import { covers } from './subject.ts';

/** A stream that is made when none takes the subject. */
export interface StreamWanted {
  name: string;
  subjects: string[];
  maxBytes: number;
  /** 0: no limit. */
  maxAgeMs: number;
  replicas: number;
}

export interface StreamSeen {
  name: string;
  /** Name and time of making: another one when the stream was made anew. */
  incarnation: string;
  lastSequence: number;
}

/** A message of the stream, by its headers. */
export interface StoredMessage {
  sequence: number;
  /** `Nats-Msg-Id`, empty when it has none. */
  id: string;
  /** `Taplane-Records`; 1 when it has none. */
  records: number;
}

export interface Sending {
  subject: string;
  payload: Uint8Array;
  id: string;
  records: number;
  contentType: string;
  /** More headers: those of a trace. */
  trace?: Readonly<Record<string, string>> | undefined;
}

export type Published =
  | { is: 'stored'; sequence: number }
  /** The last message of the subject is not the expected one. */
  | { is: 'fenced' }
  | { is: 'too-large' }
  /** No stream takes the subject, or there is no JetStream. */
  | { is: 'no-stream'; reason: string }
  /** The server said no: full, no resources, no leader. */
  | { is: 'refused'; reason: string }
  /** Nobody knows whether it is stored. */
  | { is: 'unanswered'; reason: string };

export interface JetStream {
  /** The stream that takes `subjects`, made when there is none and `wanted` says how; or why there is none. */
  stream(subjects: string, wanted: StreamWanted | undefined): Promise<StreamSeen | { missing: string }>;
  /** The last message of a subject. Throws when it cannot be asked. */
  last(stream: string, subject: string): Promise<StoredMessage | undefined>;
  /** The message with this sequence. Throws when it cannot be asked. */
  at(stream: string, sequence: number): Promise<StoredMessage | undefined>;
  /** Never throws. */
  publish(message: Sending, expectedSequence: number): Promise<Published>;
}

const DUPLICATE_WINDOW_MS = 120_000;
const NANOS = 1_000_000;
const WRONG_LAST = [10070, 10071, 10164];
const TOO_LARGE = 10054;

/** Throws when the library cannot be loaded. */
export async function openJetStream(connection: NatsConnection, ackTimeoutMs: number): Promise<JetStream> {
  const library = await import('@nats-io/jetstream');
  const { headers, errors } = await import('@nats-io/transport-node');
  const manager: JetStreamManager = await library.jetstreamManager(connection, { checkAPI: false, timeout: ackTimeoutMs });
  const client = manager.jetstream();

  async function seen(name: string): Promise<StreamSeen & { subjects: string[] }> {
    const { created, config, state } = await manager.streams.info(name);
    return { name, incarnation: `${name} ${created}`, lastSequence: state.last_seq, subjects: config.subjects ?? [] };
  }

  async function message(stream: string, query: { last_by_subj: string } | { seq: number }): Promise<StoredMessage | undefined> {
    const stored = await manager.streams.getMessage(stream, query);
    if (stored === null) return undefined;
    return {
      sequence: stored.seq,
      id: stored.header?.get('Nats-Msg-Id') ?? '',
      records: Number(stored.header?.get('Taplane-Records') || 1),
    };
  }

  return {
    async stream(subjects, wanted) {
      try {
        for (const name of await manager.streams.names(subjects).next()) {
          const found = await seen(name);
          if (found.subjects.some((pattern) => covers(pattern, subjects))) return found;
          return { missing: `stream ${name} takes only part of ${subjects}` };
        }
        if (!wanted) return { missing: `no stream takes ${subjects}` };
        await manager.streams.add(streamConfig(wanted));
        return await seen(wanted.name);
      } catch (error) {
        return { missing: `find or create the stream of ${subjects}: ${text(error)}` };
      }
    },
    last: (stream, subject) => message(stream, { last_by_subj: subject }),
    at: (stream, sequence) => message(stream, { seq: sequence }),
    async publish(sending, expectedSequence) {
      try {
        const { seq } = await client.publish(sending.subject, sending.payload, {
          msgID: sending.id,
          headers: headersOf(sending, headers),
          expect: { lastSubjectSequence: expectedSequence },
          timeout: ackTimeoutMs,
        });
        return { is: 'stored', sequence: seq };
      } catch (error) {
        if (error instanceof library.JetStreamApiError) {
          if (WRONG_LAST.includes(error.code)) return { is: 'fenced' };
          if (error.code === TOO_LARGE) return { is: 'too-large' };
          return { is: 'refused', reason: text(error) };
        }
        if (error instanceof Error && error.name === 'JetStreamNotEnabled')
          return { is: 'no-stream', reason: 'no stream takes it, or no JetStream' };
        if (error instanceof errors.InvalidArgumentError && /payload/i.test(error.message)) return { is: 'too-large' };
        if (error instanceof errors.PermissionViolationError) return { is: 'refused', reason: text(error) };
        return { is: 'unanswered', reason: `no acknowledgement: ${text(error)}` };
      }
    },
  };
}

/** Publishes without JetStream: `flush` resolves once the server has all of it. */
export async function openCore(connection: NatsConnection): Promise<{ publish(sending: Sending): void; flush(): Promise<void> }> {
  const { headers } = await import('@nats-io/transport-node');
  return {
    publish(sending) {
      const all = headersOf(sending, headers);
      all.set('Nats-Msg-Id', sending.id);
      connection.publish(sending.subject, sending.payload, { headers: all });
    },
    flush: () => connection.flush(),
  };
}

function headersOf(sending: Sending, make: () => MsgHdrs): MsgHdrs {
  const all = make();
  all.set('Content-Type', sending.contentType);
  all.set('Taplane-Schema', 'v1');
  all.set('Taplane-Records', String(sending.records));
  for (const [name, value] of Object.entries(sending.trace ?? {})) all.set(name, value);
  return all;
}

function streamConfig(wanted: StreamWanted): Partial<StreamConfig> & { name: string } {
  return {
    name: wanted.name,
    subjects: wanted.subjects,
    storage: 'file',
    retention: 'limits',
    discard: 'old',
    num_replicas: wanted.replicas,
    max_bytes: wanted.maxBytes,
    max_age: wanted.maxAgeMs * NANOS,
    duplicate_window: (wanted.maxAgeMs > 0 ? Math.min(DUPLICATE_WINDOW_MS, wanted.maxAgeMs) : DUPLICATE_WINDOW_MS) * NANOS,
  };
}

function text(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}
