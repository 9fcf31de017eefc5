// Decides whether a caller may make a call, and what of the answers it may see. Touches nothing, waits for nothing.
//
// The decision rests on the request alone: a name that a caller may not touch is denied whether it exists or not, so that nobody can ask for what
// others have. Without a policy the local socket and, where it was asked for, loopback may do everything, since the mode of the socket and the flag
// are their gates; a certificate alone opens nothing.

import { TaplaneError } from '../errors.ts';
import { type Caller, callerName } from './caller.ts';
import { ANYWHERE, type Demand, type DemandKind } from './demands.ts';
import { METHODS, shortName } from './methods.ts';
import type { Policy, Role } from './policy.ts';

/** What a caller may see in the answers of one method. Asks the policy that is in force at the moment, also in the middle of a watch. */
export interface Scope {
  /** False where everything is seen: nothing needs to be left out. */
  readonly isLimited: boolean;
  /** By id, without `interfaces/`. */
  interface(id: string): boolean;
  /** By id, without `links/`. */
  link(id: string): boolean;
  /** Whether this link may take whoever connects. Asked where that follows from what the link was before, which the request alone does not tell. */
  anyPeer(id: string): boolean;
  /** Whether mark and device of the sockets of this link may change; clearing one is a change that the request alone does not tell either. */
  underlay(id: string): boolean;
}

export const EVERYTHING: Scope = { isLimited: false, interface: () => true, link: () => true, anyPeer: () => true, underlay: () => true };
export const NOTHING: Scope = { isLimited: true, interface: () => false, link: () => false, anyPeer: () => false, underlay: () => false };

export interface AuthorizedCall {
  /** `/taplane.v1.InterfaceService/CreateInterface` */
  readonly path: string;
  readonly caller: Caller;
  /** Decoded. */
  readonly request: unknown;
}

export interface Authorizer {
  /** Throws TaplaneError PERMISSION_DENIED. */
  authorize(call: AuthorizedCall): void;
  /** The same for what a call would touch, where there is no request. */
  decide(path: string, caller: Caller, demands: readonly Demand[]): void;
  scopeOf(path: string, caller: Caller): Scope;
  /** Names of the roles that the caller has; none without a policy. */
  rolesOf(caller: Caller): string[];
}

const DENIED: Record<DemandKind, { reason: string; noun: string }> = {
  interface: { reason: 'INTERFACE_DENIED', noun: 'interface' },
  link: { reason: 'LINK_DENIED', noun: 'link' },
  bridge: { reason: 'BRIDGE_DENIED', noun: 'bridge' },
  namespace: { reason: 'NAMESPACE_DENIED', noun: 'network namespace' },
  address: { reason: 'ADDRESS_DENIED', noun: 'address' },
  route: { reason: 'ROUTE_DENIED', noun: 'route to' },
  inner: { reason: 'ROUTE_DENIED', noun: 'route to' },
  peer: { reason: 'PEER_DENIED', noun: 'peer' },
  use: { reason: 'USE_DENIED', noun: 'use' },
  method: { reason: 'METHOD_DENIED', noun: 'method' },
};
/** Longest value that a message repeats, characters. */
const VALUE_MOST = 64;

/** `policy` answers what is in force; undefined where there is none. */
export function authorizer(policy: () => Policy | undefined): Authorizer {
  const scopeOf = (path: string, caller: Caller): Scope => {
    const rolesNow = (): readonly Role[] | undefined => policy()?.rolesOf(caller);
    const may =
      (kind: 'interface' | 'link', more: readonly Pick<Demand, 'kind' | 'value'>[] = []) =>
      (id: string) => {
        const roles = rolesNow();
        const all = [{ kind, value: id }, ...more];
        return roles === undefined || roles.some((role) => role.methods.has(path) && all.every((demand) => role.allows(demand)));
      };
    return {
      get isLimited() {
        const roles = rolesNow();
        return roles !== undefined && !roles.some((role) => role.isUnlimited && role.methods.has(path));
      },
      interface: may('interface'),
      link: may('link'),
      anyPeer: may('link', ANYWHERE),
      underlay: may('link', [{ kind: 'use', value: 'underlay' }]),
    };
  };
  const decide = (path: string, caller: Caller, demands: () => readonly Demand[]): void => {
    if (METHODS[path]?.everybody === true) return;
    const current = policy();
    if (current === undefined) {
      if (caller.kind === 'tls') throw noPolicy(path, caller);
      return;
    }
    const roles = current.rolesOf(caller);
    const fitting = roles.filter((role) => role.methods.has(path));
    if (fitting.length === 0) throw denied(path, caller, roles);
    const wanted = demands();
    let furthest = -1;
    for (const role of fitting) {
      const at = wanted.findIndex((demand) => !role.allows(demand));
      if (at < 0) return;
      furthest = Math.max(furthest, at);
    }
    throw denied(path, caller, roles, wanted[furthest]);
  };
  return {
    // A method without a rule is in no role, so that its demands are never asked for.
    authorize: ({ path, caller, request }) => decide(path, caller, () => METHODS[path]?.demands(request) ?? []),
    decide: (path, caller, demands) => decide(path, caller, () => demands),
    scopeOf,
    rolesOf: (caller) => (policy()?.rolesOf(caller) ?? []).map(({ name }) => name),
  };
}

function noPolicy(path: string, caller: Caller): TaplaneError {
  const cure = 'start the agent with a policy that gives this caller a role: --policy FILE, or TAPLANE_POLICY_FILE';
  return new TaplaneError(
    'PERMISSION_DENIED',
    'POLICY_MISSING',
    `call ${shortName(path)} as ${callerName(caller)}: the agent has no policy, and without one a certificate opens nothing; ${cure}`,
    { metadata: { caller: callerName(caller), method: shortName(path) } },
  );
}

/** Says what the caller asked and which roles it has, and nothing of what others have or what there is. */
function denied(path: string, caller: Caller, roles: readonly Role[], demand?: Demand): TaplaneError {
  const names = roles.map(({ name }) => name).join(',');
  const who = callerName(caller);
  const has = names === '' ? 'it has no role' : `not allowed by ${roles.length > 1 ? 'any of its roles' : 'its role'} ${names}`;
  const method = shortName(path);
  const metadata = { caller: who, method, roles: names };
  if (demand === undefined) return new TaplaneError('PERMISSION_DENIED', 'METHOD_DENIED', `call ${method} as ${who}: ${has}`, { metadata });
  const { reason, noun } = DENIED[demand.kind];
  const asked = demand.kind === 'method' ? shortName(demand.value) : demand.value.slice(0, VALUE_MOST);
  const description = `${noun} '${asked}' is ${has}`;
  return new TaplaneError('PERMISSION_DENIED', reason, `call ${method} as ${who}: ${demand.field}: ${description}`, {
    fields: [{ field: demand.field, description }],
    metadata: { ...metadata, field: demand.field, asked },
  });
}
