// `taplane audit`: the commands and their flags. What they do is loaded when one of them runs.

import { type Command, InvalidArgumentError } from 'commander';
import type { Timestamp } from '../gen/google/protobuf/timestamp.ts';
import { parseMoment } from './flow-time.ts';
import { examples } from './interface.ts';
import { settingsOf } from './settings.ts';

export interface ListFlags {
  caller?: string;
  method?: string;
  outcome?: string;
  resource?: string;
  since?: Timestamp;
  until?: Timestamp;
  oldestFirst?: boolean;
  limit: number;
}

const LIMIT_DEFAULT = 100;

export function addAuditCommands(program: Command, exit: (code: number) => void): void {
  const moment = (text: string) => parseMoment(text, Date.now());
  const noun = program
    .command('audit')
    .summary('who changed what, and who was refused')
    .description('The audit log of the node: a record of each call that changed something or wanted to, and of each that was refused.');

  noun
    .command('list')
    .alias('ls')
    .summary('list records, the newest first')
    .option('--caller <name>', 'only of this one: uid:0, spiffe://..., dns:NAME, loopback')
    .option('--method <name>', 'only of this method: CreateInterface, or its full name')
    .option('--outcome <code>', 'only with this code: OK, PERMISSION_DENIED, ...')
    .option('--resource <name>', 'only about this one: interfaces/tun0')
    .option('--since <time>', 'only from then on: 1h30m ago, or 2026-01-02T03:04:05Z', moment)
    .option('--until <time>', 'only before then', moment)
    .option('--oldest-first', 'from the beginning of the log')
    .option('--limit <count>', 'at most so many', parseLimit, LIMIT_DEFAULT)
    .addHelpText(
      'before',
      examples(
        'taplane audit list',
        'taplane audit list --outcome PERMISSION_DENIED --since 1d -o wide',
        'taplane audit list --resource interfaces/tun0 -o json',
      ),
    )
    .action(async (options: ListFlags, command: Command) => (await import('./audit-read.ts')).list({ ...options }, settingsOf(command)));

  noun
    .command('verify')
    .summary('check that no record was changed, removed, added or moved')
    .description('Checks every record and the chain between them. Exits with 1 when the log is not as it was written.')
    .option('--file <path>', 'check this file, or this folder of a log, without an agent')
    .addHelpText('before', examples('taplane audit verify', 'taplane audit verify --file /var/lib/taplane/audit'))
    .action(async ({ file }: { file?: string }, command: Command) =>
      exit(await (await import('./audit-verify.ts')).verify(file, settingsOf(command))),
    );
}

function parseLimit(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('Expected a whole number from 1.');
  return Number(text);
}
