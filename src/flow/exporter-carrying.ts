// What the publishing of one connection is to the exporter, and what it is given. Types only.

import type { NatsLink, NatsLog } from '../nats/connection.ts';
import type { Carried } from '../tracing/carried.ts';
import type { Row, Spool, Subject } from './spool.ts';

/** One connection's publishing. */
export interface Session {
  /** These have something new. */
  wake(subjects: Iterable<Subject>): void;
  reason(): string;
  isIdle(): boolean;
  /** Touches the spool no more. */
  end(): void;
}

/** What sessions share. */
export interface Carrying {
  spool: Spool;
  /** Spans of messages that were put since the start. */
  traces: Carried;
  counts: { messages: number; records: number; retried: number; republished: number };
  log: NatsLog;
  random: () => number;
  path(subject: Subject): string;
  encode(row: Row, subject: Subject, stored: Uint8Array): { payload: Uint8Array; contentType: string; id: string; records: number };
  /** Largest payload that the server takes beside our headers. */
  payloadMost(connection: NonNullable<ReturnType<NatsLink['connection']>>): number;
  breathe(): Promise<void>;
}
