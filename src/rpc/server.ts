// The gRPC server of the agent: our services, health and reflection on unix sockets, on TCP with TLS and, in the clear, on loopback.
//
// Start: every address is checked before any is bound; when one fails, all are released and the error is thrown.
// Stop: health says NOT_SERVING, nobody new is let in, every connection is told (GOAWAY), calls get `graceMs` to end, the rest is cut, the sockets
// are gone. Twice is once.

import type { Socket } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { TaplaneError } from '../errors.ts';
import type { Flows } from '../flow/contract.ts';
import type { Interfaces, Responders } from '../interface/contract.ts';
import type { Links } from '../link/contract.ts';
import { AUDIT_SERVICE, type AuditRecords, auditService } from './audit-service.ts';
import { boundBursts } from './bursts.ts';
import { type ConnectionCounts, ConnectionTable } from './connections.ts';
import { FLOW_SERVICE, flowService } from './flow-service.ts';
import { type Gate, OPEN_GATE } from './gate.ts';
import { addHealth } from './health.ts';
import { INTERFACE_SERVICE, interfaceService } from './interface-service.ts';
import { boundSessions, DEFAULT_LIMITS, knownCallers, metadataLimit, type ServerLimits, serverOptions } from './limits.ts';
import { LINK_SERVICE, linkService } from './link-service.ts';
import { formatAddress, type ListenAddress, parseListenAddress } from './listen-address.ts';
import { type Listener, listen, type PeerCredentials } from './listeners.ts';
import { NODE_SERVICE, type NodeFacts, nodeService } from './node-service.ts';
import { type CallObserver, NOBODY } from './observed.ts';
import { PACKET_SERVICE, type Packets, packetService } from './packet-service.ts';
import { addReflection } from './reflection.ts';
import { type ListenLog, RefusalLog } from './refusals.ts';
import { RESPONDER_SERVICE, responderService } from './responder-service.ts';
import { type ErrorLog, errorExit } from './status.ts';
import type { TlsFiles } from './tls-files.ts';
import { type TlsListeners, tlsListeners } from './tls-listener.ts';
import type { TlsState } from './tls-reload.ts';

export interface ServerNeeds {
  /** `unix:PATH` or `HOST:PORT`; port 0 takes a free one. */
  listen: readonly string[];
  interfaces: Interfaces;
  responders: Responders;
  packets: Packets;
  /** Without them there is no LinkService. */
  links?: Links;
  /** Without them there is no FlowService. */
  flows?: Flows;
  node: NodeFacts;
  /** Without them there is no AuditService. */
  audit?: AuditRecords;
  log: ErrorLog & ListenLog;
  /** What every call passes, next to what is known of its caller; what is not given lets everything in and writes nothing down. */
  gate?: Partial<Omit<Gate, 'callerOf'>>;
  /** Who is at the other end of an accepted unix socket (SO_PEERCRED). */
  peerCredentials: PeerCredentials;
  /** Who counts calls; without one nobody does. */
  calls?: CallObserver;
  /** What is not given is as in DEFAULT_LIMITS. */
  limits?: Partial<ServerLimits>;
  /** Allow TCP without TLS, on loopback only; then no loopback address has TLS. */
  insecureLoopback?: boolean;
  /** For TCP beyond loopback, and on it without `insecureLoopback`. */
  tls?: TlsFiles | undefined;
  /** How often these files are looked at, milliseconds. */
  tlsReloadMs?: number;
  /** Let callers over TLS ask for the descriptors too. */
  reflection?: boolean;
}

export interface RunningServer {
  /** As in `listen`, with the ports that were taken. */
  readonly addresses: readonly string[];
  /** Health of a service by its full name; empty for the whole server. Everything starts as not serving; services that are not there stay unknown. */
  setServing(service: string, serving: boolean): void;
  /** For metrics. */
  connections(): ConnectionCounts;
  /** Of the certificate; undefined without TLS. */
  tls(): TlsState | undefined;
  stop(graceMs: number): Promise<void>;
}

/** Full names of the services whose health is known, the whole server first. */
export const HEALTH_SERVICES = [
  '',
  INTERFACE_SERVICE,
  RESPONDER_SERVICE,
  LINK_SERVICE,
  PACKET_SERVICE,
  FLOW_SERVICE,
  NODE_SERVICE,
  AUDIT_SERVICE,
] as const;

/** A socket that was cut is closed in the next turn of the loop; this is only to never wait for it. */
const CLOSE_MS = 1_000;

/** Listens on all addresses, or on none: throws TaplaneError with everything closed again. */
export async function startServer(needs: ServerNeeds): Promise<RunningServer> {
  const limits = { ...DEFAULT_LIMITS, ...needs.limits };
  const wanted = needs.listen.map((text) => checked(parseListenAddress(text), needs));
  const refusals = new RefusalLog(needs.log);
  const table = new ConnectionTable(limits, refusals);
  const server = new Server({
    ...serverOptions(limits),
    // The last is asked first.
    interceptors: [metadataLimit(limits.maxMetadataBytes), knownCallers((peer, path) => table.called(peer, path), needs.gate?.stranger)],
  });
  boundSessions(server, limits);
  const exit = errorExit(needs.log);
  const handlerNeeds = {
    exit,
    gate: { ...OPEN_GATE, ...needs.gate, callerOf: (peer: string) => table.callerOf(peer) },
    calls: needs.calls ?? NOBODY,
    maxMessageBytes: limits.maxMessageBytes,
    maxPendingBytes: limits.maxPendingBytes,
  };
  for (const { definition, handlers } of [
    interfaceService(needs.interfaces, handlerNeeds),
    responderService(needs.responders, handlerNeeds),
    ...(needs.links ? [linkService(needs.links, handlerNeeds)] : []),
    packetService(needs.packets, handlerNeeds),
    ...(needs.flows ? [flowService(needs.flows, handlerNeeds)] : []),
    nodeService(needs.node, handlerNeeds),
    ...(needs.audit ? [auditService(needs.audit, handlerNeeds)] : []),
  ]) {
    server.addService(definition, handlers);
  }
  const health = addHealth(server, exit);
  const absent = [...(needs.flows ? [] : [FLOW_SERVICE]), ...(needs.links ? [] : [LINK_SERVICE]), ...(needs.audit ? [] : [AUDIT_SERVICE])];
  const services = HEALTH_SERVICES.filter((service) => !absent.includes(service));
  const setServing = (service: string, serving: boolean): void => {
    if (services.some((name) => name === service)) health.setServing(service, serving);
  };
  for (const service of services) setServing(service, false);
  addReflection(server, exit, (peer) => needs.reflection === true || table.callerOf(peer)?.kind !== 'tls');

  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  boundBursts(server, limits.maxConcurrentStreams);
  const inject = (socket: Socket) => injector.injectConnection(socket);
  const listeners: Listener[] = [];
  let tls: TlsListeners | undefined;
  const release = async () => {
    for (const listener of listeners) listener.close();
    tls?.stop();
    table.close();
    table.cut();
    await table.drained(CLOSE_MS);
    await Promise.all(listeners.map((listener) => listener.remove()));
  };
  try {
    if (needs.tls && wanted.some((address) => usesTls(address, needs)))
      tls = tlsListeners({ files: needs.tls, table, inject, reloadMs: needs.tlsReloadMs, log: needs.log });
    const { peerCredentials, log } = needs;
    for (const address of wanted)
      listeners.push(await listen(address, { table, inject, peerCredentials, tls: usesTls(address, needs) ? tls : undefined, log }));
  } catch (error) {
    server.forceShutdown();
    await release();
    throw error;
  }

  const stop = async (graceMs: number) => {
    for (const service of services) setServing(service, false);
    for (const listener of listeners) listener.close();
    table.close();
    // It tells every session, but does not wait for those of injected connections: the table does.
    server.tryShutdown(() => {});
    await table.drained(graceMs);
    server.forceShutdown();
    await release();
  };
  let stopping: Promise<void> | undefined;
  return {
    addresses: listeners.map(({ address }) => address),
    setServing,
    connections: () => table.counts(),
    tls: () => tls?.state(),
    stop: (graceMs) => (stopping ??= stop(graceMs)),
  };
}

type TlsNeeds = Pick<ServerNeeds, 'insecureLoopback' | 'tls'>;

function usesTls(address: ListenAddress, { insecureLoopback }: TlsNeeds): boolean {
  return address.kind === 'tcp' && !(address.loopback && insecureLoopback === true);
}

function checked(address: ListenAddress, needs: TlsNeeds): ListenAddress {
  if (!usesTls(address, needs) || needs.tls !== undefined) return address;
  const target = formatAddress(address);
  const tls = 'give certificate, key and client CA: --tls-cert, --tls-key, --tls-client-ca';
  const cure =
    address.kind === 'tcp' && address.loopback
      ? `TCP without TLS needs --insecure-loopback; every local user may then call the agent. For TLS ${tls}`
      : `TCP beyond loopback needs TLS: ${tls}`;
  throw new TaplaneError('FAILED_PRECONDITION', 'INSECURE_ADDRESS', `listen on ${target}: ${cure}`, { metadata: { address: target } });
}
