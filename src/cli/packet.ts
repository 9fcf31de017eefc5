// `taplane packet`: the commands and their flags. What they do is loaded when one of them runs.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { addPacketFlags } from './capture-request.ts';
import { EXIT } from './exit-code.ts';
import { examples } from './interface.ts';
import { parseCount } from './literals.ts';
import type { ReplayOptions } from './packet-replay.ts';
import type { StreamOptions } from './packet-stream.ts';
import { settingsOf } from './settings.ts';
import { parseBytes } from './size.ts';

export function addPacketCommands(program: Command, exit: (code: number) => void): void {
  const noun = program
    .command('packet')
    .summary('packets into and out of an interface')
    .description('Receive the packets that the node sends through an interface, send packets in, replay captured ones.');
  const done = (all: boolean): void => exit(all ? EXIT.ok : EXIT.failure);

  addPacketFlags(
    noun
      .command('stream')
      .summary('attach to an interface and print what the node sends through it')
      .description(
        'Attach to an interface and print what the node sends through it, a line a packet. Survives a restart of the agent.\n' +
          'Ends with Ctrl-C, exit code 0. Attached, the interface has a carrier; --mode observe only watches, as capture does.',
      )
      .argument('<interface>', 'name'),
  )
    .addOption(new Option('--mode <mode>', 'attach, or only watch').choices(['consume', 'observe']).default('consume'))
    .addOption(
      new Option('--window <bytes>', 'what may be on its way unacknowledged, and survives a broken connection; 0: nothing is kept')
        .argParser(parseBytes)
        .default(1_048_576, '1M'),
    )
    .option('--own-queue', 'a queue of its own: only the flows that the kernel steers to it, for nobody else')
    .addHelpText(
      'before',
      examples(
        'taplane packet stream tun0',
        'taplane packet stream tun0 --filter "udp port 53" -o wide',
        'taplane packet stream tap0 -o json',
      ),
    )
    .action(async (name: string, options: StreamOptions, command: Command) =>
      (await import('./packet-stream.ts')).stream(name, options, settingsOf(command)),
    );

  noun
    .command('send')
    .summary('send packets into an interface')
    .description('Send packets in, as if they had come from outside. Exits with 1 when the interface did not take all of them.')
    .argument('<interface>', 'name')
    .argument('[hex...]', 'a packet each, as hex digits; blanks and colons are passed over')
    .option('-f, --file <file>', 'one packet a line, as hex; - is stdin; # begins a comment')
    .addHelpText(
      'before',
      examples(
        'taplane packet send tun0 "4500001c 00000000 4001 66df 0a000002 0a000001 0800 f7ff 00000000"',
        'taplane packet send tap0 -f frames.txt',
        "tshark -r ping.pcap -T json -x | jq -r '.[]._source.layers.frame_raw[0]' | taplane packet send tun0 -f -",
      ),
    )
    .action(async (name: string, hex: string[], options: { file?: string }, command: Command) =>
      done(await (await import('./packet-send.ts')).send(name, hex, options, settingsOf(command))),
    );

  noun
    .command('replay')
    .summary('send the packets of a pcap or pcapng file into an interface')
    .description(
      'Send the packets of a capture file in, with the pauses that they were captured with. Packets that were cut are passed over.\n' +
        'Ends with the file, or with Ctrl-C, and exits with 1 when the interface did not take all of them.',
    )
    .argument('<interface>', 'name')
    .argument('<file>', 'pcap or pcapng; - is stdin')
    .addOption(new Option('--rate <pps>', 'packets a second').argParser(parsePositive).conflicts(['speed', 'topSpeed']))
    .addOption(new Option('--speed <factor>', 'times the speed of the capture').argParser(parsePositive).conflicts('topSpeed'))
    .option('--top-speed', 'without pauses')
    .addOption(new Option('--loop <n>', 'play it n times').argParser(parseCount).default(1))
    .option('--no-progress', 'no progress line on a terminal')
    .addHelpText(
      'before',
      examples(
        'taplane packet replay tun0 tun0.pcapng',
        'taplane packet replay tap0 big.pcap --top-speed --loop 10',
        'tcpdump -w - -i eth0 | taplane packet replay tap0 -',
      ),
    )
    .action(async (name: string, file: string, options: ReplayOptions, command: Command) =>
      done(await (await import('./packet-replay.ts')).replay(name, file, options, settingsOf(command))),
    );
}

function parsePositive(text: string): number {
  const value = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || !(value > 0)) throw new InvalidArgumentError('Expected a number greater than 0.');
  return value;
}
