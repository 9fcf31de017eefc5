// A controller in one file: makes an encrypted network of the hosts whose agents it is given, over gRPC and NATS and nothing else.
//
//   node examples/controller/controller.ts --nats nats://192.0.2.10:4222 \
//     --agent oslo=unix:/run/oslo/agent.sock,underlay=192.0.2.1 --agent rome=192.0.2.2:7070,underlay=192.0.2.2 [--on-demand] [--idle 60]
//
// Every host gets a TUN `mesh0` with 10.77.0.N/24 and fd77::N/64, N in the order of --agent, and a wireguard link `mesh` on it. Without
// --on-demand every two hosts are peers. With it two become peers when a flow record tells of traffic from one to the other, and are none any
// more when there was no such flow for --idle seconds. Nothing is kept here: what is there is read from the agents, compared with what should
// be, and changed where it differs, so that any process may die at any time.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { connect } from '@nats-io/transport-node';
import { Event, Event_Kind, event_KindToJSON } from '../../src/gen/taplane/v1/event.ts';
import { type Flow, Flow_Event, FlowBatch } from '../../src/gen/taplane/v1/flow.ts';
import { FlowServiceClient, ObserveFlowsRequest, type ObserveFlowsResponse } from '../../src/gen/taplane/v1/flow_service.ts';
import { InterfaceSpec_Mode } from '../../src/gen/taplane/v1/interface.ts';
import * as interfaceApi from '../../src/gen/taplane/v1/interface_service.ts';
import { type Link, LinkPeer, LinkSpec_Protocol, linkStatus_StateToJSON } from '../../src/gen/taplane/v1/link.ts';
import * as linkApi from '../../src/gen/taplane/v1/link_service.ts';
import { type Node, NodeServiceClient } from '../../src/gen/taplane/v1/node_service.ts';

/** An open flow has a record every minute; one that has none for FLOW_MS is over, whatever became of its end. */
const [DEVICE, LINK, PORT, MTU, FLOW_MS] = ['mesh0', 'mesh', 51820, 1420, 150_000];

const { values: flags } = parseArgs({
  options: {
    agent: { type: 'string', multiple: true, default: [] },
    nats: { type: 'string', default: '' },
    'on-demand': { type: 'boolean', default: false },
    idle: { type: 'string', default: '60' },
  },
});
const began = performance.now();
const say = (who: string, what: string) =>
  console.log(`${((performance.now() - began) / 1000).toFixed(2).padStart(7)} ${who.padEnd(8)} ${what}`);
const word = (prefix: string, name: string) =>
  name
    .slice(prefix.length + 1)
    .toLowerCase()
    .replaceAll('_', '-');

const hosts = flags.agent.map((text, index) => {
  const [, name = '', address = '', underlay = ''] = /^([^=]+)=([^,]+),underlay=(.+)$/.exec(text) ?? [];
  if (!underlay) throw new Error(`--agent ${text}: expected NAME=unix:PATH,underlay=IP or NAME=HOST:PORT,underlay=IP`);
  const way = [address, credentials.createInsecure(), { 'grpc.default_authority': name, 'grpc.max_reconnect_backoff_ms': 1000 }] as const;
  return {
    name,
    number: index + 1,
    endpoint: `${underlay.includes(':') ? `[${underlay}]` : underlay}:${PORT}`,
    node: new NodeServiceClient(...way),
    interfaces: new interfaceApi.InterfaceServiceClient(...way),
    links: new linkApi.LinkServiceClient(...way),
    flows: new FlowServiceClient(...way),
    /** As it was last told; undefined while the agent is away. */
    link: undefined as Link | undefined,
    /** Stays while the agent is away: the others keep their sessions with it. */
    publicKey: Buffer.alloc(0) as Buffer,
    /** Peers that it was asked to have, while it has not answered. */
    asked: undefined as string | undefined,
  };
});
type Host = (typeof hosts)[number];
if (hosts.length === 0) throw new Error('--agent NAME=unix:PATH,underlay=IP or NAME=HOST:PORT,underlay=IP: give one for each host');

type Done<Answer> = (error: ServiceError | null, answer: Answer) => void;
/** The answer of an agent. All that changes something has a request id: asked again after a lost answer, it is still done once. */
async function ask<Answer>(call: (metadata: Metadata, options: { deadline: number }, done: Done<Answer>) => unknown): Promise<Answer> {
  const once = (resolve: (answer: Answer) => void, reject: (error: ServiceError) => void) =>
    call(new Metadata(), { deadline: Date.now() + 5000 }, (error, answer) => (error ? reject(error) : resolve(answer)));
  return await new Promise(once).catch((error: ServiceError) => {
    if (error.code !== status.UNAVAILABLE) throw error;
    return new Promise(once);
  });
}
const unlessThere = (error: ServiceError) => (error.code === status.ALREADY_EXISTS ? undefined : Promise.reject(error));

/** Interface and link are there; the agent makes the key, and tells only the public one. */
async function ensure({ name, number, endpoint, node, interfaces, links }: Host): Promise<void> {
  const { version, kernelRelease } = await ask<Node>((...rest) => node.getNode({}, ...rest));
  const addresses = [{ cidr: `10.77.0.${number}/24` }, { cidr: `fd77::${number}/64` }];
  const device = { spec: { mode: InterfaceSpec_Mode.TUN, up: true, vnetHeader: true, mtu: MTU, addresses } };
  const first = interfaceApi.CreateInterfaceRequest.fromPartial({ interfaceId: DEVICE, interface: device, requestId: randomUUID() });
  const made = await ask<unknown>((...rest) => interfaces.createInterface(first, ...rest)).catch(unlessThere);
  if (made) say(name, `Taplane ${version}, Linux ${kernelRelease}: made ${DEVICE}, ${addresses.map(({ cidr }) => cidr).join(', ')}`);
  const spec = { interface: `interfaces/${DEVICE}`, protocol: LinkSpec_Protocol.WIREGUARD, listen: endpoint, wireguard: {} };
  const then = linkApi.CreateLinkRequest.fromPartial({ linkId: LINK, link: { spec }, requestId: randomUUID() });
  const joined = await ask<Link>((...rest) => links.createLink(then, ...rest)).catch(unlessThere);
  if (joined) say(name, `made the link, listening on ${joined.status?.listen || endpoint}`);
}

/** Follows one host for ever: hears of every change of its link, and meanwhile makes what is missing. */
async function follow(host: Host): Promise<never> {
  for (let told = false; ; await sleep(200)) {
    const watched = host.links.watchLinks(linkApi.WatchLinksRequest.fromPartial({ name: `links/${LINK}` }));
    const failed = (error: ServiceError) => watched.on('error', () => {}).destroy(error) && watched.cancel();
    ensure(host).catch(failed);
    try {
      for await (const { event } of watched as AsyncIterable<linkApi.WatchLinksResponse>) {
        told = false;
        if (event?.$case === 'deleted') ensure(host).catch(failed);
        if (event?.$case !== 'added' && event?.$case !== 'modified') continue;
        tell(host, event.value);
        const { publicKey = host.publicKey } = event.value.status ?? {};
        Object.assign(host, { link: event.value, ...(publicKey.length > 0 && { publicKey }) });
        kick();
      }
    } catch (error) {
      if (!told) say(host.name, (error as ServiceError).details);
      told = true;
    }
    host.link = undefined;
  }
}

function tell({ name, link: before }: Host, { status: now }: Link): void {
  const up = (peers = now?.peers) => peers?.filter((peer) => peer.up).map((peer) => peer.displayName) ?? [];
  const state = word('STATE', linkStatus_StateToJSON(now?.state ?? 0));
  // Not known yet: the data plane is starting.
  if (!now?.state || (before?.status?.state === now.state && up(before.status.peers).join() === up().join())) return;
  say(name, `${state}, peers up: ${up().join(' ') || 'none'}${now.reason && ` (${now.reason})`}`);
}

/** Flows between two hosts, by their ids: which two, and until when it counts. */
const demands = new Map<string, { between: string; untilMs: number }>();
const pair = (a: number, b: number) => `${Math.min(a, b)} ${Math.max(a, b)}`;
const isWanted = (two: string) => !flags['on-demand'] || [...demands.values()].some(({ between }) => between === two);

/** 10.77.0.N and fd77::N. */
function numberOf(address: Buffer): number {
  const prefix = address.length === 4 ? '0a4d00' : `fd77${'00'.repeat(13)}`;
  return address.toString('hex').startsWith(prefix) ? (address.at(-1) ?? 0) : 0;
}

function seen({ flowId, sourceAddress, destinationAddress, event }: Flow): void {
  const [a, b] = [numberOf(sourceAddress), numberOf(destinationAddress)];
  if (a === b || !hosts[a - 1] || !hosts[b - 1]) return;
  const lastsMs = event === Flow_Event.END ? Number(flags.idle) * 1000 : FLOW_MS;
  demands.set(flowId, { between: pair(a, b), untilMs: Date.now() + lastsMs });
  kick();
}

const textOf = ({ endpoint, publicKey, allowedPrefixes }: LinkPeer) => [endpoint, publicKey.toString('hex'), ...allowedPrefixes].join();
const textOfAll = (peers: LinkPeer[]) => peers.map(textOf).sort().join();

/** Declared, compared, applied: the peers of one host. What an agent has made of it, its watch tells. */
async function repair(host: Host): Promise<void> {
  const { link, name, links } = host;
  const peers = hosts
    .filter((other) => other !== host && other.publicKey.length > 0 && isWanted(pair(host.number, other.number)))
    .map(({ name: displayName, number: n, endpoint, publicKey }) =>
      LinkPeer.fromPartial({ displayName, endpoint, publicKey, allowedPrefixes: [`10.77.0.${n}/32`, `fd77::${n}/128`], keepalive: 25 }),
    );
  if (!link?.spec || [host.asked, textOfAll(link.spec.peers)].includes(textOfAll(peers))) return;
  host.asked = textOfAll(peers);
  const changed = { name: link.name, etag: link.etag, spec: { ...link.spec, peers } };
  const request = linkApi.UpdateLinkRequest.fromPartial({ link: changed, updateMask: ['spec.peers'], requestId: randomUUID() });
  say(name, `peers: ${peers.map((peer) => peer.displayName).join(' ') || 'none'}`);
  await ask<Link>((...rest) => links.updateLink(request, ...rest)).catch(({ details }: ServiceError) => say(name, details));
  host.asked = undefined;
}
const kick = () => void hosts.map(repair);

/** Flows and events of all hosts, from NATS: one subscription each, however many hosts there are. */
async function listen(): Promise<void> {
  const servers = (flags.nats.startsWith('/') ? readFileSync(flags.nats, 'utf8') : flags.nats).trim();
  const { username: user, password: pass, host } = new URL(servers);
  const nats = await connect({ servers: host, ...(user && { user, pass }), waitOnFirstConnect: true, maxReconnectAttempts: -1 });
  nats.subscribe('taplane.v1.*.*.flow.>', { callback: (_, { data }) => FlowBatch.decode(data).flows.forEach(seen) });
  for await (const { data } of nats.subscribe('taplane.v1.*.*.event.>')) {
    const { node, kind, resource, message } = Event.decode(data);
    if (kind === Event_Kind.CALL_AUDITED) continue; // our own calls
    say('nats', `${node}: ${word('KIND', event_KindToJSON(kind))} ${resource} ${message}`.trimEnd());
    if (resource === `interfaces/${DEVICE}`) for (const one of hosts) if (one.link) void ensure(one).catch(() => {});
  }
}

/** The same flows without NATS, from each agent. */
async function observe({ flows }: Host): Promise<never> {
  for (;;) {
    await sleep(1000);
    try {
      const answers: AsyncIterable<ObserveFlowsResponse> = flows.observeFlows(ObserveFlowsRequest.fromPartial({ follow: true }));
      for await (const { batch } of answers) batch?.flows.forEach(seen);
    } catch {
      // Away; `follow` tells.
    }
  }
}

if (flags.nats) void listen();
else if (flags['on-demand']) void hosts.map(observe);
setInterval(() => {
  for (const [id, { untilMs }] of demands) if (untilMs < Date.now()) demands.delete(id);
  kick();
}, 1000);
await Promise.all(hosts.map(follow));
