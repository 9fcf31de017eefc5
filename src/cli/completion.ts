// `taplane completion SHELL` and the hidden `taplane __complete WORDS...` that its script calls at every TAB: the candidates come
// from the command tree itself, and names of interfaces and links from the agent, if it answers at once.

import { type Argument, type Command, Argument as CommandArgument, type Option } from 'commander';
import { examples } from './interface.ts';
import { LINE_FORMATS, print } from './output.ts';
import { DEFAULT_SERVER, tlsOfEnvironment, withClient } from './settings.ts';

const ANSWER_WITHIN_MS = 1000;

export interface Candidate {
  word: string;
  description: string;
}

export function addCompletionCommand(program: Command): void {
  program
    .command('completion')
    .summary('completion script of a shell')
    .addArgument(new CommandArgument('<shell>').choices(['bash', 'zsh', 'fish']))
    .addHelpText(
      'before',
      examples(
        'taplane completion bash > /etc/bash_completion.d/taplane',
        '. <(taplane completion zsh)',
        'taplane completion fish > ~/.config/fish/completions/taplane.fish',
      ),
    )
    .action((shell: keyof typeof SCRIPTS) => print(SCRIPTS[shell]));
}

/** `words` is what stands after `taplane`, with the word under the cursor, maybe empty, as the last. */
export async function complete(program: Command, words: string[]): Promise<void> {
  const { candidates, wanted, server } = candidatesFor(program, words);
  if (wanted) candidates.push(...(await namesOf(wanted, server)));
  const current = words.at(-1) ?? '';
  const matching = candidates.filter(({ word }) => word.startsWith(current));
  print(matching.map(({ word, description }) => `${word}\t${description}\n`).join(''));
}

/** Resources whose names the agent knows. */
type Resource = 'interface' | 'link';

interface Candidates {
  candidates: Candidate[];
  /** What the names of are candidates too. */
  wanted: Resource | undefined;
  server: string;
}

function candidatesFor(program: Command, words: string[]): Candidates {
  let command = program;
  let positionals = 0;
  let pending: Option | undefined;
  let server = process.env['TAPLANE_SERVER'] ?? DEFAULT_SERVER;
  for (const word of words.slice(0, -1)) {
    if (pending) {
      if (pending.long === '--server') server = word;
      pending = undefined;
    } else if (word.startsWith('-')) {
      const option = word.includes('=') ? undefined : optionsOf(command).find(({ short, long }) => word === short || word === long);
      pending = option?.required ? option : undefined;
    } else {
      const next = command.commands.find((candidate) => candidate.name() === word || candidate.aliases().includes(word));
      if (next) command = next;
      else positionals += 1;
    }
  }
  const nothing = { candidates: [], wanted: undefined, server };
  if (pending) {
    const isLines = command.name() === 'observe';
    const fits = (word: string) => isLines || pending?.long !== '--output' || !(LINE_FORMATS as readonly string[]).includes(word);
    const values = (pending.argChoices ?? []).filter(fits).map((word) => ({ word, description: '' }));
    return { ...nothing, candidates: values, wanted: pending.long === '--interface' ? 'interface' : undefined };
  }
  if (words.at(-1)?.startsWith('-')) {
    const options = optionsOf(command).map(({ long, description }) => ({ word: long ?? '', description }));
    return { ...nothing, candidates: [...options, { word: '--help', description: 'display help' }] };
  }
  const subcommands = command.commands.map((candidate) => ({ word: candidate.name(), description: candidate.summary() }));
  if (subcommands.length > 0) return { ...nothing, candidates: subcommands };
  const argument = argumentAt(command, positionals);
  const choices = (argument?.argChoices ?? []).map((word) => ({ word, description: '' }));
  const name = argument?.name();
  return { ...nothing, candidates: choices, wanted: name === 'interface' || name === 'link' ? name : undefined };
}

function optionsOf(command: Command): Option[] {
  const own = command.options.filter((option) => !option.hidden);
  return command.parent ? [...own, ...optionsOf(command.parent)] : own;
}

function argumentAt(command: Command, position: number): Argument | undefined {
  const last = command.registeredArguments.at(-1);
  return command.registeredArguments[position] ?? (last?.variadic ? last : undefined);
}

/** A shell that waits for TAB wants silence, not reasons. */
async function namesOf(wanted: Resource, server: string): Promise<Candidate[]> {
  const page = { pageSize: 1000, pageToken: '', labelSelector: {} };
  const word = ({ name }: { name: string }) => name.slice(`${wanted}s/`.length);
  try {
    return await withClient({ server, output: 'name', timeout: ANSWER_WITHIN_MS, ...tlsOfEnvironment() }, async (client) => {
      if (wanted === 'link') {
        const { links } = await client.links.list({ ...page, interface: '' });
        return links.map((one) => ({ word: word(one), description: one.spec?.interface ?? '' }));
      }
      const { interfaces } = await client.interfaces.list({ ...page, view: 0 });
      return interfaces.map((one) => ({ word: word(one), description: one.spec?.addresses[0]?.cidr ?? '' }));
    });
  } catch {
    return [];
  }
}

const SCRIPTS = {
  bash: `# bash completion of taplane; load with: . <(taplane completion bash)
_taplane() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    COMPREPLY+=("\${line%%$'\\t'*}")
  done < <(taplane __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _taplane taplane
`,
  zsh: `#compdef taplane
# zsh completion of taplane; load with: . <(taplane completion zsh)
_taplane() {
  local -a lines candidates
  local line
  lines=("\${(@f)$(taplane __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  for line in $lines; do
    candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done
  if (( $#candidates )); then _describe taplane candidates; else _files; fi
}
if [[ "$funcstack[1]" = "_taplane" ]]; then _taplane "$@"; else compdef _taplane taplane; fi
`,
  fish: `# fish completion of taplane
function __taplane_complete
  set -l words (commandline -opc) (commandline -ct)
  taplane __complete -- $words[2..-1] 2>/dev/null
end
complete -c taplane -f -a '(__taplane_complete)'
complete -c taplane -n 'string match -qr -- "^(-f|--file|--config)\\$" (commandline -opc)[-1]' -F
`,
} as const;
