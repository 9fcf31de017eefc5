// `taplane policy check|test` without an agent, and `taplane whoami`.

import { type Command, Option } from 'commander';
import { EXIT, UsageError } from './exit-code.ts';
import { examples } from './interface.ts';
import { print, printDocument } from './output.ts';
import { type Settings, settingsOf } from './settings.ts';
import { printable } from './table.ts';

export interface PolicyProblem {
  source: string;
  field: string;
  cause: string;
  cure: string;
}

export interface PolicyQuestion {
  caller: string;
  method: string;
  interface?: string;
  link?: string;
  address?: string;
  route?: string;
  peer?: string;
  use?: string;
}

/** What the agent room offers: its own judgement of a file. */
export interface PolicyRoom {
  checkPolicy(path: string): { problems: PolicyProblem[]; version: string; roles: number; identities: number };
  /** A text says what is wrong with the question. */
  testPolicy(
    path: string,
    question: PolicyQuestion,
  ): { allowed: boolean; reason: string; message: string; roles: string[] } | { problems: PolicyProblem[] } | string;
}

type Open = () => Promise<PolicyRoom>;

export function addPolicyCommands(program: Command, open: Open | undefined, exit: (code: number) => void): void {
  const room: Open = open ?? (() => Promise.reject(new UsageError('this command line has no agent with it')));
  const noun = program.command('policy').summary('who may do what').description('Policy files: who may call which methods, on what.');
  noun
    .command('check')
    .summary('say what is wrong with a policy file')
    .description('Check a policy file as an agent on this node would. Asks no agent. Exits with 2 when there are problems.')
    .argument('<file>', 'YAML file')
    .addHelpText('before', examples('taplane policy check /etc/taplane/policy.yaml'))
    .action(async (file: string, _: object, command: Command) => {
      exit(await check((await room()).checkPolicy(file), file, settingsOf(command)));
    });
  noun
    .command('test')
    .summary('say whether a policy would allow a call')
    .description(
      'Say whether a policy would allow a call that touches what the options name, and why not. Asks no agent. Exits with 5 when it would not.',
    )
    .argument('<file>', 'YAML file')
    .requiredOption('--caller <caller>', 'uid:NUMBER, user:NAME, spiffe://..., dns:NAME or loopback')
    .requiredOption('--method <method>', 'such as InterfaceService/CreateInterface')
    .addOption(new Option('--interface <name>', 'interface that it names'))
    .addOption(new Option('--link <name>', 'link that it names'))
    .addOption(new Option('--address <cidr>', 'address that it asks for'))
    .addOption(new Option('--route <cidr>', 'destination of a route that it asks for'))
    .addOption(new Option('--peer <address>', 'address of a peer of a link'))
    .addOption(new Option('--use <use>', 'what else it needs, as in `may` of the file, such as capture'))
    .addHelpText(
      'before',
      examples(
        'taplane policy test policy.yaml --caller uid:1000 --method InterfaceService/GetInterface --interface tun0',
        'taplane policy test policy.yaml --caller spiffe://cluster.local/ns/net/sa/controller --method InterfaceService/AddRoute --interface tun0 --route 10.1.0.0/16',
      ),
    )
    .action(async (file: string, question: PolicyQuestion, command: Command) => {
      const found = (await room()).testPolicy(file, question);
      if (typeof found === 'string') throw new UsageError(found);
      if ('problems' in found) return exit(await check({ ...found, version: '', roles: 0, identities: 0 }, file, settingsOf(command)));
      const { output } = settingsOf(command);
      if (output === 'json' || output === 'yaml') await printDocument(output, found);
      else print(found.allowed ? `allowed\n` : `denied: ${found.reason}: ${printable(found.message)}\n`);
      exit(found.allowed ? EXIT.ok : EXIT.refused);
    });
  program
    .command('whoami')
    .summary('who the agent takes you for')
    .description('Print who the caller is to the agent, and which roles it has.')
    .addHelpText('before', examples('taplane whoami', 'taplane whoami -o json'))
    .action(async (_: object, command: Command) => (await import('./whoami.ts')).whoami(settingsOf(command)));
}

async function check(
  report: { problems: PolicyProblem[]; version: string; roles: number; identities: number },
  file: string,
  { output }: Settings,
): Promise<number> {
  const { problems, version, roles, identities } = report;
  if (output === 'json' || output === 'yaml') await printDocument(output, report);
  else if (problems.length === 0) print(`${printable(file)}: fine, ${roles} roles, ${identities} identities, version ${version}\n`);
  else
    for (const { source, field, cause, cure } of problems)
      print(`${printable([source, field].filter(Boolean).join(': '))}: ${printable(cause)}\n  ${printable(cure)}\n`);
  return problems.length === 0 ? EXIT.ok : EXIT.usage;
}
