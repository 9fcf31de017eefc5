// A policy in a real agent: callers of different users over one socket, what each may do and see, a file that changes while calls run, and what is refused
// to everybody because it belongs to the node.

import { chmodSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ListAuditRecordsRequest } from '../../src/gen/taplane/v1/audit_service.ts';
import { type FlowStats, ObserveFlowsRequest } from '../../src/gen/taplane/v1/flow_service.ts';
import { ResponderSpec_Kind } from '../../src/gen/taplane/v1/interface.ts';
import { ListInterfacesRequest, WatchInterfacesRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { LinkSpec_Protocol } from '../../src/gen/taplane/v1/link.ts';
import { CreateLinkRequest, ListLinksRequest } from '../../src/gen/taplane/v1/link_service.ts';
import { Caller_Kind } from '../../src/gen/taplane/v1/node_service.ts';
import { CreateResponderRequest } from '../../src/gen/taplane/v1/responder_service.ts';
import type { ClientError, TaplaneClient } from '../../src/rpc/client.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { SOON } from '../harness/bound.ts';
import { type Call, callsAs } from '../harness/calls-as.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { PacketClient } from '../harness/packet-stream.ts';
import { creation, TUN, updating } from './specs.ts';

const LIST = ListInterfacesRequest.fromPartial({});
const TENANT = 4001;
const STRANGER = 4003;

const policy = (tenant: string): string => `version: 1
roles:
  operator: { methods: ["*"], interfaces: ["*"], links: ["*"], namespaces: ["*"], addresses: ["*"], routes: ["*"], peers: ["*"], may: ["*"] }
  tenant: { methods: [read, InterfaceService/*], interfaces: [${tenant}], links: [${tenant}], addresses: [10.10.0.0/16] }
identities:
  - { uid: 0, roles: [operator] }
  - { uid: ${TENANT}, roles: [tenant] }
`;

let ns: Namespace;
let agent: Agent;
let root: TaplaneClient;
const folder = mkdtempSync(join(tmpdir(), 'tpl-policy-'));
const file = join(folder, 'policy.yaml');

/** As a config map is changed: at once, by another file. */
function put(text: string): void {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}

beforeAll(async () => {
  ns = createNamespace();
  ns.run('ip', 'link', 'add', 'node0', 'type', 'veth', 'peer', 'name', 'node1');
  ns.run('ip', 'addr', 'add', '10.50.0.1/24', 'dev', 'node0');
  ns.run('ip', 'link', 'set', 'node0', 'up');
  put(policy('ta*'));
  agent = await startAgent({ namespace: ns, args: ['--policy', file] });
  chmodSync(agent.folder, 0o755);
  chmodSync(agent.socket, 0o666);
  root = agent.client();
  for (const name of ['ta0', 'tb0']) {
    await root.interfaces.create(creation(name, { mode: TUN }));
    const responder = { spec: { kind: ResponderSpec_Kind.SINK } };
    await root.responders.create(CreateResponderRequest.fromPartial({ parent: `interfaces/${name}`, responder }));
    const spec = { interface: `interfaces/${name}`, protocol: LinkSpec_Protocol.WIREGUARD };
    await root.links.create(CreateLinkRequest.fromPartial({ linkId: name, link: { spec } }));
  }
});

afterAll(async () => {
  await agent?.[Symbol.asyncDispose]();
  await ns?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

describe('callers over one socket', () => {
  it('are told apart by their user', async () => {
    expect(await root.node.getCaller()).toEqual({ name: 'uid:0', kind: Caller_Kind.UNIX, roles: ['operator'], policyInForce: true });
    const [who, list] = await callsAs(STRANGER, agent.server, [
      ['node', 'getCaller'],
      ['interfaces', 'list', LIST],
    ]);
    expect(who?.answer).toEqual({ name: `uid:${STRANGER}`, kind: Caller_Kind.UNIX, roles: [], policyInForce: true });
    expect(list?.error).toMatchObject({ code: 'PERMISSION_DENIED', reason: 'METHOD_DENIED' });
  });

  it('see and change what is theirs, and cannot tell what is not from what is not there', async () => {
    const make = (name: string, cidr: string): Call => ['interfaces', 'create', creation(name, { mode: TUN, addresses: [{ cidr }] })];
    const [list, links, responders, node, stats, foreign, absent, made, refused] = await callsAs(TENANT, agent.server, [
      // A token of a next page would name an interface that comes before it.
      ['interfaces', 'list', { ...LIST, pageSize: 1 }],
      ['links', 'list', ListLinksRequest.fromPartial({ interface: '' })],
      ['responders', 'list', { parent: 'interfaces/-', pageSize: 1, pageToken: '' }],
      ['node', 'getNode'],
      ['flows', 'stats'],
      ['interfaces', 'get', { name: 'interfaces/tb0' }],
      ['interfaces', 'get', { name: 'interfaces/tb9' }],
      make('ta1', '10.10.1.1/24'),
      make('ta2', '10.11.1.1/24'),
    ]);
    expect(list?.answer).toMatchObject({ interfaces: [{ name: 'interfaces/ta0' }], nextPageToken: '' });
    expect(links?.answer).toMatchObject({ links: [{ name: 'links/ta0' }], nextPageToken: '' });
    expect(responders?.answer).toMatchObject({ responders: [{ name: 'interfaces/ta0/responders/sink' }], nextPageToken: '' });
    for (const answer of [list, links, responders, node, stats]) expect(inspect(answer, { depth: 20 })).not.toContain('tb0');
    expect((stats as { answer: FlowStats }).answer.interfaces.length).toBeLessThan(2);
    expect(foreign?.error).toMatchObject({ code: 'PERMISSION_DENIED', reason: 'INTERFACE_DENIED' });
    expect(JSON.stringify(foreign?.error)).toBe(JSON.stringify(absent?.error).replaceAll('tb9', 'tb0'));
    expect(made).toMatchObject({ answer: { name: 'interfaces/ta1' } });
    expect(refused?.error?.message).toContain("interface.spec.addresses[0].cidr: address '10.11.1.1/24' is not allowed by its role tenant");
    expect(ns.has('ta2')).toBe(false);
  });
});

describe('a file that changes', () => {
  afterEach(() => {
    put(policy('ta*'));
    process.kill(agent.pid, 'SIGHUP');
  });

  it('is in force for the next call, and in the middle of a watch, and no call is lost', async () => {
    const seen: string[] = [];
    const watching = new AbortController();
    const watch = (async () => {
      for await (const { event } of root.interfaces.watch(WatchInterfacesRequest.fromPartial({}), watching.signal))
        if (event?.$case === 'added') seen.push(event.value.name);
    })();
    let calls = 0;
    let calling = true;
    const caller = (async () => {
      for (; calling; calls++, await sleep(10)) await root.interfaces.list(LIST);
    })();
    const before = (await root.node.getNode()).policy?.version;
    // Root keeps everything but what begins with t, and hears so without a signal.
    put(policy('tb*').replace('interfaces: ["*"]', 'interfaces: [x*]'));
    await expect.poll(async () => (await root.node.getNode()).policy?.version, SOON).not.toBe(before);
    expect((await root.interfaces.list(LIST)).interfaces).toEqual([]);
    await expect(root.interfaces.create(creation('tb1', { mode: TUN }))).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
      reason: 'INTERFACE_DENIED',
    });
    await callsAs(TENANT, agent.server, [['interfaces', 'create', creation('tb1', { mode: TUN })]]);
    await root.interfaces.create(creation('x0', { mode: TUN }));
    await expect.poll(() => seen, SOON).toContain('interfaces/x0');
    expect(seen).not.toContain('interfaces/tb1');
    expect(ns.has('tb1')).toBe(true);
    put(policy('ta*'));
    process.kill(agent.pid, 'SIGHUP');
    await expect.poll(async () => (await root.node.getNode()).policy?.version, SOON).toBe(before);
    calling = false;
    await caller;
    watching.abort();
    await watch;
    expect(calls).toBeGreaterThan(5);
  });

  it('ends within a second the streams that it no longer allows, and writes that down', async () => {
    const endings: string[] = [];
    const follow = async (name: string, stream: AsyncIterable<unknown>): Promise<void> => {
      try {
        for await (const _ of stream);
      } catch (error) {
        endings.push(`${name} ${(error as ClientError).code}`);
      }
    };
    const signal = AbortSignal.timeout(60_000);
    const watches = [
      follow('watch', root.interfaces.watch(WatchInterfacesRequest.fromPartial({}), signal)),
      follow('flows', root.flows.observe(ObserveFlowsRequest.fromPartial({ follow: true }), signal)),
    ];
    using stream = PacketClient.stream(agent.server, { interface: 'interfaces/ta0', resumeTimeout: { seconds: 30n } });
    using capture = PacketClient.capture(agent.server, { interface: 'interfaces/ta0' });
    using kept = PacketClient.capture(agent.server, { interface: 'interfaces/tb0' });
    await Promise.all([stream, capture, kept].map((one) => one.ready()));
    const few = '[InterfaceService/ListInterfaces, NodeService/GetNode, AuditService/*, PacketService/*]';
    put(policy('ta*').replace('methods: ["*"], interfaces: ["*"]', `methods: ${few}, interfaces: [tb*]`));
    const changed = performance.now();
    process.kill(agent.pid, 'SIGHUP');
    await Promise.all([
      ...watches,
      stream.until(() => stream.error !== undefined, ''),
      capture.until(() => capture.error !== undefined, ''),
    ]);
    expect(performance.now() - changed).toBeLessThan(1000);
    expect(endings.sort()).toEqual(['flows PERMISSION_DENIED', 'watch PERMISSION_DENIED']);
    expect([stream.error, capture.error]).toMatchObject([
      { code: 'PERMISSION_DENIED', reason: 'INTERFACE_DENIED' },
      { code: 'PERMISSION_DENIED', reason: 'INTERFACE_DENIED' },
    ]);
    expect(kept.error).toBeUndefined();
    const { records } = await root.audit.list(ListAuditRecordsRequest.fromPartial({ code: 'PERMISSION_DENIED', pageSize: 4 }));
    expect(records.map(({ method }) => method.split('/').at(-1)).sort()).toEqual([
      'CapturePackets',
      'ObserveFlows',
      'StreamPackets',
      'WatchInterfaces',
    ]);
    expect(records.find(({ method }) => method.endsWith('/StreamPackets'))?.requestDigest).toMatch(/^[0-9a-f]{64}$/);
    put(policy('ta*'));
    process.kill(agent.pid, 'SIGHUP');
    // Nothing is kept for whoever could not have it.
    await expect.poll(async () => (await root.interfaces.list(LIST)).interfaces.length, SOON).toBeGreaterThan(2);
    using again = PacketClient.stream(agent.server, { interface: 'interfaces/ta0' }, { from: stream });
    await expect(again.ready()).rejects.toThrow('RESUME_TOKEN_UNKNOWN');
  });

  it('that is bad leaves the last good one in force, and says so', async () => {
    const before = (await root.node.getNode()).policy;
    put('version: 1\nroles: {}\nidentities: [{ uid: 0, roles: [operator] }]\n');
    process.kill(agent.pid, 'SIGHUP');
    await expect
      .poll(async () => (await root.node.getNode()).policy, SOON)
      .toMatchObject({ version: before?.version, error: expect.stringContaining("there is no role 'operator'") });
    expect(agent.log).toContain('policy file is not taken, the one before stays in force');
    expect((await root.interfaces.list(LIST)).interfaces.length).toBeGreaterThan(2);
    put(policy('ta*'));
    process.kill(agent.pid, 'SIGHUP');
    await expect.poll(async () => (await root.node.getNode()).policy?.error, SOON).toBe('');
  });

  it('that is bad at the start refuses it, each problem with its line', async () => {
    const bad = `${file}.bad`;
    writeFileSync(bad, 'version: 1\nroles: { a: { methods: [nothing] } }\nidentities: []\n');
    const { code, stderr } = await agent.cli(['agent', '--policy', bad, '--check-config']);
    expect(code).toBe(2);
    expect(stderr).toContain(`${bad}:2:25: roles.a.methods[0]: means no method of the API`);
  });
});

describe('what belongs to the node is refused to everybody', () => {
  it('its networks, the metadata service, and the ends of links', async () => {
    const ask = (spec: Parameters<typeof creation>[1]): Promise<unknown> =>
      root.interfaces.create(creation('nr0', { mode: TUN, up: true, ...spec }));
    const covers = (field: string) => ({ code: 'FAILED_PRECONDITION', reason: 'ROUTE_COVERS_NODE', fields: [{ field }] });
    await expect(ask({ routes: [{ destination: '10.50.0.0/16' }] })).rejects.toMatchObject(covers('interface.spec.routes[0].destination'));
    await expect(ask({ routes: [{ destination: '10.50.0.128/25' }] })).rejects.toMatchObject(
      covers('interface.spec.routes[0].destination'),
    );
    await expect(ask({ addresses: [{ cidr: '10.50.0.9/24' }] })).rejects.toMatchObject(covers('interface.spec.addresses[0].cidr'));
    await expect(ask({ routes: [{ destination: '169.254.0.0/16' }] })).rejects.toMatchObject(
      covers('interface.spec.routes[0].destination'),
    );
    await expect(ask({ addresses: [{ cidr: '169.254.169.254/32' }] })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(ns.has('nr0')).toBe(false);
    await ask({ routes: [{ destination: '10.51.0.0/16' }] });
    const spec = {
      interface: 'interfaces/nr0',
      protocol: LinkSpec_Protocol.FRAMES,
      listen: ':4999',
      peers: [{ endpoint: '10.60.0.2:4999' }],
    };
    await root.links.create(CreateLinkRequest.fromPartial({ linkId: 'nr', link: { spec } }));
    await expect(root.interfaces.update(updating('ta0', { up: true, routes: [{ destination: '10.60.0.0/16' }] }))).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      reason: 'ROUTE_COVERS_PEER',
    });
    await root.interfaces.update(updating('ta0', { up: true, routes: [{ destination: '10.61.0.0/16' }] }));
  });
});
