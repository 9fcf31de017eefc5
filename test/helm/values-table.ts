// What is in the chart twice: the table of all values in its README, made of the comments in values.yaml, and the schema of a policy in its own,
// taken from examples/. `node test/helm/values-table.ts` writes both anew.
//
// A comment `# -- text` above a key makes a row of the key and all that is below it; `# @section Title` begins a table. Every value has a row.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMap, isScalar, type Pair, parseDocument, type YAMLMap } from 'yaml';

const CHART = join(import.meta.dirname, '../../helm/taplane');
const README = join(CHART, 'README.md');
const SCHEMA = join(CHART, 'values.schema.json');
export const POLICY_SCHEMA = join(CHART, '../../examples/policy.schema.json');
const BEGIN = '<!-- values: begin; node test/helm/values-table.ts writes what is here -->';
const END = '<!-- values: end -->';

interface Section {
  title: string;
  rows: { key: string; preset: string; text: string }[];
}

/** Throws for a value without a row. */
export function sectionsOf(text: string): Section[] {
  const sections: Section[] = [];
  const bare: string[] = [];
  const walk = (map: YAMLMap, path: string[]): void => {
    for (const pair of map.items as Pair[]) {
      const key = pair.key;
      if (!isScalar(key)) continue;
      const at = [...path, String(key.value)];
      // The comment of the first key of a map belongs to the map, to the parser.
      const isFirst = pair === map.items[0];
      const comment = `${(isFirst && map.commentBefore) || ''}\n${(key as { commentBefore?: string }).commentBefore ?? ''}`;
      const title = /^ ?@section (.*)$/m.exec(comment)?.[1];
      if (title !== undefined) sections.push({ title, rows: [] });
      const said = /^ ?-- (.*)$/m.exec(comment)?.[1];
      const { value } = pair;
      if (said !== undefined) {
        const plain =
          isMap(value) || (value as { toJSON?(): unknown } | null)?.toJSON !== undefined
            ? (value as { toJSON(): unknown }).toJSON()
            : value;
        sections.at(-1)?.rows.push({ key: at.join('.'), preset: JSON.stringify(plain), text: said });
      } else if (isMap(value)) walk(value, at);
      else bare.push(at.join('.'));
    }
  };
  walk(parseDocument(text).contents as YAMLMap, []);
  if (bare.length > 0) throw new Error(`values.yaml: no \`# --\` above ${bare.join(', ')}`);
  return sections;
}

export function tableOf(sections: Section[]): string {
  return sections
    .map(({ title, rows }) => {
      const cell = (text: string) => text.replaceAll('|', '\\|');
      const lines = rows.map(({ key, preset, text }) => `| \`${key}\` | \`${cell(preset)}\` | ${cell(text)} |`);
      return [`### ${title}`, '', '| value | default | |', '| --- | --- | --- |', ...lines].join('\n');
    })
    .join('\n\n');
}

/** The README as it should be: the one that is there, with a table of today. */
export function readmeOf(readme: string, values: string): string {
  const [head, rest] = readme.split(BEGIN);
  const tail = rest?.split(END)[1];
  if (head === undefined || tail === undefined) throw new Error(`README.md of the chart: no lines ${BEGIN} and ${END}`);
  return `${head}${BEGIN}\n\n${tableOf(sectionsOf(values))}\n\n${END}${tail}`;
}

/** The schema of values as it should be, with the schema of a policy as it is. */
export function schemaOf(schema: string, policySchema: string): string {
  // Helm's regular expressions repeat a thousand times at most; the agent counts.
  const text = policySchema.replace(/\{1,\d{4,}\}/g, '+');
  const { $schema: _, ...policyDocument } = JSON.parse(text) as Record<string, unknown>;
  const values = JSON.parse(schema) as { definitions: Record<string, unknown> };
  values.definitions['policyDocument'] = policyDocument;
  return `${JSON.stringify(values, null, 2)}\n`;
}

if (import.meta.main) {
  writeFileSync(SCHEMA, schemaOf(readFileSync(SCHEMA, 'utf8'), readFileSync(POLICY_SCHEMA, 'utf8')));
  writeFileSync(README, readmeOf(readFileSync(README, 'utf8'), readFileSync(join(CHART, 'values.yaml'), 'utf8')));
}
