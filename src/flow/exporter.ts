// Carries messages to NATS: a spool on disk, and a session for each connection that publishes what waits there. `put` only writes to the
// spool, so that NATS, whatever it does, holds up nobody; all that publishing does happens in slices of a few milliseconds.

import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { RecordLoss_Reason as Reason } from '../gen/taplane/v1/flow.ts';
import type { ExportStats } from '../gen/taplane/v1/flow_service.ts';
import type { NatsLink, NatsLog } from '../nats/connection.ts';
import { eventSubject, flowSubject, token } from '../nats/subject.ts';
import { Carried } from '../tracing/carried.ts';
import type { Exporter, Outgoing } from './contract.ts';
import type { Carrying, Session } from './exporter-carrying.ts';
import { coreSession } from './exporter-core.ts';
import { jetStreamSession } from './exporter-session.ts';
import { gapBatch } from './gap.ts';
import { Spool, type Subject } from './spool.ts';
import { rowId } from './spool-rows.ts';

export interface StreamLimits {
  name: string;
  maxBytes: number;
  /** 0: no limit. */
  maxAgeMs: number;
}

export interface ExporterOptions {
  /** Path of the spool's file; the caller holds a lock on its folder. */
  file: string;
  cluster: string;
  node: string;
  /** Bytes that may wait, and bytes of acknowledged messages that are kept. */
  limits: { spoolBytes: number; retainedBytes: number };
  /** How a message is written on NATS; its own bytes by default. */
  encode?: (message: Outgoing) => { payload: Uint8Array; contentType: string };
  mode: 'jetstream' | 'core';
  /** Streams to make when none takes the subjects, and whether to make them. One that is there is never changed. */
  streams: { create: boolean; replicas: number; flows: StreamLimits; events: StreamLimits };
  connection: NatsLink['connection'];
  log: NatsLog;
  now?: () => number;
  random?: () => number;
  /** For how long an acknowledgement is waited for, and how often an idle stream is looked at. */
  times?: { ackMs: number; checkMs: number };
}

const MIB = 1024 * 1024;
const DEFAULT_TIMES = { ackMs: 5_000, checkMs: 30_000 };
/** How often it looks for another connection: a comparison of two references. */
const POLL_MS = 100;
const TIDY_MS = 1_000;
/** Longest that one turn of the event loop is used. */
const SLICE_MS = 3;
const PUT_ASIDE_TOLD_MS = 600_000;
/** Headers count as payload; ours are smaller. */
const HEADERS_MOST = 1024;

/** Opens the spool and starts publishing. Throws when the disk fails. */
export function openExporter(options: ExporterOptions): Exporter {
  const { mode, log, now = Date.now, random = Math.random, streams, times = DEFAULT_TIMES } = options;
  // What nobody acknowledges nobody can ask for again.
  const limits = mode === 'core' ? { ...options.limits, retainedBytes: 0 } : options.limits;
  let session: Session | undefined;
  let connection: ReturnType<NatsLink['connection']>;
  let putFailure = '';
  let putAsideMs = Number.NEGATIVE_INFINITY;
  let closing: Promise<void> | undefined;
  let closed = false;

  const told = (reason: string): void => {
    putAsideMs = now();
    log.warn({ file: options.file, reason }, 'flow spool put aside');
  };
  const spool = new Spool({
    file: options.file,
    limits,
    now,
    onReset(reason) {
      told(reason);
      // Subjects are others now.
      restart();
    },
  });
  if (spool.putAside) told(spool.putAside);

  const carrying: Carrying = {
    spool,
    traces: new Carried(),
    counts: { messages: 0, records: 0, retried: 0, republished: 0 },
    log,
    random,
    path: ({ kind, name }) => (kind === 'flow' ? flowSubject : eventSubject)(options.cluster, options.node, name),
    encode(row, { kind, name }, stored) {
      const { epoch, first, records } = row;
      const payload = row.reason === 0 ? stored : gapBatch(stored, epoch, first, records, row.reason as Reason, now());
      const message = { kind, name, id: rowId(row), epoch, firstSequence: BigInt(first), records, payload };
      return { id: message.id, records, ...(options.encode ?? asItIs)(message) };
    },
    payloadMost: (to) => (to.info?.max_payload ?? MIB) - HEADERS_MOST,
    breathe: slices(),
  };

  function restart(): void {
    session?.end();
    session = undefined;
    if (connection === undefined || connection.isClosed() || closed) return;
    const prefix = `taplane.v1.${token(options.cluster)}.${token(options.node)}`;
    const wanted = (subjects: string, limits: StreamLimits) =>
      streams.create ? { ...limits, subjects: [subjects], replicas: streams.replicas } : undefined;
    session =
      mode === 'core'
        ? coreSession(carrying, connection)
        : jetStreamSession(carrying, {
            connection,
            wanted: { flow: wanted('taplane.v1.*.*.flow.>', streams.flows), event: wanted('taplane.v1.*.*.event.>', streams.events) },
            subjects: { flow: `${prefix}.flow.>`, event: `${prefix}.event.>` },
            ackTimeoutMs: times.ackMs,
            checkMs: times.checkMs,
          });
  }

  function look(): void {
    const open = options.connection();
    if (open === connection) return;
    connection = open;
    restart();
  }
  const poll = setInterval(look, POLL_MS);
  const tidy = setInterval(() => {
    try {
      spool.tidy();
    } catch (error) {
      putFailure = text(error);
    }
  }, TIDY_MS);
  poll.unref();
  tidy.unref();
  look();

  const reason = (): string =>
    putFailure ||
    (now() - putAsideMs < PUT_ASIDE_TOLD_MS ? spool.putAside : '') ||
    (session === undefined ? 'not connected to NATS' : session.reason());

  async function close(graceMs: number): Promise<void> {
    const until = performance.now() + graceMs;
    // Without a connection there is nothing to wait for.
    if (graceMs > 0) look();
    while (session !== undefined && spool.account.waitingMessages > 0 && performance.now() < until) await sleep(10);
    clearInterval(poll);
    clearInterval(tidy);
    closed = true;
    session?.end();
    session = undefined;
    // Steps that are on their way see that the session is over before they touch the spool.
    await nextTurn();
    spool.close();
  }

  return {
    put(messages) {
      if (closed) throw new Error('put into the spool: it is closed');
      let touched: Set<Subject>;
      try {
        touched = spool.put(messages);
        putFailure = '';
        for (const { id, trace } of messages) carrying.traces.note(id, trace);
      } catch (error) {
        putFailure = `write to the spool: ${text(error)}`;
        throw error;
      }
      session?.wake(touched);
    },
    stats() {
      const { account } = spool;
      const { counts } = carrying;
      const oldest = closed ? undefined : oldestOf(spool);
      return {
        spooledMessages: BigInt(account.waitingMessages),
        spooledBytes: BigInt(account.waitingBytes),
        spoolLimitBytes: BigInt(limits.spoolBytes),
        retainedMessages: BigInt(account.ackedMessages),
        retainedBytes: BigInt(account.ackedBytes),
        publishedMessages: BigInt(counts.messages),
        publishedRecords: BigInt(counts.records),
        retriedMessages: BigInt(counts.retried),
        republishedMessages: BigInt(counts.republished),
        lost: [...account.lost].filter(([, count]) => count > 0).map(([why, count]) => ({ reason: why, count: BigInt(count) })),
        reason: reason(),
        oldestSeconds: BigInt(oldest === undefined ? 0 : Math.max(0, Math.floor((now() - oldest) / 1000))),
      } satisfies ExportStats;
    },
    close(graceMs) {
      closing ??= close(graceMs);
      return closing;
    },
  };
}

function asItIs(message: Outgoing): { payload: Uint8Array; contentType: string } {
  const type = message.kind === 'flow' ? 'taplane.v1.FlowBatch' : 'taplane.v1.Event';
  return { payload: message.payload, contentType: `application/protobuf; messageType=${type}` };
}

/** Ends the turn of the event loop for whoever awaits it when the turn has been used long enough. */
function slices(): () => Promise<void> {
  let since = Number.NEGATIVE_INFINITY;
  let turn: Promise<void> | undefined;
  return async () => {
    if (turn === undefined) {
      since = performance.now();
      turn = nextTurn().then(() => {
        turn = undefined;
      });
    }
    while (performance.now() - since > SLICE_MS) {
      await turn;
      if (turn === undefined) {
        since = performance.now();
        turn = nextTurn().then(() => {
          turn = undefined;
        });
      }
    }
  };
}

function text(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}

/** A disk that fails is told of in another place: an account can always be given. */
function oldestOf(spool: Spool): number | undefined {
  try {
    return spool.oldestMs();
  } catch {
    return undefined;
  }
}
