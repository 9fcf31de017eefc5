// Reads TAPLANE_* variables: TAPLANE_STATE_DIR, TAPLANE_FLOWS_STREAM_REPLICAS, ... A list is separated with commas.
// An empty variable says nothing, as a manifest with an unset value leaves it.

import { type Field, fields } from './schema.ts';

export interface Environment {
  value: Record<string, unknown>;
  /** The variable that a path came from. */
  variable(keys: PropertyKey[]): string;
}

/** The layer of TAPLANE_* variables; values are as typed as their text allows, and judged by the schema. Never throws. */
export function readEnvironment(env: NodeJS.ProcessEnv): Environment {
  const value: Record<string, unknown> = {};
  for (const { path, kind } of fields) {
    const text = env[variable(path)];
    if (text === undefined || text.trim() === '') continue;
    let section = value;
    for (const key of path.slice(0, -1)) section = section[key] = (section[key] ?? {}) as Record<string, unknown>;
    section[path.at(-1) as string] = typed(kind, text.trim());
  }
  return { value, variable };
}

function variable(keys: PropertyKey[]): string {
  const names = keys.filter((key) => typeof key === 'string').map((key) => key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase());
  return ['TAPLANE', ...names].join('_');
}

/** Text stays text where it is not clearly more; the schema then says what is wrong with it. */
function typed(kind: Field['kind'], text: string): unknown {
  switch (kind) {
    case 'list':
      return text.split(',').map((part) => part.trim());
    case 'boolean':
      return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text;
    case 'number':
      return /^\d{1,16}$/.test(text) ? Number(text) : text;
    default:
      return text;
  }
}
