// Are these objects what Kubernetes takes? Three witnesses: the types that are generated from its OpenAPI schema (unknown fields, missing
// ones, wrong types), kubectl, which reads what has a pod with the API's own Go types, and the rules that only the API server has, as far as
// a chart can break them: names, labels, and what refers to what within an object.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Any, containersOf, KUBECTL, type KubernetesObject, podOf, ROOT } from './chart.ts';
import { CUSTOM } from './custom-resources.ts';

/** Module of each kind in the package kubernetes-types. */
const MODULES: Record<string, string> = {
  'v1 ConfigMap': 'core/v1',
  'v1 Pod': 'core/v1',
  'v1 Secret': 'core/v1',
  'v1 Service': 'core/v1',
  'v1 ServiceAccount': 'core/v1',
  'apps/v1 DaemonSet': 'apps/v1',
  'apps/v1 StatefulSet': 'apps/v1',
  'networking.k8s.io/v1 NetworkPolicy': 'networking/v1',
  'policy/v1 PodDisruptionBudget': 'policy/v1',
};

const TSC = '--ignoreConfig --noEmit --strict --skipLibCheck --pretty false --module esnext --moduleResolution bundler --types'.split(' ');

/** All violations of the types, by kind and name; the objects of custom resources are checked by their own shapes. */
export function typeViolations(objects: KubernetesObject[]): string[] {
  const violations: string[] = [];
  const lines = ['export {};'];
  /** Whose text each line is. */
  const owners = [''];
  for (const object of objects) {
    const owner = `${object.kind} ${object.metadata.name}`;
    const module = MODULES[`${object.apiVersion} ${object.kind}`];
    const custom = CUSTOM[object.kind];
    if (module !== undefined) {
      // In a literal a field that the type has not is an error.
      const literal = `({${JSON.stringify(object, null, 1).slice(1)}) satisfies import('kubernetes-types/${module}').${object.kind};`.split(
        '\n',
      );
      lines.push(...literal);
      owners.push(...literal.map(() => owner));
    } else if (custom === undefined) violations.push(`${owner}: ${object.apiVersion} has no such kind here`);
    else
      for (const { path, message } of custom.safeParse(object).error?.issues ?? [])
        violations.push(`${owner}: ${path.join('.')}: ${message}`);
  }
  const parent = join(ROOT, 'node_modules/.cache');
  mkdirSync(parent, { recursive: true });
  const folder = mkdtempSync(join(parent, 'chart-check-'));
  try {
    const file = join(folder, 'objects.ts');
    writeFileSync(file, lines.join('\n'));
    const tsc = spawnSync(join(ROOT, 'node_modules/.bin/tsc'), [...TSC, '', file], { encoding: 'utf8', cwd: folder });
    if (tsc.error) throw tsc.error;
    for (const [, number, message] of tsc.stdout.matchAll(/^objects\.ts\((\d+),\d+\): (.*)$/gm))
      violations.push(`${owners[Number(number) - 1]}: ${lines[Number(number) - 1]?.trim()}: ${message}`);
    if (tsc.status !== 0 && violations.length === 0) violations.push(`tsc ended with ${tsc.status}: ${tsc.stdout}${tsc.stderr}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return violations;
}

const VARIABLE = { name: 'ADDED_BY_THE_TEST', value: 'x' };

/** What kubectl dropped or refused of objects with a pod: it reads them into the API's own types, and writes them out again. */
export function kubectlViolations(objects: KubernetesObject[]): string[] {
  const items = objects.filter((object) => podOf(object) !== undefined);
  const list = { apiVersion: 'v1', kind: 'List', items };
  const run = spawnSync(KUBECTL, ['set', 'env', '--local', '-f', '-', '-o', 'json', `${VARIABLE.name}=${VARIABLE.value}`], {
    encoding: 'utf8',
    input: JSON.stringify(list),
    maxBuffer: 64 * 1024 * 1024,
    env: { PATH: '', HOME: '/proc/nowhere' },
  });
  if (run.error) throw run.error;
  if (run.status !== 0) return [run.stderr.trim()];
  // One JSON object after another.
  const read = run.stdout
    .split(/^(?=\{$)/m)
    .map((text) => JSON.parse(text) as KubernetesObject)
    .flatMap((object) => (object.kind === 'List' ? (object as unknown as { items: KubernetesObject[] }).items : [object]));
  if (read.length !== items.length) return [`kubectl read ${read.length} of ${items.length} objects`];
  return items.flatMap((object, index) => lost(object, read[index], `${object.kind} ${object.metadata.name}`));
}

/** What is not in `after`. Defaults may come on top; a quantity may be written in another way. */
function lost(before: Any, after: Any, path: string): string[] {
  if (before === null || before === undefined) return [];
  if (Array.isArray(before)) {
    if (before.length === 0) return [];
    return Array.isArray(after) ? before.flatMap((item, index) => lost(item, after[index], `${path}[${index}]`)) : [`${path} is lost`];
  }
  if (typeof before === 'object') {
    // Go's omitempty.
    if (after === undefined && Object.keys(before).length === 0) return [];
    if (typeof after !== 'object' || after === null) return [`${path} is lost`];
    return Object.entries(before).flatMap(([key, value]) => lost(value, after[key], `${path}.${key}`));
  }
  if (after === undefined && (before === 0 || before === false || before === '')) return [];
  return after === before || String(after) === String(before) ? [] : [`${path}: ${JSON.stringify(before)} became ${JSON.stringify(after)}`];
}

const SUBDOMAIN = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/;

/** What only the API server says: names, labels, selectors, mounts, ports. */
export function semanticViolations(objects: KubernetesObject[]): string[] {
  const violations: string[] = [];
  const seen = new Set<string>();
  for (const object of objects) {
    const { kind, metadata } = object;
    const at = `${kind} ${metadata.name}`;
    const say = (what: string) => violations.push(`${at}: ${what}`);
    if (seen.has(at)) say('stands there twice');
    seen.add(at);
    if (!(kind === 'Service' || kind === 'StatefulSet' || kind === 'DaemonSet' ? LABEL : SUBDOMAIN).test(metadata.name))
      say('has no name of DNS');
    const pod = podOf(object);
    const labels = [metadata.labels, object.spec?.template?.metadata?.labels, object.spec?.selector?.matchLabels];
    for (const value of labels.flatMap((set) => Object.values(set ?? {}) as string[])) if (!LABEL_VALUE.test(value)) say(`label ${value}`);
    if (pod === undefined) continue;
    const template = object.spec.template?.metadata?.labels ?? {};
    for (const [key, value] of Object.entries(object.spec.selector?.matchLabels ?? {}))
      if (template[key] !== value) say(`selects ${key}=${value}, which its pods have not`);
    const volumes: string[] = [...(pod.volumes ?? []), ...(object.spec.volumeClaimTemplates ?? []).map((claim: Any) => claim.metadata)].map(
      ({ name }: Any) => name,
    );
    if (new Set(volumes).size !== volumes.length) say('has a volume twice');
    const containers = containersOf(object);
    const used = containers.flatMap((container) => (container.volumeMounts ?? []).map((mount: Any) => mount.name));
    for (const name of used) if (!volumes.includes(name)) say(`mounts ${name}, which is no volume`);
    for (const name of volumes) if (!used.includes(name)) say(`nobody mounts ${name}`);
    const ports = containers.flatMap((container) => container.ports ?? []).map(({ containerPort }: Any) => containerPort);
    if (new Set(ports).size !== ports.length) say('has a port twice');
    const names = containers.map(({ name }) => name);
    if (new Set(names).size !== names.length) say('has a container twice');
    for (const container of containers) {
      const paths = (container.volumeMounts ?? []).map(({ mountPath }: Any) => mountPath);
      if (new Set(paths).size !== paths.length) say(`${container.name} mounts twice at a path`);
      const variables = (container.env ?? []).map(({ name }: Any) => name);
      if (new Set(variables).size !== variables.length) say(`${container.name} has a variable twice`);
      // A variable is known to those behind it.
      (container.env ?? []).forEach(({ value = '' }: Any, index: number) => {
        for (const [, name] of String(value).matchAll(/\$\((\w+)\)/g))
          if (!variables.slice(0, index).includes(name)) say(`${container.name}: $(${name}) is not filled in`);
      });
      for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
        const port = container[probe]?.httpGet?.port;
        if (typeof port === 'string' && !(container.ports ?? []).some(({ name }: Any) => name === port))
          say(`${container.name}: ${probe} at ${port}`);
      }
    }
  }
  for (const service of objects.filter(({ kind }) => kind === 'Service')) {
    const pods = objects.filter((object) => matches(service.spec.selector, object.spec?.template?.metadata?.labels));
    if (pods.length !== 1) violations.push(`Service ${service.metadata.name} selects pods of ${pods.length} objects`);
    for (const { targetPort } of service.spec.ports)
      if (!pods.flatMap(containersOf).some((container) => (container.ports ?? []).some(({ name }: Any) => name === targetPort)))
        violations.push(`Service ${service.metadata.name}: no container has the port ${targetPort}`);
  }
  return violations;
}

export function matches(selector: Record<string, string>, labels: Record<string, string> | undefined): boolean {
  return labels !== undefined && Object.entries(selector).every(([key, value]) => labels[key] === value);
}
