// What the chart makes where it was installed before: helm looks into a cluster, here a server that knows a few objects.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { HELM } from '../../scripts/kubernetes-tools.mjs';
import { CHART, hasHelm, type KubernetesObject, render } from './chart.ts';

/** Kinds of what the chart makes with a bundled NATS, by group and version. */
const KINDS: Record<string, string[]> = {
  v1: ['Secret', 'ConfigMap', 'Service', 'ServiceAccount', 'Pod'],
  'apps/v1': ['DaemonSet', 'StatefulSet'],
  'networking.k8s.io/v1': ['NetworkPolicy'],
  'policy/v1': ['PodDisruptionBudget'],
};
const plural = (kind: string): string => `${kind.toLowerCase()}s`.replace(/ys$/, 'ies');
const lists = Object.entries(KINDS).map(([groupVersion, kinds]) => {
  const resources = kinds.map((kind) => ({ name: plural(kind), kind, singularName: '', namespaced: true, verbs: ['get'] }));
  return [
    groupVersion === 'v1' ? '/api/v1' : `/apis/${groupVersion}`,
    { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources },
  ];
});
const groups = Object.keys(KINDS).flatMap((groupVersion) => {
  const [name, version] = groupVersion.split('/');
  return version === undefined ? [] : [{ name, versions: [{ groupVersion, version }], preferredVersion: { groupVersion, version } }];
});
const ANSWERS: Record<string, object> = {
  '/version': { major: '1', minor: '35', gitVersion: 'v1.35.0' },
  '/api': { kind: 'APIVersions', versions: ['v1'] },
  '/apis': { kind: 'APIGroupList', apiVersion: 'v1', groups },
  ...Object.fromEntries(lists),
};

/** What helm says, as of `helm upgrade`, in a cluster with these objects. */
async function upgrade(there: KubernetesObject[], values: object): Promise<string> {
  // Helm marks what it has made.
  const annotations = { 'meta.helm.sh/release-name': 'demo', 'meta.helm.sh/release-namespace': 'net' };
  const objects = there.map(({ metadata, ...object }) => [
    `/api/v1/namespaces/net/${plural(object.kind)}/${metadata.name}`,
    { ...object, metadata: { ...metadata, annotations } },
  ]);
  const known: Record<string, object> = { ...ANSWERS, ...Object.fromEntries(objects) };
  const cluster = createServer(({ url = '' }, response) => {
    const found = known[url.split('?')[0] as string];
    response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(found ?? { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'NotFound', code: 404 }));
  }).listen(0, '127.0.0.1');
  await once(cluster, 'listening');
  try {
    const at = `http://127.0.0.1:${(cluster.address() as AddressInfo).port}`;
    const words = ['--namespace', 'net', '--dry-run=server', '--disable-openapi-validation', '--kube-apiserver', at, '--values', '-'];
    const run = spawn(HELM, ['template', 'demo', CHART, ...words], { env: { PATH: '', HOME: '/proc/nowhere' } });
    run.stdin.end(JSON.stringify(values));
    return (await Promise.all([text(run.stdout), text(run.stderr)])).join('');
  } finally {
    cluster.closeAllConnections();
    cluster.close();
  }
}

describe.skipIf(!hasHelm)('an upgrade', () => {
  const one = { nats: { mode: 'bundled' } };
  const three = { nats: { mode: 'bundled', bundled: { replicas: 3 } } };

  test('finds the certificates that the first install has made', async () => {
    const secrets = render(one).all('Secret');
    expect(secrets).toHaveLength(3);
    const after = await upgrade(secrets, one);
    for (const { data = {} } of secrets) for (const made of Object.values(data)) expect(after).toContain(made);
    const key = secrets[0]?.data?.['tls.key'] as string;
    expect(await upgrade([], one)).not.toContain(key);
  });

  test('makes no cluster of one server, nor one server of a cluster: their streams would be lost', async () => {
    const [single, cluster] = [one, three].map((values) => render(values).all('ConfigMap'));
    const refused = /nats\.bundled\.replicas: one server and a cluster do not take over each other's streams/;
    expect(await upgrade(single as KubernetesObject[], three)).toMatch(refused);
    expect(await upgrade(cluster as KubernetesObject[], one)).toMatch(refused);
    expect(await upgrade(single as KubernetesObject[], one)).toMatch(/^kind: StatefulSet$/m);
    expect(await upgrade(cluster as KubernetesObject[], { nats: { mode: 'bundled', bundled: { replicas: 5 } } })).toMatch(
      /^kind: StatefulSet$/m,
    );
  });
});
