// `npm run bench -- confined`: the end-to-end tests once more, with every agent and lane confined: the chart's capabilities, no way to new ones, a
// root that cannot be written, the shipped seccomp profile. What needs more than that by its nature is named here and left out.

import { spawnSync } from 'node:child_process';

/** They enter other network namespaces, look into programs with more rights (ptrace(2)), or take rights away from an agent by a way that wants rights of its own. */
const NEED_MORE = [
  'in whatever namespace',
  'the namespace was made anew',
  'a namespace made anew',
  'the namespace was left',
  'is no network namespace',
  'in another network namespace',
  'over joined TAPs in namespaces of their own',
  'super-frames are those of the segments',
  'says who holds it',
  'names the program that holds a device',
  'once a program is attached',
  'says why it does not meter',
];

export async function confinedBench(): Promise<string[]> {
  const env = { ...process.env, TAPLANE_CONFINED: 'seccomp' };
  const name = `^(?!.*(${NEED_MORE.join('|')}))`;
  const { status, stdout, stderr } = spawnSync('vitest', ['run', '--project', 'e2e', '--project', 'links', '-t', name], {
    env,
    encoding: 'utf8',
    maxBuffer: 256 * 2 ** 20,
  });
  if (status !== 0) throw new Error(`confined tests failed\n${stdout}\n${stderr}`);
  return stdout.split('\n').filter((line) => /Tests |Test Files /.test(line));
}
