// `taplane capture`: its flags. What it does is loaded when it runs.

import { type Command, Option } from 'commander';
import { addPacketFlags, type CaptureLimits, type PacketOptions } from './capture-request.ts';
import { examples } from './interface.ts';
import { parseDuration, settingsOf } from './settings.ts';
import { parseBytes } from './size.ts';

interface CaptureOptions extends PacketOptions, CaptureLimits {
  write?: string;
  progress: boolean;
}

export function addCaptureCommand(program: Command): void {
  addPacketFlags(
    program
      .command('capture')
      .summary('watch the packets of an interface, or write them to a file')
      .description(
        'Watch the packets of an interface, in both directions and without touching them: a line for each, or a pcapng file.\n' +
          'Ends with Ctrl-C or at a limit, both with exit code 0, and says how many packets were dropped.',
      )
      .argument('<interface>', 'name')
      .option('-w, --write <file>', 'write a pcapng file; - is standard output'),
  )
    .addOption(new Option('--bytes <bytes>', 'end before the packets are longer together, such as 10M').argParser(parseBytes))
    .addOption(new Option('--duration <time>', 'end after this long, such as 30s').argParser(parseDuration))
    .option('--no-progress', 'no progress line on a terminal')
    .addHelpText(
      'before',
      examples(
        'taplane capture tun0',
        'taplane capture tun0 -w tun0.pcapng --filter "icmp or port 53" --duration 1m',
        'taplane capture tap0 -w - | wireshark -k -i -',
        'taplane capture tun0 -o json --count 10 | jq .source',
      ),
    )
    .action(async (name: string, options: CaptureOptions, command: Command) => {
      const settings = settingsOf(command);
      if (options.write === undefined) await (await import('./capture-print.ts')).print(name, options, settings);
      else await (await import('./capture-file.ts')).write(name, options.write, options, settings);
    });
}
