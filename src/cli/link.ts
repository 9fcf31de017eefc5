// `taplane link`: the commands and their flags. What they do is loaded when one of them runs.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { EXIT } from './exit-code.ts';
import { addChangeFlags, examples } from './interface.ts';
import { addLinkFlags } from './link-flags.ts';
import { PEER_FORM, parsePeer, type TypedPeer } from './link-peer.ts';
import { collect, parseCount, parsePair } from './literals.ts';
import { settingsOf } from './settings.ts';

const change = () => import('./link-change.ts');
const read = () => import('./link-read.ts');
const watching = () => import('./link-watch.ts');
const probing = () => import('./link-probe.ts');
const keys = () => import('./link-key.ts');

const FILE = 'a YAML or JSON file, - is stdin; flags win over the file';

/** `exit` is told the code of a probe that nobody answered. */
export function addLinkCommands(program: Command, exit: (code: number) => void): void {
  const noun = program
    .command('link')
    .summary('tunnels that join an interface to other hosts')
    .description('Create, read, change, watch and probe links: tunnels that join an interface to interfaces of other hosts.');

  addChanges(
    addLinkFlags(
      noun
        .command('create')
        .summary('join an interface to other hosts')
        .argument('[name]', 'name of the link')
        .option('-f, --file <file>', `read it from ${FILE}`),
    ),
  )
    .addHelpText(
      'before',
      examples(
        'taplane link create wg0 --interface tun0 --protocol wireguard --listen :51820 --peer public-key=KEY,endpoint=192.0.2.2:51820,allowed=10.0.0.2/32',
        'taplane link create site --interface tap0 --protocol vxlan --vni 42 --peer endpoint=192.0.2.2:4789',
        'taplane link create server --interface tun1 --protocol frames --transport tcp --listen :55555',
        'taplane link create client --interface tun1 --protocol frames --transport tcp --peer endpoint=192.0.2.2:55555',
      ),
    )
    .action(async (name: string | undefined, options: object, command: Command) =>
      (await change()).create(name, { ...options }, settingsOf(command)),
    );

  noun
    .command('get')
    .summary('read links with peers, traffic and drops')
    .argument('<link...>', 'names')
    .addHelpText('before', examples('taplane link get wg0', 'taplane link get wg0 -o wide', 'taplane link get wg0 -o yaml > wg0.yaml'))
    .action(async (names: string[], _: object, command: Command) => (await read()).get(names, settingsOf(command)));

  noun
    .command('list')
    .alias('ls')
    .summary('list links')
    .addOption(new Option('-l, --selector <key=value>', 'only with this label; repeatable').argParser(collect(parsePair)))
    .option('--interface <interface>', 'only of this one')
    .addHelpText('before', examples('taplane link list', 'taplane link list -o wide -l tenant=blue'))
    .action(async (options: object, command: Command) => (await read()).list(options, settingsOf(command)));

  addChanges(
    addLinkFlags(
      noun
        .command('update')
        .summary('change the flags that are given, and nothing else')
        .argument('[link]', 'name')
        .option('-f, --file <file>', `replace spec and labels from ${FILE}`),
    ),
  )
    .addOption(new Option('--clear <field...>', 'empty these').choices(['peers', 'listen', 'bind-device', 'tls', 'labels']))
    .addOption(new Option('--add-label <key=value>', 'set one label, keep the others; repeatable').argParser(collect(parsePair)))
    .addOption(new Option('--remove-label <key>', 'remove one label; repeatable').argParser(collect(String)))
    .option('--etag <etag>', 'change only this version')
    .option('--create', 'create it when there is none')
    .addHelpText(
      'before',
      examples(
        'taplane link update wg0 --mtu 1380',
        'taplane link update wg0 --private-key new.key',
        'taplane link update -f wg0.yaml --create',
      ),
    )
    .action(async (name: string | undefined, options: object, command: Command) =>
      (await change()).update(name, { ...options }, settingsOf(command)),
    );

  addChanges(noun.command('delete').alias('rm').summary('delete links; their interfaces stay').argument('<link...>', 'names'))
    .option('--missing-ok', 'no failure when there is none')
    .option('--etag <etag>', 'delete only this version')
    .addHelpText('before', examples('taplane link delete wg0', 'taplane link delete wg0 site --missing-ok'))
    .action(async (names: string[], options: object, command: Command) =>
      (await change()).remove(names, { ...options }, settingsOf(command)),
    );

  noun
    .command('watch')
    .summary('print what there is, then every change of state and peers')
    .description(
      'Print what there is, then `synced`, then every change of links, their states and peers.\n' +
        'Ends with Ctrl-C, or after an explicit --timeout, both with exit code 0; without --timeout it never ends.',
    )
    .argument('[link]', 'only this one')
    .option('--resume-token <token>', 'go on after an earlier watch')
    .addHelpText('before', examples('taplane link watch', 'taplane link watch wg0 -o json | jq .modified.status.state'))
    .action(async (name: string | undefined, options: object, command: Command) => {
      const settings = settingsOf(command);
      const asked = command.getOptionValueSourceWithGlobals('timeout') !== 'default';
      await (await watching()).watch(name, { ...options, ...(asked && { endAfterMs: settings.timeout }) }, settings);
    });

  noun
    .command('probe')
    .summary('measure round trip, loss, MTU and throughput to a peer')
    .description('Measure a peer through the link. Exits with 1 when nothing came back.')
    .argument('<link>', 'name')
    .option('--peer <peer>', 'its endpoint, its name, or its public key; needed where there are several')
    .addOption(new Option('--count <number>', 'round trips, 1 to 1000; default 10').argParser(from(1, 1000)))
    .addOption(new Option('--interval <milliseconds>', 'time between them, 1 to 10000; default 100').argParser(from(1, 10_000)))
    .option('--mtu', 'search for the largest packet that passes')
    .addOption(new Option('--throughput <seconds>', 'load the link for so long, 1 to 60, and measure').argParser(from(1, 60)))
    .addHelpText('before', examples('taplane link probe wg0', 'taplane link probe wg0 --peer berlin --count 100 --mtu --throughput 5'))
    .action(async (name: string, options: object, command: Command) => {
      if (!(await (await probing()).probe(name, options, settingsOf(command)))) exit(EXIT.failure);
    });

  addPeerCommands(noun);

  noun
    .command('keygen')
    .summary('make a private key')
    .description('Make a private key, here and not at the agent. Without --out it goes to stdout, and the public key to stderr.')
    .option('--out <file>', 'write it there, for its owner alone, and print the public key')
    .option('--force', 'replace the file')
    .option('--preshared', 'a preshared key instead: the same for both ends')
    .addHelpText('before', examples('taplane link keygen --out wg0.key', 'taplane link keygen | taplane link pubkey'))
    .action(async (options: object, command: Command) => (await keys()).keygen(options, settingsOf(command)));

  noun
    .command('pubkey')
    .summary('print the public key of a private one')
    .argument('[file]', 'file with the private key; default stdin')
    .addHelpText('before', examples('taplane link pubkey < wg0.key'))
    .action(async (path: string | undefined, _: object, command: Command) => (await keys()).pubkey(path, settingsOf(command)));
}

function addChanges(command: Command): Command {
  return addChangeFlags(command, 'check everything and say what would be done, but change nothing');
}

function addPeerCommands(noun: Command): void {
  const peer = noun.command('peer').summary('add and remove single peers').description('Add and remove single peers of a link.');
  addChanges(
    peer
      .command('add')
      .summary('add a peer')
      .argument('<link>', 'name')
      .argument('<peer>', `${PEER_FORM}; more with keys of --peer: see link create --help`, parsePeer),
  )
    .option('--replace', 'change the peer of this key, or endpoint, when there is one')
    .addHelpText(
      'before',
      examples('taplane link peer add wg0 public-key=KEY,endpoint=192.0.2.3:51820,allowed=10.0.0.3/32+fd00::3/128,name=oslo'),
    )
    .action(async (name: string, typed: TypedPeer, options: object, command: Command) =>
      (await change()).addPeer(name, typed, { ...options }, settingsOf(command)),
    );
  addChanges(
    peer
      .command('remove')
      .alias('rm')
      .summary('remove peers')
      .argument('<link>', 'name')
      .argument('<peer...>', 'endpoint, name, or public key'),
  )
    .option('--missing-ok', 'no failure when there is none')
    .addHelpText('before', examples('taplane link peer remove wg0 oslo'))
    .action(async (name: string, called: string[], options: object, command: Command) =>
      (await change()).removePeers(name, called, { ...options }, settingsOf(command)),
    );
}

function from(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = parseCount(text);
    if (value < least || value > most) throw new InvalidArgumentError(`Expected ${least} to ${most}.`);
    return value;
  };
}
