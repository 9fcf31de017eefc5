// Values that are refused, each with a message that names it. Helm tells all at once, so that one process serves a whole table.

import { describe, expect, test } from 'vitest';
import { chartFile, hasHelm, refusal } from './chart.ts';
import { POLICY } from './matrix.ts';

/** What is wrong by itself: values, and what helm says of them. */
const ALONE: [values: object, message: string][] = [
  [{ typo: 1 }, "at '': additional properties 'typo' not allowed"],
  [{ config: { listen: ['0.0.0.0:1'] } }, "at '/config': additional properties 'listen' not allowed"],
  [{ config: { cluster: 'two words' } }, "at '/config/cluster': 'two words' does not match pattern"],
  [{ config: { logLevel: 'trace' } }, "at '/config/logLevel': value must be one of"],
  [{ config: { flows: { sampling: 0 } } }, "at '/config/flows/sampling': minimum: got 0, want 1"],
  [{ config: { flows: { stream: { flows: 'a.b' } } } }, "at '/config/flows/stream/flows': 'a.b' does not match pattern"],
  [{ config: { limits: { links: '10' } } }, "at '/config/limits/links': got string, want integer"],
  [{ lane: { count: 65 } }, "at '/lane/count': maximum: got 65, want 64"],
  [{ agent: { extraEnv: [{ name: '1X', value: 'y' }] } }, "at '/agent/extraEnv/0/name': '1X' does not match pattern"],
  [{ agent: { resources: { limit: {} } } }, "at '/agent/resources': additional properties 'limit' not allowed"],
  [{ tun: { mode: 'privileged' } }, "at '/tun/mode': value must be one of 'hostPath', 'devicePlugin'"],
  [{ tun: { resourceName: 'tun' } }, "at '/tun/resourceName': 'tun' does not match pattern"],
  [{ state: { path: '/' } }, "at '/state/path': '/' does not match pattern"],
  [{ state: { path: '/var/../etc' } }, "at '/state/path': '/var/../etc' does not match pattern"],
  [{ runtime: { path: 'run' } }, "at '/runtime/path'"],
  [{ runtime: { type: 'pvc' } }, "at '/runtime/type': value must be one of"],
  [{ api: { tcp: { port: 443 } } }, "at '/api/tcp/port': minimum: got 443"],
  [{ metrics: { address: '0.0.0.0' } }, "at '/metrics/address': value must be one of 'loopback', 'node'"],
  [{ metrics: { podMonitor: { interval: '30' } } }, "at '/metrics/podMonitor/interval': '30' does not match pattern"],
  [{ securityContext: { privileged: true } }, "at '/securityContext': additional properties 'privileged' not allowed"],
  [{ securityContext: { seccompProfile: { type: 'Unconfined' } } }, "at '/securityContext/seccompProfile/type': value must be one of"],
  [{ updateStrategy: { maxSurge: 1 } }, "at '/updateStrategy': additional properties 'maxSurge' not allowed"],
  [{ updateStrategy: { maxUnavailable: '0%' } }, "at '/updateStrategy/maxUnavailable'"],
  [{ terminationGracePeriodSeconds: 5 }, "at '/terminationGracePeriodSeconds': minimum: got 5, want 15"],
  [{ image: { digest: 'sha256:short' } }, "at '/image/digest': 'sha256:short' does not match pattern"],
  [{ podLabels: { a: 'not a label' } }, "at '/podLabels/a': 'not a label' does not match pattern"],
  // Selectors are made of them.
  [{ commonLabels: { 'app.kubernetes.io/name': 'x' } }, "at '/commonLabels'"],
  [{ podLabels: { 'app.kubernetes.io/component': 'x' } }, "at '/podLabels'"],
  [{ imagePullSecrets: ['pull'] }, "at '/imagePullSecrets/0': got string, want object"],
  [{ serviceAccount: { name: 'Upper' } }, "at '/serviceAccount/name': 'Upper' does not match pattern"],
  [{ fullnameOverride: 'a.b' }, "at '/fullnameOverride': 'a.b' does not match pattern"],
  [{ nats: { bundled: { replicas: 2 } } }, "at '/nats/bundled/replicas': value must be one of 1, 3, 5"],
  [{ nats: { bundled: { image: { tag: '' } } } }, "at '/nats/bundled/image/tag': '' does not match pattern"],
  [{ nats: { external: { url: 'nats://user:secret@host:4222' } } }, "at '/nats/external/url'"],
  [{ ipFamily: 'DualStack' }, "at '/ipFamily': value must be one of 'IPv4', 'IPv6'"],
  [{ probes: { liveness: { exec: {} } } }, "at '/probes/liveness': additional properties 'exec' not allowed"],
];

/** What is wrong together. */
const TOGETHER: [why: string, values: object, message: string][] = [
  ['TCP without a certificate', { api: { tcp: { enabled: true } }, tls: {} }, "at '/tls/existingSecret': minLength: got 0, want 1"],
  [
    'two certificates',
    { tls: { existingSecret: 'a', certManager: { enabled: true, issuerRef: { name: 'b' } } } },
    "at '/tls/existingSecret': maxLength",
  ],
  ['cert-manager without an issuer', { tls: { certManager: { enabled: true } } }, "at '/tls/certManager/issuerRef/name': minLength"],
  ['external NATS without an address', { nats: { mode: 'external' } }, "at '/nats/external/url': minLength"],
  [
    'bundled NATS without its Secrets',
    { nats: { mode: 'bundled', bundled: { tls: { source: 'existingSecret' } } } },
    "at '/nats/bundled/tls/existingSecret/server': minLength",
  ],
  [
    'bundled NATS and a cluster that is no token',
    { nats: { mode: 'bundled' }, config: { cluster: 'a.b' } },
    "at '/config/cluster': 'a.b' does not match pattern",
  ],
  ['scraping on loopback', { metrics: { podMonitor: { enabled: true } } }, "at '/metrics/address': value must be 'node'"],
  [
    'a local profile without its path',
    { securityContext: { seccompProfile: { type: 'Localhost' } } },
    "at '/securityContext/seccompProfile/localhostProfile': minLength",
  ],
  [
    'a policy with a misspelt key',
    { policy: { document: { version: 1, roles: { a: { method: ['*'] } }, identities: [] } } },
    "at '/policy/document/roles/a': additional properties 'method' not allowed",
  ],
  ['one port for two', { api: { tcp: { enabled: true, port: 9464 } }, tls: { existingSecret: 'a' } }, 'api.tcp.port: is metrics.port too'],
  ['two policies', { policy: { document: POLICY, existingConfigMap: 'b' } }, "at '/policy/document': maxProperties"],
];

describe.skipIf(!hasHelm)('refused', () => {
  // Values that do not touch each other go into one run.
  test('each by itself', () => {
    const runs = runsOf(ALONE.map(([values, message]) => ({ values, message, touches: paths(values) })));
    expect(runs.length).toBeLessThan(5);
    for (const { values, messages } of runs) {
      const said = refusal(values);
      for (const message of messages) expect(said).toContain(message);
      expect(said.match(/^ *- at '/gm)?.length).toBeGreaterThanOrEqual(messages.length);
    }
  });

  test('together', () => {
    const runs = runsOf(
      TOGETHER.map(([, values, message]) => ({ values, message, touches: Object.keys(values).map((key) => `/${key}/`) })),
    );
    expect(runs.length).toBeLessThan(6);
    for (const { values, messages } of runs) {
      const said = refusal(values);
      for (const message of messages) expect(said, TOGETHER.find((row) => row[2] === message)?.[0]).toContain(message);
    }
  });
});

test('is what the schema does not know: every object is closed, but for those that are free', () => {
  const open: string[] = [];
  walk(JSON.parse(chartFile('values.schema.json')), '');
  // Labels, annotations and amounts are maps; the others are objects of Kubernetes, or the agent's own file, which it checks itself.
  expect(open.sort()).toEqual(
    [
      'affinity',
      'definitions/env/items/valueFrom',
      'definitions/objects/items',
      'extraObjects/items',
      'global',
      'nats/bundled/affinity',
      'policy/document',
    ].sort(),
  );

  function walk(schema: Record<string, unknown>, path: string): void {
    const isObject = schema['type'] === 'object' || (Array.isArray(schema['type']) && schema['type'].includes('object'));
    if (isObject && schema['additionalProperties'] === undefined) open.push(path.slice(1));
    for (const [key, inner] of Object.entries((schema['properties'] ?? {}) as Record<string, Record<string, unknown>>))
      walk(inner, `${path}/${key}`);
    for (const [key, inner] of Object.entries((schema['definitions'] ?? {}) as Record<string, Record<string, unknown>>))
      walk(inner, `${path}/definitions/${key}`);
    if (schema['items'] !== undefined) walk(schema['items'] as Record<string, unknown>, `${path}/items`);
  }
});

interface Run {
  values: object;
  messages: string[];
}

function runsOf(rows: { values: object; message: string; touches: string[] }[]): Run[] {
  const runs: (Run & { touches: string[] })[] = [];
  for (const { values, message, touches } of rows) {
    const isApart = (other: string) => touches.every((path) => !other.startsWith(path) && !path.startsWith(other));
    const run = runs.find((one) => one.touches.every(isApart));
    if (run === undefined) runs.push({ values: structuredClone(values), messages: [message], touches });
    else {
      merge(run.values, values);
      run.messages.push(message);
      run.touches.push(...touches);
    }
  }
  return runs;
}

function paths(values: object, path = ''): string[] {
  return Object.entries(values).flatMap(([key, value]) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) ? paths(value, `${path}/${key}`) : [`${path}/${key}`],
  );
}

function merge(into: Record<string, unknown> | object, values: object): void {
  const target = into as Record<string, unknown>;
  for (const [key, value] of Object.entries(values)) {
    const there = target[key];
    if (typeof there === 'object' && there !== null && !Array.isArray(there)) merge(there, value as object);
    else target[key] = structuredClone(value);
  }
}
