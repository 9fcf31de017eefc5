// Every call of a log in the sources: it names only fields of the vocabulary, says them in an object literal, and has a message without values.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LOG_FIELDS } from '../../src/agent/log.ts';

const ROOT = join(import.meta.dirname, '../..');

interface LogCall {
  place: string;
  fields: string;
  message: string;
}

const CALL = /(?:^|[\s.(#?])(?:log|#log)(?:\.(?:debug|info|warn|error)|\[level\])(?:\?\.)?\(/g;

/** The calls of one file. Written for the way this tree is formatted. */
function callsIn(path: string, text: string): LogCall[] {
  const code = text.replaceAll(/^\s*(?:\/\/|\*|\/\*\*).*$/gm, '');
  return [...code.matchAll(CALL)].flatMap((match) => {
    const start = match.index + match[0].length;
    const inside = argumentsFrom(code, start);
    const place = `${path}: ${inside.slice(0, 60).replaceAll(/\s+/g, ' ')}`;
    const [fields = '', message = ''] = split(inside);
    return [{ place, fields: fields.trim(), message: message.trim() }];
  });
}

/** Up to the bracket that closes the call. */
function argumentsFrom(code: string, start: number): string {
  let depth = 1;
  for (let at = start; at < code.length; at++) {
    if ('([{'.includes(code[at] as string)) depth++;
    else if (')]}'.includes(code[at] as string) && --depth === 0) return code.slice(start, at);
  }
  return code.slice(start);
}

/** At the commas of the outermost level. */
function split(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let from = 0;
  let quote = '';
  for (let at = 0; at < text.length; at++) {
    const character = text[at] as string;
    if (quote !== '') quote = character === quote ? '' : quote;
    else if ('\'"`'.includes(character)) quote = character;
    else if ('([{'.includes(character)) depth++;
    else if (')]}'.includes(character)) depth--;
    else if (character === ',' && depth === 0) {
      parts.push(text.slice(from, at));
      from = at + 1;
    }
  }
  return [...parts, text.slice(from)].filter((part) => part.trim() !== '');
}

/** Names of the fields of an object literal; a spread is looked into where it is one too, and else told as `...what`. */
function fieldsOf(literal: string): string[] {
  if (!literal.startsWith('{')) return [`not a literal: ${literal}`];
  return split(literal.slice(1, -1)).flatMap((part) => {
    const text = part.trim();
    if (!text.startsWith('...')) return [/^\w+/.exec(text)?.[0] ?? text];
    return [...text.matchAll(/\{\s*(\w+)\s*[:}]/g)].map(([, name = '']) => name);
  });
}

// Literals that are made elsewhere, with what they are made of.
const MADE: Record<string, string[]> = {
  // agent/closing-stack.ts
  fields: ['step', 'duration_ms'],
  // agent/command.ts
  'startFailure(error)': ['reason', 'error', 'cure', 'details'],
};

const NOT_OURS = /^src\/(gen|cli)\//;
const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => `src/${path}`)
  .filter((path) => !NOT_OURS.test(path));
// The log itself only passes on what it is given.
const calls = files.filter((path) => path !== 'src/agent/log.ts').flatMap((path) => callsIn(path, readFileSync(join(ROOT, path), 'utf8')));

test('calls are found, with their fields', () => {
  expect(calls.length).toBeGreaterThan(50);
  const [call] = callsIn('a.ts', "log.warn({ interface: entry.name, ...(a ? { cure } : {}), steps: [1, 2] }, 'is, so');");
  expect(fieldsOf(call?.fields ?? '')).toEqual(['interface', 'cure', 'steps']);
  expect(call?.message).toBe("'is, so'");
});

test('fields are those of the vocabulary, and messages hold no value', () => {
  const violations = calls.flatMap(({ place, fields, message }) => {
    const names = MADE[fields] ?? fieldsOf(fields);
    const strange = names.filter((name) => !(name in LOG_FIELDS)).map((name) => `${place}: field ${name}`);
    return message.includes('${') ? [...strange, `${place}: message with a value`] : strange;
  });
  expect(violations).toEqual([]);
});

test('no field is left that nobody says', () => {
  const said = new Set(calls.flatMap(({ fields }) => MADE[fields] ?? fieldsOf(fields)));
  expect(Object.keys(LOG_FIELDS).filter((name) => !said.has(name))).toEqual([]);
});

test('docs/operations.md has the vocabulary as it is', () => {
  const rows = Object.entries(LOG_FIELDS).map(([name, meaning]) => `| \`${name}\` | ${meaning} |`);
  expect(readFileSync(join(ROOT, 'docs/operations.md'), 'utf8')).toContain(['| field | |', '| --- | --- |', ...rows].join('\n'));
});
