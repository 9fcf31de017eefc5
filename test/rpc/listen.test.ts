import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TaplaneError } from '../../src/errors.ts';
import { connect } from '../../src/rpc/client.ts';
import { parseListenAddress } from '../../src/rpc/listen-address.ts';
import { startServer } from '../../src/rpc/server.ts';
import { peerCredentials } from '../../src/sys/peer-credentials.ts';
import { memoryInterfaces, memoryNode } from './memory-interfaces.ts';
import { noPackets } from './memory-packets.ts';
import { memoryResponders } from './memory-responders.ts';

let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'taplane-listen-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const start = (listen: string[], insecureLoopback = false) =>
  startServer({
    listen,
    interfaces: memoryInterfaces(),
    packets: noPackets,
    responders: memoryResponders(),
    node: memoryNode(),
    peerCredentials,
    log: { error() {} },
    insecureLoopback,
  });
const refusal = async (listen: string[], insecureLoopback = false): Promise<TaplaneError> => {
  try {
    await (await start(listen, insecureLoopback)).stop(0);
  } catch (error) {
    return error as TaplaneError;
  }
  throw new Error('was not refused');
};

describe('unix sockets', () => {
  test('get a directory of mode 0750 and mode 0660, and are gone after the stop', async () => {
    const path = join(directory, 'run', 'agent.sock');
    const before = process.umask();
    const server = await start([`unix:${path}`]);
    expect(process.umask()).toBe(before);
    expect((await stat(path)).mode & 0o7777).toBe(0o660);
    expect((await stat(join(directory, 'run'))).mode & 0o7777).toBe(0o750);
    await server.stop(0);
    expect(existsSync(path)).toBe(false);
  });

  test('have these modes under the strictest mask too', async () => {
    const path = join(directory, 'a', 'b', 'agent.sock');
    const before = process.umask(0o077);
    try {
      const server = await start([`unix:${path}`]);
      expect((await stat(path)).mode & 0o7777).toBe(0o660);
      for (const made of ['a', 'a/b']) expect((await stat(join(directory, made))).mode & 0o7777).toBe(0o750);
      expect((await stat(directory)).mode & 0o7777).toBe(0o700);
      await server.stop(0);
    } finally {
      process.umask(before);
    }
  });

  test('that nobody answers are taken over', async () => {
    const path = join(directory, 'stale.sock');
    spawnSync(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`,
    ]);
    expect((await stat(path)).isSocket()).toBe(true);
    const server = await start([`unix:${path}`]);
    const client = connect(`unix:${path}`, { timeoutMs: 15_000 });
    expect((await client.node.getNode()).name).toBe('node-a');
    client.close();
    await server.stop(0);
  });

  test('that somebody answers are refused by name, and left alone', async () => {
    const path = join(directory, 'live.sock');
    const other = createServer().listen(path);
    await new Promise((resolve) => other.once('listening', resolve));
    const error = await refusal([`unix:${path}`]);
    expect(error).toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'SOCKET_IN_USE' });
    expect(error.message).toBe(`listen on unix:${path}: another program answers there`);
    expect(error.preconditions).toMatchObject([{ description: 'stop that program, or choose another path' }]);
    expect(existsSync(path)).toBe(true);
    other.close();
  });

  test('symlinks, files and open directories are refused and left alone', async () => {
    const file = join(directory, 'file');
    await writeFile(file, 'precious');
    const link = join(directory, 'link');
    await symlink(file, link);
    const open = join(directory, 'open');
    await mkdir(open);
    await chmod(open, 0o777);
    const linked = join(directory, 'linked');
    await symlink(open, linked);
    for (const path of [file, link, join(open, 'agent.sock'), join(linked, 'agent.sock')]) {
      expect(await refusal([`unix:${path}`]), path).toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'SOCKET_PATH_UNSAFE' });
    }
    expect((await stat(file)).size).toBe(8);
    await chmod(open, 0o1777);
    await (await start([`unix:${join(open, 'agent.sock')}`])).stop(0);
  });

  test('one refused address releases the others', async () => {
    const path = join(directory, 'first.sock');
    await writeFile(join(directory, 'second'), '');
    await refusal([`unix:${path}`, `unix:${join(directory, 'second')}`]);
    expect(existsSync(path)).toBe(false);
  });
});

describe('TCP', () => {
  test('in the clear is for loopback behind the flag only', async () => {
    expect(await refusal(['127.0.0.1:0'])).toMatchObject({ reason: 'INSECURE_ADDRESS' });
    expect(await refusal(['0.0.0.0:0'], true)).toMatchObject({ reason: 'INSECURE_ADDRESS' });
    expect(await refusal(['example.org:1'], true)).toMatchObject({ reason: 'INSECURE_ADDRESS' });
    const server = await start(['127.0.0.1:0'], true);
    const client = connect(server.addresses[0] ?? '', { timeoutMs: 15_000 });
    expect((await client.node.getNode()).name).toBe('node-a');
    client.close();
    await server.stop(0);
  });
});

test('addresses', () => {
  expect(parseListenAddress('unix:/run/a.sock')).toEqual({ kind: 'unix', path: '/run/a.sock' });
  expect(parseListenAddress('unix:///run/a.sock')).toEqual({ kind: 'unix', path: '/run/a.sock' });
  expect(parseListenAddress('[::1]:9')).toEqual({ kind: 'tcp', host: '::1', port: 9, loopback: true });
  expect(parseListenAddress('localhost:9')).toMatchObject({ loopback: true });
  expect(parseListenAddress('127.evil.example:9')).toMatchObject({ loopback: false });
  for (const bad of ['', 'unix:', 'host', 'host:', ':1', 'a:b:1', '[zz]:1', 'h:65536', `unix:/${'x'.repeat(120)}`]) {
    expect(() => parseListenAddress(bad), bad).toThrow(TaplaneError);
  }
});
