import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ConfigError } from '../../src/agent/config/error.ts';
import { type AgentOptions, loadConfig, printConfig } from '../../src/agent/config.ts';

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
      natsCredsFile: '',
      natsNkeyFile: '',
      natsTlsCaFile: '',
      natsTlsCertFile: '',
      natsTlsKeyFile: '',
      flows: {
        enabled: true,
        activeTimeout: 60,
        idleTimeout: 15,
        sampling: 1,
        tableEntries: 65536,
        tableEntriesTotal: 262144,
        ringBytes: 16777216,
        spoolBytes: 268435456,
        retainedBytes: 67108864,
        waitingBytes: 16777216,
        format: 'protobuf',
        delivery: 'jetstream',
        stream: {
          create: true,
          flows: 'TAPLANE_FLOWS',
          events: 'TAPLANE_EVENTS',
          maxBytes: 268435456,
          maxAgeSeconds: 604800,
          replicas: 1,
        },
        ipfix: '',
      },
      audit: { enabled: true, maxBytes: 8388608, files: 8 },
      metrics: { listen: '127.0.0.1:9464', allowRemote: false, perInterface: 1000 },
      insecureLoopback: false,
      tls: { certFile: '', keyFile: '', clientCaFile: '' },
      reflection: false,
      logLevel: 'info',
      lanes: 1,
      laneMode: 'spawn',
      policyFile: '',
      policy: { allowDefaultRoutes: false, allowNodeRoutes: false },
      limits: {
        interfaces: 4096,
        links: 1024,
        watchers: 256,
        messageBytes: 4194304,
        streamsPerConnection: 100,
        connections: 256,
        connectionsPerClient: 64,
      },
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
      policy: { allowDefaultRoutes: true, allowNodeRoutes: false },
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

describe('flows', () => {
  test('file < environment < flags, also two levels deep', () => {
    const config = file('flows:\n  sampling: 10\n  idleTimeout: 5\n  ipfix: file:1\n  stream: { replicas: 3, flows: F, events: E }\n');
    const env = { TAPLANE_FLOWS_IDLE_TIMEOUT: '7', TAPLANE_FLOWS_STREAM_FLOWS: 'G', TAPLANE_FLOWS_STREAM_CREATE: 'false' };
    const { flows } = loadConfig({ config, ipfix: '[2001:db8::1]:4739', flows: false }, { ...env, TAPLANE_FLOWS_IPFIX: 'env:1' });
    expect(flows).toMatchObject({
      enabled: false,
      sampling: 10,
      idleTimeout: 7,
      activeTimeout: 60,
      ipfix: '[2001:db8::1]:4739',
      stream: { create: false, replicas: 3, flows: 'G', events: 'E', maxAgeSeconds: 604800 },
    });
  });

  test('every number and switch of the section can be set by a variable', () => {
    const env = {
      TAPLANE_FLOWS_ENABLED: '0',
      TAPLANE_FLOWS_FORMAT: 'json',
      TAPLANE_FLOWS_DELIVERY: 'core',
      TAPLANE_FLOWS_RETAINED_BYTES: '0',
    };
    expect(loadConfig({}, { ...env, TAPLANE_FLOWS_STREAM_MAX_AGE_SECONDS: '60' }).flows).toMatchObject({
      enabled: false,
      format: 'json',
      delivery: 'core',
      retainedBytes: 0,
      stream: { maxAgeSeconds: 60 },
    });
  });

  test('larger tables alone raise their sum', () => {
    expect(loadConfig({ config: file('flows: { tableEntries: 1000000 }\n') }, {}).flows.tableEntriesTotal).toBe(1_000_000);
  });

  test.each<[string, string, string]>([
    ['an active timeout of 0', 'activeTimeout: 0', 'flows.activeTimeout: must be 1 to 86400'],
    ['half a second', 'idleTimeout: 0.5', 'flows.idleTimeout: expected int'],
    ['sampling beyond a million', 'sampling: 1000001', 'flows.sampling: must be 1 to 1000000'],
    ['a small table', 'tableEntries: 63', 'flows.tableEntries: must be 64 to 4194304'],
    ['a huge table', 'tableEntries: 4194305', 'flows.tableEntries: must be 64 to 4194304'],
    ['a sum below one table', 'tableEntriesTotal: 1000', 'flows.tableEntriesTotal: is below flows.tableEntries (65536)'],
    ['an unknown format', 'format: xml', 'flows.format: expected one of'],
    ['an unknown delivery', 'delivery: maybe', 'flows.delivery: expected one of'],
    ['a name of a stream with a dot', 'stream: { flows: a.b }', 'flows.stream.flows: must be 1 to 128 letters'],
    ['one stream for both', 'stream: { flows: A, events: A }', 'flows.stream.events: is the stream of the flows too'],
    ['six replicas', 'stream: { replicas: 6 }', 'flows.stream.replicas: must be 1 to 5'],
    ['an unknown key', 'stream: { size: 6 }', 'flows.stream.size: is not a known key'],
    ['a collector without a port', 'ipfix: host', 'flows.ipfix: collector host: is not host:port'],
    ['a collector at port 0', 'ipfix: "host:0"', 'flows.ipfix: collector host:0: port 0 is not 1 to 65535'],
    ['a collector that is a socket', 'ipfix: "unix:/x"', 'flows.ipfix: collector unix:/x: is not host:port'],
    ['a collector with a blank', 'ipfix: "a b:1"', 'flows.ipfix: collector a b:1: is not host:port'],
    ['no mapping', '[]', 'flows: expected object'],
  ])('%s is refused, with its place and a cure of its own', (_, text, expected) => {
    const { problems, message } = refused({ config: file(`flows: ${text === '[]' ? '[]' : `{ ${text} }`}\n`) });
    expect(problems).toHaveLength(1);
    expect(message).toContain(expected);
    expect(problems[0]?.cure).not.toContain('nats: off');
  });

  test('the cure for an unknown key names its neighbours', () => {
    expect(refused({ config: file('flows: { stream: { size: 1 } }\n') }).problems[0]?.cure).toBe(
      'known here: create, flows, events, maxBytes, maxAgeSeconds, replicas',
    );
  });

  test('a problem of a variable or a flag names that variable or flag', () => {
    const { problems } = refused({ ipfix: 'x', natsCreds: 'relative' }, { TAPLANE_FLOWS_STREAM_REPLICAS: 'many' });
    expect(problems.map(({ source, field }) => `${source} ${field}`).sort()).toEqual([
      'command line --ipfix',
      'command line --nats-creds',
      'environment TAPLANE_FLOWS_STREAM_REPLICAS',
    ]);
  });
});

describe('files of a login', () => {
  const nats = 'tls://nats:4222';
  test('flags are shorter than fields, and a variable is as the field', () => {
    expect(loadConfig({ nats, natsCreds: '/c', natsTlsCert: '/b', natsTlsKey: '/k' }, { TAPLANE_NATS_TLS_CA_FILE: '/a' })).toMatchObject({
      natsCredsFile: '/c',
      natsNkeyFile: '',
      natsTlsCaFile: '/a',
      natsTlsCertFile: '/b',
      natsTlsKeyFile: '/k',
    });
  });

  test.each<[string, AgentOptions, string[]]>([
    ['a certificate without key', { nats, natsTlsCert: '/b' }, ['natsTlsCertFile']],
    ['a key without certificate', { nats, natsTlsKey: '/k' }, ['natsTlsKeyFile']],
    ['credentials and nkey', { nats, natsCreds: '/c', natsNkey: '/n' }, ['natsNkeyFile']],
    ['credentials and a password', { nats: 'nats://u:hunter2@h', natsCreds: '/c' }, ['natsCredsFile']],
    ['an nkey and a token', { nats: 'nats://hunter2@h', natsNkey: '/n' }, ['natsNkeyFile']],
    ['files without NATS', { natsCreds: '/c', natsTlsCa: '/a' }, ['natsCredsFile', 'natsTlsCaFile']],
    ['files with the embedded server', { nats: 'embedded', natsNkey: '/n' }, ['natsNkeyFile']],
  ])('%s: refused, with a cure', (_, options, expected) => {
    const { problems, message } = refused(options);
    expect(problems.map(({ field }) => field)).toEqual(expected);
    expect(problems.every(({ cure }) => /give|leave|take/.test(cure))).toBe(true);
    expect(message).not.toContain('hunter2');
  });

  test('a relative path is refused', () => void refused({ nats, natsTlsCa: 'ca.pem' }));
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
    known here: interfaces, links, watchers, messageBytes, streamsPerConnection, connections, connectionsPerClient
  /etc/taplane.yaml:5:1: logLevel: expected one of "debug"|"info"|"warn"|"error"
    write debug, info, warn or error
  /etc/taplane.yaml:6:1: extra: is not a known key
    known here: listen, stateDir, runtimeDir, node, cluster, nats, natsCredsFile, natsNkeyFile, natsTlsCaFile, natsTlsCertFile, natsTlsKeyFile, flows, audit, metrics, insecureLoopback, tls, reflection, logLevel, lanes, laneMode, policyFile, policy, limits
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

  test('TLS: all three files or none, from every layer', () => {
    const files = { tlsCert: '/a', tlsKey: '/b', tlsClientCa: '/c' };
    const tls = { certFile: '/a', keyFile: '/b', clientCaFile: '/c' };
    expect(loadConfig({ ...files, listen: ['0.0.0.0:7443', '127.0.0.1:7443'] }, {})).toMatchObject({ tls });
    const env = { TAPLANE_TLS_CERT_FILE: '/a', TAPLANE_TLS_KEY_FILE: '/b', TAPLANE_TLS_CLIENT_CA_FILE: '/c', TAPLANE_REFLECTION: 'true' };
    expect(loadConfig({}, env)).toMatchObject({ tls, reflection: true });
    expect(() => loadConfig({ tlsCert: '/a' }, {})).toThrow(/tls\.keyFile: is missing.*\n.*\n.*tls\.clientCaFile: is missing/);
    expect(() => loadConfig({ ...files, tlsKey: 'relative' }, {})).toThrow(/--tls-key: is not an absolute path/);
  });

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

describe('metrics', () => {
  test('in file, variable and flag', () => {
    const config = file('metrics: { listen: off, perInterface: 10 }\n');
    expect(loadConfig({ config }, {}).metrics).toEqual({ listen: 'off', allowRemote: false, perInterface: 10 });
    const environment = { TAPLANE_METRICS_LISTEN: '127.0.0.1:1', TAPLANE_METRICS_PER_INTERFACE: '5' };
    expect(loadConfig({ config }, environment).metrics).toMatchObject({ listen: '127.0.0.1:1', perInterface: 5 });
    expect(loadConfig({ config, metricsListen: '[::1]:2' }, environment).metrics.listen).toBe('[::1]:2');
  });

  test('beyond loopback only where that is said to be wanted', () => {
    expect(refused({ metricsListen: '0.0.0.0:9464' }).message).toMatch(
      /metrics.listen.*names of interfaces[\s\S]*metrics.allowRemote: true/,
    );
    expect(loadConfig({ metricsListen: '0.0.0.0:9464' }, { TAPLANE_METRICS_ALLOW_REMOTE: 'true' }).metrics.allowRemote).toBe(true);
  });

  test.each(['unix:/run/x.sock', '9464', 'on'])('%s is no address for it', (listen) => {
    expect(refused({ metricsListen: listen }).message).toContain('--metrics-listen');
  });
});
