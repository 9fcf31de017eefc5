// Fetches promtool for the tests of metrics and alert rules into node_modules/.cache: one file out of Debian's package `prometheus`, of which nothing is
// installed, since that would start a server. Plain JavaScript without dependencies, as setup.mjs, which calls it. Without it a test is skipped, so
// a failure here is told and is no failure of the setup.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FILE = join(dirname(dirname(fileURLToPath(import.meta.url))), 'node_modules', '.cache', 'promtool');

/** What starts it: the one of this machine, else the one that was fetched; undefined when there is none. */
export function promtoolCommand() {
  return ['promtool', FILE].find((program) => spawnSync(program, ['--version']).status === 0);
}

/** Does nothing when there is one. Answers why there is none, or undefined. */
export function fetchPromtool(say) {
  if (promtoolCommand() !== undefined) return undefined;
  if (!existsSync('/etc/debian_version')) return 'promtool is fetched from Debian alone';
  say('apt-get download prometheus: promtool for the tests of metrics and alerts');
  mkdirSync(dirname(FILE), { recursive: true });
  const work = mkdtempSync(`${FILE}-`);
  try {
    const run = (program, ...args) => {
      const { status, stderr, error } = spawnSync(program, args, { cwd: work, encoding: 'utf8', timeout: 120_000 });
      return status === 0 ? undefined : `${program}: ${(stderr ?? '').trim() || error}`;
    };
    const failed = run('apt-get', '--quiet', '-o', 'Acquire::Retries=1', '-o', 'Acquire::http::Timeout=20', 'download', 'prometheus');
    if (failed) return failed;
    const [archive = ''] = readdirSync(work);
    const unpacked = run('dpkg-deb', '--extract', archive, 'tree');
    if (unpacked) return unpacked;
    renameSync(join(work, 'tree', 'usr', 'bin', 'promtool'), FILE);
    return undefined;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
