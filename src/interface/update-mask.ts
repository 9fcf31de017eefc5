// Applies the update of a client to a spec (AIP-134): with a mask the fields it names, without one every field that is set, with
// `*` everything. Pure.

import type { FieldViolation } from '../errors.ts';
import { type Interface, InterfaceSpec } from '../gen/taplane/v1/interface.ts';

type Labels = Interface['labels'];

export interface Updated {
  spec: InterfaceSpec;
  labels: Labels;
  violations: FieldViolation[];
}

const empty = InterfaceSpec.fromPartial({});
const fieldByPath = new Map(
  [...Object.keys(empty), 'mtu', 'txQueueLength', 'flowMetering', 'packetMirror'].map((key) => [
    key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    key as keyof InterfaceSpec,
  ]),
);

function isSet(value: unknown): boolean {
  if (value === undefined || value === '' || value === 0 || value === false) return false;
  if (Array.isArray(value)) return value.length > 0;
  return typeof value !== 'object' || value === null || Object.keys(value).length > 0;
}

/** The spec and labels after the update. Violations name unknown paths of the mask. */
export function applyMask(
  before: { spec: InterfaceSpec; labels: Labels },
  patch: { spec: InterfaceSpec | undefined; labels: Labels },
  mask: readonly string[] | undefined,
): Updated {
  const wanted = patch.spec ?? empty;
  if (mask?.length === 1 && mask[0] === '*') return { spec: wanted, labels: patch.labels, violations: [] };
  const spec: InterfaceSpec = { ...before.spec };
  let labels = before.labels;
  const violations: FieldViolation[] = [];
  const take = (key: keyof InterfaceSpec): void => {
    Object.assign(spec, { [key]: wanted[key] });
  };
  if (mask === undefined || mask.length === 0) {
    for (const key of fieldByPath.values()) if (isSet(wanted[key])) take(key);
    if (isSet(patch.labels)) labels = patch.labels;
    return { spec, labels, violations };
  }
  mask.forEach((path, index) => {
    const field = path.startsWith('spec.') ? fieldByPath.get(path.slice('spec.'.length)) : undefined;
    if (path === 'labels') labels = patch.labels;
    else if (path === 'spec') for (const key of fieldByPath.values()) take(key);
    else if (field !== undefined) take(field);
    else
      violations.push({
        field: `update_mask.paths[${index}]`,
        description: `unknown path '${path.slice(0, 64)}'; give labels, spec, or spec.<field>, such as spec.mtu`,
      });
  });
  return { spec, labels, violations };
}
