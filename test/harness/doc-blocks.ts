// The shell blocks of README and docs. A comment before each says whether a test runs it, and with which others, or why not:
//
//   <!-- run: NAME -->        all blocks of one page and NAME are one session of bash, in their order
//   <!-- first: NAME: COMMANDS -->   a line of that session that people have done already, such as an agent that runs
//   <!-- read: WHY -->        only for people; its commands must still be ones that `taplane` knows

import { readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Result, run } from './process.ts';

const ROOT = join(import.meta.dirname, '..', '..');

export interface DocBlock {
  /** From the root of the repository. */
  page: string;
  /** Of the fence, from 1. */
  line: number;
  text: string;
  /** What stands in the comment before it; undefined without one. */
  session: string | undefined;
  readBecause: string | undefined;
}

/** Of all pages that people follow. */
export function docPages(): string[] {
  const inFolder = (folder: string): string[] =>
    readdirSync(join(ROOT, folder)).flatMap((name) => (name.endsWith('.md') ? [join(folder, name)] : []));
  return ['README.md', ...inFolder('docs'), 'examples/controller/README.md', 'helm/taplane/README.md'].filter(
    (page) => text(page) !== undefined,
  );
}

export function shellBlocks(page: string): DocBlock[] {
  const blocks: DocBlock[] = [];
  const lines = (text(page) ?? '').split('\n');
  for (let index = 0; index < lines.length; index++) {
    const first = /^<!-- first: (\w[\w-]*): (.+) -->$/.exec(lines[index] ?? '');
    if (first !== null) blocks.push({ page, line: index + 1, text: `${first[2]}\n`, session: first[1], readBecause: undefined });
    const indent = /^( *)```sh$/.exec(lines[index] ?? '')?.[1];
    if (indent === undefined) continue;
    const before = lines[index - 1]?.trim() ?? '';
    const end = lines.indexOf(`${indent}\`\`\``, index + 1);
    blocks.push({
      page,
      line: index + 1,
      text: `${lines
        .slice(index + 1, end)
        .map((line) => line.slice(indent.length))
        .join('\n')}\n`,
      session: /^<!-- run: (\w[\w-]*) -->$/.exec(before)?.[1],
      readBecause: /^<!-- read: (.+) -->$/.exec(before)?.[1],
    });
    index = end;
  }
  return blocks;
}

/** Every use of `taplane` or `bin/taplane` in a block, as words; what the shell would put in is `X`. */
export function taplaneCommands(block: string): string[][] {
  const inner: string[] = [];
  const plain = block.replaceAll(/\\\n/g, ' ').replaceAll(/\$\(((?:[^()]|\([^()]*\))*)\)/g, (_, commands: string) => {
    inner.push(commands);
    return 'X';
  });
  const found: string[][] = [];
  for (const line of [...plain.split('\n'), ...inner]) {
    for (const words of commandsOf(line)) {
      // To these it is a release and a namespace, until they pass a command on.
      const from = /^(helm|kubectl)$/.test(words[0] ?? '') ? words.indexOf('--') : 0;
      const at = words.findIndex((word, index) => from >= 0 && index >= from && /^(.*bin\/)?taplane$/.test(word));
      // Functions of shell pass on what they are given.
      if (at >= 0 && !words.includes('$@')) found.push(words.slice(at + 1));
    }
  }
  return found;
}

/** Words of the simple commands of a line of shell, without redirections. */
function commandsOf(line: string): string[][] {
  const commands: string[][] = [[]];
  let skip = false;
  for (const [token] of line.matchAll(
    /#(?<=(?:^|\s)#).*|\d?>&\d|\d?>>?|<<?|\|\||&&|[|;&(){}]|(?:'[^']*'|"[^"]*"|\\.|[^\s'"\\|;&<>(){}])+|[{}]/g,
  )) {
    if (token.startsWith('#') && !token.startsWith('#!')) break;
    if (/^(\|\||&&|[|;&(){}])$/.test(token)) commands.push([]);
    else if (/^(\d?>>?|<<?)$/.test(token)) skip = true;
    else if (/^\d?>&\d$/.test(token)) continue;
    else if (skip) skip = false;
    else commands.at(-1)?.push(token.replaceAll(/'([^']*)'|"([^"]*)"|\\(.)/g, '$1$2$3'));
  }
  return commands;
}

/**
 * Runs a session in namespaces of its own: network, processes, mounts; /tmp, /run and /var/lib are empty, the repository is at /mnt, and everything
 * that was written is gone with it. Stops at the first command that fails; the trace on stderr says which.
 */
export function runSession(blocks: readonly DocBlock[]): Promise<Result> {
  const script = blocks.map(({ page, line, text: commands }) => `: ${page}:${line}\n${commands}`).join('\n');
  const prepare = [
    'set -e',
    'mount --bind "$ROOT" /mnt',
    'for folder in /tmp /run /var/lib; do mount -t tmpfs tmpfs $folder; done',
    'mkdir -p /run/netns /run/overlay/upper /run/overlay/work',
    // What a session writes into the repository goes with it.
    'mount -t overlay -o lowerdir=/mnt,upperdir=/run/overlay/upper,workdir=/run/overlay/work overlay /mnt',
    'ip link set lo up',
    'cd /mnt',
    'exec bash -e -x -c "$SCRIPT"',
  ].join('\n');
  const path = ['/mnt/bin', '/mnt/node_modules/.bin', process.env['PATH']].join(delimiter);
  return run(['unshare', '--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash', '-c', prepare], {
    env: { ROOT, SCRIPT: script, PATH: path, HOME: '/tmp', NO_COLOR: '1' },
  });
}

function text(page: string): string | undefined {
  try {
    return readFileSync(join(ROOT, page), 'utf8');
  } catch {
    return undefined;
  }
}
