import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { type AgentOptions, loadConfig, printConfig } from '../../src/agent/config.ts';
import { ConfigError } from '../../src/agent/config-error.ts';

const dir = mkdtempSync(join(tmpdir(), 'taplane-config-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
let files = 0;
function file(text: string): string {
  const path = join(dir, `${++files}.yaml`);
  writeFileSync(path, text);
  return path;
}
function refused(options: AgentOptions, env: NodeJS.ProcessEnv = {}): ConfigError {
  try {
    loadConfig(options, env);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return error as ConfigError;
  }
  throw new Error('was taken');
}

describe('layers', () => {
  test('defaults', () => {
    expect(loadConfig({}, {})).toEqual({
      listen: ['unix:/run/taplane/agent.sock'],
      stateDir: '/var/lib/taplane',
      runtimeDir: '/run/taplane',
      node: hostname(),
      cluster: 'default',
      nats: 'off',
      insecureLoopback: false,
      logLevel: 'info',
      lanes: 1,
      policy: { allowDefaultRoutes: false },
      limits: { interfaces: 4096, watchers: 256, messageBytes: 4194304, streamsPerConnection: 100 },
    });
  });

  test('file < environment < flags, field by field', () => {
    const config = file(
      'node: file\ncluster: file\nstateDir: /file\nlimits:\n  interfaces: 1\n  watchers: 1\npolicy: { allowDefaultRoutes: true }\n',
    );
    expect(
      loadConfig(
        { config, node: 'flag', cluster: undefined },
        { TAPLANE_NODE: 'env', TAPLANE_CLUSTER: 'env', TAPLANE_LIMITS_WATCHERS: '2', TAPLANE_NATS: '' },
      ),
    ).toMatchObject({
      node: 'flag',
      cluster: 'env',
      stateDir: '/file',
      nats: 'off',
      limits: { interfaces: 1, watchers: 2, streamsPerConnection: 100 },
      policy: { allowDefaultRoutes: true },
    });
  });

  test('the socket follows the runtime directory', () => {
    expect(loadConfig({ runtimeDir: '/tmp/x' }, {}).listen).toEqual(['unix:/tmp/x/agent.sock']);
  });

  test('the environment names a file, lists and booleans', () => {
    const config = file('cluster: c\n');
    expect(
      loadConfig({}, { TAPLANE_CONFIG: config, TAPLANE_LISTEN: 'unix:/a, 127.0.0.1:0', TAPLANE_INSECURE_LOOPBACK: '1' }),
    ).toMatchObject({ cluster: 'c', listen: ['unix:/a', '127.0.0.1:0'], insecureLoopback: true });
  });

  test('variables that Kubernetes injects beside a service named taplane do no harm', () => {
    loadConfig(
      {},
      {
        TAPLANE_SERVICE_HOST: '10.0.0.1',
        TAPLANE_PORT: 'tcp://10.0.0.1:1',
        TAPLANE_PORT_1_TCP: 'x',
        TAPLANE_DEBUG: 'netlink',
        TAPLANE_SERVER: 'x',
      },
    );
  });

  test.each(['', '# only a comment\n', '---\n'])('an empty file says nothing: %j', (text) => void loadConfig({ config: file(text) }, {}));
});

describe('refusals', () => {
  test('all problems of all layers at once, each with its place, cause and cure', () => {
    const config = file('# first\nlimits:\n  interfaces: 0\n  wachters: 3\nlogLevel: loud\nextra: 1\n');
    const { problems, message } = refused(
      { config, listen: ['nonsense'] },
      { TAPLANE_LIMITS_WATCHERS: 'many', TAPLANE_STATE_DIR: 'relative' },
    );
    expect(problems.map((p) => `${p.source.replace(dir, '')} ${p.field}`).sort()).toEqual([
      `/${config.split('/').at(-1)}:3:3 limits.interfaces`,
      `/${config.split('/').at(-1)}:4:3 limits.wachters`,
      `/${config.split('/').at(-1)}:5:1 logLevel`,
      `/${config.split('/').at(-1)}:6:1 extra`,
      'command line --listen',
      'environment TAPLANE_LIMITS_WATCHERS',
      'environment TAPLANE_STATE_DIR',
    ]);
    for (const problem of problems) expect([problem.cause, problem.cure].every((text) => text.length > 3)).toBe(true);
    expect(message.replaceAll(config, '/etc/taplane.yaml')).toBe(`read configuration: 7 problems
  /etc/taplane.yaml:3:3: limits.interfaces: must be 1 to 65536
    write a whole number from 1 to 65536
  /etc/taplane.yaml:4:3: limits.wachters: is not a known key
    known here: interfaces, watchers, messageBytes, streamsPerConnection
  /etc/taplane.yaml:5:1: logLevel: expected one of "debug"|"info"|"warn"|"error"
    write debug, info, warn or error
  /etc/taplane.yaml:6:1: extra: is not a known key
    known here: listen, stateDir, runtimeDir, node, cluster, nats, insecureLoopback, logLevel, lanes, policy, limits
  environment: TAPLANE_STATE_DIR: is not an absolute path
    write an absolute path, such as /var/lib/taplane
  environment: TAPLANE_LIMITS_WATCHERS: expected number, received string
    write a whole number from 1 to 65536
  command line: --listen: "nonsense": expected unix:PATH, HOST:PORT or [IPv6]:PORT
    write a list of unix:/absolute/path or HOST:PORT, such as [unix:/run/taplane/agent.sock]`);
  });

  test.each<[string, AgentOptions]>([
    ['no such file', { config: '/nonexistent.yaml' }],
    ['a directory', { config: '/tmp' }],
    ['a list', { config: file('- a\n') }],
    ['not YAML', { config: file('a: [1\nb: 2\n') }],
    ['a key twice', { config: file('node: a\nnode: b\n') }],
    ['a tab', { config: file('limits:\n\tinterfaces: 1\n') }],
    [
      'aliases without end',
      {
        config: file(
          `a: &a [x]\n${'bcdefgh'
            .split('')
            .map((k, i) => `${k}: &${k} [${`*${'abcdefg'[i]},`.repeat(9)}]`)
            .join('\n')}\n`,
        ),
      },
    ],
    ['an empty list', { listen: [] }],
    ['a relative socket', { listen: ['unix:run/x'] }],
    ['a long socket', { listen: [`unix:/${'x'.repeat(107)}`] }],
    ['a port too large', { listen: ['127.0.0.1:65536'] }],
    ['no host', { listen: [':1'], insecureLoopback: true }],
    ['no path', { listen: ['unix:'] }],
    ['bare IPv6', { listen: ['::1:5'], insecureLoopback: true }],
    ['all addresses', { listen: ['0.0.0.0:1'], insecureLoopback: true }],
    ['a name that may be anywhere', { listen: ['127.0.0.1.example:1'], insecureLoopback: true }],
    ['loopback without the flag', { listen: ['127.0.0.1:1'] }],
    ['an address twice', { listen: ['unix:/a', 'unix:/a'] }],
    ['a blank in a name', { node: 'a b' }],
    ['an unknown level', { logLevel: 'trace' }],
    ['a NATS address that is none', { nats: 'localhost' }],
  ])('%s', (_, options) => void refused(options));

  test('loopback with the flag is fine', () => {
    loadConfig({ listen: ['127.0.0.1:0', '[::1]:0', 'localhost:5', 'unix:/x'], insecureLoopback: true }, {});
  });
});

describe('secrets', () => {
  const secret = 'hunter2';
  test.each<[string, AgentOptions, NodeJS.ProcessEnv]>([
    ['flag', { nats: `http://u:${secret}@h` }, {}],
    ['environment', {}, { TAPLANE_NATS: `u:${secret}@h` }],
    ['file', { config: file(`nats: nats://u:${secret}@h/x\n`) }, {}],
    ['broken file', { config: file(`nats: "nats://u:${secret}@h\n  - [\n`) }, {}],
    ['wrong type', { config: file(`nats: [nats://u:${secret}@h]\n`) }, {}],
  ])('a bad NATS address in the %s is not repeated', (_, options, env) => {
    expect(refused(options, env).message).not.toContain(secret);
  });

  test('the print-out has none and can be read again', () => {
    const config = loadConfig({ nats: `nats://u:${secret}@h:1` }, {});
    const text = printConfig(config);
    expect(text).not.toContain(secret);
    expect(loadConfig({ config: file(text) }, {})).toEqual({ ...config, nats: 'nats://h:1' });
    expect(parse(text).limits.interfaces).toBe(4096);
  });
});
