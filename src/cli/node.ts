// `taplane node status`.

import type { Command } from 'commander';
import { examples } from './interface.ts';
import { settingsOf } from './settings.ts';

export function addNodeCommands(program: Command): void {
  const noun = program.command('node').summary('the node and its agent').description('The node that the agent runs on.');
  noun
    .command('status')
    .summary('what the node and its agent are and can do')
    .addHelpText('before', examples('taplane node status', 'taplane node status -o json'))
    .action(async (_: object, command: Command) => (await import('./node-status.ts')).status(settingsOf(command)));
}
