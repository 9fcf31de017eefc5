// What a service manager hears: on a real datagram socket, of a file and of an abstract name, which systemd uses in user sessions.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { notifier, watchdogOf } from '../../src/agent/notify.ts';
import { Child } from '../harness/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'taplane-notify-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const LISTEN = `
import socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1].replace('@', '\\0', 1) if sys.argv[1].startswith('@') else sys.argv[1])
print('listening', flush=True)
while True: print(repr(listener.recv(4096).decode()), flush=True)
`;

test.each([join(folder, 'notify'), `@taplane-notify-${process.pid}`])('ready, alive, stopping: %s', async (path) => {
  await using manager = new Child(['/usr/bin/python3', '-c', LISTEN, path]);
  await manager.until(({ stdout }) => stdout.includes('listening'), 'the manager');
  const warnings: object[] = [];
  const log = { warn: (fields: object) => void warnings.push(fields) };
  const told = notifier(log, { NOTIFY_SOCKET: path, WATCHDOG_USEC: '40000', WATCHDOG_PID: '7' }, 7);
  told.ready();
  await manager.until(({ stdout }) => stdout.split("'WATCHDOG=1'").length > 3, 'three signs of life');
  told.stopping();
  await manager.until(({ stdout }) => stdout.includes("'STOPPING=1'"), 'the end');
  expect(manager.stdout).toMatch(/^listening\n'READY=1\\nMAINPID=7'\n('WATCHDOG=1'\n){3,}'STOPPING=1'\n/);
  expect(warnings).toEqual([]);
});

test('a manager that is gone is said once, and nothing else comes of it; without one nothing is said', () => {
  const warnings: object[] = [];
  const log = { warn: (fields: object) => void warnings.push(fields) };
  const told = notifier(log, { NOTIFY_SOCKET: join(folder, 'nobody') });
  told.ready();
  told.stopping();
  expect(warnings).toMatchObject([{ path: join(folder, 'nobody'), error: { code: 'ENOENT' } }]);
  for (const NOTIFY_SOCKET of ['', 'relative', `/${'x'.repeat(200)}`]) notifier(log, { NOTIFY_SOCKET }).ready();
  expect(warnings).toMatchObject([{}, { error: { code: 'ENAMETOOLONG' } }]);
});

test.each<[NodeJS.ProcessEnv, number | undefined]>([
  [{}, undefined],
  [{ WATCHDOG_USEC: '30000000' }, 30_000],
  [{ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '9' }, 30_000],
  [{ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '8' }, undefined],
  [{ WATCHDOG_USEC: '0' }, undefined],
  [{ WATCHDOG_USEC: '-5' }, undefined],
  [{ WATCHDOG_USEC: 'soon' }, undefined],
])('watchdog %j', (env, ms) => {
  expect(watchdogOf(env, 9)).toBe(ms);
});
