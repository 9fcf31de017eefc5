// What the chart says of itself: its version, its README, its schema, what it carries along.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { parsePolicy } from '../../src/agent/policy/file.ts';
import { type Any, CHART, chartFile, hasHelm, helm, ROOT, render, withHelm } from './chart.ts';
import { POLICY_SCHEMA, readmeOf, schemaOf, sectionsOf } from './values-table.ts';

const values = parse(chartFile('values.yaml')) as Any;
const schema = JSON.parse(chartFile('values.schema.json')) as Any;

test('Chart.yaml has the version of the package, and what a chart wants', () => {
  const chart = parse(chartFile('Chart.yaml')) as Any;
  const { version, description } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string; description: string };
  expect(chart).toMatchObject({ apiVersion: 'v2', name: 'taplane', type: 'application', appVersion: version, description });
  expect(chart.version).toMatch(/^\d+\.\d+\.\d+$/);
  // Sidecars.
  expect(chart.kubeVersion).toBe('>=1.29.0-0');
});

describe('README.md', () => {
  test('has a row for every value; else: node test/helm/values-table.ts', () => {
    expect(chartFile('README.md')).toBe(readmeOf(chartFile('README.md'), chartFile('values.yaml')));
    expect(sectionsOf(chartFile('values.yaml')).flatMap(({ rows }) => rows).length).toBeGreaterThan(100);
  });

  test('a value without a row is caught', () => {
    expect(() => sectionsOf('# @section A\n# -- said\na: 1\nb:\n  c: 2\n')).toThrow('no `# --` above b.c');
    expect(sectionsOf('# @section A\n# -- said\na: 1\nb:\n  # -- two | three\n  c: {d: []}\n')).toEqual([
      {
        title: 'A',
        rows: [
          { key: 'a', preset: '1', text: 'said' },
          { key: 'b.c', preset: '{"d":[]}', text: 'two | three' },
        ],
      },
    ]);
  });
});

test('values.schema.json has the schema of a policy; else: node test/helm/values-table.ts', () => {
  expect(chartFile('values.schema.json')).toBe(schemaOf(chartFile('values.schema.json'), readFileSync(POLICY_SCHEMA, 'utf8')));
});

test('values.yaml and values.schema.json know the same values', () => {
  const missing: string[] = [];
  const walk = (value: Any, at: Any, path: string): void => {
    const properties = at?.properties as Record<string, Any> | undefined;
    if (properties === undefined) return;
    for (const key of Object.keys(properties)) {
      // Of Helm itself.
      if (path === '' && key === 'global') continue;
      if (!(key in value)) missing.push(`values.yaml: ${path}${key}`);
      else if (typeof value[key] === 'object' && !Array.isArray(value[key]) && Object.keys(value[key]).length > 0)
        walk(value[key], properties[key], `${path}${key}.`);
    }
    for (const key of Object.keys(value)) if (!(key in properties)) missing.push(`values.schema.json: ${path}${key}`);
  };
  walk(values, schema, '');
  expect(missing).toEqual([]);
});

withHelm('an older Kubernetes is refused, and the notes say what comes next', () => {
  expect(helm(['template', 'demo', CHART, '--kube-version', '1.28.0']).stderr).toContain('chart requires kubeVersion: >=1.29.0-0');
  const values = { api: { tcp: { enabled: true } }, tls: { existingSecret: 'a' }, nats: { mode: 'bundled' } };
  const { stdout } = helm(['install', 'taplane', CHART, '--namespace', 'net', '--dry-run=client'], values);
  const notes = stdout.slice(stdout.indexOf('\nNOTES:\n'));
  expect(notes).not.toMatch(/<no value>|%!|\{\{/);
  for (const part of [
    'pod-security.kubernetes.io/enforce=privileged',
    'taplane-api.net.svc',
    'There is no policy',
    'get secret taplane-nats-reader',
    '--container lane-0',
  ])
    expect(notes).toContain(part);
});

test('the bundled NATS is new enough', () => {
  const [major, minor, patch] = values.nats.bundled.image.tag.split('.').map(Number);
  expect(major * 1e6 + minor * 1e3 + patch).toBeGreaterThanOrEqual(2_012_007);
});

describe.skipIf(!hasHelm)('what the pages tell people to do', () => {
  const pages = ['docs/install-kubernetes.md', 'helm/taplane/README.md'].map((page) => readFileSync(join(ROOT, page), 'utf8'));

  test('values in YAML are values of the chart', () => {
    const blocks = pages.flatMap((page) => [...page.matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].map(([, text = '']) => text));
    expect(blocks.length).toBeGreaterThan(5);
    for (const block of blocks) expect(render(parse(block) as object).all('DaemonSet'), block).toHaveLength(1);
    // The policies among them are policies to the agent.
    const accounts = { uid: () => undefined, gid: () => undefined, members: () => [] };
    const policies = blocks.flatMap((block) => (parse(block) as Any).policy?.document ?? []);
    expect(policies).toHaveLength(1);
    for (const policy of policies) expect(parsePolicy(stringify(policy), 'page', accounts).problems).toEqual([]);
  });

  test('flags --set are too, and every value that is named', () => {
    const sets = pages.flatMap((page) =>
      [...page.matchAll(/^helm (?:install|upgrade) .*$/gm)].map(([line]) =>
        [...line.matchAll(/--set (\S+)/g)].flatMap(([flag]) => flag.split(' ')),
      ),
    );
    expect(sets.length).toBeGreaterThan(1);
    for (const flags of sets) expect(helm(['template', 'demo', CHART, ...flags]).stderr).toBe('');
    const rows = sectionsOf(chartFile('values.yaml')).flatMap(({ rows }) => rows.map(({ key }) => key));
    for (const [, name = ''] of pages
      .join('')
      .matchAll(
        /`((?:image|config|agent|lane|tun|state|runtime|api|tls|policy|nats|metrics|securityContext|networkPolicy|updateStrategy)\.[\w.]+(?<!sock|yaml))(?::[^`]*)?`/g,
      ))
      expect(
        rows.some((row) => row.startsWith(name) || name.startsWith(`${row}.`)),
        name,
      ).toBe(true);
  });
});

describe('alerts and dashboards', () => {
  const all = { metrics: { address: 'node', prometheusRule: { enabled: true }, dashboards: { enabled: true } } };

  withHelm('come from the files that the chart has, byte for byte', () => {
    const { all: of, one } = render(all);
    const alerts = join(CHART, 'alerts/taplane.yaml');
    if (existsSync(alerts)) expect(one('PrometheusRule').spec).toEqual({ groups: (parse(readFileSync(alerts, 'utf8')) as Any).groups });
    else expect(of('PrometheusRule')).toEqual([]);
    const folder = join(CHART, 'dashboards');
    const dashboards = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.json')) : [];
    if (dashboards.length === 0) expect(of('ConfigMap')).toHaveLength(1);
    else {
      const map = one('ConfigMap', 'demo-taplane-dashboards');
      expect(map.metadata.labels?.['grafana_dashboard']).toBe('1');
      expect(Object.fromEntries(dashboards.map((name) => [name, JSON.parse(readFileSync(join(folder, name), 'utf8'))]))).toEqual(
        Object.fromEntries(Object.entries(map.data ?? {}).map(([name, text]) => [name, JSON.parse(text)])),
      );
      // What one ConfigMap may hold.
      expect(JSON.stringify(map).length).toBeLessThan(1_000_000);
    }
  });
});
