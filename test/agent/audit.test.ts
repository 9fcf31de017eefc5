// The audit log as calls meet it, over a real server and a real disk: what is written down of whom, what never is, and that nothing is done which
// cannot be written down. And its way to the exporter.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { METHODS } from '../../src/access/methods.ts';
import { type AuditNeeds, nodeAudit } from '../../src/agent/audit.ts';
import { auditFeed } from '../../src/agent/audit-feed.ts';
import type { Log } from '../../src/agent/log.ts';
import { isAudited } from '../../src/audit/entry.ts';
import { AuditLog } from '../../src/audit/log.ts';
import { digestOf, resourcesOf, summaryOf } from '../../src/audit/summary.ts';
import { TaplaneError } from '../../src/errors.ts';
import type { Outgoing } from '../../src/flow/contract.ts';
import { Spool } from '../../src/flow/spool.ts';
import { ListAuditRecordsRequest } from '../../src/gen/taplane/v1/audit_service.ts';
import { Event } from '../../src/gen/taplane/v1/event.ts';
import { CreateLinkRequest } from '../../src/gen/taplane/v1/link_service.ts';
import { SetLogLevelRequest } from '../../src/gen/taplane/v1/node_service.ts';
import { enter, type Gate } from '../../src/rpc/gate.ts';
import { allRecords, entry, WIDE } from '../audit/entries.ts';
import { creation, deletion, TUN } from '../e2e/specs.ts';
import { served } from '../rpc/served.ts';

let stateDir: string;
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-audit-`));
});
afterEach(() => rmSync(stateDir, { recursive: true, force: true }));

const logged: object[] = [];
const say = (fields: object): void => void logged.push(fields);
const log = { debug: say, info: say, warn: say, error: say } as unknown as Log;
const folder = (): string => join(stateDir, 'audit');
const open = (more: Partial<AuditNeeds> = {}) =>
  nodeAudit({
    config: { stateDir, cluster: 'c', node: 'n', audit: { enabled: true, maxBytes: 1_000_000, files: 4 } },
    log,
    rolesOf: () => ['operator'],
    ...more,
  });
const KEY = Buffer.from('MARKED-KEY-MARKED-KEY-MARKED-KEY');

/** Knows the caller, and lets nobody do anything with `forbidden`. */
const gate: Gate = {
  callerOf: () => ({ kind: 'unix', uid: 7, gid: 8, pid: 9 }),
  authorize({ request }) {
    if (resourcesOf(request).some((name) => name.endsWith('forbidden')))
      throw new TaplaneError('PERMISSION_DENIED', 'NOT_ALLOWED', 'not with that');
  },
  record() {},
};

test('calls of nobody are told of, and however many there are they fill no log', async () => {
  const audit = open();
  const calls = Array.from({ length: 200 }, () => enter(audit.around({ ...gate, callerOf: () => undefined }), '/a.B/C', 'x', {}));
  for (const call of await Promise.allSettled(calls))
    expect(call).toMatchObject({ reason: { code: 'UNAUTHENTICATED', reason: 'UNKNOWN_CALLER' } });
  const first = { caller: { name: 'unknown', kind: 'unknown' }, method: '/a.B/C', code: 'UNAUTHENTICATED', request: '{"calls":1}' };
  expect(allRecords(folder())).toMatchObject([first]);
  await audit.close();
  expect(allRecords(folder())).toMatchObject([first, { ...first, request: '{"calls":199}' }]);
  expect(audit.facts().records).toEqual({ allowed: 0, denied: 2 });
});

test('each change and each refusal is a record before its answer; what is only read is none', async () => {
  const audit = open();
  await using agent = await served({ gate: audit.around(gate), audit: audit.records });
  const { interfaces } = agent.client;
  await interfaces.create(creation('a0', { mode: TUN }));
  expect(allRecords(folder())).toHaveLength(1);
  await interfaces.get({ name: 'interfaces/a0' });
  await expect(interfaces.get({ name: 'interfaces/nobody' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(interfaces.get({ name: 'interfaces/forbidden' })).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  await expect(interfaces.create(creation('forbidden', { mode: TUN }))).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  await expect(interfaces.delete(deletion('nobody'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await interfaces.delete(deletion('a0'));

  const { records } = await agent.client.audit.list(ListAuditRecordsRequest.fromPartial({ order: 2 }));
  expect(records.map(({ method, code, reason, resources }) => [method.split('/').at(-1), code, reason, ...resources])).toEqual([
    ['CreateInterface', 'OK', '', 'interfaces/a0'],
    ['GetInterface', 'PERMISSION_DENIED', 'NOT_ALLOWED', 'interfaces/forbidden'],
    ['CreateInterface', 'PERMISSION_DENIED', 'NOT_ALLOWED', 'interfaces/forbidden'],
    ['DeleteInterface', 'NOT_FOUND', 'INTERFACE_NOT_FOUND', 'interfaces/nobody'],
    ['DeleteInterface', 'OK', '', 'interfaces/a0'],
  ]);
  expect(records[0]).toMatchObject({
    sequence: 1n,
    caller: { name: `uid:${process.getuid?.()}`, kind: 'unix', uid: process.getuid?.(), gid: process.getgid?.(), pid: process.pid },
    requestDigest: expect.stringMatching(/^[0-9a-f]{64}$/),
    roles: ['operator'],
    late: false,
    previous: '0'.repeat(64),
  });
  expect(records[0]?.request).toContain('"interfaceId":"a0"');

  const of = async (request: Partial<ListAuditRecordsRequest>) =>
    (await agent.client.audit.list(ListAuditRecordsRequest.fromPartial(request))).records.map(({ sequence }) => Number(sequence));
  expect(await of({})).toEqual([5, 4, 3, 2, 1]);
  expect(await of({ code: 'PERMISSION_DENIED' })).toEqual([3, 2]);
  expect(await of({ method: 'DeleteInterface', resource: 'interfaces/a0' })).toEqual([5]);
  expect(await of({ caller: 'uid:8' })).toEqual([]);
  expect(await of({ endTime: records[0]?.time })).toEqual([]);
  const first = await agent.client.audit.list(ListAuditRecordsRequest.fromPartial({ pageSize: 2 }));
  expect(await of({ pageSize: 2, pageToken: first.nextPageToken })).toEqual([3, 2]);
  await expect(of({ pageSize: -1, pageToken: 'x' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{}, {}] });
  expect(await agent.client.audit.verify()).toMatchObject({ intact: true, firstSequence: 1n, lastSequence: 5n, recordCount: 5n });
  await audit.close();
});

test('no key is ever written down, whatever it is a key of', async () => {
  const request = CreateLinkRequest.fromPartial({
    linkId: 'wg0',
    link: {
      spec: {
        interface: 'interfaces/tun0',
        wireguard: { privateKey: KEY },
        peers: [{ publicKey: Buffer.alloc(32, 7), presharedKey: KEY, endpoint: '192.0.2.1:51820' }],
      },
    } as never,
  });
  const audit = open();
  const call = { path: '/taplane.v1.LinkService/CreateLink', caller: { kind: 'loopback', address: '127.0.0.1:9' } as const, request };
  const around = audit.around({ ...gate, callerOf: () => call.caller });
  around.authorize(call);
  await around.record(call, { code: 'OK', reason: '' });
  const text = readdirSync(folder())
    .map((name) => readFileSync(join(folder(), name), 'latin1'))
    .join('\n');
  for (const form of [KEY.toString(), KEY.toString('base64'), KEY.toString('hex'), 'MARKED', JSON.stringify([...KEY]).slice(1, 40)])
    expect(text).not.toContain(form);
  const [record] = allRecords(folder());
  expect(record?.resources).toEqual(['links/wg0', 'interfaces/tun0']);
  expect(JSON.parse(record?.request ?? '')).toMatchObject({
    link: { spec: { wireguard: { privateKey: '(given)' }, peers: [{ presharedKey: '(given)', endpoint: '192.0.2.1:51820' }] } },
  });
  // Other names of secrets, for what may come.
  for (const name of ['secret', 'apiToken', 'password', 'psk', 'seed', 'nkeySeed', 'credentials', 'pre_shared_key', 'key'])
    expect(summaryOf({ a: { [name]: 'MARKED' }, [name]: KEY })).not.toContain('MARKED');
  expect(Buffer.byteLength(summaryOf({ a: Array(5000).fill('\u0000é'.repeat(300)) }))).toBeLessThanOrEqual(4100);
  await audit.close();
});

test('every method that may change something is written down', () => {
  for (const [path, { access }] of Object.entries(METHODS)) {
    expect(isAudited(path, 'OK'), path).toBe(access === 'write');
    expect(isAudited(path, 'PERMISSION_DENIED'), path).toBe(true);
  }
  expect(isAudited('/taplane.v1.Unheard/Of', 'OK')).toBe(true);
  expect(digestOf('/taplane.v1.NodeService/SetLogLevel', SetLogLevelRequest.fromPartial({}))).toMatch(/^[0-9a-f]{64}$/);
});

test('nothing is done that cannot be written down, which is told; reading goes on; and what was refused is written when it can be', async () => {
  // A file in the place of the folder.
  writeFileSync(folder(), '');
  const works: boolean[] = [];
  const audit = open({ changed: (now) => works.push(now) });
  await using agent = await served({ gate: audit.around(gate), audit: audit.records });
  const { interfaces } = agent.client;
  await expect(interfaces.create(creation('a0', { mode: TUN }))).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    reason: 'AUDIT_NOT_WRITABLE',
  });
  await expect(interfaces.get({ name: 'interfaces/a0' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(interfaces.get({ name: 'interfaces/forbidden' })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(audit.facts().failures).toBe(2);
  await expect(agent.client.audit.verify()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(audit.works).toBe(false);
  expect(audit.conditions()).toMatchObject([{ type: 'AuditWritten', status: 2, reason: 'AUDIT_NOT_WRITABLE' }, { type: 'AuditIntact' }]);
  rmSync(folder());
  await interfaces.create(creation('a0', { mode: TUN }));
  expect(works).toEqual([false, true]);
  expect(audit.conditions()[0]).toMatchObject({ status: 1, reason: 'Written' });
  expect(allRecords(folder()).map(({ code, late }) => [code, late])).toEqual([
    ['UNAVAILABLE', true],
    ['PERMISSION_DENIED', true],
    ['OK', undefined],
  ]);
  await audit.close();
});

test('without a log: AUDIT_OFF, and calls as ever', async () => {
  const audit = open({ config: { stateDir, cluster: 'c', node: 'n', audit: { enabled: false, maxBytes: 65_536, files: 2 } } });
  await using agent = await served({ gate: audit.around(gate), audit: audit.records });
  await agent.client.interfaces.create(creation('a0', { mode: TUN }));
  await expect(agent.client.audit.verify()).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'AUDIT_OFF' });
  expect(readdirSync(stateDir)).toEqual([]);
});

test('every record reaches the exporter once and in order: over its failures, many at once, and a crash before it was told', async () => {
  const file = join(stateDir, 'spool.db');
  const openSpool = () => new Spool({ file, limits: { spoolBytes: 1e7, retainedBytes: 0 }, now: Date.now });
  let spool = openSpool();
  let failing = false;
  const exporter = {
    put(messages: readonly Outgoing[]): void {
      if (failing) throw new Error('the disk is full');
      spool.put(messages);
    },
  };
  const run = async (count: number, { crash = false } = {}): Promise<void> => {
    const before = crash ? readFileSync(join(folder(), 'told')) : undefined;
    let feed: ReturnType<typeof auditFeed> | undefined;
    const audit = new AuditLog({ folder: folder(), limits: WIDE, written: (records) => feed?.written(records) });
    feed = auditFeed({ exporter, folder: folder(), audit, cluster: 'c', node: 'n', log });
    for (let n = 0; n < count; n++) await audit.append(entry(n));
    await new Promise((resolve) => setImmediate(resolve));
    await audit.close();
    feed.close();
    // As when it died between the spool and this.
    if (before !== undefined) writeFileSync(join(folder(), 'told'), before);
  };
  await run(3);
  failing = true;
  await run(250);
  failing = false;
  await run(2);
  await run(4, { crash: true });
  for (let n = 0; n < 4; n++) await run(0);
  spool.close();
  spool = openSpool();
  const got: Event[] = [];
  const [subject] = [...spool.account.subjects.values()];
  for (let next = subject && spool.next(subject); subject && next; next = spool.next(subject, next.pos))
    got.push(Event.decode(spool.payload(next) ?? new Uint8Array()));
  spool.close();
  expect(subject?.name).toBe('call-audited');
  expect(got.map(({ sequence }) => Number(sequence))).toEqual(Array.from({ length: 259 }, (_, n) => n + 1));
  expect(got[0]).toMatchObject({
    resource: 'interfaces/tun0',
    audit: { sequence: 1n, caller: { name: 'uid:0' } },
    epoch: got[258]?.audit?.chain,
  });
});
