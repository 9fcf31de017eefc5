// Reads TAPLANE_* variables: TAPLANE_STATE_DIR, TAPLANE_LIMITS_INTERFACES, ... A list is separated with commas.
// An empty variable says nothing, as a manifest with an unset value leaves it.

import { fieldPaths } from './config-schema.ts';

export interface Environment {
  value: Record<string, unknown>;
  /** The variable that a path came from. */
  variable(keys: PropertyKey[]): string;
}

export function readEnvironment(env: NodeJS.ProcessEnv): Environment {
  const value: Record<string, unknown> = {};
  for (const path of fieldPaths) {
    const text = env[variable(path)];
    if (text === undefined || text.trim() === '') continue;
    const [outer, inner] = path as [string, string?];
    if (inner === undefined) value[outer] = typed(outer, text.trim());
    else value[outer] = { ...(value[outer] as object | undefined), [inner]: typed(inner, text.trim()) };
  }
  return { value, variable };
}

function variable(keys: PropertyKey[]): string {
  const names = keys.filter((key) => typeof key === 'string').map((key) => key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase());
  return ['TAPLANE', ...names].join('_');
}

/** Text stays text where it is not clearly more; the schema then says what is wrong with it. */
function typed(field: string, text: string): unknown {
  if (field === 'listen') return text.split(',').map((part) => part.trim());
  if (['insecureLoopback', 'allowDefaultRoutes'].includes(field))
    return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text;
  if (['lanes', 'interfaces', 'watchers', 'messageBytes', 'streamsPerConnection'].includes(field))
    return /^\d{1,15}$/.test(text) ? Number(text) : text;
  return text;
}
