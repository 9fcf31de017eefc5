// The command line as a whole: help, usage, versions, completion, and the launcher.

import { spawnSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { exitCodeOf, explain } from '../../src/cli/exit-code.ts';
import { parseAddress, parseRoute } from '../../src/cli/literals.ts';
import { parseDuration } from '../../src/cli/settings.ts';
import { printable, table } from '../../src/cli/table.ts';
import { type ErrorCode, TaplaneError, type TaplaneErrorOptions } from '../../src/errors.ts';
import { bound } from '../harness/bound.ts';
import { served } from '../rpc/served.ts';
import { TAPLANE, taplane } from './run-taplane.ts';

const NOWHERE = 'unix:/nonexistent/agent.sock';

describe('usage', () => {
  test('help begins with examples and names the exit codes', async () => {
    const ran = await taplane(['--help'], NOWHERE);
    expect(ran.code).toBe(0);
    expect(ran.stdout).toMatch(/^Examples:\n {2}taplane agent\n/);
    expect(ran.stdout).toContain('Exit codes:');
    for (const words of [['interface'], ['interface', 'create'], ['agent'], ['doctor'], ['completion'], ['address', 'add']]) {
      const help = await taplane([...words, '--help'], NOWHERE);
      expect(help.code, words.join(' ')).toBe(0);
      expect(help.stdout).toContain('Usage: taplane');
    }
  });

  test('help of a noun ends with its verbs, and help is also a word', async () => {
    const { stdout } = await taplane(['link', '--help'], NOWHERE);
    expect(stdout).not.toContain('Global Options:');
    expect(stdout).toContain('\n  probe [options] <link>');
    expect(await taplane(['help', 'link'], NOWHERE)).toEqual({ code: 0, stdout, stderr: '' });
    expect(await taplane(['help', 'linkk'], NOWHERE)).toEqual({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining("unknown command 'linkk'\n(Did you mean link?)"),
    });
    // Arguments behind a verb run nothing.
    const remove = await taplane(['help', 'link', 'delete', 'x'], NOWHERE);
    expect(remove).toEqual({ code: 0, stdout: expect.stringContaining('Usage: taplane link delete'), stderr: '' });
    const create = (await taplane(['help', 'link', 'create'], NOWHERE)).stdout;
    expect(create).toContain('Global Options:');
    const options = create.slice(create.indexOf('Usage:')).split('\n');
    expect(options.filter((line) => line.length > 80)).toEqual([]);
  });

  test.each([
    [[]],
    [['interface']],
    [['nonsense']],
    [['interface', 'create', 'x', '--mode', 'bridge']],
    [['interface', 'get']],
    [['audit', 'list', '--since', 'yesterday']],
    [['--timeout', 'soon', 'version']],
    [['interface', 'create', '--mode', 'tun']],
  ])('%j exits with 2 and prints no data', async (words) => {
    const ran = await taplane(words, NOWHERE);
    expect(ran).toMatchObject({ code: 2, stdout: '' });
    expect(ran.stderr).not.toBe('');
  });

  test('an agent that is not there exits with 6 and says how to start it', async () => {
    expect(await taplane(['interface', 'list'], NOWHERE)).toEqual({
      code: 6,
      stdout: '',
      stderr: `error: reach the agent on ${NOWHERE}: connect ENOENT /nonexistent/agent.sock
next: start the agent: taplane agent; or say where it listens: --server or TAPLANE_SERVER
`,
    });
    expect(await taplane(['interface', 'list', '--server', 'nowhere'], NOWHERE)).toMatchObject({ code: 2 });
  });

  test('a socket that does not let this user in exits with 5', () => {
    const failure = { code: 'UNAVAILABLE', reason: '', fields: [], preconditions: [], metadata: {} };
    const error = Object.assign(new Error('reach the agent on unix:/a: connect EACCES /a'), failure);
    expect(exitCodeOf(error)).toBe(5);
    expect(explain(error)).toContain('\nnext: run as root, or join the group of the socket\n');
    expect(exitCodeOf(Object.assign(new Error('write: EACCES'), failure, { reason: 'STATE_NOT_WRITABLE' }))).toBe(6);
  });

  test('an empty TAPLANE_SERVER is none', async () => {
    expect((await taplane(['version'], '')).stderr).not.toContain('""');
    expect((await taplane(['version', '--timeout', '100ms'], ' ')).stderr).not.toContain('read address');
  });

  test('an agent that does not answer in time exits with 6', async () => {
    await using agent = await served();
    agent.interfaces.get = () => new Promise(() => {});
    expect(await taplane(['interface', 'get', 'x', '--timeout', '300ms'], agent.address)).toMatchObject({
      code: 6,
      stderr: expect.stringContaining('--timeout 60s'),
    });
  });
});

describe('what a failure says', () => {
  const said = (code: ErrorCode, reason: string, text: string, options: TaplaneErrorOptions = {}) =>
    explain(new TaplaneError(code, reason, text, options))
      .split('\n')
      .slice(1, -1);
  const bridge = { type: 'BRIDGE', subject: 'br0', description: 'does not exist; create it first' };
  const taken = { fields: [{ field: 'interface_id', description: 'is the name of a device that is not ours' }] };

  test.each<[string, string[], string[]]>([
    [
      'a cure in the message is not repeated, and nothing points to the doctor',
      said('FAILED_PRECONDITION', 'BRIDGE_MISSING', `bridge br0 ${bridge.description}`, { preconditions: [bridge] }),
      ['reason: BRIDGE_MISSING'],
    ],
    [
      'a cure that is not',
      said('FAILED_PRECONDITION', 'BRIDGE_MISSING', 'no bridge', { preconditions: [bridge] }),
      ['reason: BRIDGE_MISSING', '  BRIDGE br0: does not exist; create it first'],
    ],
    [
      'a field that the message is made of',
      said('INVALID_ARGUMENT', 'INVALID_FIELDS', 'interface.spec.mtu: too small', {
        fields: [{ field: 'interface.spec.mtu', description: 'too small' }],
      }),
      ['reason: INVALID_FIELDS', 'next: correct the input; --help shows what is accepted'],
    ],
    ...['ADDRESS_IN_USE', 'GATEWAY_UNREACHABLE', 'NAMESPACE_MISSING', 'IPV6_DISABLED', 'MTU_TOO_SMALL'].map(
      (reason): [string, string[], string[]] => [reason, said('FAILED_PRECONDITION', reason, 'x'), [`reason: ${reason}`]],
    ),
    [
      'what the doctor knows more of',
      said('FAILED_PRECONDITION', 'CAPABILITY_MISSING', 'x'),
      ['reason: CAPABILITY_MISSING', 'next: see what the node lacks: taplane doctor'],
    ],
    [
      'adopt of a managed device',
      said('ALREADY_EXISTS', 'INTERFACE_EXISTS', 'adopt interface x: it is managed already'),
      ['reason: INTERFACE_EXISTS', 'next: change it: taplane interface update'],
    ],
    [
      'adopt of nothing',
      said('NOT_FOUND', 'DEVICE_NOT_FOUND', 'adopt interface x: there is no such device'),
      ['reason: DEVICE_NOT_FOUND', 'next: see what there is: ip link'],
    ],
    [
      'a certificate that is not accepted',
      said('UNAVAILABLE', 'TLS_FAILED', 'x', { preconditions: [{ type: 'TLS', subject: 'a:1', description: 'give --server-ca' }] }).slice(
        -1,
      ),
      ['  TLS a:1: give --server-ca'],
    ],
    [
      'a plan without a mode',
      said('INVALID_ARGUMENT', 'INVALID_FIELDS', 'x', {
        fields: [{ field: 'interface.spec.mode', description: 'must be MODE_TUN or MODE_TAP' }],
      }).slice(-1),
      ['next: give --mode tun or --mode tap'],
    ],
    [
      'a name that a bridge has',
      said('ALREADY_EXISTS', 'NAME_TAKEN', 'x', { ...taken, metadata: { kind: 'bridge' } }).slice(-1),
      ['next: see what has it: ip -d link'],
    ],
    [
      'a name that a TAP has',
      said('ALREADY_EXISTS', 'NAME_TAKEN', 'x', { ...taken, metadata: { kind: 'tap' } }).slice(-1),
      ['  interface_id: is the name of a device that is not ours'],
    ],
  ])('%s', (_, lines, expected) => expect(lines).toEqual(expected));
});

describe('version and node', () => {
  test.each(['--version', '-V'])('%s', async (flag) => {
    expect(await taplane([flag], NOWHERE)).toEqual({ code: 0, stdout: '0.1.0\n', stderr: '' });
  });

  test('client and server', async () => {
    await using agent = await served();
    expect((await taplane(['version'], agent.address)).stdout).toBe('client: 0.1.0\nserver: 0.1.0 (node-a)\nprotocol: taplane.v1\n');
    expect(JSON.parse((await taplane(['version', '-o', 'json'], agent.address)).stdout)).toMatchObject({
      client: { version: '0.1.0' },
      server: { version: '0.1.0', node: 'node-a' },
      protocol: 'taplane.v1',
    });
    const alone = await taplane(['version'], NOWHERE);
    expect(alone).toMatchObject({
      code: 0,
      stdout: 'client: 0.1.0\nprotocol: taplane.v1\n',
      stderr: `server: reach the agent on ${NOWHERE}: connect ENOENT /nonexistent/agent.sock\n`,
    });
  });

  test('node status', async () => {
    await using agent = await served();
    const ran = await taplane(['node', 'status'], agent.address);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout.replace(/\d+d ago/, 'AGE ago')).toBe(`Node:         node-a
Cluster:      default
Agent:        0.1.0, pid 4242, Node.js 24.21.0
Started:      AGE ago
Kernel:       6.18.0 x86_64
TUN driver:   ok
Capabilities: CAP_NET_ADMIN
Interfaces:   1
Policy:       none: the unix socket opens everything, a certificate nothing
NATS:         off

CONDITION   STATUS   REASON    MESSAGE
Ready       true     Started   answers calls
`);
    expect(JSON.parse((await taplane(['node', 'status', '-o', 'json'], agent.address)).stdout)).toMatchObject({
      name: 'node-a',
      nats: { state: 'STATE_OFF' },
    });
  });

  test('a client command starts fast', async () => {
    await taplane(['version', '--client'], NOWHERE);
    const times: number[] = [];
    for (let round = 0; round < 7; round += 1) {
      const begin = performance.now();
      await taplane(['version', '--client'], NOWHERE);
      times.push(performance.now() - begin);
    }
    const median = times.sort((a, b) => a - b)[3] ?? 0;
    console.log(`taplane version --client: ${median.toFixed(0)} ms`);
    expect(median).toBeLessThan(bound(1000, 6000));
  });
});

describe('completion', () => {
  test.each(['bash', 'zsh', 'fish'])('the script of %s parses', async (shell) => {
    const { code, stdout } = await taplane(['completion', shell], NOWHERE);
    expect(code).toBe(0);
    expect(stdout).toContain('taplane __complete');
    const checked = spawnSync(shell, ['-n'], { input: stdout, encoding: 'utf8' });
    // Only bash is on every machine.
    if (shell === 'bash' || !checked.error) expect(checked).toMatchObject({ status: 0, stderr: '' });
  });

  test('offers commands, flags, choices and the names of interfaces', async () => {
    await using agent = await served();
    await taplane(['interface', 'create', 'tun0', '--mode', 'tun'], agent.address);
    const offered = async (...words: string[]) =>
      (await taplane(['__complete', '--', ...words], agent.address)).stdout
        .trim()
        .split('\n')
        .map((line) => line.split('\t')[0]);
    expect(await offered('int')).toEqual(['interface']);
    expect(await offered('interface', '')).toEqual(['create', 'get', 'list', 'update', 'delete', 'watch', 'adopt', 'plan']);
    expect(await offered('interface', 'create', 'x', '--mode', '')).toEqual(['tun', 'tap']);
    expect(await offered('if', 'create', '--mt')).toEqual(['--mtu']);
    expect(await offered('-o', '')).toEqual(['table', 'wide', 'json', 'yaml', 'name']);
    expect(await offered('interface', 'get', '')).toEqual(['tun0']);
    expect(await offered('--server', NOWHERE, 'interface', 'get', '')).toEqual(['']);
    expect(await offered('completion', '')).toEqual(['bash', 'zsh', 'fish']);
  });

  test('bash completes a word with it', async () => {
    await using agent = await served();
    await taplane(['interface', 'create', 'tun0', '--mode', 'tun'], agent.address);
    const script = `PATH=${join(TAPLANE, '..')}:$PATH; . <(taplane completion bash); COMP_WORDS=(taplane interface get t); COMP_CWORD=3; _taplane; echo "\${COMPREPLY[*]}"`;
    const env = { ...process.env, TAPLANE_SERVER: agent.address };
    expect(
      (
        await new Promise<string>((resolve, reject) =>
          import('node:child_process').then(({ execFile }) =>
            execFile('bash', ['-c', script], { env }, (error, stdout) => (error ? reject(error) : resolve(stdout))),
          ),
        )
      ).trim(),
    ).toBe('tun0');
  });
});

describe('launcher', () => {
  test('works through links, and refuses an old Node.js with a cure', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'taplane-bin-'));
    try {
      await symlink(TAPLANE, join(directory, 'first'));
      await symlink('first', join(directory, 'second'));
      expect(spawnSync(join(directory, 'second'), ['version', '--client'], { encoding: 'utf8' }).stdout).toContain('client: 0.1.0');

      await mkdir(join(directory, 'package/bin'), { recursive: true });
      await mkdir(join(directory, 'package/dist'));
      await mkdir(join(directory, 'path'));
      await cp(TAPLANE, join(directory, 'package/bin/taplane'));
      await writeFile(join(directory, 'package/dist/main.js'), 'console.log("ran", process.argv.slice(2).join())');
      const fakeNode = (version: string) =>
        writeFile(join(directory, 'path/node'), `#!/bin/sh\n[ "$1" = --version ] && echo ${version} && exit\nshift 3\necho ran "$@"\n`, {
          mode: 0o755,
        });
      const env = { ...process.env, PATH: `${join(directory, 'path')}:${process.env['PATH']}` };
      const packaged = () => spawnSync(join(directory, 'package/bin/taplane'), ['a', 'b c'], { encoding: 'utf8', env });
      for (const old of ['v20.20.2', 'v24.16.9']) {
        await fakeNode(old);
        expect(packaged()).toMatchObject({
          status: 1,
          stdout: '',
          stderr: expect.stringMatching(`^error: taplane needs Node.js 24.17 or newer; found ${old} at .*\nnext: `),
        });
      }
      for (const good of ['v24.17.0', 'v25.0.0']) {
        await fakeNode(good);
        expect(packaged()).toMatchObject({ status: 0, stdout: 'ran a b c\n' });
      }
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});

test('tables have no borders, no trailing blanks, and no control characters', () => {
  const columns = [
    { head: 'A', cell: (row: string[]) => row[0] ?? '' },
    { head: 'B', cell: (row: string[]) => row[1] ?? '' },
    { head: 'C', wide: true, cell: (row: string[]) => row[2] ?? '' },
  ];
  expect(
    table(
      columns,
      [
        ['long cell', ''],
        ['x', '\u001b[31m'],
      ],
      false,
    ),
  ).toBe('A           B\nlong cell   -\nx           \\x1b[31m\n');
  expect(printable('a\nb')).toBe('a\\x0ab');
});

test('literals', () => {
  expect(parseAddress('10.0.0.1/24')).toEqual({ cidr: '10.0.0.1/24' });
  expect(parseRoute('10.0.0.0/8,onlink,via=10.1.1.1')).toEqual({ destination: '10.0.0.0/8', gateway: '10.1.1.1', onlink: true });
  for (const bad of [
    '',
    ',via=1.1.1.1',
    '10.0.0.0/8,onlink=1',
    '10.0.0.0/8,via',
    '10.0.0.0/8,metric=x',
    '10.0.0.0/8,metric=4294967296',
    '10.0.0.0/8,scope=moon',
  ]) {
    expect(() => parseRoute(bad), bad).toThrow();
  }
  expect(parseDuration('500ms')).toBe(500);
  expect(parseDuration('1.5s')).toBe(1500);
  expect(parseDuration('2')).toBe(2000);
  expect(() => parseDuration('0')).toThrow();
});
