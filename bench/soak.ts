// `npm run bench -- soak`: the crash and bad-input tests at length, 1,000 kills and 1,000,000 mutated requests unless the
// environment says otherwise. Takes about a quarter of an hour.

import { spawnSync } from 'node:child_process';

export async function soakBench(): Promise<string[]> {
  const env = { TAPLANE_KILLS: '1000', TAPLANE_MUTATIONS: '1000000', ...process.env };
  const result = spawnSync('vitest', ['run', '--project', 'e2e', 'test/e2e/crash.test.ts', 'test/e2e/bad-input.test.ts'], {
    env,
    encoding: 'utf8',
  });
  const told = result.stdout.split('\n').filter((line) => /kills,|codes:|TAPLANE_SEED|Tests /.test(line));
  if (result.status !== 0) throw new Error(`soak failed\n${result.stdout}\n${result.stderr}`);
  return told;
}
