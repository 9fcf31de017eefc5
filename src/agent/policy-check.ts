// `taplane policy check` and `taplane policy test`: a file judged without an agent, by the same code that an agent judges it with.

import { authorizer } from '../access/authorize.ts';
import type { Caller } from '../access/caller.ts';
import { addressDemands, type Demand, interfaceDemand, linkDemand, USES, type Use } from '../access/demands.ts';
import { METHODS, methodsOf, shortName } from '../access/methods.ts';
import { TaplaneError } from '../errors.ts';
import type { ConfigProblem } from './config/error.ts';
import { readAccounts } from './policy/accounts.ts';
import { readPolicyFile } from './policy/file.ts';

export interface PolicyReport {
  problems: ConfigProblem[];
  version: string;
  roles: number;
  identities: number;
}

/** What is asked of a policy; every text as it was typed. */
export interface PolicyQuestion {
  /** `uid:1000`, `user:NAME`, `spiffe://...`, `dns:NAME` or `loopback`. */
  caller: string;
  /** `InterfaceService/CreateInterface` */
  method: string;
  interface?: string;
  link?: string;
  address?: string;
  route?: string;
  peer?: string;
  use?: string;
}

export interface PolicyVerdict {
  allowed: boolean;
  /** Of the denial; empty when it is allowed. */
  reason: string;
  message: string;
  roles: string[];
}

/** What an agent would say of the file; `problems` is empty for a good one. Never throws. */
export function checkPolicy(path: string): PolicyReport {
  const { problems, version, roles, identities } = readPolicyFile(path);
  return { problems, version, roles, identities };
}

/** A text instead of a verdict says what is wrong with the question. */
export function testPolicy(path: string, question: PolicyQuestion): PolicyVerdict | { problems: ConfigProblem[] } | string {
  const { policy, problems } = readPolicyFile(path);
  if (policy === undefined) return { problems };
  const caller = callerOf(question.caller);
  if (caller === undefined)
    return `--caller '${question.caller}' is no caller: write uid:NUMBER, user:NAME, spiffe://..., dns:NAME or loopback`;
  const [method, ...more] = methodsOf(question.method);
  if (method === undefined || more.length > 0)
    return `--method '${question.method}' is no method: write one such as ${shortName(Object.keys(METHODS)[0] ?? '')}`;
  if (question.use !== undefined && !Object.hasOwn(USES, question.use)) return `--use is one of ${Object.keys(USES).join(', ')}`;
  const roles = policy.rolesOf(caller).map(({ name }) => name);
  try {
    authorizer(() => policy).decide(method, caller, [...ownDemands(method), ...demandsOf(question)]);
    return { allowed: true, reason: '', message: 'allowed', roles };
  } catch (error) {
    if (!(error instanceof TaplaneError)) throw error;
    return { allowed: false, reason: error.reason, message: error.message, roles };
  }
}

/** What the method needs whatever is asked. */
function ownDemands(method: string): Demand[] {
  const rule = METHODS[method];
  return rule?.fixed === true ? rule.demands(undefined) : [];
}

function demandsOf({ interface: name, link, address, route, peer, use }: PolicyQuestion): Demand[] {
  return [
    ...(name === undefined ? [] : [interfaceDemand(name, '--interface')]),
    ...(link === undefined ? [] : [linkDemand(link, '--link')]),
    ...(address === undefined
      ? []
      : addressDemands({ cidr: address, peer: '', scope: 0, validLifetime: 0 }, '').map((demand) => ({ ...demand, field: '--address' }))),
    ...(route === undefined ? [] : [{ kind: 'route', value: route, field: '--route' } as const]),
    ...(peer === undefined ? [] : [{ kind: 'peer', value: peer, field: '--peer' } as const]),
    ...(use === undefined ? [] : [{ kind: 'use', value: use as Use, field: '--use' } as const]),
  ];
}

/** With the group that the process of a user would have, which is not known here: none. Members of groups count. */
function callerOf(text: string): Caller | undefined {
  if (text === 'loopback') return { kind: 'loopback', address: '' };
  const [kind, rest = ''] = [text.slice(0, text.indexOf(':')), text.slice(text.indexOf(':') + 1)];
  const tls = { kind: 'tls', uris: [] as string[], dnsNames: [] as string[], fingerprint: '', address: '' } as const;
  if (kind === 'spiffe') return { ...tls, uris: [text] };
  if (kind === 'dns' && rest !== '') return { ...tls, dnsNames: [rest.toLowerCase()] };
  const uid = kind === 'uid' && /^\d{1,10}$/.test(rest) ? Number(rest) : kind === 'user' ? readAccounts().uid(rest) : undefined;
  return uid === undefined ? undefined : { kind: 'unix', uid, gid: -1, pid: 0 };
}
