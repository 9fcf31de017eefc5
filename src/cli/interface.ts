// `taplane interface`: the commands and their flags. What they do is loaded when one of them runs.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { collect, parsePair } from './literals.ts';
import { settingsOf } from './settings.ts';
import { addSpecFlags } from './spec-flags.ts';

const change = () => import('./interface-change.ts');
const read = () => import('./interface-read.ts');
const watching = () => import('./interface-watch.ts');

export function addInterfaceCommands(program: Command): void {
  const noun = program
    .command('interface')
    .aliases(['iface', 'if'])
    .summary('TUN and TAP interfaces')
    .description('Create, read, change and watch TUN and TAP interfaces.');

  addChangeFlags(
    addSpecFlags(
      noun
        .command('create')
        .summary('create a device and manage it')
        .argument('[name]', 'name of the device; %d takes the lowest free number')
        .option('-f, --file <file>', 'read it from a YAML or JSON file, - is stdin; flags win over the file'),
      { needsMode: true },
    ),
  )
    .addHelpText(
      'before',
      examples(
        'taplane interface create tun0 --mode tun --up --address 10.0.0.1/24 --route 10.1.0.0/16,via=10.0.0.2,metric=50',
        'taplane interface create tap%d --mode tap --owner qemu --bridge br0 --carrier keep',
        'taplane interface get tun0 -o yaml > tun.yaml; taplane interface create tun1 -f tun.yaml --address 10.0.1.1/24',
      ),
    )
    .action(async (name: string | undefined, options: object, command: Command) =>
      (await change()).create(name, { ...options }, settingsOf(command)),
    );

  noun
    .command('get')
    .summary('read interfaces')
    .argument('<interface...>', 'names')
    .addHelpText('before', examples('taplane interface get tun0', 'taplane interface get tun0 -o yaml'))
    .action(async (names: string[], _: object, command: Command) => (await read()).get(names, settingsOf(command)));

  noun
    .command('list')
    .alias('ls')
    .summary('list interfaces')
    .addOption(new Option('-l, --selector <key=value>', 'only with this label; repeatable').argParser(collect(parsePair)))
    .option('--full', 'also read who holds the queues; implied by -o wide')
    .addHelpText('before', examples('taplane interface list', 'taplane interface list -o wide -l tenant=blue'))
    .action(async (options: object, command: Command) => (await read()).list(options, settingsOf(command)));

  addChangeFlags(
    addSpecFlags(
      noun
        .command('update')
        .summary('change the flags that are given, and nothing else')
        .argument('[interface]', 'name')
        .option('-f, --file <file>', 'replace spec and labels from a YAML or JSON file, - is stdin; flags win over the file'),
    ),
  )
    .addOption(
      new Option('--clear <field...>', 'empty these').choices([
        'addresses',
        'routes',
        'neighbours',
        'sysctls',
        'labels',
        'flow-metering',
        'responders',
        'packet-mirror',
      ]),
    )
    .addOption(new Option('--add-label <key=value>', 'set one label, keep the others; repeatable').argParser(collect(parsePair)))
    .addOption(new Option('--remove-label <key>', 'remove one label; repeatable').argParser(collect(String)))
    .option('--etag <etag>', 'change only this version')
    .option('--create', 'create it when there is none')
    .addHelpText(
      'before',
      examples(
        'taplane interface update tun0 --mtu 1400 --up',
        'taplane interface update tun0 --mtu default --add-label tenant=blue',
        'taplane interface update -f tun0.yaml',
      ),
    )
    .action(async (name: string | undefined, options: object, command: Command) =>
      (await change()).update(name, { ...options }, settingsOf(command)),
    );

  addChangeFlags(noun.command('delete').alias('rm').summary('delete interfaces and their devices').argument('<interface...>', 'names'))
    .option('--missing-ok', 'no failure when there is none')
    .option('--etag <etag>', 'delete only this version')
    .addHelpText('before', examples('taplane interface delete tun0', 'taplane interface delete tun0 --dry-run'))
    .action(async (names: string[], options: object, command: Command) =>
      (await change()).remove(names, { ...options }, settingsOf(command)),
    );

  noun
    .command('watch')
    .summary('print what there is, then every change')
    .description(
      'Print what there is, then `synced`, then every change with the commands that were run for it.\n' +
        'Ends with Ctrl-C, or after an explicit --timeout, both with exit code 0; without --timeout it never ends.',
    )
    .argument('[interface]', 'only this one')
    .option('--links', 'also every link of the node, managed or not')
    .option('--resume-token <token>', 'go on after an earlier watch')
    .addHelpText(
      'before',
      examples(
        'taplane interface watch',
        'taplane interface watch tun0 --timeout 30s',
        'taplane interface watch tun0 -o json | jq .modified.status.carrier',
      ),
    )
    .action(async (name: string | undefined, options: object, command: Command) => {
      const settings = settingsOf(command);
      const asked = command.getOptionValueSourceWithGlobals('timeout') !== 'default';
      await (await watching()).watch(name, { ...options, ...(asked && { endAfterMs: settings.timeout }) }, settings);
    });

  addChangeFlags(noun.command('adopt').summary('take over a device that somebody else made').argument('<device>', 'name of the device'))
    .option('--netns <namespace>', 'network namespace of the device')
    .option('--take-over', 'also a device that carries the mark of another agent; make sure that it does not run any more')
    .addOption(new Option('--label <key=value>', 'label; repeatable').argParser(collect(parsePair)))
    .addHelpText('before', examples('ip tuntap add tun7 mode tun && taplane interface adopt tun7'))
    .action(async (name: string, options: object, command: Command) => (await change()).adopt(name, { ...options }, settingsOf(command)));

  addSpecFlags(
    noun
      .command('plan')
      .summary('print the ip commands that would run, and change nothing')
      .argument('[name]', 'name of a device, there or not')
      .option('-f, --file <file>', 'read it from a YAML or JSON file, - is stdin; flags win over the file'),
  )
    .addHelpText(
      'before',
      examples('taplane interface plan tun0 --mode tun --up --address 10.0.0.1/24', 'taplane interface plan -f tun0.yaml'),
    )
    .action(async (name: string | undefined, options: object, command: Command) =>
      (await change()).plan(name, { ...options }, settingsOf(command)),
    );
}

/** The flags of every call that changes something; `dryRun` says what one of them does. */
export function addChangeFlags(command: Command, dryRun = 'check everything and print the plan, but change nothing'): Command {
  return command
    .addOption(new Option('--dry-run', dryRun))
    .addOption(new Option('--validate-only', 'the same, by its name in the API'))
    .addOption(new Option('--request-id <uuid>', 'makes a repeated call safe: the same id has one effect').argParser(parseUuid));
}

export function examples(...lines: string[]): string {
  return `Examples:\n${lines.map((line) => `  ${line}\n`).join('')}`;
}

function parseUuid(text: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) throw new InvalidArgumentError('Expected a UUID.');
  return text;
}
