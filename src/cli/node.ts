// `taplane node`.

import { Argument, type Command, Option } from 'commander';
import { examples } from './interface.ts';
import type { LevelWord } from './log-level.ts';
import { parseDuration, settingsOf } from './settings.ts';

export function addNodeCommands(program: Command): void {
  const noun = program.command('node').summary('the node and its agent').description('The node that the agent runs on.');
  noun
    .command('status')
    .summary('what the node and its agent are and can do')
    .addHelpText('before', examples('taplane node status', 'taplane node status -o json'))
    .action(async (_: object, command: Command) => (await import('./node-status.ts')).status(settingsOf(command)));
  noun
    .command('log-level')
    .summary('set what the agent logs, for a while or until it ends')
    .addArgument(
      new Argument('<level>', 'the least that is logged; default: as configured').choices(['debug', 'info', 'warn', 'error', 'default']),
    )
    .addOption(new Option('--for <time>', 'after this it is as configured again: 30s, 10m, 2h').argParser(parseDuration))
    .addHelpText('before', examples('taplane node log-level debug --for 10m', 'taplane node log-level default'))
    .action(async (level: LevelWord, flags: { for?: number }, command: Command) =>
      (await import('./log-level.ts')).setLevel(level, flags.for, settingsOf(command)),
    );
}
