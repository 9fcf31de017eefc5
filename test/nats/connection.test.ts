// The connection to NATS against a real nats-server: absent, late, killed, refusing, embedded.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NatsStatus_State as State } from '../../src/gen/taplane/v1/node_service.ts';
import { connectNats, type NatsLink, type NatsOptions } from '../../src/nats/connection.ts';
import { bound } from '../harness/bound.ts';
import { eventually, freePort, natsBinary, type RealNats, startNats } from './real-nats.ts';

const lines: string[] = [];
const write = (fields: object, message: string) => void lines.push(`${message} ${JSON.stringify(fields)}`);
const log = { debug: write, info: write, warn: write };
let stateDir: string;
let link: NatsLink | undefined;
let real: RealNats | undefined;

beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'taplane-nats-'));
  lines.length = 0;
});
afterEach(async () => {
  await link?.close();
  await real?.stop();
  link = real = undefined;
  rmSync(stateDir, { recursive: true, force: true });
});

function open(mode: string, more: Partial<NatsOptions> = {}): NatsLink {
  link = connectNats({ mode, name: 'taplane/test', stateDir, log, ...more });
  return link;
}
const reached = (wanted: State, withinMs?: number) =>
  eventually(
    () => link?.status().state === wanted,
    `state ${wanted}, last ${JSON.stringify(link?.status(), (_, v) => String(v))}`,
    withinMs,
  );
const commandLine = (pid: number) => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
};
const embeddedPid = () => Number(readFileSync(join(stateDir, 'nats', 'server.pid'), 'utf8'));

test('off does nothing and does not load the library', () => {
  const script = `
    const { connectNats } = await import(${JSON.stringify(join(import.meta.dirname, '../../src/nats/connection.ts'))});
    const link = connectNats({ mode: 'off', name: 'x', stateDir: '/nowhere', log: {} });
    const { createRequire } = await import('node:module');
    console.log(link.status().state, Object.keys(createRequire(import.meta.url).cache).filter((f) => f.includes('@nats-io')).length);`;
  expect(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }).trim()).toBe(`${State.OFF} 0`);
});

describe.skipIf(!natsBinary)('with a real nats-server (needs one in the PATH)', () => {
  test('absent at the start, appears, is killed, comes back', async () => {
    const port = await freePort();
    open(`nats://127.0.0.1:${port}`);
    expect(link?.status()).toMatchObject({ state: State.CONNECTING, embedded: false });
    await eventually(() => /refused/.test(link?.status().reason ?? ''), 'a reason');
    real = await startNats(port);
    await reached(State.CONNECTED);
    expect(link?.status()).toMatchObject({ server: `nats://127.0.0.1:${port}`, reason: '', disconnects: 0n });
    expect(link?.status().serverVersion).toMatch(/^\d+\.\d+\.\d+/);
    await real.stop('SIGKILL');
    await reached(State.CONNECTING);
    expect(link?.status()).toMatchObject({ disconnects: 1n });
    expect(link?.status().reason).not.toBe('');
    real = await startNats(port);
    await reached(State.CONNECTED);
    expect(link?.connection()?.isClosed()).toBe(false);
  }, 120_000);

  test('a refused login is retried for ever, named, and its secret never logged', async () => {
    const port = await freePort();
    real = await startNats(port, '--user', 'u', '--pass', 'right');
    open(`nats://u:wr0ng@127.0.0.1:${port}`);
    await eventually(() => /authorization/i.test(link?.status().reason ?? ''), 'the reason');
    await eventually(() => lines.filter((line) => line.startsWith('nats not connected')).length >= 4, 'more than two tries');
    expect(link?.status().state).toBe(State.CONNECTING);
    // An operator mends the server, the agent is not touched.
    await real.stop();
    real = await startNats(port, '--user', 'u', '--pass', 'wr0ng');
    await reached(State.CONNECTED, 40_000);
    expect(JSON.stringify([lines, link?.status()], (_, v) => String(v))).not.toContain('wr0ng@');
    expect(lines.join()).not.toContain('wr0ng');
  }, 120_000);

  test('closes at once while it dials a black hole', async () => {
    open('nats://192.0.2.1:4222');
    await new Promise((resolve) => setTimeout(resolve, 50));
    const startedAt = performance.now();
    await link?.close();
    expect(performance.now() - startedAt).toBeLessThan(bound(1_500, 8_000));
  });

  test('embedded: starts, needs its password, survives kill -9 of the server, stops with the agent', async () => {
    open('embedded');
    await reached(State.CONNECTED);
    const status = link?.status();
    expect(status).toMatchObject({ embedded: true, disconnects: 0n });
    expect(status?.server).toMatch(/^nats:\/\/127\.0\.0\.1:\d+$/);
    expect(link?.connection()?.info?.jetstream).toBe(true);
    expect(link?.connection()?.info?.auth_required).toBe(true);
    expect(statSync(join(stateDir, 'nats', 'server.conf')).mode & 0o777).toBe(0o600);
    const pid = embeddedPid();
    expect(commandLine(pid)).toContain(stateDir);
    // Nothing of ours leaks into the server: no lock, no device.
    const ours = readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
      } catch {
        return [];
      }
    });
    expect(ours.filter((target) => target.includes('/dev/net/tun') || target.endsWith('/lock'))).toEqual([]);

    process.kill(pid, 'SIGKILL');
    await eventually(() => link?.status().disconnects === 1n, 'the loss is seen');
    await reached(State.CONNECTED);
    expect(embeddedPid()).not.toBe(pid);
    expect(link?.status().server).toBe(status?.server);

    const second = embeddedPid();
    await link?.close();
    expect(commandLine(second)).toBe('');
    expect(existsSync(join(stateDir, 'nats', 'server.pid'))).toBe(false);
    expect(existsSync(join(stateDir, 'nats', 'store'))).toBe(true);
  }, 120_000);

  test('embedded: kill -9 of the agent leaves no server', async () => {
    const agent = spawn(process.execPath, ['--input-type=module', '-e', holder()], { stdio: 'ignore' });
    const pid = await eventually(() => existsSync(join(stateDir, 'nats', 'server.pid')) && embeddedPid(), 'a server');
    await eventually(() => commandLine(pid).startsWith(natsBinary as string), 'setpriv became the server');
    agent.kill('SIGKILL');
    await once(agent, 'exit');
    await eventually(() => commandLine(pid) === '', 'the server is gone');
  }, 120_000);

  test('embedded without setpriv: the next agent ends the server that was left behind, and no other', async () => {
    const path = join(stateDir, 'bin');
    mkdirSync(path);
    symlinkSync(natsBinary as string, join(path, 'nats-server'));
    const agent = spawn(process.execPath, ['--input-type=module', '-e', holder(path)], { stdio: 'ignore' });
    const left = await eventually(() => existsSync(join(stateDir, 'nats', 'server.pid')) && embeddedPid(), 'a server');
    // A server that has not said all it says at its start would end of the pipe that ends with the agent.
    await eventually(() => existsSync(join(stateDir, 'connected')), 'it is ready');
    expect(commandLine(left)).toContain('nats-server');
    agent.kill('SIGKILL');
    await once(agent, 'exit');
    expect(commandLine(left)).toContain(stateDir);
    open('embedded');
    await reached(State.CONNECTED);
    expect(commandLine(left)).toBe('');
    await link?.close();
    // A pid that meanwhile belongs to somebody else is left alone.
    const stranger = spawn('sleep', ['60']);
    writeFileSync(join(stateDir, 'nats', 'server.pid'), `${stranger.pid}\n`);
    open('embedded');
    await reached(State.CONNECTED);
    expect(commandLine(stranger.pid as number)).toContain('sleep');
    stranger.kill();
  }, 120_000);

  test('embedded: a server that cannot start says why, and is tried again', async () => {
    mkdirSync(join(stateDir, 'nats', 'store'), { recursive: true });
    // A file where JetStream wants its directory.
    writeFileSync(join(stateDir, 'nats', 'store', 'jetstream'), '');
    open('embedded');
    await eventually(() => /nats-server ended: .*(jetstream|not a directory)/i.test(link?.status().reason ?? ''), 'the reason');
    expect(link?.status().state).toBe(State.CONNECTING);
    rmSync(join(stateDir, 'nats', 'store', 'jetstream'));
    await reached(State.CONNECTED, 40_000);
  }, 120_000);
});

test('embedded without a nats-server on the PATH: failed, with the cure, and no exception', async () => {
  open('embedded', { path: '/nonexistent' });
  await reached(State.FAILED);
  expect(link?.status().reason).toMatch(/no nats-server on the PATH: install it/);
  await link?.close();
});

/** A stand-in for an agent: holds an embedded server until it is killed; makes a file `connected` once it is. */
function holder(path?: string): string {
  const module = JSON.stringify(join(import.meta.dirname, '../../src/nats/connection.ts'));
  const log = '{ debug() {}, info() {}, warn() {} }';
  return `const { connectNats } = await import(${module});
    const { writeFileSync } = await import('node:fs');
    const link = connectNats({ mode: 'embedded', name: 'x', stateDir: ${JSON.stringify(stateDir)}, log: ${log}, path: ${JSON.stringify(path)} });
    setInterval(() => {
      if (link.status().state === ${State.CONNECTED}) writeFileSync(${JSON.stringify(join(stateDir, 'connected'))}, '');
    }, 20);`;
}
