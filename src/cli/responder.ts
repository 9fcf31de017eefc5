// `taplane responder`: the commands and their flags. What they do is loaded when one of them runs.

import { type Command, Option } from 'commander';
import { addChangeFlags, examples } from './interface.ts';
import { collect, RESPONDER_KINDS } from './literals.ts';
import { settingsOf } from './settings.ts';

const change = () => import('./responder-change.ts');
const read = () => import('./responder-read.ts');

export function addResponderCommands(program: Command): void {
  const noun = program
    .command('responder')
    .summary('services that answer packets on an interface')
    .description('Create, read and delete the responders of interfaces: small services that answer packets.');

  addChangeFlags(
    noun
      .command('create')
      .summary('add a responder')
      .argument('<interface>', 'name')
      .addOption(new Option('--kind <kind>', 'what it answers').choices(RESPONDER_KINDS).makeOptionMandatory())
      .option('--id <id>', 'unique in the interface; by default the kind')
      .addOption(new Option('--address <ip|cidr>', 'answer for it; needed for arp and nd; repeatable').argParser(collect(String)))
      .option('--mac <address>', 'MAC address that arp and nd give; by default one that follows from the interface'),
  )
    .addHelpText(
      'before',
      examples(
        'taplane responder create tun0 --kind icmp-echo',
        'taplane responder create tap0 --kind arp --address 10.0.0.0/24 --mac 02:00:00:00:00:01',
        'taplane responder create tun0 --kind sink --id black-hole',
      ),
    )
    .action(async (name: string, options: { kind: string }, command: Command) =>
      (await change()).create(name, { ...options }, settingsOf(command)),
    );

  noun
    .command('get')
    .summary('read responders of an interface')
    .argument('<interface>', 'name')
    .argument('<responder...>', 'ids')
    .addHelpText('before', examples('taplane responder get tap0 arp', 'taplane responder get tap0 arp icmp-echo -o yaml'))
    .action(async (name: string, ids: string[], _: object, command: Command) => (await read()).get(name, ids, settingsOf(command)));

  noun
    .command('list')
    .alias('ls')
    .summary('list responders, of all interfaces or of one')
    .argument('[interface]', 'only of this one')
    .addHelpText('before', examples('taplane responder list', 'taplane responder list tap0 -o wide'))
    .action(async (name: string | undefined, _: object, command: Command) => (await read()).list(name, settingsOf(command)));

  addChangeFlags(
    noun
      .command('delete')
      .alias('rm')
      .summary('remove responders of an interface')
      .argument('<interface>', 'name')
      .argument('<responder...>', 'ids'),
  )
    .option('--missing-ok', 'no failure when there is none')
    .addHelpText('before', examples('taplane responder delete tap0 arp', 'taplane responder delete tap0 arp nd --missing-ok'))
    .action(async (name: string, ids: string[], options: object, command: Command) =>
      (await change()).remove(name, ids, { ...options }, settingsOf(command)),
    );
}
