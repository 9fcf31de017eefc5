// What is shipped with the chart speaks only of series that exist: the dashboard, and the alert rules with what they should and should not fire at.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { SERIES } from '../../src/metrics/catalogue.ts';
import { hasPromtool, promtool } from './promtool.ts';

const ROOT = join(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

/** Names in an expression that are none of ours. */
function strangers(expression: string): string[] {
  const known = new Set(
    SERIES.flatMap(({ name, kind }) => (kind === 'histogram' ? ['_bucket', '_sum', '_count'].map((s) => name + s) : [name])),
  );
  return [...expression.matchAll(/\btaplane_[a-z0-9_]+/g)].map(([name]) => name).filter((name) => !known.has(name));
}

/** Labels that a selector asks for, and that a series does not have. */
function badLabels(expression: string): string[] {
  return [...expression.matchAll(/(taplane_[a-z0-9_]+)\{([^}]*)\}/g)].flatMap(([, name = '', selectors = '']) => {
    const series = SERIES.find((one) => one.name === name.replace(/_(bucket|sum|count)$/, '') || one.name === name);
    const asked = [...selectors.matchAll(/([a-z_]+)\s*(?:=~|!~|!=|=)/g)].map(([, label = '']) => label);
    // The scraper adds these.
    return asked
      .filter((label) => !['instance', 'job'].includes(label) && !series?.labels.includes(label))
      .map((label) => `${name} has no ${label}`);
  });
}

interface Rule {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string; description: string };
}

const rules = (parse(read('helm/taplane/alerts/taplane.yaml')) as { groups: { rules: Rule[] }[] }).groups.flatMap(({ rules: all }) => all);

interface Panel {
  title: string;
  type: string;
  targets?: { expr: string }[];
}

const { panels } = JSON.parse(read('helm/taplane/dashboards/taplane.json')) as { panels: Panel[] };

test('a series that does not exist, or a label, is noticed', () => {
  expect(strangers('rate(taplane_nonsense_total[5m]) + taplane_ready')).toEqual(['taplane_nonsense_total']);
  expect(badLabels('taplane_ready{colour="red", check="lane", instance=~"a"}')).toEqual(['taplane_ready has no colour']);
});

test('alert rules use series that exist, have a severity, and are in docs/observability.md', () => {
  const docs = read('docs/observability.md');
  expect(rules.length).toBeGreaterThan(20);
  for (const { alert, expr, labels, annotations } of rules) {
    expect([alert, ...strangers(expr), ...badLabels(expr)]).toEqual([alert]);
    expect(['info', 'warning', 'critical']).toContain(labels.severity);
    expect(annotations.summary.length * annotations.description.length).toBeGreaterThan(0);
    expect(docs).toContain(`\`${alert}\``);
  }
});

test('the dashboard uses series that exist, in every panel', () => {
  const shown = panels.filter(({ type }) => type !== 'row');
  expect(shown.length).toBeGreaterThan(20);
  for (const { title, targets = [] } of shown) {
    expect(targets.length, title).toBeGreaterThan(0);
    for (const { expr } of targets) expect([title, ...strangers(expr), ...badLabels(expr)]).toEqual([title]);
  }
});

test('a sum on the dashboard does not vanish with the part that a node does not have', () => {
  const sums = panels.flatMap(({ targets = [] }) => targets.flatMap(({ expr }) => (expr.includes(' + ') ? expr.split(' + ') : [])));
  expect(sums.length).toBeGreaterThan(0);
  expect(sums.filter((part) => !part.endsWith(' or vector(0))'))).toEqual([]);
});

test('promtool takes the rules, and they fire at what they should', ({ skip }) => {
  skip(!hasPromtool, 'promtool is not here (node scripts/setup.mjs --test brings it); our own reader has checked them');
  expect(promtool(['check', 'rules', join(ROOT, 'helm/taplane/alerts/taplane.yaml')])).toBe('');
  expect(promtool(['test', 'rules', join(ROOT, 'test/metrics/alerts.promtool.yaml')])).toBe('');
});
