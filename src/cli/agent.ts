// `taplane agent` and `taplane doctor`: flags only. The agent itself is another room, reached through what main.ts hands in, so
// that the commands of the client do not load it.

import { styleText } from 'node:util';
import { type Command, Option } from 'commander';
import { EXIT } from './exit-code.ts';
import { examples } from './interface.ts';
import { collect, parseCount } from './literals.ts';
import { print, printDocument } from './output.ts';
import type { PolicyRoom } from './policy.ts';
import { type Settings, settingsOf } from './settings.ts';
import { printable } from './table.ts';

export interface AgentFlags {
  listen?: string[];
  stateDir?: string;
  runtimeDir?: string;
  node?: string;
  cluster?: string;
  nats?: string;
  natsCreds?: string;
  natsNkey?: string;
  natsTlsCa?: string;
  natsTlsCert?: string;
  natsTlsKey?: string;
  /** False with --no-flows. */
  flows?: boolean;
  ipfix?: string;
  metricsListen?: string;
  config?: string;
  checkConfig?: boolean;
  /** What --check-config prints; YAML when not given. */
  output?: 'json';
  insecureLoopback?: boolean;
  tlsCert?: string;
  tlsKey?: string;
  tlsClientCa?: string;
  policy?: string;
  logLevel?: string;
  lanes?: number;
  laneMode?: string;
}

export interface DoctorFlags extends AgentFlags {
  /** Where to look for an agent; undefined for where the agent itself would listen. */
  server?: string;
  /** Name of a device that somebody wants to use. */
  interface?: string;
}

export interface Check {
  name: string;
  status: 'pass' | 'warn' | 'fail';
  detail: string;
  cure: string;
}

export interface LaneFlags {
  socket: string;
  stay?: boolean;
}

/** What the agent room offers to the command line. */
export interface AgentRoom {
  runAgent(flags: AgentFlags): Promise<number>;
  /** The data-plane process; absent where only the flags are of interest. */
  runLane?(flags: LaneFlags): Promise<number>;
  diagnose(flags: DoctorFlags): Promise<Check[]>;
  /** What is wrong with a lane, or undefined; absent where only the flags are of interest. */
  checkLane?(flags: { socket: string }): Promise<string | undefined>;
  /** Absent where only the flags are of interest. */
  policy?(): Promise<PolicyRoom>;
}

export function addAgentCommands(program: Command, agent: AgentRoom, exit: (code: number) => void): void {
  program
    .command('lane', { hidden: true })
    .description('The data-plane process. The agent starts it, unless it says laneMode: external.')
    .requiredOption('--socket <path>', 'where the agent speaks to it')
    .option('--stay', 'end on SIGTERM only: another program keeps it running')
    .action(async (flags: LaneFlags) => exit((await agent.runLane?.(flags)) ?? 1));
  addPlaceFlags(
    program
      .command('agent')
      .summary('run the agent of this node')
      .description('Run the agent until SIGTERM or SIGINT. Flags win over TAPLANE_* variables, these over --config.'),
  )
    .addOption(new Option('--node <name>', 'name of the node (default: the host name)'))
    .addOption(new Option('--cluster <name>', 'name of the cluster (default: default)'))
    .addOption(new Option('--nats <off|embedded|url>', 'where flows and events go (default: off)'))
    .addOption(new Option('--nats-creds <file>', 'login: credentials of nsc; read anew at each dial'))
    .addOption(new Option('--nats-nkey <file>', 'login: seed of an nkey'))
    .addOption(new Option('--nats-tls-ca <file>', 'who may have signed the certificate of the server, PEM'))
    .addOption(new Option('--nats-tls-cert <file>', 'certificate of this agent, PEM'))
    .addOption(new Option('--nats-tls-key <file>', 'its key, PEM'))
    .addOption(new Option('--no-flows', 'do not meter packets'))
    .addOption(new Option('--ipfix <host:port>', 'also send flow records to this IPFIX collector'))
    .addOption(new Option('--metrics-listen <off|host:port>', 'metrics and probes over HTTP (default: 127.0.0.1:9464)'))
    .option('--check-config', 'read and check the configuration, print it as YAML or with -o json, and stop')
    .addOption(new Option('--policy <file>', 'who may do what, YAML; read again when it changes'))
    .option('--insecure-loopback', 'allow TCP without TLS on loopback')
    .option('--tls-cert <file>', 'certificate for TCP, PEM with its chain; taken anew when it changes')
    .option('--tls-key <file>', 'its private key, PEM, mode 0600')
    .option('--tls-client-ca <file>', 'who may have signed the certificates of clients, PEM')
    .addOption(new Option('--lanes <number>', 'data-plane processes, 1 to 64 (default: 1)').argParser(parseCount))
    .addOption(
      new Option('--lane-mode <mode>', 'who runs them: the agent, or something else (default: spawn)').choices(['spawn', 'external']),
    )
    .addOption(new Option('--log-level <level>', 'least that is logged (default: info)').choices(['debug', 'info', 'warn', 'error']))
    .addHelpText(
      'before',
      examples(
        'taplane agent',
        'taplane agent --listen unix:/run/taplane/agent.sock --state-dir /var/lib/taplane --nats nats://nats:4222',
        'taplane agent --config /etc/taplane/agent.yaml --check-config',
      ),
    )
    .action(async ({ flows, ...flags }: AgentFlags, command: Command) => {
      const { output } = settingsOf(command);
      // Without --no-flows the parser says true, and files and variables have their say.
      exit(await agent.runAgent({ ...flags, ...(flows === false && { flows }), ...(output === 'json' && { output }) }));
    });

  addPlaceFlags(
    program
      .command('doctor')
      .summary('say what this node lacks, and the cure')
      .description('Check this node, as the agent would see it. Exits with 1 when a check fails.'),
  )
    .addHelpText('before', examples('taplane doctor', 'taplane doctor -o json'))
    .option('--interface <name>', 'also check whether this name is free for a device')
    .action(async (flags: DoctorFlags, command: Command) => {
      const settings = settingsOf(command);
      const asked = command.getOptionValueSourceWithGlobals('server') === 'default' ? {} : { server: settings.server };
      const checks = await agent.diagnose({ ...flags, ...asked });
      await printChecks(checks, settings);
      exit(checks.some(({ status }) => status === 'fail') ? EXIT.failure : EXIT.ok);
    });

  program
    .command('lane-check', { hidden: true })
    .description('Ask a lane whether it is well, and exit with 1 when it does not answer. For whoever keeps it running.')
    .requiredOption('--socket <path>', 'that of the lane')
    .action(async (flags: { socket: string }) => {
      const problem = await agent.checkLane?.(flags);
      if (problem !== undefined) process.stderr.write(`taplane: ${problem}\n`);
      exit(problem === undefined ? EXIT.ok : EXIT.failure);
    });
}

function addPlaceFlags(command: Command): Command {
  return command
    .addOption(
      new Option('--listen <address>', 'unix:PATH or HOST:PORT; repeatable (default: agent.sock in the runtime directory)').argParser(
        collect(String),
      ),
    )
    .addOption(new Option('--state-dir <directory>', 'what must survive a reboot (default: /var/lib/taplane)'))
    .addOption(new Option('--runtime-dir <directory>', 'sockets, gone after a reboot (default: /run/taplane)'))
    .addOption(new Option('--config <file>', 'YAML file (default: none)'));
}

async function printChecks(checks: Check[], { output }: Settings): Promise<void> {
  if (output === 'json' || output === 'yaml') return printDocument(output, { checks });
  if (output === 'name') return print(checks.map(({ name }) => `${name}\n`).join(''));
  const colour = { pass: 'green', warn: 'yellow', fail: 'red' } as const;
  const width = Math.max(...checks.map(({ name }) => name.length));
  for (const { name, status, detail, cure } of checks) {
    print(`${styleText(colour[status], status.toUpperCase(), { stream: process.stdout })}  ${name.padEnd(width)}  ${printable(detail)}\n`);
    if (status !== 'pass' && cure !== '') print(`${' '.repeat(width + 8)}cure: ${printable(cure)}\n`);
  }
}
