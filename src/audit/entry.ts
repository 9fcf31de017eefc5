// What is written down of a call, and of which calls: of each that changes something or wants to, and of each that is refused. Pure.

import { type Caller, callerName } from '../access/caller.ts';
import { METHODS } from '../access/methods.ts';
import type { Entry } from './record.ts';
import { digestOf, resourcesOf, summaryOf } from './summary.ts';

const TEXT_MOST = 256;
const ROLES_MOST = 32;

/** Whether a call is one that may change something. A method that nobody has said anything of may. */
export function isChange(path: string): boolean {
  return METHODS[path]?.access !== 'read';
}

/** Whether a call that ended with `code` is written down. */
export function isAudited(path: string, code: string): boolean {
  return isChange(path) || code === 'PERMISSION_DENIED' || code === 'UNAUTHENTICATED';
}

export interface Call {
  readonly path: string;
  readonly caller: Caller;
  readonly request: unknown;
}

/** The record of a call that ended so: `atMs` since 1970. Bounded, whatever the call holds. */
export function entryOf(
  { path, caller, request }: Call,
  { code, reason }: { code: string; reason: string },
  times: { atMs: number; durationMs: number },
  roles: readonly string[],
): Entry {
  return {
    time: new Date(times.atMs).toISOString(),
    caller: callerEntry(caller),
    method: path.slice(0, TEXT_MOST),
    resources: resourcesOf(request),
    code,
    reason,
    durationMs: Math.round(times.durationMs * 1000) / 1000,
    digest: digestOf(path, request),
    request: summaryOf(request),
    ...(roles.length > 0 ? { roles: roles.slice(0, ROLES_MOST).map((role) => role.slice(0, TEXT_MOST)) } : {}),
  };
}

function callerEntry(caller: Caller): Entry['caller'] {
  const { kind } = caller;
  const name = callerName(caller).slice(0, TEXT_MOST * 2);
  if (caller.kind === 'unix') return { name, kind, uid: caller.uid, gid: caller.gid, pid: caller.pid };
  const address = caller.address.slice(0, TEXT_MOST);
  return caller.kind === 'tls' ? { name, kind, fingerprint: caller.fingerprint, address } : { name, kind, address };
}
