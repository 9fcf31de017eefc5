// Policy files: the example, all problems at once with their lines, accounts of the node, and what happens when a file changes.

import { chmodSync, chownSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { reloadsOf } from '../../src/agent/metrics.ts';
import { type Accounts, parseAccounts } from '../../src/agent/policy/accounts.ts';
import { parsePolicy, readPolicyFile } from '../../src/agent/policy/file.ts';
import { policyJsonSchema } from '../../src/agent/policy/schema.ts';
import { openPolicy } from '../../src/agent/policy.ts';
import { testPolicy } from '../../src/agent/policy-check.ts';

const EXAMPLES = join(import.meta.dirname, '..', '..', 'examples');
const EXAMPLE = join(EXAMPLES, 'policy.yaml');
const dir = mkdtempSync(join(tmpdir(), 'taplane-policy-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const accounts: Accounts = parseAccounts(
  'root:x:0:0::/root:/bin/sh\nann:x:1001:1001::/:/bin/sh\nbob:x:1002:2000::/:/bin/sh\nbroken:x:y:z\n',
  'root:x:0:\nannies:x:1001:\nnet:x:2000:ann,nobody-there\nempty:x:2001:\n',
);
const told = (text: string): string[] =>
  parsePolicy(text, 'p', accounts).problems.map(({ source, field, cause, cure }) => `${source} ${field}: ${cause} | ${cure}`);

test('the example is fine, and its schema for editors is that of the code', () => {
  expect(readPolicyFile(EXAMPLE)).toMatchObject({ problems: [], roles: 3, identities: 4 });
  expect(JSON.parse(readFileSync(join(EXAMPLES, 'policy.schema.json'), 'utf8'))).toEqual(policyJsonSchema());
});

test('the example does what it says', () => {
  const ask = (caller: string, method: string, more: object = {}): unknown => {
    const verdict = testPolicy(EXAMPLE, { caller, method, ...more });
    if (typeof verdict === 'string' || 'problems' in verdict) return verdict;
    return verdict.allowed ? 'allowed' : verdict.reason;
  };
  const tenant = 'spiffe://cluster.local/ns/tenant-a/sa/router';
  expect(ask('uid:0', 'InterfaceService/DeleteInterface', { interface: 'x', use: 'node' })).toBe('allowed');
  expect(ask('uid:1', 'NodeService/GetNode')).toBe('METHOD_DENIED');
  expect(ask('dns:Dashboard.monitoring.svc', 'InterfaceService/GetInterface', { interface: 'any' })).toBe('allowed');
  expect(ask('dns:dashboard.monitoring.svc', 'InterfaceService/DeleteInterface', { interface: 'any' })).toBe('METHOD_DENIED');
  expect(ask('dns:dashboard.monitoring.svc', 'PacketService/CapturePackets', { interface: 'any', use: 'capture' })).toBe('USE_DENIED');
  expect(ask(tenant, 'InterfaceService/CreateInterface', { interface: 'ta-0', address: '10.10.1.1/24', route: '10.20.0.0/16' })).toBe(
    'allowed',
  );
  expect(ask(tenant, 'InterfaceService/CreateInterface', { interface: 'tb-0' })).toBe('INTERFACE_DENIED');
  expect(ask(tenant, 'InterfaceService/CreateInterface', { interface: 'ta-0', address: '10.11.1.1/24' })).toBe('ADDRESS_DENIED');
  expect(ask(tenant, 'InterfaceService/AddRoute', { interface: 'ta-0', route: '0.0.0.0/0' })).toBe('ROUTE_DENIED');
  expect(ask(tenant, 'LinkService/CreateLink', { link: 'ta-0', peer: '198.51.100.1' })).toBe('PEER_DENIED');
  expect(ask('root', 'NodeService/GetNode')).toMatch(/^--caller 'root' is no caller/);
  expect(ask('uid:0', 'NodeService/*')).toMatch(/^--method/);
  expect(ask('uid:0', 'NodeService/GetNode', { use: 'magic' })).toMatch(/^--use/);
});

test('what a method needs whatever is asked is part of the question', () => {
  const file = join(dir, 'node.yaml');
  const ask = (may: string, method: string): unknown => {
    const role = `{ methods: ["*", "AuditService/*"], interfaces: ["*"], links: ["*"], may: [${may}] }`;
    writeFileSync(file, `version: 1\nroles: { a: ${role} }\nidentities: [{ uid: 5, roles: [a] }]\n`);
    return testPolicy(file, { caller: 'uid:5', method });
  };
  for (const method of ['AuditService/ListAuditRecords', 'NodeService/SetLogLevel']) {
    expect(ask('capture', method)).toMatchObject({ allowed: false, reason: 'USE_DENIED', message: expect.stringContaining("'node'") });
    expect(ask('node', method)).toMatchObject({ allowed: true });
  }
});

test('all problems at once, each with its line, its cause and its cure', () => {
  const text = `version: 2
roles:
  Bad_Name:
    methods: [read]
  a:
    methods: [reed, read]
    interfaces: ["a b"]
    addresses: [10.0.0.1/8, 10.0.0.0]
    may: [everything]
    colour: blue
identities:
  - uid: -1
    roles: [a]
  - uid: 5
    dns: x
    roles: []
  - roles: [a]
extra: 1
`;
  expect(told(text)).toMatchInlineSnapshot(`
    [
      "p:1:1 version: expected 1 | write 1",
      "p:3:3 roles.Bad_Name: is no name of a role | write a mapping of names (lower-case letters, digits, -) to what the role may do",
      "p:6:15 roles.a.methods[0]: means no method of the API | write a list of read, write, *, InterfaceService/* or InterfaceService/GetInterface",
      "p:7:18 roles.a.interfaces[0]: is no pattern of names | write a list of names, with * for any characters, such as [tenant-a-*]",
      "p:8:17 roles.a.addresses[0]: has host bits; did you mean 10.0.0.0/8? | write a list of prefixes without host bits, such as [10.1.0.0/16], or ["*"]",
      "p:8:29 roles.a.addresses[1]: is no prefix | write a list of prefixes without host bits, such as [10.1.0.0/16], or ["*"]",
      "p:9:11 roles.a.may[0]: expected one of "*"|"capture"|"stream"|"inject"|"mirror"|"sysctls"|"owner"|"metering"|"underlay"|"node"|"tls-files" | write a list of capture, stream, inject, mirror, sysctls, owner, metering, underlay, node, tls-files, or ["*"]",
      "p:10:5 roles.a.colour: is not a known key | write a mapping of names (lower-case letters, digits, -) to what the role may do",
      "p:12:5 identities[0].uid: must be 0 to 4294967294 | write a number from 0 to 4294967294",
      "p:14:5 identities[1]: says who it is by uid and dns | write one of uid, user, gid, group, spiffe, dns, loopback, and roles",
      "p:16:5 identities[1].roles: is empty | write a list of names of roles",
      "p:17:5 identities[2]: says not who it is | write one of uid, user, gid, group, spiffe, dns, loopback, and roles",
      "p:18:1 extra: is not a known key | write version: 1, roles and identities",
    ]
  `);
});

test('roles, users and groups that there are not', () => {
  const text = `version: 1
roles: { a: { methods: ["*"] } }
identities:
  - user: nobody-there
    roles: [a]
  - group: nogroup
    roles: [a, b]
`;
  expect(told(text)).toMatchInlineSnapshot(`
    [
      "p:4:5 identities[0].user: is not known on this node | write a name of /etc/passwd, or give the number with uid",
      "p:6:5 identities[1].group: is not known on this node | write a name of /etc/group, or give the number with gid",
      "p:7:16 identities[1].roles[1]: there is no role 'b' | known here: a",
    ]
  `);
});

test('text that is no YAML, none at all, and other things', () => {
  expect(told('version: [1')[0]).toMatch(/^p:1:\d+ : is not YAML/);
  expect(told('')[0]).toMatch(/^p version: .* \| write 1/);
  expect(told('- 1')[0]).toMatch(/^p:1:1 : /);
  expect(told('version: 1\nversion: 1')[0]).toMatch(/^p:2:1 : is not YAML: duplicate key/);
  expect(readPolicyFile('/nowhere/policy.yaml').problems[0]?.cause).toBe('cannot be read: ENOENT');
  expect(readPolicyFile(dir).problems[0]?.cause).toBe('cannot be read: EISDIR');
  const open = join(dir, 'open.yaml');
  writeFileSync(open, readFileSync(EXAMPLE));
  chmodSync(open, 0o666);
  expect(readPolicyFile(open).problems[0]?.cause).toBe('may be written by everybody');
  expect(readPolicyFile('/dev/zero').problems[0]?.cause).toBe('is no file');
  if (process.getuid?.() !== 0) return;
  // Only judged it may be of anybody; what an agent follows may not.
  const cause = (uid: number, gid: number, mode: number): unknown => {
    chownSync(open, uid, gid);
    chmodSync(open, mode);
    expect(readPolicyFile(open).problems).toEqual([]);
    return readPolicyFile(open, { inForce: true }).problems[0]?.cause;
  };
  expect(cause(4242, 0, 0o644)).toBe('belongs to uid 4242, who may change it');
  expect(cause(0, 4242, 0o664)).toBe('may be written by group 4242');
  expect(cause(0, 0, 0o664)).toBeUndefined();
  expect(cause(0, 4242, 0o640)).toBeUndefined();
});

test('users and groups, with members by /etc/group and by first group', () => {
  const text = (who: string): string => `version: 1\nroles: { a: { methods: ["*"] } }\nidentities: [{ ${who}, roles: [a] }]\n`;
  const has = (who: string, uid: number, gid: number): boolean =>
    (parsePolicy(text(who), 'p', accounts).policy?.rolesOf({ kind: 'unix', uid, gid, pid: 1 }).length ?? 0) > 0;
  expect([has('user: ann', 1001, 1), has('user: ann', 1002, 1)]).toEqual([true, false]);
  for (const who of ['group: net', 'gid: 2000'])
    expect([has(who, 1001, 1), has(who, 1002, 1), has(who, 7, 2000), has(who, 7, 1)]).toEqual([true, true, true, false]);
  expect([has('group: empty', 7, 2001), has('group: empty', 1001, 1)]).toEqual([true, false]);
});

test('a file that changes is taken, a bad one is not, and the last good one stays in force', () => {
  const file = join(dir, 'live.yaml');
  const lines: [string, object][] = [];
  const log = {
    info: (fields: object, text: string) => lines.push([text, fields]),
    warn: (fields: object, text: string) => lines.push([text, fields]),
  };
  const put = (text: string): void => {
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
    process.emit('SIGHUP');
  };
  const first = 'version: 1\nroles: { a: { methods: [read] } }\nidentities: [{ uid: 5, roles: [a] }]\n';
  const needs = { file, log: log as never, now: () => 1_700_000_000_000 };
  writeFileSync(file, 'version: 3');
  expect(() => openPolicy(needs)).toThrow(/read policy: .*live.yaml:1:1: version: .*write 1/);
  writeFileSync(file, first);
  const policy = openPolicy(needs);
  try {
    const caller = { kind: 'unix', uid: 5, gid: 5, pid: 1 } as const;
    expect(policy.describe(caller)).toEqual({ name: 'uid:5', kind: 1, roles: ['a'], policyInForce: true });
    const before = policy.status();
    expect(before).toMatchObject({ file, error: '', errorTime: undefined, roles: 1, identities: 1 });
    put('version: 1\nroles: {}\nidentities: [{ uid: 5, roles: [a] }]\n');
    expect(policy.status()).toMatchObject({ version: before?.version, error: expect.stringContaining("there is no role 'a'") });
    expect(policy.rolesOf(caller)).toEqual(['a']);
    expect(reloadsOf(policy, undefined)).toMatchObject({ policy: { ok: false, failures: 1 } });
    rmSync(file);
    process.emit('SIGHUP');
    expect(policy.status()).toMatchObject({ version: before?.version, error: expect.stringContaining('ENOENT') });
    expect(policy.rolesOf(caller)).toEqual(['a']);
    put(first.replaceAll('a:', 'b:').replaceAll('[a]', '[b]'));
    expect(policy.status()).toMatchObject({ error: '' });
    expect(reloadsOf(policy, undefined)).toEqual({ policy: { ok: true, failures: 2, lastSuccessMs: 1_700_000_000_000 } });
    expect(policy.status()?.version).not.toBe(before?.version);
    expect(policy.rolesOf(caller)).toEqual(['b']);
    expect(lines.map(([text]) => text)).toEqual([
      'policy in force',
      'policy file is not taken, the one before stays in force',
      'policy file is not taken, the one before stays in force',
      'policy in force',
    ]);
  } finally {
    policy.close();
  }
  expect(process.listenerCount('SIGHUP')).toBe(0);
});

test.skipIf(process.getuid?.() !== 0)('a file that was given to others, and back, is looked at again without a signal (needs root)', () => {
  const file = join(dir, 'owned.yaml');
  writeFileSync(file, 'version: 1\nroles: {}\nidentities: []\n');
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  const policy = openPolicy({ file, log: { info() {}, warn() {} } as never });
  try {
    const errorAs = (uid: number): string | undefined => {
      chownSync(file, uid, 0);
      vi.advanceTimersByTime(2_000);
      return policy.status()?.error;
    };
    expect(errorAs(4242)).toContain('chown 0');
    expect(errorAs(0)).toBe('');
  } finally {
    policy.close();
    vi.useRealTimers();
  }
});
