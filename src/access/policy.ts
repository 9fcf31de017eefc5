// A policy: what roles may do, and who has them. What nobody was given is denied. Pure.
//
// A call is allowed when one role of the caller allows all of it: two roles do not add up to a third, which nobody wrote.

import { glob } from '../flow/glob.ts';
import { networkOf, type Prefix, parsePrefix } from '../resource/inet.ts';
import type { Caller } from './caller.ts';
import { type Demand, OWN_NAMESPACE } from './demands.ts';
import { methodsOf } from './methods.ts';

/** A role as the file has it, every list as it stands there; one that is left out is empty. */
export interface RoleSpec {
  /** See `methodsOf`. */
  readonly methods: readonly string[];
  /** Patterns of names in which `*` stands for any characters, also none. */
  readonly interfaces?: readonly string[] | undefined;
  readonly links?: readonly string[] | undefined;
  readonly bridges?: readonly string[] | undefined;
  /** `self` is the agent's own, and all that there is when nothing is given. */
  readonly namespaces?: readonly string[] | undefined;
  /** Prefixes, or `*`; what is asked for must lie in one of them whole. */
  readonly addresses?: readonly string[] | undefined;
  readonly routes?: readonly string[] | undefined;
  readonly peers?: readonly string[] | undefined;
  /** See USES. */
  readonly may?: readonly string[] | undefined;
}

/** Who somebody is. Of users and groups the numbers, as they were when the file was read. */
export type Identity =
  | { readonly kind: 'uid'; readonly uid: number }
  /** Whoever has the group as that of the process, and the users that are members of it. */
  | { readonly kind: 'gid'; readonly gid: number; readonly members: readonly number[] }
  | { readonly kind: 'spiffe'; readonly uri: string }
  | { readonly kind: 'dns'; readonly name: string }
  | { readonly kind: 'loopback' };

export interface PolicySpec {
  readonly roles: Readonly<Record<string, RoleSpec>>;
  readonly identities: readonly { readonly who: Identity; readonly roles: readonly string[] }[];
}

export interface Role {
  readonly name: string;
  readonly methods: ReadonlySet<string>;
  /** Whether it sees every interface and link that there is or will be. */
  readonly isUnlimited: boolean;
  /** Whether it may touch this. */
  allows(demand: Pick<Demand, 'kind' | 'value'>): boolean;
}

export interface Policy {
  readonly roles: readonly Role[];
  /** In the order of the policy; none for a stranger. The same caller gets the same array. */
  rolesOf(caller: Caller): readonly Role[];
}

/** Throws a plain Error for a spec that was not checked: an identity with a role that there is not. */
export function compilePolicy({ roles, identities }: PolicySpec): Policy {
  const compiled = new Map(Object.entries(roles).map(([name, spec]) => [name, compileRole(name, spec)]));
  const known = new WeakMap<Caller, readonly Role[]>();
  const find = (name: string): Role => {
    const role = compiled.get(name);
    if (role === undefined) throw new Error(`compile policy: there is no role ${name}`);
    return role;
  };
  const given = identities.map(({ who, roles: names }) => ({ is: matcherOf(who), roles: names.map(find) }));
  const all = [...compiled.values()];
  return {
    roles: all,
    rolesOf(caller) {
      let found = known.get(caller);
      if (found === undefined) {
        const has = new Set(given.filter(({ is }) => is(caller)).flatMap(({ roles: some }) => some));
        found = all.filter((role) => has.has(role));
        known.set(caller, found);
      }
      return found;
    },
  };
}

function matcherOf(who: Identity): (caller: Caller) => boolean {
  switch (who.kind) {
    case 'uid':
      return (caller) => caller.kind === 'unix' && caller.uid === who.uid;
    case 'gid': {
      const members = new Set(who.members);
      return (caller) => caller.kind === 'unix' && (caller.gid === who.gid || members.has(caller.uid));
    }
    case 'spiffe':
      return (caller) => caller.kind === 'tls' && caller.uris.includes(who.uri);
    case 'dns': {
      const name = who.name.toLowerCase();
      return (caller) => caller.kind === 'tls' && caller.dnsNames.includes(name);
    }
    case 'loopback':
      return (caller) => caller.kind === 'loopback';
  }
}

type Test = (value: string) => boolean;

/** A role as look-ups. What `spec` does not name is not allowed, but for namespaces: without any it is the agent's own. */
export function compileRole(name: string, spec: RoleSpec): Role {
  const methods = new Set(spec.methods.flatMap(methodsOf));
  const addresses = within(spec.addresses);
  const routes = within(spec.routes);
  const tests: Record<Demand['kind'], Test> = {
    interface: oneOf(spec.interfaces),
    link: oneOf(spec.links),
    bridge: oneOf(spec.bridges),
    namespace: oneOf(spec.namespaces ?? [OWN_NAMESPACE]),
    address: addresses,
    route: routes,
    inner: (value) => addresses(value) || routes(value),
    peer: within(spec.peers),
    use: (value) => spec.may?.includes(value) === true || spec.may?.includes('*') === true,
    method: (value) => methods.has(value),
  };
  const sees = (patterns: readonly string[] | undefined) => patterns?.includes('*') === true;
  return {
    name,
    methods,
    isUnlimited: sees(spec.interfaces) && sees(spec.links),
    allows: ({ kind, value }) => tests[kind](value),
  };
}

/** `%d` is whatever number the agent takes: only a star covers all of them. No name holds this character. */
const ANY_NUMBER = '\u0001';

function oneOf(patterns: readonly string[] = []): Test {
  const globs = patterns.map(glob);
  return (value) => {
    const name = value.replaceAll('%d', ANY_NUMBER);
    return globs.some((matches) => matches(name));
  };
}

function within(cidrs: readonly string[] = []): Test {
  if (cidrs.includes('*')) return () => true;
  const allowed = cidrs.flatMap((cidr) => {
    const prefix = parsePrefix(cidr);
    return prefix === undefined ? [] : [{ ...prefix, bytes: networkOf(prefix) }];
  });
  return (value) => {
    const prefix = parsePrefix(value);
    return prefix !== undefined && allowed.some((outer) => covers(outer, prefix));
  };
}

/** Whether all of `inner` lies in `outer`, whose host bits are clear. */
function covers(outer: Prefix, inner: Prefix): boolean {
  if (outer.bytes.length !== inner.bytes.length || inner.prefixLength < outer.prefixLength) return false;
  const whole = outer.prefixLength >> 3;
  if (inner.bytes.compare(outer.bytes, 0, whole, 0, whole) !== 0) return false;
  const rest = outer.prefixLength & 7;
  return rest === 0 || (((inner.bytes[whole] as number) ^ (outer.bytes[whole] as number)) & (0xff00 >> rest) & 0xff) === 0;
}
