// `taplane agent` and `taplane doctor` up to the door of the agent room, which is handed in.

import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { AgentFlags, Check, DoctorFlags } from '../../src/cli/agent.ts';
import { run } from '../../src/cli/program.ts';

let stdout = '';
beforeEach(() => {
  stdout = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    stdout += String(text);
    return true;
  });
});
afterEach(() => vi.restoreAllMocks());

const flags: DoctorFlags[] = [];
const room = (checks: Check[] = [], code = 0) => ({
  runAgent: async (given: AgentFlags) => {
    flags.push(given);
    return code;
  },
  diagnose: async (given: DoctorFlags) => {
    flags.push(given);
    return checks;
  },
});

test('agent hands over what was given, and its exit code comes back', async () => {
  const line =
    'agent --listen unix:/a.sock --listen 127.0.0.1:1 --state-dir /s --runtime-dir /r --node n --cluster c --nats off --nats-creds /c --nats-nkey /n --nats-tls-ca /a --nats-tls-cert /b --nats-tls-key /k --no-flows --ipfix h:4739 --config /c.yaml --check-config --insecure-loopback --log-level warn';
  expect(await run(line.split(' '), room([], 3))).toBe(3);
  expect(flags.at(-1)).toEqual({
    listen: ['unix:/a.sock', '127.0.0.1:1'],
    stateDir: '/s',
    runtimeDir: '/r',
    node: 'n',
    cluster: 'c',
    nats: 'off',
    natsCreds: '/c',
    natsNkey: '/n',
    natsTlsCa: '/a',
    natsTlsCert: '/b',
    natsTlsKey: '/k',
    flows: false,
    ipfix: 'h:4739',
    config: '/c.yaml',
    checkConfig: true,
    insecureLoopback: true,
    logLevel: 'warn',
  });
  await run(['agent'], room());
  expect(flags.at(-1)).toEqual({});
  await run(['agent', '--check-config', '-o', 'json'], room());
  expect(flags.at(-1)).toEqual({ checkConfig: true, output: 'json' });
});

test('doctor prints each check with its cure, and exits with 1 when one fails', async () => {
  const checks: Check[] = [
    { name: 'tun-device', status: 'fail', detail: '/dev/net/tun: EPERM', cure: 'allow c 10:200 rwm' },
    { name: 'kernel', status: 'pass', detail: '6.18', cure: '' },
  ];
  const server = ['--server', 'unix:/nonexistent/agent.sock'];
  expect(await run(['doctor', '--no-color', ...server], room(checks))).toBe(1);
  expect(stdout).toBe(`FAIL  tun-device  /dev/net/tun: EPERM
                  cure: allow c 10:200 rwm
PASS  kernel      6.18
`);
  stdout = '';
  expect(await run(['doctor', '-o', 'json', ...server], room(checks.slice(1)))).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    checks: [{ name: 'kernel', status: 'pass' }],
  });
  expect(flags.at(-1)).toEqual({ server: 'unix:/nonexistent/agent.sock' });
  await run(['doctor', '--interface', 'tun0', '--state-dir', '/s'], room());
  expect(flags.at(-1)).toEqual({ interface: 'tun0', stateDir: '/s' });
});
