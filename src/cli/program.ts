// The command tree, and the one exit of the command line: every command ends here, with a code.

import { Command, CommanderError, Help, Option } from 'commander';
import { addAddressCommands, addRouteCommands } from './address.ts';
import { type AgentRoom, addAgentCommands } from './agent.ts';
import { addAuditCommands } from './audit.ts';
import { addCaptureCommand } from './capture.ts';
import { addCompletionCommand, complete } from './completion.ts';
import { EXIT, EXIT_CODE_HELP, exitCodeOf, explain, UsageError } from './exit-code.ts';
import { addExtcapCommand } from './extcap.ts';
import { addFlowCommands } from './flow.ts';
import { addInterfaceCommands, examples } from './interface.ts';
import { addLinkCommands } from './link.ts';
import { addNodeCommands } from './node.ts';
import { acceptClosedPipe, FORMATS, LINE_FORMATS } from './output.ts';
import { addPacketCommands } from './packet.ts';
import { addPolicyCommands } from './policy.ts';
import { addResponderCommands } from './responder.ts';
import { DEFAULT_SERVER, DEFAULT_TIMEOUT_MS, parseDuration } from './settings.ts';
import { addSupportCommand } from './support.ts';
import { addVersionCommand, clientVersion } from './version.ts';

/** Runs one command. `argv` is what stands after the name of the program. Resolves with the exit code; never rejects. */
export async function run(argv: string[], agent: AgentRoom): Promise<number> {
  acceptClosedPipe();
  // Set but empty says nothing, as with all variables of the agent.
  for (const name of ['TAPLANE_SERVER', 'TAPLANE_SERVER_CA', 'TAPLANE_CLIENT_CERT', 'TAPLANE_CLIENT_KEY', 'TAPLANE_SERVER_NAME'])
    if (process.env[name]?.trim() === '') delete process.env[name];
  let code: number = EXIT.ok;
  const program = commandTree(agent, (given) => {
    code = given;
  });
  try {
    if (argv[0] === '__complete') await complete(program, argv.slice(argv[1] === '--' ? 2 : 1));
    else await program.parseAsync(argv[0] === 'help' ? helpFor(program, argv.slice(1)) : argv, { from: 'user' });
    return code;
  } catch (error) {
    // The parser has said already what was wrong. Help that was asked for is no failure; help for want of a command is.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    process.stderr.write(explain(error));
    return exitCodeOf(error);
  }
}

/** `help link create`, as many programs have it. A word that names no command is left to the parser, which says so; nothing is run. */
function helpFor(program: Command, words: string[]): string[] {
  let command = program;
  for (const [at, word] of words.entries()) {
    const next = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
    // Behind a verb there are arguments, of which help has no need.
    if (next === undefined) return command.commands.length > 0 ? words.slice(0, at + 1) : [...words.slice(0, at), '--help'];
    command = next;
  }
  return [...words, '--help'];
}

export function commandTree(agent: AgentRoom, exit: (code: number) => void): Command {
  const program = new Command('taplane')
    .description('Create, address, watch and repair TUN/TAP interfaces, and join them across hosts.')
    .addHelpText(
      'before',
      examples(
        'taplane agent',
        'taplane interface create tun0 --mode tun --up --address 10.0.0.1/24',
        'taplane interface list -o wide',
        'taplane interface plan tun0 --mtu 1400',
        'taplane link create wg0 --interface tun0 --protocol wireguard --listen :51820',
        'taplane capture tun0 -w tun0.pcapng',
        'taplane flow observe -f',
        'taplane doctor',
      ),
    )
    .addHelpText('after', `\n${EXIT_CODE_HELP}`)
    .exitOverride()
    .showSuggestionAfterError()
    .showHelpAfterError('next: add --help to see what is accepted')
    .configureHelp({
      showGlobalOptions: true,
      sortOptions: false,
      // Of a noun people want to see the verbs, which come last.
      visibleGlobalOptions(command) {
        return command.commands.length > 0 ? [] : Help.prototype.visibleGlobalOptions.call(this, command);
      },
    })
    .helpOption('-h, --help', 'display help')
    .helpCommand(false)
    .version(clientVersion(), '-V, --version', 'print the version of this client')
    .addOption(new Option('--server <address>', 'agent to ask: unix:PATH or HOST:PORT').env('TAPLANE_SERVER').default(DEFAULT_SERVER))
    .addOption(new Option('--server-ca <file>', 'TLS to HOST:PORT: who may have signed its certificate').env('TAPLANE_SERVER_CA'))
    .addOption(new Option('--client-cert <file>', 'TLS: certificate of this client').env('TAPLANE_CLIENT_CERT'))
    .addOption(new Option('--client-key <file>', 'TLS: its private key').env('TAPLANE_CLIENT_KEY'))
    .addOption(new Option('--server-name <name>', 'TLS: the name in its certificate, if not HOST').env('TAPLANE_SERVER_NAME'))
    .addOption(
      new Option('-o, --output <format>', 'form of the data on stdout; compact and dict are of flow observe')
        .choices([...FORMATS, ...LINE_FORMATS])
        .default('table'),
    )
    .addOption(
      new Option('--timeout <time>', 'how long a request may wait for its answer, of streams and captures the first: 500ms, 10s, 2m')
        .argParser(parseDuration)
        .default(DEFAULT_TIMEOUT_MS, '10s'),
    )
    .addOption(new Option('--no-color', 'no colours; also by NO_COLOR, and when the output is no terminal'))
    .on('option:no-color', () => {
      process.env['NO_COLOR'] = '1';
    })
    .hook('preAction', (_, command) => {
      const { output } = command.optsWithGlobals<{ output: string }>();
      if (LINE_FORMATS.some((form) => form === output) && command.name() !== 'observe')
        throw new UsageError(`-o ${output} is for taplane flow observe; use one of ${FORMATS.join(', ')}`);
    });
  program.commandsGroup('Interfaces:');
  addInterfaceCommands(program);
  addAddressCommands(program);
  addRouteCommands(program);
  addResponderCommands(program);
  program.commandsGroup('Links:');
  addLinkCommands(program, exit);
  program.commandsGroup('Packets:');
  addCaptureCommand(program);
  addPacketCommands(program, exit);
  addExtcapCommand(program);
  program.commandsGroup('Flows:');
  addFlowCommands(program);
  program.commandsGroup('Node:');
  addNodeCommands(program);
  addAuditCommands(program, exit);
  addAgentCommands(program, agent, exit);
  addPolicyCommands(program, agent.policy, exit);
  addSupportCommand(program);
  program.commandsGroup('Other:');
  addVersionCommand(program);
  addCompletionCommand(program);
  return program;
}
