// `taplane flow`: the commands and their flags. What they do is loaded when one of them runs.

import { type Command, Option } from 'commander';
import { FlowFilterFlags } from './flow-filter-flags.ts';
import { addNatsFlags } from './flow-nats.ts';
import type { ObserveOptions } from './flow-observe.ts';
import { ORDERS } from './flow-rates.ts';
import { parseMoment } from './flow-time.ts';
import type { TopOptions } from './flow-top.ts';
import { examples } from './interface.ts';
import { parseCount } from './literals.ts';
import { parseDuration, settingsOf } from './settings.ts';

export function addFlowCommands(program: Command): void {
  const noun = program
    .command('flow')
    .summary('who talks to whom through the interfaces')
    .description('Flow records: who talks to whom through the interfaces of a node, or of the whole cluster.');
  addObserve(noun);
  noun
    .command('stats')
    .summary('what became of packets and records')
    .description('The account of each interface that is metered, and of the way of the records to memory, NATS and IPFIX.')
    .addHelpText('before', examples('taplane flow stats', 'taplane flow stats -o json'))
    .action(async (_: object, command: Command) => (await import('./flow-stats.ts')).stats(settingsOf(command)));
  addTop(noun);
}

function addObserve(noun: Command): void {
  const filters = new FlowFilterFlags();
  const moment = (text: string) => parseMoment(text, Date.now());
  const command = noun
    .command('observe')
    .summary('print flow records')
    .description(
      'Print flow records: by default the newest 20 that the agent has in memory; with -f also those that come, until Ctrl-C.\n' +
        'Forms (-o): compact, the default, is a line a record; wide adds ids; table, dict, json (an object a line), yaml. ' +
        'Lines and tables tell what came since the record before, of an end all of the flow.',
    )
    .option('-f, --follow', 'go on with new records')
    .addOption(new Option('--last <n>', 'the newest n that match (default: 20)').argParser(parseCount))
    .addOption(new Option('--first <n>', 'the oldest n that match').argParser(parseCount))
    .option('--all', 'all that are in memory, or that NATS keeps')
    .addOption(new Option('--since <time>', 'of packets since: 5m ago, or 2026-01-02T03:04:05Z').argParser(moment))
    .addOption(new Option('--until <time>', 'of packets before; ends -f once it has come').argParser(moment))
    .addOption(
      new Option('--fields <names>', 'only these, such as source_address,forward.bytes; not for lines').argParser((text: string) =>
        text.split(',').map(fieldName),
      ),
    );
  addNatsFlags(filters.addTo(command))
    .addHelpText(
      'before',
      examples(
        'taplane flow observe',
        'taplane flow observe -f --interface "tap*" --port 53',
        'taplane flow observe --since 5m --from-ip 10.0.0.0/8 --not --protocol icmp',
        'taplane flow observe -f -o json | jq .sourceAddress',
        'taplane flow observe --nats nats://nats:4222 -f --node n1',
        'taplane flow observe --nats /var/lib/taplane/nats/client.url   # of an embedded server',
      ),
    )
    .action(async (options: ObserveOptions, command: Command) =>
      (await import('./flow-observe.ts')).observe(options, filters.filters(), settingsWithForm(command)),
    );
}

function addTop(noun: Command): void {
  const filters = new FlowFilterFlags();
  const command = noun
    .command('top')
    .summary('the busiest flows, live')
    .description(
      'The busiest flows each interval, until Ctrl-C. Records come when a flow begins and ends and every minute between: the rate of one ' +
        'holds until the next. --by flows counts the flows from one address to one service.',
    )
    .addOption(new Option('--by <what>', 'order').choices(ORDERS).default('bytes'))
    .addOption(new Option('--interval <time>', 'between two tables').argParser(parseDuration).default(1000, '1s'))
    .addOption(new Option('-n, --number <rows>', 'rows of a table').argParser(parseCount).default(20))
    .addOption(new Option('--count <n>', 'end after so many tables').argParser(parseCount));
  addNatsFlags(filters.addTo(command))
    .addHelpText('before', examples('taplane flow top', 'taplane flow top --by flows --interval 5s', 'taplane flow top --count 1 -o json'))
    .action(async (options: TopOptions, command: Command) =>
      (await import('./flow-top.ts')).top(options, filters.filters(), settingsOf(command)),
    );
}

/** As the API calls it, also where it was copied from JSON. */
function fieldName(word: string): string {
  return word.trim().replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** The form that all commands have by default is none that was asked for. */
function settingsWithForm(command: Command) {
  const settings = settingsOf(command, { hasLines: true });
  const isGiven = command.getOptionValueSourceWithGlobals('output') !== 'default';
  return isGiven ? settings : { ...settings, output: 'compact' as const };
}
