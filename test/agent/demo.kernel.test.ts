// `npm start` in a namespace of its own: what it prints works, and however it ends, no device, process or directory is left.

import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { lockFile } from '../../src/sys/lock.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { type Child, run, runSync } from '../harness/process.ts';
import { eventually, natsBinary } from '../nats/real-nats.ts';

const DEMO = [process.execPath, join(import.meta.dirname, '../../scripts/demo.ts')];
const TAPLANE = join(import.meta.dirname, '../../bin/taplane');

function namespace(): Namespace {
  const ns = createNamespace();
  ns.ip('link set lo up');
  return ns;
}
const devices = (ns: Namespace) =>
  (ns.ip('-j link') as { ifname: string }[])
    .map(({ ifname }) => ifname)
    .filter((name) => name !== 'lo' && !/^(tunl|sit|gre|erspan|ip6|ip_vti|teql)/.test(name));
// Where the demos of this file keep their files, apart from any other that runs on this machine.
const base = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-demo-`));
const env = { XDG_RUNTIME_DIR: base };
chmodSync(base, 0o777);
afterAll(() => rmSync(base, { recursive: true, force: true }));
const homes = () => readdirSync(base);
const processes = (ns: Namespace) => runSync('ip', 'netns', 'pids', ns.name).split('\n').filter(Boolean).length;
const serverOf = (child: Child) => /export TAPLANE_SERVER=(\S+)/.exec(child.stdout)?.[1] ?? '';
const homeOf = (child: Child) => serverOf(child).replace(/^unix:(.*)\/agent\.sock$/, '$1');
const agentPid = (child: Child) => Number(/pid (\d+), ready/.exec(child.stdout)?.[1]);
const shown = (child: Child) => (child.stdout.includes('Ctrl-C ends') ? child : undefined);

async function nothingLeft(ns: Namespace, child: Child): Promise<void> {
  await eventually(() => devices(ns).length === 0, `devices gone: ${devices(ns)}`);
  await eventually(() => !existsSync(`/proc/${agentPid(child)}`), 'agent gone');
  await eventually(() => processes(ns) === 0, 'processes gone');
}

describe('the demo', () => {
  test('--once shows everything and leaves nothing', async () => {
    await using ns = namespace();
    const result = await ns.exec([...DEMO, '--once'], { env });
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(result.stdout).toMatch(/demo0, a TUN, up, 10\.89\.0\.1\/24/);
    expect(result.stdout).not.toContain('Ctrl-C');
    // The pings as a record, by both ways; it is the same record.
    const record = /(\S+ demo0 out START icmp 10\.89\.0\.1 -> 10\.89\.0\.2 8\/0 fwd [1-3]p\/\d+B rev [1-3]p\/\d+B)\n/;
    const overGrpc = new RegExp(`over gRPC ${record.source}`).exec(result.stdout)?.[1];
    expect(overGrpc, result.stdout).toBeDefined();
    if (natsBinary) {
      expect(new RegExp(`from NATS ${record.source}`).exec(result.stdout)?.[1], result.stdout).toBe(overGrpc);
      expect(result.stdout).toMatch(/taplane\.v1\.default\.\S+\.flow\.demo0/);
      expect(result.stdout).toMatch(/flow observe -f --nats \S+\/state\/nats\/client\.url /);
    }
    expect(result.stdout).toMatch(/bin\/taplane flow (observe -f|top|stats) /);
    expect(result.stdout).toMatch(/\nAll of the demo is removed: .*\n$/);
    expect(devices(ns)).toEqual([]);
    expect(homes()).toEqual([]);
    expect(processes(ns)).toBe(0);
  }, 180_000);

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    '%s takes everything away, also what the user made',
    async (signal) => {
      await using ns = namespace();
      ns.run('ip', 'link', 'add', 'demo0', 'type', 'bridge');
      ns.run('ip', 'address', 'add', '10.89.0.9/20', 'dev', 'demo0');
      ns.run('ip', 'link', 'set', 'demo0', 'up');
      ns.run('ip', 'tuntap', 'add', 'mine0', 'mode', 'tap');
      // Down: no table of /proc shows its address.
      ns.run('ip', 'address', 'add', '10.89.17.1/24', 'dev', 'mine0');
      await using child = ns.spawn(DEMO, { env });
      await child.until(shown, 'the demo is up', 60_000);
      expect(child.stdout).toMatch(/demo1, a TUN, up, 10\.89\.16\.1\/24/);
      expect(child.stdout).toContain('interface create lab0 --mode tap --address 10.89.18.1/24 --up');
      expect(ns.run('ping', '-c', '1', '-W', '2', '10.89.16.1')).toContain('1 received');
      // What the demo invites to: the agent puts back what was taken.
      ns.run('ip', 'address', 'del', '10.89.16.1/24', 'dev', 'demo1');
      await eventually(() => ns.run('ip', 'address', 'show', 'dev', 'demo1').includes('10.89.16.1/24'), 'the address is back');
      for (const args of [
        (/bin\/taplane (interface create .*?) +#/.exec(child.stdout)?.[1] ?? '').split(' '),
        ['interface', 'adopt', 'mine0'],
      ]) {
        expect(await run([TAPLANE, ...args], { env: { TAPLANE_SERVER: serverOf(child) } })).toMatchObject({ code: 0 });
      }
      // What it says of NATS works, with the password in a file that no other user can read.
      const file = /flow observe -f --nats (\S+)/.exec(child.stdout)?.[1];
      if (file) {
        expect(statSync(file).mode & 0o777).toBe(0o600);
        const observed = await ns.exec([TAPLANE, 'flow', 'observe', '--nats', file, '--protocol', 'icmp', '--last', '9']);
        expect(observed, observed.stderr).toMatchObject({ code: 0, stderr: '' });
        // Beside what the kernel says by itself, over IPv6.
        expect(observed.stdout).toMatch(/demo1 +out +(START|END) +icmp +10\.89\.16\.1 -> /);
      }
      const home = homeOf(child);
      child.kill(signal);
      const result = await child.ended;
      expect(result).toMatchObject({ code: 0, stderr: '' });
      expect(result.stdout).toContain('All of the demo is removed');
      // What was there before is there still.
      expect(devices(ns).sort()).toEqual(['demo0', 'mine0']);
      expect(existsSync(home)).toBe(false);
      expect(processes(ns)).toBe(0);
    },
    180_000,
  );

  test('after a crash of the agent everything is taken away, and the log is kept', async () => {
    await using ns = namespace();
    await using child = ns.spawn(DEMO, { env });
    await child.until(shown, 'the demo is up', 60_000);
    expect(
      await run([TAPLANE, 'interface', 'create', 'lab0', '--mode', 'tun'], { env: { TAPLANE_SERVER: serverOf(child) } }),
    ).toMatchObject({ code: 0 });
    process.kill(agentPid(child), 'SIGKILL');
    const result = await child.ended;
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/The agent ended by SIGKILL\./);
    const log = /log is kept: (\S+)/.exec(result.stderr)?.[1] ?? '';
    expect(readFileSync(log, 'utf8')).toContain('"msg":"ready"');
    await nothingLeft(ns, child);
    rmSync(homeOf(child), { recursive: true });
  }, 180_000);

  test('kill -9 of the demo itself leaves no process and no demo device', async () => {
    await using ns = namespace();
    await using child = ns.spawn(DEMO, { env });
    await child.until(shown, 'the demo is up', 60_000);
    const others = [`${base}/taplane-demo-live`, `${base}/taplane-demo-log`];
    for (const path of others) mkdirSync(path, { mode: 0o700 });
    writeFileSync(join(others[0] as string, 'demo.pid'), '1\n');
    const live = lockFile(join(others[0] as string, 'demo.pid'));
    // One that runs is left alone, and so are one that is locked and one without the file.
    expect((await ns.exec([...DEMO, '--once'], { env })).stdout).not.toContain('Removed');
    child.kill('SIGKILL');
    await nothingLeft(ns, child);
    expect((await ns.exec([...DEMO, '--once'], { env })).stdout).toContain(`Removed ${homeOf(child)} of a demo that was killed`);
    live.release();
    expect(homes().sort()).toEqual(others.map((path) => basename(path)));
    for (const path of others) rmSync(path, { recursive: true });
  }, 180_000);

  test('a signal in the middle of the start', async () => {
    for (const afterMs of [50, 200, 350, 500, 800]) {
      await using ns = namespace();
      await using child = ns.spawn(DEMO, { env });
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      child.kill('SIGINT');
      const { code, signal, stderr } = await child.ended;
      // Early enough it just ends.
      expect({ code: signal ?? code, stderr }).toEqual({ code: expect.toBeOneOf([0, 'SIGINT']), stderr: '' });
      // What it had started may still be ending.
      await eventually(() => processes(ns) === 0, 'processes gone');
      expect(devices(ns)).toEqual([]);
      expect(homes()).toEqual([]);
    }
  }, 180_000);

  test.each([
    [
      'no /dev/net/tun',
      ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /dev/net && exec "$@"', 'sh'],
      /\/dev\/net\/tun cannot be reached: ENOENT/,
    ],
    ['no right to create devices', ['setpriv', '--bounding-set', '-net_admin'], /CAP_NET_ADMIN is missing/],
    ['not root', ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'], /run it as root/],
  ])('%s: what is wrong, the cure, code 1', async (_, behind, text) => {
    const result = await run([...behind, ...DEMO], { env });
    expect(result.code).toBe(1);
    expect(result.stdout).toBe('');
    expect(result.stderr).toMatch(/^\nThe demo cannot run here:\n/);
    expect(result.stderr).toMatch(text);
    expect(homes()).toEqual([]);
  });
});
