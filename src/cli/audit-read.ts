// What audit list does, and records as people read them.

import { AuditRecord, ListAuditRecordsRequest_Order as Order } from '../gen/taplane/v1/audit_service.ts';
import type { ListFlags } from './audit.ts';
import { printAnswer } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import type { Column } from './table.ts';

/** As many as the server gives at once. */
const PAGE_SIZE = 1000;

const columns: Column<AuditRecord>[] = [
  { head: 'SEQUENCE', cell: ({ sequence }) => String(sequence) },
  { head: 'TIME', cell: ({ time }) => (time ? new Date(Number(time.seconds) * 1000 + time.nanos / 1e6).toISOString() : '') },
  { head: 'CALLER', cell: ({ caller }) => caller?.name ?? '' },
  { head: 'METHOD', cell: ({ method }) => method.slice(method.lastIndexOf('/') + 1) },
  { head: 'RESOURCE', cell: ({ resources }) => resources.join(',') },
  { head: 'OUTCOME', cell: ({ code }) => code },
  { head: 'REASON', cell: ({ reason }) => reason },
  { head: 'DURATION', wide: true, cell: ({ duration }) => (duration ? `${Number(duration.seconds) * 1000 + duration.nanos / 1e6}ms` : '') },
  { head: 'FROM', wide: true, cell: ({ caller }) => (caller?.pid === undefined ? (caller?.address ?? '') : `pid ${caller.pid}`) },
  { head: 'ROLES', wide: true, cell: ({ roles }) => roles.join(',') },
  { head: 'REQUEST', wide: true, cell: ({ request }) => request },
];

export async function list(flags: ListFlags, settings: Settings): Promise<void> {
  await withClient(settings, async ({ audit }) => {
    const found: AuditRecord[] = [];
    let pageToken = '';
    do {
      const page = await audit.list({
        pageSize: Math.min(PAGE_SIZE, flags.limit - found.length),
        pageToken,
        order: flags.oldestFirst ? Order.OLDEST_FIRST : Order.NEWEST_FIRST,
        caller: flags.caller ?? '',
        method: flags.method ?? '',
        code: flags.outcome?.toUpperCase() ?? '',
        resource: flags.resource ?? '',
        startTime: flags.since,
        endTime: flags.until,
      });
      found.push(...page.records);
      pageToken = page.nextPageToken;
    } while (pageToken !== '' && found.length < flags.limit);
    const json = { records: found.map((record) => AuditRecord.toJSON(record)) };
    await printAnswer(settings.output, { columns, rows: found, json, name: ({ sequence }) => String(sequence) });
  });
}
