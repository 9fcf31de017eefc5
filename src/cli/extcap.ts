// `taplane extcap`: what Wireshark calls (extcap(4)), and the two commands that make it do so. The flags are Wireshark's; ones that a newer
// Wireshark adds are passed over.

import { type Command, Option } from 'commander';
import { UsageError } from './exit-code.ts';
import { examples } from './interface.ts';
import { parseCount } from './literals.ts';
import { settingsOf } from './settings.ts';

export interface ExtcapOptions {
  extcapInterfaces?: boolean;
  extcapInterface?: string;
  extcapDlts?: boolean;
  extcapConfig?: boolean;
  extcapCaptureFilter?: string;
  capture?: boolean;
  fifo?: string;
  snapLength?: number;
  direction?: 'in' | 'out' | 'both';
}

/** What Wireshark says, and people need not see. */
function byWireshark(flags: string, description: string): Option {
  return new Option(flags, description).hideHelp();
}

export function addExtcapCommand(program: Command): void {
  const noun = program
    .command('extcap')
    .summary('interfaces of the agent in Wireshark')
    .description('Lists the interfaces of the agent in Wireshark and tshark, which call this command by themselves once it is installed.')
    .addHelpText('before', examples('taplane extcap install', 'tshark -D', 'taplane extcap uninstall'))
    .addOption(byWireshark('--extcap-interfaces', 'list the interfaces'))
    .addOption(byWireshark('--extcap-version [version]', 'version of the Wireshark that asks'))
    .addOption(byWireshark('--extcap-interface <interface>', 'the one that is asked about'))
    .addOption(byWireshark('--extcap-dlts', 'say what its packets begin with'))
    .addOption(byWireshark('--extcap-config', 'list what can be chosen'))
    .addOption(byWireshark('--extcap-capture-filter <filter>', 'only packets that match; without --capture: check it'))
    .addOption(byWireshark('--capture', 'write its packets to the fifo'))
    .addOption(byWireshark('--fifo <file>', 'where packets are written'))
    .addOption(byWireshark('--snap-length <bytes>', 'bytes of a packet that are kept').argParser(parseCount))
    .addOption(byWireshark('--direction <direction>', 'seen from the node').choices(['in', 'out', 'both']))
    .allowUnknownOption()
    .allowExcessArguments()
    .action(async (options: ExtcapOptions, command: Command) => {
      const settings = settingsOf(command);
      if (options.capture) return (await import('./extcap-capture.ts')).capturing(options, settings);
      if (options.extcapCaptureFilter !== undefined) return (await import('./extcap-capture.ts')).checkFilter(options, settings);
      if (Object.keys(options).some((name) => name.startsWith('extcap')))
        return (await import('./extcap-answer.ts')).answer(options, settings);
      throw new UsageError('Wireshark calls this: taplane extcap install makes it do so');
    });
  noun
    .command('install')
    .summary('let Wireshark list the interfaces of the agent')
    .description('Put a script that calls this taplane into the folder where Wireshark and tshark look for sources of packets.')
    .option('--directory <directory>', 'the folder (default: what tshark -G folders says, else ~/.local/lib/wireshark/extcap)')
    .option('--force', 'also over a file that is not ours')
    .addHelpText('before', examples('taplane extcap install', 'taplane extcap install --directory ~/.config/wireshark/extcap'))
    .action(async (options: { directory?: string; force?: boolean }, command: Command) => {
      // Wireshark is started from a menu, where nobody has set TAPLANE_SERVER.
      const given = command.getOptionValueSourceWithGlobals('server') === 'cli' ? { server: settingsOf(command).server } : {};
      await (await import('./extcap-install.ts')).install({ ...options, ...given });
    });
  noun
    .command('uninstall')
    .summary('take the script away again')
    .option('--directory <directory>', 'the folder')
    .addHelpText('before', examples('taplane extcap uninstall'))
    .action(async (options: { directory?: string }) => (await import('./extcap-install.ts')).uninstall(options));
}
