// `taplane address` and `taplane route`: edit one entry of a spec without reading and writing the whole.

import type { Command } from 'commander';
import { addChangeFlags, examples } from './interface.ts';
import { parseAddress, parseRoute } from './literals.ts';
import { settingsOf } from './settings.ts';

const edit = () => import('./address-change.ts');

export function addAddressCommands(program: Command): void {
  const noun = program
    .command('address')
    .alias('addr')
    .summary('addresses of an interface')
    .description('Add and remove addresses of an interface.');
  for (const verb of ['add', 'remove'] as const) {
    addChangeFlags(
      noun
        .command(verb)
        .summary(`${verb} an address`)
        .argument('<interface>', 'name')
        .argument('<cidr[,...]>', 'the address; also ,peer=IP ,scope=S ,lifetime=SECONDS', parseAddress),
    )
      .addHelpText('before', examples(`taplane address ${verb} tun0 10.0.0.1/24`, `taplane address ${verb} tun0 fd00::1/64`))
      .action(async (name: string, address: object, options: object, command: Command) =>
        (await edit()).changeAddress(verb, name, address, { ...options }, settingsOf(command)),
      );
  }
}

export function addRouteCommands(program: Command): void {
  const noun = program.command('route').summary('routes through an interface').description('Add and remove routes through an interface.');
  for (const verb of ['add', 'remove'] as const) {
    addChangeFlags(
      noun
        .command(verb)
        .summary(`${verb} a route`)
        .argument('<interface>', 'name')
        .argument('<cidr[,...]>', 'the route; also ,via=IP ,metric=N ,table=N ,src=IP ,scope=S ,mtu=N ,onlink', parseRoute),
    )
      .addHelpText(
        'before',
        examples(`taplane route ${verb} tun0 10.1.0.0/16`, `taplane route ${verb} tun0 10.2.0.0/16,via=10.0.0.2,metric=50`),
      )
      .action(async (name: string, route: object, options: object, command: Command) =>
        (await edit()).changeRoute(verb, name, route, { ...options }, settingsOf(command)),
      );
  }
}
