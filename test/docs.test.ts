// What README and docs tell people to type: every block says whether a test runs it, and every command in it is one.

import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { commandTree } from '../src/cli/program.ts';
import { docPages, shellBlocks, taplaneCommands } from './harness/doc-blocks.ts';

const pages = docPages();
/** In place of one that only the reader has. */
const ANY_KEY = `${'A'.repeat(43)}=`;

it('are found', () => {
  expect(pages).toContain('README.md');
  expect(pages.flatMap(shellBlocks).length).toBeGreaterThan(50);
  expect(pages.flatMap((page) => shellBlocks(page).flatMap(({ text }) => taplaneCommands(text))).length).toBeGreaterThan(90);
});

describe.each(pages)('%s', (page) => {
  const blocks = shellBlocks(page);

  it('says of each block whether it is run', () => {
    expect(blocks.filter(({ session, readBecause }) => session === undefined && readBecause === undefined).map(({ line }) => line)).toEqual(
      [],
    );
  });

  it('has only commands that there are', () => {
    const wrong = blocks.flatMap(({ line, text }) =>
      taplaneCommands(text).flatMap((words) => {
        const problem = problemOf(words);
        return problem === undefined ? [] : [`${page}:${line}: taplane ${words.join(' ')}: ${problem}`];
      }),
    );
    expect(wrong).toEqual([]);
  });
});

it('an unknown flag, verb and value are seen', () => {
  expect(problemOf(['interface', 'list', '--nothing'])).toContain('--nothing');
  expect(problemOf(['interface', 'lost'])).toBeDefined();
  expect(problemOf(['interface', 'create', 'tun0', '--mode', 'tum'])).toContain('tum');
  expect(problemOf(['interface', 'create', 'tun0', '--mode', 'tun'])).toBeUndefined();
});

it('commands are taken out of shell', () => {
  const text = `PATH=x taplane a b | taplane c 'd e' > f 2>&1; bin/taplane g "$(taplane h i | tr x)" \\\n  j &   # taplane k\nfor n in 1; do ip netns exec n taplane l & done\n`;
  expect(taplaneCommands(text)).toEqual([['a', 'b'], ['c', 'd e'], ['g', 'X', 'j'], ['l'], ['h', 'i']]);
});

/** What the command line says against these words; nothing is done. */
function problemOf(given: string[]): string | undefined {
  const words = given.map((word) => word.replace(/(?<=public-key=)(\$\w+|X|KEY\w*)/, ANY_KEY));
  const program = commandTree({ runAgent: async () => 0, runLane: async () => 0, diagnose: async () => [] }, () => {});
  silence(program);
  try {
    program.parse(words, { from: 'user' });
    return undefined;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    return code === 'commander.helpDisplayed' || code === 'commander.version' ? undefined : message;
  }
}

function silence(command: Command): void {
  command.exitOverride().configureOutput({ writeOut: () => {}, writeErr: () => {} });
  if (command.commands.length === 0) command.action(() => {});
  for (const below of command.commands) silence(below);
}
