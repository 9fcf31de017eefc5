// `taplane policy` with the room of the agent behind it, and `taplane whoami` against a server.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test, vi } from 'vitest';
import { run } from '../../src/cli/program.ts';
import { Caller, Caller_Kind } from '../../src/gen/taplane/v1/node_service.ts';
import { memoryNode } from '../rpc/memory-interfaces.ts';
import { served } from '../rpc/served.ts';

const EXAMPLE = join(import.meta.dirname, '..', '..', 'examples', 'policy.yaml');
const dir = mkdtempSync(join(tmpdir(), 'taplane-policy-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

let stdout = '';
let stderr = '';
beforeEach(() => {
  stdout = '';
  stderr = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    stdout += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
});
afterEach(() => vi.restoreAllMocks());

const agent = { runAgent: async () => 0, diagnose: async () => [], policy: () => import('../../src/agent/policy-check.ts') };
const taplane = (...args: string[]): Promise<number> => run(args, agent);

test('check', async () => {
  expect(await taplane('policy', 'check', EXAMPLE)).toBe(0);
  expect(stdout).toMatch(/policy\.yaml: fine, 3 roles, 4 identities, version [0-9a-f]{12}\n$/);
  const bad = join(dir, 'bad.yaml');
  writeFileSync(bad, 'version: 1\nroles: {}\nidentities: [{ uid: 0, roles: [gone] }]\n');
  stdout = '';
  expect(await taplane('policy', 'check', bad)).toBe(2);
  expect(stdout).toBe(`${bad}:3:32: identities[0].roles[0]: there is no role 'gone'\n  known here: none\n`);
  stdout = '';
  expect(await taplane('policy', 'check', bad, '-o', 'json')).toBe(2);
  expect(JSON.parse(stdout)).toMatchObject({ problems: [{ field: 'identities[0].roles[0]' }] });
  expect(await taplane('policy', 'test', bad, '--caller', 'uid:0', '--method', 'NodeService/GetNode')).toBe(2);
});

test('test', async () => {
  const ask = (...more: string[]): Promise<number> =>
    taplane('policy', 'test', EXAMPLE, '--method', 'InterfaceService/AddAddress', ...more);
  const tenant = ['--caller', 'spiffe://cluster.local/ns/tenant-a/sa/router'];
  expect(await ask(...tenant, '--interface', 'ta-0', '--address', '10.10.0.1/24')).toBe(0);
  expect(stdout).toBe('allowed\n');
  stdout = '';
  expect(await ask(...tenant, '--interface', 'ta-0', '--address', '10.9.0.1/24', '-o', 'json')).toBe(5);
  expect(JSON.parse(stdout)).toMatchObject({ allowed: false, reason: 'ADDRESS_DENIED', roles: ['tenant-a'] });
  stdout = '';
  expect(await ask('--caller', 'uid:77')).toBe(5);
  expect(stdout).toBe('denied: METHOD_DENIED: call InterfaceService/AddAddress as uid:77: it has no role\n');
  expect(await ask('--caller', 'me')).toBe(2);
  expect(stderr).toContain("--caller 'me' is no caller");
});

test('whoami', async () => {
  const say = async (caller: Partial<Caller>, ...more: string[]): Promise<string> => {
    await using server = await served({ node: { ...memoryNode(), describe: () => Caller.fromPartial(caller) } });
    stdout = '';
    expect(await taplane('whoami', '--server', server.address, ...more)).toBe(0);
    return stdout;
  };
  const uid5 = { name: 'uid:5', kind: Caller_Kind.UNIX };
  expect(await say({ ...uid5, roles: ['a', 'b'], policyInForce: true })).toBe(
    'Caller:   uid:5\nKnown by: unix\nPolicy:   in force\nRoles:    a b\n',
  );
  expect(await say({ ...uid5, policyInForce: true })).toContain('Roles:    none: everything is denied\n');
  expect(await say(uid5)).toBe('Caller:   uid:5\nKnown by: unix\nPolicy:   none: everything is allowed here\n');
  expect(await say({ name: 'dns:a', kind: Caller_Kind.TLS })).toContain('none: a certificate alone opens nothing');
  expect(await say(uid5, '-o', 'name')).toBe('uid:5\n');
  expect(JSON.parse(await say(uid5, '-o', 'json'))).toMatchObject({ name: 'uid:5', kind: 'KIND_UNIX' });
});
