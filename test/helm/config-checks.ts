// The agent's configuration that the chart writes, read by the agent's own code; and the schema of values against that of the agent.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { fields } from '../../src/agent/config/schema.ts';
import { type Config, loadConfig } from '../../src/agent/config.ts';
import { type Any, chartFile, containersOf, hasHelm, render, withHelm } from './chart.ts';
import { MATRIX, POLICY } from './matrix.ts';

/** What other values than `config` decide. */
const OF_THE_CHART = /^(listen|stateDir|runtimeDir|node|nats\w*|insecureLoopback|lanes|laneMode|tls|policyFile|metrics)(\.|$)/;
const knows = (key: string) => fields.some(({ path }) => `${path.join('.')}.`.startsWith(`${key}.`));
/** Of these an agent may know nothing yet; each is checked as soon as it does. */
const NEW = [
  'tls',
  'policyFile',
  'metrics',
  'laneMode',
  'audit',
  'policy.allowNodeRoutes',
  'reflection',
  'limits.connections',
  'limits.connectionsPerClient',
];

/** Without what this agent does not know yet. */
function knownOf(config: Record<string, Any>): Record<string, Any> {
  const known = structuredClone(config);
  for (const path of NEW.filter((path) => !knows(path))) {
    const [outer = '', inner] = path.split('.');
    if (inner === undefined) delete known[outer];
    else delete known[outer]?.[inner];
  }
  return known;
}

const folder = mkdtempSync(join(tmpdir(), 'taplane-chart-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What the kubelet would put into the variable of a container. */
const NODE_FIELDS: Record<string, string> = { 'spec.nodeName': 'node7.example', 'status.hostIP': '192.0.2.7' };

function environment(container: Any, hostIp: string): Record<string, string> {
  const env: Record<string, string> = {};
  for (const { name, value, valueFrom } of container.env) {
    const own =
      valueFrom === undefined
        ? value
        : valueFrom.fieldRef.fieldPath === 'status.hostIP'
          ? hostIp
          : NODE_FIELDS[valueFrom.fieldRef.fieldPath];
    env[name] = own.replace(/\$\((\w+)\)/g, (_: string, variable: string) => env[variable]);
  }
  return env;
}

/** The configuration in force in a pod that the chart makes of these values. */
function configOf(values: object, hostIp = '192.0.2.7'): Config & Record<string, Any> {
  const { objects, one } = render(values);
  const set = one('DaemonSet');
  const [agent] = set.spec.template.spec.containers;
  const name = set.spec.template.spec.volumes.find((volume: Any) => volume.name === 'config').configMap.name;
  const map = objects.find((object) => object.kind === 'ConfigMap' && object.metadata.name === name);
  const written = knownOf(parse(map?.data?.['agent.yaml'] ?? ''));
  // The agent looks into the policy when it reads its configuration.
  const { policyFile } = written;
  if (policyFile !== undefined) {
    written['policyFile'] = join(folder, 'policy.yaml');
    const own = objects.find((object) => object.kind === 'ConfigMap' && object.data?.['policy.yaml'] !== undefined);
    writeFileSync(written['policyFile'], own?.data?.['policy.yaml'] ?? stringify(POLICY));
  }
  const path = join(folder, 'agent.yaml');
  writeFileSync(path, stringify(written));
  const env = environment(agent, hostIp);
  // Without TLS an agent refuses to listen there, and rightly.
  if (!knows('tls')) {
    delete env['TAPLANE_LISTEN'];
    written['listen'] = ['unix:/run/taplane/agent.sock'];
    writeFileSync(path, stringify(written));
  }
  expect(agent.args.slice(0, 3)).toEqual(['agent', '--config', env['TAPLANE_CONFIG']]);
  const config = loadConfig({ config: path }, env) as Config & Record<string, Any>;
  return policyFile === undefined ? config : { ...config, policyFile };
}

describe.skipIf(!hasHelm)('the agent takes what the chart writes', () => {
  test.each(Object.entries(MATRIX))('%s', (name, values) => {
    const config = configOf(values, name.startsWith('IPv6') ? '2001:db8::7' : '192.0.2.7');
    expect(config.node).toBe('node7.example');
    const { state = {}, runtime = {}, lane = {} } = values as Record<string, Any>;
    expect(config).toMatchObject({
      stateDir: state.path ?? '/var/lib/taplane',
      runtimeDir: runtime.type === 'emptyDir' ? '/run/other/pod' : '/run/taplane',
      lanes: lane.count ?? 1,
      ...(knows('laneMode') && { laneMode: 'external' }),
    });
    // What is given comes out again, in every digit.
    expect(config).toMatchObject(knownOf((values as { config?: object }).config ?? {}));
  });

  test.runIf(knows('tls'))('TLS: addresses and files', () => {
    expect(configOf(MATRIX['TCP with a Secret'] as object)).toMatchObject({
      listen: ['unix:/run/taplane/agent.sock', '192.0.2.7:7443'],
      tls: { certFile: '/etc/taplane/tls/tls.crt', keyFile: '/etc/taplane/tls/tls.key', clientCaFile: '/etc/taplane/tls/ca.crt' },
    });
    const everywhere = configOf(MATRIX['TCP with cert-manager, everywhere, client CA apart'] as object);
    expect(everywhere.listen).toEqual(['unix:/run/taplane/agent.sock', '0.0.0.0:8443']);
    expect(everywhere['tls'].clientCaFile).toBe('/etc/taplane/client-ca/ca.crt');
    expect(configOf(MATRIX['IPv6, metrics for Prometheus'] as object, '2001:db8::7').listen).toContain('[2001:db8::7]:7443');
  });

  test.runIf(knows('metrics'))('metrics: on loopback, or at the address of the node', () => {
    expect(configOf({})['metrics']).toMatchObject({ listen: '127.0.0.1:9464' });
    expect(configOf({ metrics: { address: 'node' } })['metrics']).toMatchObject({ listen: '192.0.2.7:9464', allowRemote: true });
  });

  test.runIf(knows('policyFile'))('policy', () => {
    expect(configOf(MATRIX['a policy'] as object)['policyFile']).toBe('/etc/taplane/policy/policy.yaml');
    expect(configOf(MATRIX['a policy of another ConfigMap'] as object)['policyFile']).toBe('/etc/taplane/policy/p.yaml');
  });

  test('NATS: files of the login are where the Secret is mounted', () => {
    expect(configOf(MATRIX['external NATS with credentials'] as object)).toMatchObject({
      nats: 'tls://a.example:4222,tls://b.example:4222',
      natsCredsFile: '/etc/taplane/nats/user.creds',
      natsTlsCaFile: '/etc/taplane/nats/ca.pem',
      natsTlsKeyFile: '',
    });
    expect(configOf(MATRIX['bundled NATS'] as object)).toMatchObject({
      nats: 'tls://demo-taplane-nats.net.svc:4222',
      natsTlsCertFile: '/etc/taplane/nats/tls.crt',
    });
  });
});

withHelm('every file that the configuration names is in a mounted folder', () => {
  for (const [name, values] of Object.entries(MATRIX)) {
    const { all, one } = render(values);
    const texts = all('ConfigMap').map(({ data = {} }) => data['agent.yaml'] ?? '');
    const [agent] = one('DaemonSet').spec.template.spec.containers;
    const mounts: string[] = agent.volumeMounts.map(({ mountPath }: Any) => mountPath);
    const named = texts.join('\n').match(/\/etc\/taplane\/[\w-]+/g) ?? [];
    for (const folder of named) expect(mounts, name).toContain(folder);
    expect(containersOf(one('DaemonSet')).flatMap(({ args }) => args)).not.toContain('');
  }
});

interface Schema {
  type?: string;
  enum?: string[];
  minimum?: number;
  maximum?: number;
  properties?: Record<string, Schema>;
}
const schema = (JSON.parse(chartFile('values.schema.json')) as Schema).properties?.['config'] as Schema;

/** Paths and schemas of all fields of a section. */
function fieldsOf(section: Schema, path: string[] = []): [string, Schema][] {
  return Object.entries(section.properties ?? {}).flatMap(([key, inner]) =>
    inner.properties === undefined ? [[[...path, key].join('.'), inner] as [string, Schema]] : fieldsOf(inner, [...path, key]),
  );
}
const known = fieldsOf(schema).filter(([path]) => !NEW.some((key) => `${path}.`.startsWith(`${key}.`)) || knows(path));

/** Whether the agent takes a value. */
function takes(path: string, value: unknown): boolean {
  const file = join(folder, 'one.yaml');
  // A sum below one table is refused for another reason.
  const written: Record<string, Any> = { flows: { tableEntries: 64 } };
  const keys = path.split('.');
  let section = written;
  for (const key of keys.slice(0, -1)) section = section[key] ??= {};
  section[keys.at(-1) as string] = value;
  writeFileSync(file, stringify(written));
  try {
    loadConfig({ config: file }, {});
    return true;
  } catch {
    return false;
  }
}

test('values.config has every field of the agent that no other value decides, and no other', () => {
  const own = fields.map(({ path }) => path.join('.')).filter((path) => !OF_THE_CHART.test(path));
  expect(known.map(([path]) => path).sort()).toEqual(own.sort());
});

test.each(known.filter(([, { type }]) => type === 'integer'))(
  'bounds of %s are those of the agent',
  (path, { minimum = Number.NaN, maximum = Number.NaN }) => {
    expect([minimum - 1, minimum, maximum, maximum + 1].map((value) => takes(path, value))).toEqual([false, true, true, false]);
  },
);

test.each(known.filter(([, inner]) => inner.enum !== undefined))('words of %s are those of the agent', (path, { enum: words = [] }) => {
  expect(words.filter((word) => !takes(path, word))).toEqual([]);
});
