// promtool of Debian's package `prometheus`, where it is at hand: a reader of other make for what we write.

import { spawnSync } from 'node:child_process';
import { promtoolCommand } from '../../scripts/promtool.mjs';

const COMMAND = promtoolCommand();
export const hasPromtool = COMMAND !== undefined;
if (!hasPromtool)
  process.stderr.write('promtool is not here: metrics and rules are read by our own reader alone (node scripts/setup.mjs --test)\n');

/** Runs it; answers what it says when it does not like something, else ''. */
export function promtool(args: string[], input = ''): string {
  const { status, stdout, stderr } = spawnSync(COMMAND ?? 'promtool', args, { input, encoding: 'utf8' });
  return status === 0 ? '' : `${stdout}${stderr}`;
}
