// Entries and logs for tests.

import type { AuditLimits } from '../../src/audit/disk.ts';
import { readHead } from '../../src/audit/files.ts';
import { listRecords } from '../../src/audit/list.ts';
import { AuditLog } from '../../src/audit/log.ts';
import type { Chained, Entry } from '../../src/audit/record.ts';

export function entry(n: number): Entry {
  return {
    time: new Date(1_700_000_000_000 + n * 1000).toISOString(),
    caller: { name: `uid:${n % 3}`, kind: 'unix', uid: n % 3, gid: 0, pid: 1000 + n },
    method: `/taplane.v1.InterfaceService/${n % 2 === 0 ? 'CreateInterface' : 'DeleteInterface'}`,
    resources: [`interfaces/tun${n % 5}`],
    code: n % 7 === 0 ? 'PERMISSION_DENIED' : 'OK',
    reason: n % 7 === 0 ? 'NOT_ALLOWED' : '',
    durationMs: n / 8,
    digest: 'ab'.repeat(32),
    request: `{"name":"interfaces/tun${n % 5}","n":${n}}`,
  };
}

export const WIDE: AuditLimits = { maxBytes: 1024 * 1024, files: 8 };

/** Writes `count` records and closes. */
export async function written(folder: string, count: number, limits = WIDE): Promise<void> {
  const log = new AuditLog({ folder, limits });
  for (let from = 0; from < count; from += 5) {
    const group = Math.min(5, count - from);
    await Promise.all(Array.from({ length: group }, (_, n) => log.append(entry(from + n))));
  }
  await log.close();
}

/** Records that are found in a log. */
export function allRecords(folder: string, order: 'newest' | 'oldest' = 'oldest', after?: number, most = 1_000_000): Chained[] {
  const head = readHead(folder);
  if (head === undefined) throw new Error('no head');
  const steps = listRecords(folder, head, { order, after, most, holds: () => true });
  let step = steps.next();
  while (!step.done) step = steps.next();
  return step.value.records;
}
