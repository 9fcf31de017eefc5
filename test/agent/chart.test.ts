// The section `flows` of the chart against that of the agent: the same fields, bounds and defaults, by the variables that the chart makes.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { loadConfig } from '../../src/agent/config.ts';

interface Schema {
  type?: string;
  enum?: string[];
  minimum?: number;
  maximum?: number;
  properties?: Record<string, Schema>;
}

const CHART = join(import.meta.dirname, '../../helm/taplane');
const values = parse(readFileSync(join(CHART, 'values.yaml'), 'utf8'));
const schema = (JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8')) as Schema).properties?.['flows'] as Schema;

/** Paths and schemas of all fields of a section. */
function fields(section: Schema, path: string[] = []): [string[], Schema][] {
  return Object.entries(section.properties ?? {}).flatMap(([key, inner]) =>
    inner.properties === undefined ? [[[...path, key], inner] as [string[], Schema]] : fields(inner, [...path, key]),
  );
}
/** As `snakecase | upper` of the template. */
const variable = (path: string[]) => ['TAPLANE_FLOWS', ...path.map((key) => key.replace(/[A-Z]/g, '_$&').toUpperCase())].join('_');
const taken = (env: NodeJS.ProcessEnv): boolean => {
  try {
    loadConfig({}, env);
    return true;
  } catch {
    return false;
  }
};
const keys = (section: object): string[] =>
  Object.entries(section).flatMap(([key, inner]) =>
    typeof inner === 'object' && inner !== null ? keys(inner as object).map((below) => `${key}.${below}`) : [key],
  );

test('the chart knows every field of the agent, and no other', () => {
  const own = fields(schema).map(([path]) => path.join('.'));
  expect(own.sort()).toEqual(keys(loadConfig({}, {}).flows).sort());
});

test('its defaults are those of the agent', () => {
  expect(loadConfig({}, {}).flows).toMatchObject(values.flows);
});

test.each(fields(schema).filter(([, { type }]) => type === 'integer'))(
  'bounds of %s',
  (path, { minimum = Number.NaN, maximum = Number.NaN }) => {
    // A sum below one table is refused for another reason.
    const small = { TAPLANE_FLOWS_TABLE_ENTRIES: '64' };
    const at = (value: number) => taken({ ...small, [variable(path)]: String(value) });
    expect([minimum - 1, minimum, maximum, maximum + 1].map(at)).toEqual([false, true, true, false]);
  },
);

test.each(fields(schema).filter(([, inner]) => inner.enum !== undefined))('words of %s', (path, { enum: words = [] }) => {
  for (const word of words) expect(taken({ [variable(path)]: word })).toBe(true);
});
