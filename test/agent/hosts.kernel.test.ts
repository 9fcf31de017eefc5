// `npm start -- --hosts N`: what it shows is true, and nothing of it is left.

import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { whenStrict } from '../harness/bound.ts';
import { lanesUnder } from '../harness/lanes.ts';
import { Child, run } from '../harness/process.ts';
import { eventually, natsBinary } from '../nats/real-nats.ts';

const DEMO = [process.execPath, join(import.meta.dirname, '../../scripts/demo.ts')];
const base = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-hosts-`));
const env = { XDG_RUNTIME_DIR: base };
afterAll(() => rmSync(base, { recursive: true, force: true }));
const namespacesOf = (home: string) => readdirSync('/run/netns').filter((name) => name.startsWith(`${home.split('/').at(-1)}-`));

describe('the demo of several hosts', () => {
  test('joins them, pings all to all, and Ctrl-C leaves nothing', async () => {
    await using child = new Child([...DEMO, '--hosts', '3'], { env });
    await child.until(({ stdout }) => stdout.includes('Ctrl-C takes'), 'the demo is up', 90_000);
    const home = /unix:(\S+)\/oslo\/agent\.sock/.exec(child.stdout)?.[1] ?? '';
    expect(child.stdout).toMatch(/All links are up [\d.]+ s after/);
    expect(child.stdout).toMatch(/\n {2}oslo {24}[\d.]+ ms [\d.]+ ms +[\d.]+ ms [\d.]+ ms\n/);
    expect(child.stdout).not.toContain('lost');
    expect(namespacesOf(home)).toHaveLength(4);
    if (natsBinary)
      await child.until(({ stdout }) => /flow +\S+ \w+\/mesh0 .* icmp .*10\.77\.0\.\d -> 10\.77\.0\.\d/.test(stdout), 'a flow', 30_000);
    // What it invites to.
    process.kill(Number(/kill -9 (\d+)/.exec(child.stdout)?.[1]), 'SIGKILL');
    await child.until(
      ({ stdout }) => /agent of rome ended by SIGKILL; it is started again[\s\S]* rome +up, peers up: oslo bern/.test(stdout),
      'it is back',
      60_000,
    );
    child.kill('SIGINT');
    const { code, stdout, stderr } = await child.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/\nAll of the demo is removed: .*\n$/);
    expect(existsSync(home)).toBe(false);
    expect(namespacesOf(home)).toEqual([]);
    expect(lanesUnder(home)).toEqual([]);
  });

  whenStrict('kill -9 ends its agents; what is left of it the next one removes', async () => {
    await using child = new Child([...DEMO, '--hosts', '2'], { env });
    await child.until(({ stdout }) => /rome +192\.0\.2\.2 +agent pid/.test(stdout), 'the agents run', 90_000);
    const home = /unix:(\S+)\/oslo\/agent\.sock/.exec(child.stdout)?.[1] ?? '';
    const pids = [...child.stdout.matchAll(/agent pid (\d+)/g)].map(([, pid]) => pid);
    child.kill('SIGKILL');
    await eventually(() => pids.every((pid) => !existsSync(`/proc/${pid}`)), 'agents gone');
    expect(await run([...DEMO, '--hosts', '9'], { env })).toMatchObject({ code: 2, stderr: expect.stringContaining('from 2 to 8') });
    const { code, stdout } = await run([...DEMO, '--hosts', '2', '--once'], { env });
    expect(code).toBe(0);
    expect(stdout).toContain(`Removed ${home} of a demo that was killed`);
    expect(namespacesOf(home)).toEqual([]);
    expect(readdirSync(base)).toEqual([]);
  });
});
