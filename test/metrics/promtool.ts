// promtool of Debian's package `prometheus`, where it is at hand: a reader of other make for what we write.

import { spawnSync } from 'node:child_process';

export const hasPromtool = spawnSync('promtool', ['--version']).status === 0;
if (!hasPromtool)
  process.stderr.write('promtool is not here: metrics and rules are read by our own reader alone (apt-get install prometheus)\n');

/** Runs it; answers what it says when it does not like something, else ''. */
export function promtool(args: string[], input = ''): string {
  const { status, stdout, stderr } = spawnSync('promtool', args, { input, encoding: 'utf8' });
  return status === 0 ? '' : `${stdout}${stderr}`;
}
