// Applies the update of a client to a spec (AIP-134): with a mask the fields it names, without one every field that is set, with
// `*` everything. Pure.

import type { FieldViolation } from '../errors.ts';

type Labels = { [key: string]: string };

export interface Updated<S> {
  spec: S;
  labels: Labels;
  violations: FieldViolation[];
}

/** The fields of a spec, by their paths in a mask. */
export interface SpecFields<S> {
  empty: S;
  byPath: ReadonlyMap<string, keyof S>;
}

/** `empty` is a spec of which nothing is set; `absent` names the fields that it therefore does not have. */
export function specFields<S extends object>(empty: S, absent: readonly (keyof S & string)[]): SpecFields<S> {
  const keys = new Set([...Object.keys(empty), ...absent] as (keyof S & string)[]);
  return { empty, byPath: new Map([...keys].map((key) => [key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), key])) };
}

function isSet(value: unknown): boolean {
  if (value === undefined || value === '' || value === 0 || value === false) return false;
  if (Array.isArray(value)) return value.length > 0;
  return typeof value !== 'object' || value === null || Object.keys(value).length > 0;
}

/** The spec and labels after the update. Violations name unknown paths of the mask. */
export function applyMask<S extends object>(
  { empty, byPath }: SpecFields<S>,
  before: { spec: S; labels: Labels },
  patch: { spec: S | undefined; labels: Labels },
  mask: readonly string[] | undefined,
): Updated<S> {
  const wanted = patch.spec ?? empty;
  if (mask?.length === 1 && mask[0] === '*') return { spec: wanted, labels: patch.labels, violations: [] };
  const spec: S = { ...before.spec };
  let labels = before.labels;
  const violations: FieldViolation[] = [];
  const take = (key: keyof S): void => {
    Object.assign(spec, { [key]: wanted[key] });
  };
  if (mask === undefined || mask.length === 0) {
    for (const key of byPath.values()) if (isSet(wanted[key])) take(key);
    if (isSet(patch.labels)) labels = patch.labels;
    return { spec, labels, violations };
  }
  mask.forEach((path, index) => {
    const field = path.startsWith('spec.') ? byPath.get(path.slice('spec.'.length)) : undefined;
    if (path === 'labels') labels = patch.labels;
    else if (path === 'spec') for (const key of byPath.values()) take(key);
    else if (field !== undefined) take(field);
    else
      violations.push({
        field: `update_mask.paths[${index}]`,
        description: `unknown path '${path.slice(0, 64)}'; give labels, spec, or spec.<field>, such as spec.mtu`,
      });
  });
  return { spec, labels, violations };
}
