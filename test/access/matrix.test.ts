// Every method of the descriptors x every role x what is one's own and what is not, against an oracle that knows nothing of the code: it reads the
// role by plain comparisons, and of the request only what a person has written beside it.

import { performance } from 'node:perf_hooks';
import { describe, expect, it } from 'vitest';
import { authorizer } from '../../src/access/authorize.ts';
import type { Caller } from '../../src/access/caller.ts';
import { USES } from '../../src/access/demands.ts';
import { METHODS } from '../../src/access/methods.ts';
import { compilePolicy, type RoleSpec } from '../../src/access/policy.ts';
import { TaplaneError } from '../../src/errors.ts';
import { bound } from '../harness/bound.ts';
import { describedMethods } from './descriptors.ts';
import { CASES, type Case } from './requests.ts';

const OWN: Omit<RoleSpec, 'methods'> = {
  interfaces: ['own-*'],
  links: ['own-*'],
  bridges: ['br-own'],
  namespaces: ['self', 'own-ns'],
  addresses: ['10.1.0.0/16', 'fd01::/32'],
  routes: ['10.2.0.0/16'],
  peers: ['192.0.2.0/24'],
};
const ALL: Omit<RoleSpec, 'methods'> = {
  interfaces: ['*'],
  links: ['*'],
  bridges: ['*'],
  namespaces: ['*'],
  addresses: ['*'],
  routes: ['*'],
  peers: ['*'],
  may: ['*'],
};
const SERVICES = ['Interface', 'Responder', 'Link', 'Packet', 'Flow', 'Node', 'Audit'];

const ROLES: Record<string, RoleSpec> = {
  operator: { methods: ['*'], ...ALL },
  viewer: { methods: ['read'], ...ALL },
  changer: { methods: ['write'], ...ALL },
  tenant: { methods: ['*'], ...OWN },
  'tenant-reader': { methods: ['read'], ...OWN },
  'tenant-writer': { methods: ['write'], ...OWN },
  empty: { methods: ['*'] },
  ...Object.fromEntries(Object.keys(USES).map((use) => [`may-${use}`, { methods: ['*'], ...OWN, may: [use] }])),
  ...Object.fromEntries(
    SERVICES.map((service) => [`of-${service.toLowerCase()}`, { methods: [`${service}Service/*`], ...OWN, may: ['*'] }]),
  ),
  single: { methods: ['InterfaceService/UpdateInterface', 'LinkService/UpdateLink'], ...OWN, may: ['*'] },
};
const names = Object.keys(ROLES);
const uidOf = (role: string): number => 1000 + names.indexOf(role);
const unix = (uid: number): Caller => ({ kind: 'unix', uid, gid: uid, pid: 1 });
const policy = compilePolicy({
  roles: ROLES,
  identities: [
    ...names.map((role) => ({ who: { kind: 'uid', uid: uidOf(role) } as const, roles: [role] })),
    // Together they would allow what neither does.
    { who: { kind: 'uid', uid: 500 }, roles: ['tenant-reader', 'changer'] },
  ],
});
const gate = authorizer(() => policy);

/** Undefined: allowed. */
function reasonOf(path: string, uid: number, request: unknown): string | undefined {
  try {
    gate.authorize({ path, caller: unix(uid), request });
    return undefined;
  } catch (error) {
    if (!(error instanceof TaplaneError) || error.code !== 'PERMISSION_DENIED') throw error;
    return error.reason;
  }
}

const READS = /\/(Get|List|Watch|Observe|Capture|Verify)/;

/** A person's reading of a role, without globs, prefixes or tables. */
function isAllowed(path: string, name: string, { label, foreign, needs, alsoCalls }: Case): boolean {
  if (path.endsWith('/GetCaller')) return true;
  const { methods, interfaces, may = [] } = ROLES[name] as RoleSpec;
  const calls = (method: string): boolean =>
    // The audit log has to be named.
    (!method.includes('.AuditService/') && (methods[0] === '*' || methods[0] === (READS.test(method) ? 'read' : 'write'))) ||
    method.startsWith(`/taplane.v1.${String(methods[0]).replace('/*', '/')}`) ||
    methods.some((one) => method === `/taplane.v1.${one}`);
  if (!calls(path) || (alsoCalls !== undefined && !calls(alsoCalls))) return false;
  if (interfaces?.[0] === '*') return true;
  const touchesNothing = ['all', 'not opened'].includes(label);
  return (
    touchesNothing ||
    (interfaces !== undefined && foreign === undefined && (needs === undefined || may.includes('*') || may.includes(needs)))
  );
}

describe('the table', () => {
  it('has a rule, and cases here, for each method of the descriptors, and no others', () => {
    const described = describedMethods().sort();
    expect(described.length).toBeGreaterThan(25);
    expect(Object.keys(METHODS).sort()).toEqual(described);
    expect(Object.keys(CASES).sort()).toEqual(described);
  });

  it('reads and writes as the names of methods say', () => {
    for (const [path, { access }] of Object.entries(METHODS))
      expect(`${path} ${access}`).toBe(`${path} ${READS.test(path) ? 'read' : 'write'}`);
  });
});

describe('method x role x resource', () => {
  it.each(describedMethods())('%s', (path) => {
    const wrong: string[] = [];
    for (const one of CASES[path] ?? []) {
      const asTenant = reasonOf(path, uidOf('tenant'), one.request);
      if (one.foreign?.includes('_') && asTenant !== one.foreign) wrong.push(`${one.label} is ${asTenant}, not ${one.foreign}`);
      for (const role of names) {
        const reason = reasonOf(path, uidOf(role), one.request);
        if ((reason === undefined) !== isAllowed(path, role, one)) wrong.push(`${one.label} as ${role} is ${reason ?? 'allowed'}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('of strangers allows who they are alone', () => {
    for (const [path, cases] of Object.entries(CASES))
      for (const { request } of cases) expect(reasonOf(path, 7, request)).toBe(path.endsWith('/GetCaller') ? undefined : 'METHOD_DENIED');
  });

  it('of the whole node needs the use node, whatever else a role may', () => {
    const may = Object.keys(USES).filter((use) => use !== 'node');
    const calls = [
      'AuditService/ListAuditRecords',
      'AuditService/VerifyAuditLog',
      'NodeService/SetLogLevel',
      'NodeService/CollectSupportBundle',
    ];
    const roles = { without: { methods: calls, ...ALL, may }, with: { methods: calls, ...ALL, may: ['node'] } };
    const identities = Object.keys(roles).map((role, uid) => ({ who: { kind: 'uid', uid } as const, roles: [role] }));
    const { authorize } = authorizer(() => compilePolicy({ roles, identities }));
    for (const call of calls) {
      const ask = (uid: number) => () => authorize({ path: `/taplane.v1.${call}`, caller: unix(uid), request: {} });
      expect(ask(0), call).toThrow(expect.objectContaining({ reason: 'USE_DENIED' }));
      expect(ask(1), call).not.toThrow();
    }
  });

  it('does not add two roles up', () => {
    const path = '/taplane.v1.InterfaceService/GetInterface';
    expect(reasonOf(path, 500, { name: 'interfaces/own-0' })).toBeUndefined();
    expect(reasonOf(path, 500, { name: 'interfaces/other0' })).toBe('INTERFACE_DENIED');
    expect(reasonOf('/taplane.v1.InterfaceService/DeleteInterface', 500, { name: 'interfaces/other0' })).toBeUndefined();
  });

  it('takes what is left out of a new interface as its usual value', () => {
    const elsewhere = compilePolicy({
      roles: { a: { methods: ['*'], ...OWN, namespaces: ['own-ns'] } },
      identities: [{ who: { kind: 'loopback' }, roles: ['a'] }],
    });
    const [create, update] = ['/taplane.v1.InterfaceService/CreateInterface', '/taplane.v1.InterfaceService/UpdateInterface'] as const;
    const ask = (path: string): void => {
      const plain = CASES[path]?.find(({ label }) => label === 'plain');
      authorizer(() => elsewhere).authorize({ path, caller: { kind: 'loopback', address: '' }, request: plain?.request });
    };
    expect(() => ask(create)).toThrow(/interface\.spec\.network_namespace: network namespace 'self'/);
    expect(() => ask(update)).not.toThrow();
  });

  it('denies a method that has no rule, also to who may do everything', () => {
    expect(reasonOf('/taplane.v1.NodeService/Reboot', uidOf('operator'), {})).toBe('METHOD_DENIED');
    expect(reasonOf('__proto__', uidOf('operator'), {})).toBe('METHOD_DENIED');
    expect(reasonOf('constructor', uidOf('operator'), {})).toBe('METHOD_DENIED');
  });
});

describe('a denial', () => {
  const asked = (name: string): TaplaneError => {
    try {
      gate.authorize({ path: '/taplane.v1.InterfaceService/GetInterface', caller: unix(uidOf('tenant')), request: { name } });
    } catch (error) {
      return error as TaplaneError;
    }
    throw new Error('was allowed');
  };

  it('says who asked what, where it stands, and which roles there are', () => {
    const { message, metadata, fields } = asked('interfaces/other0');
    expect(message).toBe("call InterfaceService/GetInterface as uid:1003: name: interface 'other0' is not allowed by its role tenant");
    expect(metadata).toEqual({
      caller: 'uid:1003',
      method: 'InterfaceService/GetInterface',
      roles: 'tenant',
      field: 'name',
      asked: 'other0',
    });
    expect(fields).toEqual([{ field: 'name', description: "interface 'other0' is not allowed by its role tenant" }]);
  });

  it('is the same for what is there and what is not', () => {
    const blank = (text: string, name: string): string => text.replaceAll(name, '?');
    expect(blank(asked('interfaces/other0').message, 'other0')).toBe(blank(asked('interfaces/nowhere').message, 'nowhere'));
  });
});

describe('without a policy', () => {
  const open = authorizer(() => undefined);
  const path = '/taplane.v1.InterfaceService/DeleteInterface';
  const tls: Caller = { kind: 'tls', uris: ['spiffe://a/b'], dnsNames: [], fingerprint: '', address: '' };

  it('socket and loopback may do everything', () => {
    expect(() => open.authorize({ path, caller: unix(1000), request: { name: 'x' } })).not.toThrow();
    expect(() => open.authorize({ path, caller: { kind: 'loopback', address: '' }, request: { name: 'x' } })).not.toThrow();
    expect(open.scopeOf(path, unix(1000))).toMatchObject({ isLimited: false });
  });

  it('a certificate may do nothing, and is told the cure', () => {
    expect(() => open.authorize({ path, caller: tls, request: { name: 'x' } })).toThrow(/spiffe:\/\/a\/b.*--policy FILE/);
    expect(() => open.authorize({ path: '/taplane.v1.NodeService/GetCaller', caller: tls, request: {} })).not.toThrow();
  });
});

describe('identities', () => {
  const who = (caller: Caller, ...identities: Parameters<typeof compilePolicy>[0]['identities'][number]['who'][]): boolean =>
    compilePolicy({ roles: { a: { methods: ['*'] } }, identities: identities.map((one) => ({ who: one, roles: ['a'] })) }).rolesOf(caller)
      .length > 0;
  const tls = (uris: string[], dnsNames: string[]): Caller => ({ kind: 'tls', uris, dnsNames, fingerprint: '', address: '' });

  it('are exact', () => {
    expect(who(unix(5), { kind: 'uid', uid: 5 })).toBe(true);
    expect(who(unix(55), { kind: 'uid', uid: 5 })).toBe(false);
    expect(who({ kind: 'unix', uid: 5, gid: 9, pid: 1 }, { kind: 'gid', gid: 9, members: [] })).toBe(true);
    expect(who(unix(5), { kind: 'gid', gid: 9, members: [4, 5] })).toBe(true);
    expect(who(unix(6), { kind: 'gid', gid: 9, members: [4, 5] })).toBe(false);
    const uri = 'spiffe://cluster.local/ns/net/sa/a';
    expect(who(tls([uri], []), { kind: 'spiffe', uri })).toBe(true);
    for (const other of [`${uri}b`, uri.slice(0, -1), uri.toUpperCase(), `${uri}/`])
      expect(who(tls([other], []), { kind: 'spiffe', uri })).toBe(false);
    expect(who(tls([], [uri]), { kind: 'spiffe', uri })).toBe(false);
    expect(who(tls([], ['a.net']), { kind: 'dns', name: 'A.net' })).toBe(true);
    expect(who(tls([], ['b.a.net']), { kind: 'dns', name: 'a.net' })).toBe(false);
    expect(who(tls(['a.net'], []), { kind: 'dns', name: 'a.net' })).toBe(false);
    expect(who({ kind: 'loopback', address: '' }, { kind: 'loopback' })).toBe(true);
    expect(who(unix(0), { kind: 'loopback' }, { kind: 'dns', name: 'a' })).toBe(false);
  });
});

describe('what answers hold', () => {
  it('follows the roles that allow the method, and the policy of the moment', () => {
    let current = policy;
    const changing = authorizer(() => current);
    const path = '/taplane.v1.InterfaceService/ListInterfaces';
    const scope = changing.scopeOf(path, unix(uidOf('tenant')));
    expect([scope.isLimited, scope.interface('own-1'), scope.interface('other0'), scope.link('own-1'), scope.link('x')]).toEqual([
      true,
      true,
      false,
      true,
      false,
    ]);
    expect(changing.scopeOf(path, unix(uidOf('operator'))).isLimited).toBe(false);
    const update = '/taplane.v1.LinkService/UpdateLink';
    expect(changing.scopeOf(update, unix(uidOf('tenant'))).anyPeer('own-1')).toBe(false);
    expect(changing.scopeOf(update, unix(uidOf('operator'))).anyPeer('own-1')).toBe(true);
    expect(changing.scopeOf(update, unix(uidOf('tenant'))).underlay('own-1')).toBe(false);
    expect(changing.scopeOf(update, unix(uidOf('operator'))).underlay('own-1')).toBe(true);
    const writer = changing.scopeOf(path, unix(uidOf('changer')));
    expect([writer.isLimited, writer.interface('own-1')]).toEqual([true, false]);
    const both = changing.scopeOf(path, unix(500));
    expect([both.isLimited, both.interface('own-1'), both.interface('other0')]).toEqual([true, true, false]);
    current = compilePolicy({ roles: {}, identities: [] });
    expect([scope.isLimited, scope.interface('own-1')]).toEqual([true, false]);
  });
});

it('takes less than 20 microseconds for a request with an address and its peer', () => {
  const path = '/taplane.v1.InterfaceService/CreateInterface';
  const request = CASES[path]?.find((one) => one.label === 'own peer address')?.request;
  const caller = unix(uidOf('tenant'));
  const times = Array.from({ length: 5_000 }, () => {
    const begun = performance.now();
    gate.authorize({ path, caller, request });
    return (performance.now() - begun) * 1000;
  }).sort((a, b) => a - b);
  expect(times[2_500]).toBeLessThan(bound(20, 100));
});
