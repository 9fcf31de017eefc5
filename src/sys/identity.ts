// Names of users and groups of the node, from its local databases (passwd(5), group(5)).

import { readFileSync } from 'node:fs';

const databases = { user: '/etc/passwd', group: '/etc/group' } as const;
const MAX_ID = 0xfffffffe;

/** Numeric id of a user or group, given by name or as a decimal number; undefined when there is none. */
export function resolveId(kind: 'user' | 'group', nameOrId: string): number | undefined {
  if (/^\d{1,10}$/.test(nameOrId)) {
    const id = Number(nameOrId);
    return id <= MAX_ID ? id : undefined;
  }
  let database: string;
  try {
    database = readFileSync(databases[kind], 'utf8');
  } catch {
    return undefined; // images without such a file know numbers only
  }
  for (const line of database.split('\n')) {
    const [name, , id] = line.split(':');
    if (name === nameOrId && id !== undefined && /^\d+$/.test(id)) return Number(id);
  }
  return undefined;
}
