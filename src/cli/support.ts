// `taplane support-bundle`: the file that the agent makes, written here for its owner alone.

import type { Command } from 'commander';
import { examples } from './interface.ts';
import { settingsOf } from './settings.ts';

export function addSupportCommand(program: Command): void {
  program
    .command('support-bundle')
    .summary('collect what is needed to understand trouble from afar')
    .description(
      'Collect version, configuration, interfaces, links, log, events, kernel tables, metrics and the word of the doctor in one tar.gz, without keys and passwords. It names interfaces, addresses and peers: look into it before you give it away.',
    )
    .option('-w, --write <file>', 'where to write it, - for stdout (default: taplane-support-NODE-TIME.tar.gz here)')
    .addHelpText(
      'before',
      examples('taplane support-bundle', 'taplane support-bundle -w /tmp/node-a.tar.gz', 'taplane support-bundle -w - | tar tz'),
    )
    .action(async ({ write }: { write?: string }, command: Command) =>
      (await import('./support-write.ts')).writeBundle(write, settingsOf(command)),
    );
}
