// Publishing to core NATS over one connection: nobody acknowledges a message, so one counts as carried once the server has read it, and is
// not kept. In the order of the spool for each subject, a batch at a time, bounded in bytes. Never throws out.

import { setTimeout as sleep } from 'node:timers/promises';
import { RecordLoss_Reason as Reason } from '../gen/taplane/v1/flow.ts';
import type { NatsLink } from '../nats/connection.ts';
import { producerSpan } from '../tracing/span.ts';
import type { Carrying, Session } from './exporter-carrying.ts';
import type { Row, Subject } from './spool.ts';

const BATCH_BYTES = 1024 * 1024;
const BATCH_MESSAGES = 128;
const RETRY_MS = 500;

export function coreSession(carrying: Carrying, connection: NonNullable<ReturnType<NatsLink['connection']>>): Session {
  const { spool, counts } = carrying;
  const ready = new Set<Subject>();
  let ended = false;
  let running = false;
  let reason = '';

  async function run(): Promise<void> {
    const { openCore } = await import('../nats/jetstream.ts');
    const core = await openCore(connection);
    for (let subject = first(); subject !== undefined && !ended; subject = first()) {
      ready.delete(subject);
      const batch: Row[] = [];
      for (let bytes = 0; bytes < BATCH_BYTES && batch.length < BATCH_MESSAGES; ) {
        await carrying.breathe();
        if (ended) return;
        const next = spool.next(subject, batch.at(-1)?.pos);
        const stored = next && spool.payload(next);
        if (next === undefined) break;
        if (stored === undefined) continue;
        const sending = { subject: carrying.path(subject), ...carrying.encode(next, subject, stored) };
        if (sending.payload.length > carrying.payloadMost(connection)) {
          spool.replace(next, Reason.TOO_LARGE);
          continue;
        }
        await producerSpan(sending.subject, carrying.traces.of(sending.id), async (trace) => core.publish({ ...sending, trace }));
        carrying.traces.forget(sending.id);
        bytes += sending.payload.length;
        batch.push(next);
      }
      await core.flush();
      if (ended) return;
      for (const sent of batch) {
        await carrying.breathe();
        if (ended) return;
        spool.acked(sent, 0, '');
        counts.messages += 1;
        counts.records += sent.reason === 0 ? sent.records : 0;
      }
      reason = '';
      if (subject.waiting > 0) ready.add(subject);
    }
  }

  const first = (): Subject | undefined => ready.values().next().value;

  function wake(subjects: Iterable<Subject>): void {
    for (const subject of subjects) if (subject.waiting > 0) ready.add(subject);
    if (running || ended || ready.size === 0) return;
    running = true;
    run()
      .catch(async (error: Error) => {
        reason = error.message || error.name;
        await sleep(RETRY_MS, undefined, { ref: false });
      })
      .finally(() => {
        running = false;
        if (!ended) wake(ready.size > 0 ? [] : spool.account.subjects.values());
      });
  }

  setImmediate(() => wake(spool.account.subjects.values()));
  return {
    wake,
    reason: () => reason,
    isIdle: () => !running,
    end() {
      ended = true;
    },
  };
}
