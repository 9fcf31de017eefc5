// An exporter for an agent that does not depend on its disk: when the spool cannot be opened, `put` throws, which whoever hands over takes as a disk
// that fails and keeps what it has, and opening is tried again for as long as it takes. Never throws but in `put`.

import { TaplaneError } from '../errors.ts';
import type { ExportStats } from '../gen/taplane/v1/flow_service.ts';
import type { NatsLog } from '../nats/connection.ts';
import type { Exporter } from './contract.ts';

const RETRY_FIRST_MS = 1_000;
const RETRY_MOST_MS = 30_000;

export interface PatientExporter extends Exporter {
  /** Why the spool is not open; undefined when it is. */
  failure(): TaplaneError | undefined;
}

/** `open` throws when the disk fails. `limitBytes` is what the spool will be allowed. */
export function patientExporter(open: () => Exporter, limitBytes: number, log: NatsLog): PatientExporter {
  let exporter: Exporter | undefined;
  let failure: TaplaneError | undefined;
  let timer: NodeJS.Timeout | undefined;
  let retryMs = RETRY_FIRST_MS;
  let closed = false;

  function attempt(): void {
    timer = undefined;
    if (closed) return;
    try {
      exporter = open();
      if (failure !== undefined) log.info({}, 'flow spool opened');
      failure = undefined;
    } catch (error) {
      if (failure === undefined) log.warn({ reason: text(error) }, 'flow spool cannot be opened: nothing is exported until it can');
      failure = failureOf(error);
      timer = setTimeout(attempt, retryMs);
      timer.unref();
      retryMs = Math.min(RETRY_MOST_MS, retryMs * 2);
    }
  }
  attempt();

  return {
    failure: () => failure,
    put(messages) {
      if (exporter === undefined) throw failure ?? new Error('put into the spool: it is closed');
      exporter.put(messages);
    },
    stats: () => exporter?.stats() ?? { ...NOTHING, spoolLimitBytes: BigInt(limitBytes), reason: failure?.message ?? '' },
    async close(graceMs) {
      closed = true;
      clearTimeout(timer);
      await exporter?.close(graceMs);
    },
  };
}

function failureOf(error: unknown): TaplaneError {
  if (error instanceof TaplaneError) return error;
  const message = `open the flow spool: ${text(error)}; look at the disk of the state directory`;
  return new TaplaneError('UNAVAILABLE', 'SPOOL_UNAVAILABLE', message, { cause: error, retryAfterMs: 5000 });
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const NOTHING: ExportStats = {
  spooledMessages: 0n,
  spooledBytes: 0n,
  spoolLimitBytes: 0n,
  retainedMessages: 0n,
  retainedBytes: 0n,
  publishedMessages: 0n,
  publishedRecords: 0n,
  retriedMessages: 0n,
  republishedMessages: 0n,
  lost: [],
  reason: '',
  oldestSeconds: 0n,
};
