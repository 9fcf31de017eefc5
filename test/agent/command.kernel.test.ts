// `taplane agent` as a process: exit codes, what it says, what it leaves.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { lockRuntimeDir } from '../../src/agent/runtime-dir.ts';
import { openStateDir } from '../../src/agent/state-dir.ts';
import { NatsStatus_State } from '../../src/gen/taplane/v1/node_service.ts';
import { Agent, startAgent } from '../harness/agent.ts';
import { bound } from '../harness/bound.ts';
import { createNamespace } from '../harness/namespace.ts';
import { run } from '../harness/process.ts';
import { eventually, natsBinary } from '../nats/real-nats.ts';

const TAPLANE = join(import.meta.dirname, '../../bin/taplane');
let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-command-`));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));
const agent = (...args: string[]) => run([TAPLANE, 'agent', '--state-dir', join(home, 'state'), '--runtime-dir', home, ...args]);
const entries = (log: string) =>
  log
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe('without a start', () => {
  test('--check-config prints the effective configuration and touches nothing', async () => {
    const result = await agent('--check-config', '--nats', 'nats://u:hunter2@h', '--node', 'n1');
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(parse(result.stdout)).toMatchObject({
      node: 'n1',
      nats: 'nats://h',
      stateDir: join(home, 'state'),
      listen: [`unix:${home}/agent.sock`],
    });
    expect(existsSync(join(home, 'state'))).toBe(false);
    const json = await agent('--check-config', '-o', 'json', '--nats', 'nats://u:hunter2@h');
    expect(JSON.parse(json.stdout)).toMatchObject({ nats: 'nats://h', stateDir: join(home, 'state') });
  });

  test('a bad configuration is code 2, with all problems, on stderr', async () => {
    const config = join(home, 'agent.yaml');
    writeFileSync(config, 'limits: { interfaces: -1 }\nbogus: 1\n');
    for (const more of [[], ['--check-config']]) {
      const result = await agent('--config', config, ...more);
      expect(result).toMatchObject({ code: 2, stdout: '' });
      expect(result.stderr).toContain(`${config}:1:11: limits.interfaces: must be 1 to 65536`);
      expect(result.stderr).toContain(`${config}:2:1: bogus: is not a known key`);
    }
  });
});

describe('with a start', () => {
  test('a state directory in use: code 1, one line, with holder and cure', async () => {
    const held = openStateDir(join(home, 'state'));
    const result = await agent();
    held.release();
    expect(result.code).toBe(1);
    const [line, ...more] = entries(result.stderr);
    expect(more).toEqual([]);
    expect(line).toMatchObject({
      level: 'error',
      msg: 'start failed',
      reason: 'STATE_DIR_LOCKED',
      cure: expect.stringContaining('--state-dir'),
    });
    expect(line?.['error']).toContain(`pid ${process.pid}`);
  });

  test('a runtime directory in use: code 1, since two agents would tell the same lanes different things', async () => {
    const held = lockRuntimeDir(home);
    const result = await agent();
    held.release();
    expect(result.code).toBe(1);
    expect(entries(result.stderr).at(-1)).toMatchObject({
      msg: 'start failed',
      reason: 'RUNTIME_DIR_LOCKED',
      cure: expect.stringContaining('--runtime-dir'),
      error: expect.stringContaining(`pid ${process.pid}`),
    });
  });

  test('a socket in use: code 1, and what was open is closed again', async () => {
    const startedAt = performance.now();
    const other = createServer().listen(join(home, 'agent.sock'));
    const result = await agent();
    expect(result.code).toBe(1);
    expect(entries(result.stderr).at(-1)).toMatchObject({
      msg: 'start failed',
      error: expect.stringMatching(/another program answers there$/),
      cure: 'stop that program, or choose another path',
    });
    other.close();
    openStateDir(join(home, 'state')).release();
    expect(performance.now() - startedAt).toBeLessThan(bound(3_000, 15_000));
  });

  test('without the right to make devices it runs and says so, with the cure', async () => {
    await using ns = createNamespace();
    await using running = await startAgent({
      namespace: ns,
      under: ['setpriv', '--bounding-set', '-net_admin', '--inh-caps', '-net_admin'],
    });
    await expect
      .poll(() => entries(running.log))
      .toContainEqual(
        expect.objectContaining({
          level: 'warn',
          msg: expect.stringContaining('without CAP_NET_ADMIN'),
          cure: expect.stringContaining('taplane doctor'),
        }),
      );
  });

  test.each(['SIGTERM', 'SIGINT'] as const)('%s: code 0, socket gone, lock free', async (signal) => {
    await using ns = createNamespace();
    await using running = await startAgent({ namespace: ns });
    expect(running.readyMs).toBeLessThan(bound(3_000, 15_000));
    const ready = entries(running.log).find(({ msg }) => msg === 'ready');
    expect(ready).toMatchObject({ level: 'info', pid: running.pid, addresses: [running.server] });
    expect(ready?.['startup_ms']).toBeLessThan(bound(2_000, 12_000));
    const node = await running.client().node.getNode();
    expect(node).toMatchObject({
      pid: running.pid,
      cluster: 'default',
      capabilities: expect.arrayContaining(['CAP_NET_ADMIN']),
      nats: { state: NatsStatus_State.OFF },
    });
    expect(node.kernelFeatures).toMatchObject({ tunDevice: true, tunFlags: expect.arrayContaining(['IFF_MULTI_QUEUE']) });
    expect(node.limits).toEqual({ interfaces: 4096, links: 1024, watchers: 256, messageBytes: 4194304, streamsPerConnection: 100 });
    expect(Number(node.startupDuration?.nanos) + Number(node.startupDuration?.seconds) * 1e9).toBeGreaterThan(1e6);
    // No terminal is closed, no file is to be read again.
    process.kill(running.pid, 'SIGHUP');
    await running.client().node.getNode();
    // Again and again, as a dying parent with several threads does it.
    for (let again = 0; again < 5; again++) process.kill(running.pid, signal);
    const result = await running.ended();
    expect(result.code).toBe(0);
    expect(entries(result.stderr).slice(-2)).toMatchObject([{ msg: 'stopping', signal }, { msg: 'stopped' }]);
    expect(existsSync(running.socket)).toBe(false);
    openStateDir(running.stateDir).release();
  });

  test('is called taplane; its files are for its user alone, the socket for its group', async () => {
    await using ns = createNamespace();
    await using running = await startAgent({ namespace: ns });
    expect(await running.cli(['interface', 'create', 'tun0', '--mode', 'tun'])).toMatchObject({ code: 0 });
    expect(readFileSync(`/proc/${running.pid}/comm`, 'utf8')).toBe('taplane\n');
    expect(readFileSync(`/proc/${running.pid}/cmdline`, 'utf8')).toMatch(/^taplane agent .*--state-dir/);
    const modes = readdirSync(running.stateDir, { recursive: true, withFileTypes: true }).map((entry) => {
      const mode = statSync(join(entry.parentPath, entry.name)).mode & 0o7777;
      // A folder has to be entered as well.
      return `${entry.name} ${(entry.isDirectory() ? mode & ~0o100 : mode).toString(8)}`;
    });
    expect(modes).toContain('state.db 600');
    expect(modes.filter((mode) => !mode.endsWith(' 600'))).toEqual([]);
    expect(statSync(running.socket).mode & 0o7777).toBe(0o660);
    const second = await run([TAPLANE, 'agent', '--state-dir', running.stateDir, '--runtime-dir', home]);
    expect(entries(second.stderr)[0]?.['error']).toContain(`held by pid ${running.pid} (taplane agent)`);
  });

  test('an exception out of nowhere: logged once, code 1', async () => {
    await using ns = createNamespace();
    await using running = new Agent({
      namespace: ns,
      env: { NODE_OPTIONS: "--import=data:text/javascript,process.on('SIGUSR2',()=>{throw%20new%20Error('surprise')})" },
    });
    await running.start();
    process.kill(running.pid, 'SIGUSR2');
    const result = await running.ended();
    expect(result.code).toBe(1);
    const last = entries(result.stderr).filter(({ level }) => level === 'error');
    expect(last).toHaveLength(1);
    expect(last[0]).toMatchObject({ error: { message: 'surprise', stack: expect.stringContaining('surprise') } });
  });

  test('a password where everybody sees it: code 1, with the cure and without the password', async () => {
    for (const [words, env] of [
      [['--nats', 'nats://u:hunter2@192.0.2.1'], {}],
      [[], { TAPLANE_NATS: 'nats://u:hunter2@192.0.2.1' }],
    ] as const) {
      const command = [TAPLANE, 'agent', '--state-dir', join(home, 'state'), '--runtime-dir', home, ...words];
      const result = await run(command, { env: { ...env } });
      expect(result.code).toBe(1);
      expect(entries(result.stderr)).toMatchObject([
        { reason: 'SECRET_EXPOSED', cure: expect.stringContaining('--config with mode 0600') },
      ]);
      expect(result.stderr).not.toContain('hunter2');
    }
    expect(existsSync(join(home, 'state'))).toBe(false);
  });

  test('a NATS that is not there does not hold up start or stop', async () => {
    await using ns = createNamespace();
    const config = join(home, 'nats.yaml');
    writeFileSync(config, 'nats: nats://u:hunter2@192.0.2.1:4222\n', { mode: 0o600 });
    await using running = await startAgent({ namespace: ns, args: ['--config', config] });
    const { nats } = await running.client().node.getNode();
    expect(nats).toMatchObject({ state: NatsStatus_State.CONNECTING, embedded: false });
    const startedAt = performance.now();
    const { stderr } = await running.stop();
    expect(performance.now() - startedAt).toBeLessThan(bound(3_000, 15_000));
    expect(stderr + JSON.stringify(nats, (_, value) => String(value))).not.toContain('hunter2');
  });

  test.skipIf(!natsBinary)('an embedded NATS comes with the agent and goes with it, however it goes (needs nats-server)', async () => {
    // Not in a namespace of its own: loopback is down there, as on no real node.
    await using running = await startAgent({ args: ['--nats', 'embedded'] });
    for (const end of ['stop', 'kill9'] as const) {
      const client = running.client();
      let state: number | undefined;
      for (let tries = 0; tries < 600 && state !== NatsStatus_State.CONNECTED; tries++) {
        state = (await client.node.getNode()).nats?.state;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      expect(state).toBe(NatsStatus_State.CONNECTED);
      const pid = Number(readFileSync(join(running.stateDir, 'nats', 'server.pid'), 'utf8'));
      await running[end]();
      await eventually(() => !existsSync(`/proc/${pid}`), 'the server is gone');
      if (end === 'stop') await running.start();
    }
  });

  test('a bad state directory is refused before anything else is touched', async () => {
    mkdirSync(join(home, 'state'), { mode: 0o700 });
    await run(['chmod', '777', join(home, 'state')]);
    const result = await agent();
    expect(result.code).toBe(1);
    expect(entries(result.stderr)).toMatchObject([{ reason: 'STATE_DIR_UNSAFE', cure: expect.stringMatching(/^chmod 700/) }]);
  });
});
