// The gRPC server of the agent: our services, health and reflection on unix sockets and, in the clear, on loopback.
//
// Start: every address is checked before any is bound; when one fails, all are released and the error is thrown.
// Stop: health says NOT_SERVING, calls get `graceMs` to end, the rest is cut, the sockets are gone. Twice is once.

import { Server, ServerCredentials } from '@grpc/grpc-js';
import { TaplaneError } from '../errors.ts';
import type { Flows } from '../flow/contract.ts';
import type { Interfaces, Responders } from '../interface/contract.ts';
import type { Links } from '../link/contract.ts';
import { FLOW_SERVICE, flowService } from './flow-service.ts';
import { addHealth } from './health.ts';
import { INTERFACE_SERVICE, interfaceService } from './interface-service.ts';
import { DEFAULT_LIMITS, metadataLimit, type ServerLimits, serverOptions } from './limits.ts';
import { LINK_SERVICE, linkService } from './link-service.ts';
import { formatAddress, type ListenAddress, parseListenAddress } from './listen-address.ts';
import { NODE_SERVICE, type NodeFacts, nodeService } from './node-service.ts';
import { PACKET_SERVICE, type Packets, packetService } from './packet-service.ts';
import { addReflection } from './reflection.ts';
import { RESPONDER_SERVICE, responderService } from './responder-service.ts';
import { type ErrorLog, errorExit } from './status.ts';
import { type ReservedSocket, reserveSocket } from './unix-socket.ts';

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
  log: ErrorLog;
  /** What is not given is as in DEFAULT_LIMITS. */
  limits?: Partial<ServerLimits>;
  /** Allow TCP without TLS, on loopback only. */
  insecureLoopback?: boolean;
}

export interface RunningServer {
  /** As in `listen`, with the ports that were taken. */
  readonly addresses: readonly string[];
  /** Health of a service by its full name; empty for the whole server. Everything starts as not serving; services that are not there stay unknown. */
  setServing(service: string, serving: boolean): void;
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
] as const;

export async function startServer(needs: ServerNeeds): Promise<RunningServer> {
  const limits = { ...DEFAULT_LIMITS, ...needs.limits };
  const wanted = needs.listen.map((text) => checked(parseListenAddress(text), needs.insecureLoopback === true));
  const server = new Server({ ...serverOptions(limits), interceptors: [metadataLimit(limits.maxMetadataBytes)] });
  const exit = errorExit(needs.log);
  const handlerNeeds = { exit, maxMessageBytes: limits.maxMessageBytes, maxPendingBytes: limits.maxPendingBytes };
  for (const { definition, handlers } of [
    interfaceService(needs.interfaces, handlerNeeds),
    responderService(needs.responders, handlerNeeds),
    ...(needs.links ? [linkService(needs.links, handlerNeeds)] : []),
    packetService(needs.packets, handlerNeeds),
    ...(needs.flows ? [flowService(needs.flows, handlerNeeds)] : []),
    nodeService(needs.node, handlerNeeds),
  ]) {
    server.addService(definition, handlers);
  }
  const health = addHealth(server, exit);
  const absent = [...(needs.flows ? [] : [FLOW_SERVICE]), ...(needs.links ? [] : [LINK_SERVICE])];
  const services = HEALTH_SERVICES.filter((service) => !absent.includes(service));
  const setServing = (service: string, serving: boolean): void => {
    if (services.some((name) => name === service)) health.setServing(service, serving);
  };
  for (const service of services) setServing(service, false);
  addReflection(server, exit);

  const sockets: ReservedSocket[] = [];
  const release = async () => {
    await Promise.all(sockets.map((socket) => socket.remove()));
  };
  const addresses: string[] = [];
  try {
    for (const address of wanted) addresses.push(await bind(server, address, sockets));
  } catch (error) {
    server.forceShutdown();
    await release();
    throw error;
  }

  const stop = async (graceMs: number) => {
    for (const service of services) setServing(service, false);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => server.forceShutdown(), graceMs);
      // Also calls back after a forced shutdown, once the last session is gone.
      server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    await release();
  };
  let stopping: Promise<void> | undefined;
  return { addresses, setServing, stop: (graceMs) => (stopping ??= stop(graceMs)) };
}

async function bind(server: Server, address: ListenAddress, sockets: ReservedSocket[]): Promise<string> {
  if (address.kind === 'tcp') return formatAddress({ ...address, port: await bound(server, address) });
  const socket = await reserveSocket(address.path);
  sockets.push(socket);
  await socket.bind(() => bound(server, address));
  return formatAddress(address);
}

function bound(server: Server, address: ListenAddress): Promise<number> {
  const target = formatAddress(address);
  return new Promise((resolve, reject) => {
    server.bindAsync(target, ServerCredentials.createInsecure(), (error, port) => {
      if (error)
        reject(
          new TaplaneError('FAILED_PRECONDITION', 'LISTEN_FAILED', `listen on ${target}: ${error.message}`, {
            cause: error,
            metadata: { address: target },
          }),
        );
      else resolve(port);
    });
  });
}

function checked(address: ListenAddress, insecureLoopback: boolean): ListenAddress {
  if (address.kind === 'unix' || (address.loopback && insecureLoopback)) return address;
  const target = formatAddress(address);
  const cure = address.loopback
    ? 'TCP without TLS needs --insecure-loopback; every local user may then call the agent'
    : 'TCP beyond loopback needs TLS, which this version does not have: use unix:PATH, or a loopback address with --insecure-loopback';
  throw new TaplaneError('FAILED_PRECONDITION', 'INSECURE_ADDRESS', `listen on ${target}: ${cure}`, { metadata: { address: target } });
}
