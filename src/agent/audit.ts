// The audit log in an agent: a gate around the one that knows and allows callers, the service that reads it, what it says of its health, and its
// way to NATS.
//
// A call that changes something is let in only when it can be written down; its answer goes out when it is. One that was refused for want of that
// is written down later.

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { entryOf, isAudited, isChange } from '../audit/entry.ts';
import { type Found, listRecords } from '../audit/list.ts';
import { AuditLog } from '../audit/log.ts';
import { Strangers } from '../audit/strangers.ts';
import { type Verdict, verifyFolder } from '../audit/verify.ts';
import { recordMessage, tokenOf, verdictMessage, wantedOf } from '../audit/wire.ts';
import { TaplaneError } from '../errors.ts';
import type { Exporter } from '../flow/contract.ts';
import type { Condition } from '../gen/taplane/v1/interface.ts';
import type { AuditFacts } from '../metrics/snapshot.ts';
import { Conditions } from '../resource/conditions.ts';
import type { AuditRecords } from '../rpc/audit-service.ts';
import type { Gate, GatedCall } from '../rpc/gate.ts';
import { type AuditFeed, auditFeed } from './audit-feed.ts';
import type { Config } from './config.ts';
import type { Log } from './log.ts';

export interface AuditNeeds {
  config: Pick<Config, 'stateDir' | 'cluster' | 'node' | 'audit'>;
  /** Absent where records do not go to NATS. */
  exporter?: Pick<Exporter, 'put'> | undefined;
  log: Log;
  /** Roles of a caller, where policy has some. */
  rolesOf?: (call: GatedCall) => readonly string[];
  /** Hears when the log can be written or not. */
  changed?: (works: boolean) => void;
}

export interface NodeAudit {
  readonly records: AuditRecords;
  /** The log can be written. */
  readonly works: boolean;
  /** `gate`, and the record of what passes it. */
  around(gate: Gate): Gate;
  conditions(): Condition[];
  /** What became of records since the start, and how large the log is. */
  facts(): AuditFacts;
  /** Writes what waits, hands it to the exporter, and closes. */
  close(): Promise<void>;
}

/** Who may not do it, and who nobody knows. */
const DENIED = ['PERMISSION_DENIED', 'UNAUTHENTICATED'];
/** How often a reader starts anew when rotation takes a file away from under it. */
const TRIES = 3;

/** Opens the log, or what stands in its place where none is kept. Does not throw when the disk fails: then nothing is let in that changes something. */
export function nodeAudit(needs: AuditNeeds): NodeAudit {
  if (!needs.config.audit.enabled) return OFF;
  const { config, log, rolesOf = () => [], changed = () => {} } = needs;
  const folder = join(config.stateDir, 'audit');
  const { maxBytes, files } = config.audit;
  let feed: AuditFeed | undefined;
  const counts = { allowed: 0, denied: 0 };
  let failures = 0;
  const audit = new AuditLog({
    folder,
    limits: { maxBytes, files },
    written(records) {
      for (const { code } of records) counts[DENIED.includes(code) ? 'denied' : 'allowed']++;
      feed?.written(records);
    },
    changed(failure) {
      if (failure === undefined) log.info({}, 'audit log is written again');
      else log.error({ reason: failure.reason, error: failure.message }, 'audit log cannot be written: nothing is changed until it can');
      changed(failure === undefined);
    },
  });
  if (audit.damage !== '') log.error({ reason: audit.damage, path: folder }, 'audit log is not as it was written');
  feed = needs.exporter && auditFeed({ exporter: needs.exporter, folder, audit, cluster: config.cluster, node: config.node, log });

  const strangers = new Strangers((entry) => audit.append(entry));
  const begun = new WeakMap<GatedCall, { atMs: number; since: number; refused: boolean }>();
  const around = (gate: Gate): Gate => ({
    ...gate,
    authorize(call) {
      const start = { atMs: Date.now(), since: performance.now(), refused: false };
      begun.set(call, start);
      gate.authorize(call);
      if (!isChange(call.path)) return;
      try {
        audit.admit();
      } catch (error) {
        start.refused = true;
        failures++;
        throw error;
      }
    },
    stranger: (path, error) => strangers.refused(path, error),
    async record(call, outcome) {
      await gate.record(call, outcome);
      if (!isAudited(call.path, outcome.code)) return;
      const { atMs, since, refused } = begun.get(call) ?? { atMs: Date.now(), since: performance.now(), refused: false };
      const entry = entryOf(call, outcome, { atMs, durationMs: performance.now() - since }, rolesOf(call));
      if (refused) return audit.appendLate(entry);
      try {
        await audit.append(entry);
      } catch (error) {
        failures++;
        throw error;
      }
    },
  });

  const conditions = new Conditions<string>();
  return {
    records: recordsOf(folder, audit),
    get works() {
      return audit.failure === undefined;
    },
    around,
    conditions() {
      const { failure, damage, late } = audit;
      const waiting = late.waiting + late.lost > 0 ? `; ${late.waiting} records wait, ${late.lost} found no room` : '';
      conditions.set(
        'AuditWritten',
        failure === undefined,
        failure?.reason ?? 'Written',
        failure ? `${failure.message}${waiting}` : '',
        Date.now(),
      );
      const cure = 'see taplane audit verify, and compare with what NATS has';
      conditions.set('AuditIntact', damage === '', damage === '' ? 'Intact' : 'Damaged', damage && `${damage}; ${cure}`, Date.now());
      return conditions.list();
    },
    facts: () => ({ records: { ...counts }, failures, bytes: bytesOf(folder) }),
    async close() {
      await strangers.close();
      await audit.close();
      feed?.close();
    },
  };
}

function bytesOf(folder: string): number {
  try {
    return readdirSync(folder).reduce((sum, name) => sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0), 0);
  } catch {
    // Not there yet, or not readable: what writes it says so.
    return 0;
  }
}

function recordsOf(folder: string, audit: AuditLog): AuditRecords {
  let verifying: Promise<Verdict> | undefined;
  const headNow = () => {
    const { head } = audit;
    if (head === undefined) throw unreadable(audit.failure);
    return head;
  };
  return {
    async list(request, signal) {
      const wanted = wantedOf(request);
      const { records, after } = await reading<Found>(() => listRecords(folder, headNow(), wanted), signal);
      return { records: records.map(recordMessage), nextPageToken: tokenOf(after) };
    },
    async verify() {
      // Whoever comes meanwhile gets the same answer: reading all of it is work.
      verifying ??= reading<Verdict>(() => verifyFolder(folder, headNow())).finally(() => {
        verifying = undefined;
      });
      return verdictMessage(await verifying);
    },
  };
}

/** Runs in slices. Throws TaplaneError. */
async function reading<Result>(begin: () => Generator<void, Result>, signal?: AbortSignal): Promise<Result> {
  for (let tries = 1; ; tries++) {
    try {
      const steps = begin();
      let step = steps.next();
      while (!step.done) {
        await nextTurn();
        if (signal?.aborted) {
          steps.return(undefined as never);
          throw new TaplaneError('CANCELLED', 'CANCELLED', 'the client no longer waits');
        }
        step = steps.next();
      }
      return step.value;
    } catch (error) {
      if (error instanceof TaplaneError) throw error;
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || tries >= TRIES) throw unreadable(error);
    }
  }
}

function unreadable(error: unknown): TaplaneError {
  const text = error instanceof Error ? error.message : 'it was never opened';
  return new TaplaneError('UNAVAILABLE', 'AUDIT_UNREADABLE', `read the audit log: ${text}; look at the disk of the state directory`, {
    cause: error,
    retryAfterMs: 5000,
  });
}

function off(): never {
  throw new TaplaneError('FAILED_PRECONDITION', 'AUDIT_OFF', 'read the audit log: this agent keeps none (audit.enabled is false)');
}

const OFF: NodeAudit = {
  records: { list: async () => off(), verify: async () => off() },
  works: true,
  around: (gate) => gate,
  conditions: () => [],
  facts: () => ({ records: {}, failures: 0, bytes: 0 }),
  close: async () => {},
};
