// What packet send does. Answers whether the interface took every packet.

import { createReadStream } from 'node:fs';
import { InjectTotals } from '../gen/taplane/v1/packet.ts';
import { UsageError } from './exit-code.ts';
import { parseFrameLine, parseFrames } from './frame-text.ts';
import { inject } from './injection.ts';
import { print, printDocument } from './output.ts';
import { rejections, sum } from './packet-account.ts';
import { type Settings, withClient } from './settings.ts';
import { table } from './table.ts';

export async function send(name: string, hex: string[], { file }: { file?: string }, settings: Settings): Promise<boolean> {
  const path = file ?? (hex.length === 0 && !process.stdin.isTTY ? '-' : undefined);
  if (hex.length === 0 && path === undefined) throw new UsageError('give packets as hex, or a file with -f');
  if (hex.length > 0 && path !== undefined) throw new UsageError('give packets as hex or a file with -f, not both');
  const given = parseFrames(hex);
  const totals = await withClient(settings, async (client) => {
    const injection = await inject(client, name, settings);
    // A line that is wrong ends it, but what became of those before it is told.
    try {
      for await (const frame of path === undefined ? given : framesOf(path)) await injection.send([frame]);
    } catch (error) {
      if (error instanceof UsageError) await tell(await injection.finish(), settings);
      throw error;
    }
    return injection.finish();
  });
  if (totals.accepted + sum(totals.rejected) === 0n) throw new UsageError(`no packets on ${path === '-' ? 'standard input' : path}`);
  await tell(totals, settings);
  return sum(totals.rejected) === 0n;
}

async function* framesOf(path: string): AsyncGenerator<Buffer> {
  const file = path === '-' ? 'standard input' : path;
  let number = 0;
  let rest = '';
  const frameOf = (line: string) => parseFrameLine(line, file, ++number);
  try {
    for await (const text of path === '-' ? process.stdin.setEncoding('utf8') : createReadStream(path, 'utf8')) {
      const lines = `${rest}${text}`.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const frame = frameOf(line);
        if (frame !== undefined) yield frame;
      }
    }
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError(`read ${file}: ${(error as Error).message}`);
  }
  const last = frameOf(rest);
  if (last !== undefined) yield last;
}

export async function tell(totals: InjectTotals, { output }: Settings): Promise<void> {
  if (output === 'json' || output === 'yaml') return printDocument(output, InjectTotals.toJSON(totals));
  const rows = [
    { outcome: 'accepted', reason: '', count: totals.accepted },
    ...rejections(totals).map((one) => ({ outcome: 'rejected', ...one })),
  ];
  const columns = [
    { head: 'OUTCOME', cell: (row: (typeof rows)[number]) => row.outcome },
    { head: 'REASON', cell: (row: (typeof rows)[number]) => row.reason },
    { head: 'PACKETS', cell: (row: (typeof rows)[number]) => String(row.count) },
  ];
  print(table(columns, rows, false));
}
