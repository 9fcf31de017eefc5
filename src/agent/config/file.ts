// Reads the YAML file. Messages name line and column but never quote the text, which may hold a password.

import { readFileSync, statSync } from 'node:fs';
import { isMap, LineCounter, parseDocument } from 'yaml';
import type { ConfigProblem } from './error.ts';

const MAX_BYTES = 1024 * 1024;

export interface ConfigFile {
  value: unknown;
  problems: ConfigProblem[];
  /** `:line:column` of a key, or of the nearest mapping around it. */
  locate(keys: PropertyKey[]): string;
}

/** The layer of a file. Never throws: why it cannot be read is a problem, with line and column. At most 1 MiB. */
export function readConfigFile(path: string): ConfigFile {
  const bad = (cause: string, cure: string, where = ''): ConfigFile => ({
    value: {},
    problems: [{ source: `${path}${where}`, field: '', cause, cure }],
    locate: () => '',
  });
  let text: string;
  try {
    if (statSync(path).size > MAX_BYTES) return bad('is larger than 1 MiB', 'give the right file with --config');
    text = readFileSync(path, 'utf8');
  } catch (error) {
    return bad(
      `cannot be read: ${(error as NodeJS.ErrnoException).code}`,
      'give an existing, readable file with --config, or leave --config out',
    );
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `:${line}:${col}`;
  };
  if (document.errors.length > 0) {
    return {
      value: {},
      problems: document.errors.map((error) => ({
        source: `${path}${at(error.pos[0])}`,
        field: '',
        cause: `is not YAML: ${yamlCauses[error.code] ?? error.code.toLowerCase().replaceAll('_', ' ')}`,
        cure: 'mend the line; indent with blanks',
      })),
      locate: () => '',
    };
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 20 });
  } catch {
    return bad('repeats aliases too often', 'write the values out');
  }
  return {
    // An empty file, or one with comments alone, says nothing.
    value: value ?? {},
    problems: [],
    locate(keys) {
      for (let depth = keys.length; depth > 0; depth--) {
        const parent = depth === 1 ? document.contents : document.getIn(keys.slice(0, depth - 1), true);
        const pair = isMap(parent) ? parent.items.find((item) => String(item.key) === String(keys[depth - 1])) : undefined;
        const range = (pair?.key as { range?: [number, number, number] } | undefined)?.range;
        if (range) return at(range[0]);
      }
      return '';
    },
  };
}

const yamlCauses: Record<string, string> = {
  DUPLICATE_KEY: 'a key stands there twice',
  TAB_AS_INDENT: 'a tab indents',
  BAD_INDENT: 'wrong indentation',
  BAD_ALIAS: 'an alias without its anchor',
};
