// The client of an agent: typed calls as promises, streams as async iterables, errors decoded.
//
// `interfaces`, `responders` and `links` are the same contracts that their rooms fulfil inside the agent, seen through the wire. A stream
// ends the call when its consumer stops, its signal aborts or the client closes. After `close` no socket or timer is left.

import { type CallOptions, Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { TaplaneError } from '../errors.ts';
import type { Flows } from '../flow/contract.ts';
import {
  AuditServiceService as auditMethods,
  type ListAuditRecordsRequest,
  type ListAuditRecordsResponse,
  type VerifyAuditLogResponse,
} from '../gen/taplane/v1/audit_service.ts';
import { type FlowStats, FlowServiceService as flowMethods } from '../gen/taplane/v1/flow_service.ts';
import { InterfaceServiceService as interfaceMethods } from '../gen/taplane/v1/interface_service.ts';
import { LinkServiceService as linkMethods } from '../gen/taplane/v1/link_service.ts';
import {
  type Caller,
  type CollectSupportBundleResponse,
  type Node,
  NodeServiceService as nodeMethods,
  type SetLogLevelRequest,
  type SetLogLevelResponse,
} from '../gen/taplane/v1/node_service.ts';
import { PacketServiceService as packetMethods } from '../gen/taplane/v1/packet_service.ts';
import { ResponderServiceService as responderMethods } from '../gen/taplane/v1/responder_service.ts';
import type { Interfaces, Responders } from '../interface/contract.ts';
import type { Links } from '../link/contract.ts';
import { DEFAULT_LIMITS } from './limits.ts';
import { formatAddress, parseListenAddress } from './listen-address.ts';
import { openStream, type PacketClient } from './packet-client.ts';
import { type DecodedStatus, decodeStatus } from './status.ts';
import { type ClientTls, clientCredentials, explainTls, nameOption, wantsTls } from './tls-client.ts';

export type { PacketClient, PacketStream } from './packet-client.ts';
export type { ClientTls } from './tls-client.ts';

/** An answer that is not OK, or no answer. */
export class ClientError extends Error implements DecodedStatus {
  override readonly name = 'ClientError';
  readonly code: DecodedStatus['code'];
  readonly reason: string;
  readonly fields: DecodedStatus['fields'];
  readonly preconditions: DecodedStatus['preconditions'];
  readonly metadata: DecodedStatus['metadata'];
  readonly retryAfterMs: number | undefined;
  /** Where the call went. */
  readonly server: string;

  constructor(status: DecodedStatus, server: string) {
    super(status.message);
    this.code = status.code;
    this.reason = status.reason;
    this.fields = status.fields;
    this.preconditions = status.preconditions;
    this.metadata = status.metadata;
    this.retryAfterMs = status.retryAfterMs;
    this.server = server;
  }
}

export interface TaplaneClient extends AsyncDisposable {
  readonly interfaces: Interfaces;
  readonly responders: Responders;
  readonly links: Links;
  readonly packets: PacketClient;
  readonly flows: Pick<Flows, 'observe'> & { stats(): Promise<FlowStats> };
  readonly node: {
    getNode(): Promise<Node>;
    getCaller(): Promise<Caller>;
    setLogLevel(request: SetLogLevelRequest): Promise<SetLogLevelResponse>;
    /** One tar.gz in pieces. */
    supportBundle(signal: AbortSignal): AsyncIterable<CollectSupportBundleResponse>;
  };
  readonly audit: { list(request: ListAuditRecordsRequest): Promise<ListAuditRecordsResponse>; verify(): Promise<VerifyAuditLogResponse> };
  close(): void;
}

interface ClientMethod<Request, Response> {
  path: string;
  requestSerialize(message: Request): Buffer;
  responseDeserialize(bytes: Buffer): Response;
}

export interface ConnectOptions {
  timeoutMs: number;
  /** For HOST:PORT, which is plaintext when nothing is given here. */
  tls?: ClientTls | undefined;
}

/**
 * `server` is `unix:PATH` or `HOST:PORT`, else a ClientError is thrown, as when files of TLS cannot be used. Connects with the first call; unary calls
 * fail after `timeoutMs`, streams never.
 */
export function connect(server: string, options: ConnectOptions): TaplaneClient {
  const { target, host, tls } = targetOf(server, options.tls);
  const secured = tls && asClientError(target, () => clientCredentials(tls, host));
  const client = new Client(target, secured ?? credentials.createInsecure(), {
    ...(tls && nameOption(tls, host)),
    'grpc.max_receive_message_length': DEFAULT_LIMITS.maxMessageBytes,
    'grpc.max_send_message_length': DEFAULT_LIMITS.maxMessageBytes,
    'grpc.keepalive_time_ms': DEFAULT_LIMITS.keepaliveTimeMs,
    'grpc.keepalive_timeout_ms': DEFAULT_LIMITS.keepaliveTimeoutMs,
    'grpc.default_authority': 'taplane',
    // A proxy of the environment has no business between us and a local socket; nor has a DNS look-up of a service config.
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
    // With a pool of its own, close() closes the connection.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_channelz': 0,
  });
  const closed = new AbortController();
  const failed = (error: ServiceError) => new ClientError(readable(decodeStatus(error), target, tls), target);

  const unary = <Request, Response>(method: ClientMethod<Request, Response>) => {
    return (request: Request): Promise<Response> =>
      new Promise((resolve, reject) => {
        const callOptions: CallOptions = { deadline: Date.now() + options.timeoutMs };
        client.makeUnaryRequest(
          method.path,
          method.requestSerialize,
          method.responseDeserialize,
          request,
          new Metadata(),
          callOptions,
          (error, response) => {
            if (error) reject(failed(error));
            else resolve(response as Response);
          },
        );
      });
  };
  const stream = <Request, Response>(method: ClientMethod<Request, Response>) =>
    async function* (request: Request, signal: AbortSignal): AsyncGenerator<Response> {
      const ending = AbortSignal.any([signal, closed.signal]);
      if (ending.aborted) return;
      const call = client.makeServerStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, request);
      // grpc-js emits the status of a cancelled call as an error after the iterator has stopped listening.
      call.on('error', () => {});
      const cancel = () => call.cancel();
      ending.addEventListener('abort', cancel, { once: true });
      try {
        yield* call as AsyncIterable<Response>;
      } catch (error) {
        if (!ending.aborted) throw failed(error as ServiceError);
      } finally {
        ending.removeEventListener('abort', cancel);
        call.cancel();
      }
    };

  const close = () => {
    closed.abort();
    client.close();
  };
  return {
    interfaces: {
      create: unary(interfaceMethods.createInterface),
      get: unary(interfaceMethods.getInterface),
      list: unary(interfaceMethods.listInterfaces),
      update: unary(interfaceMethods.updateInterface),
      delete: unary(interfaceMethods.deleteInterface),
      watch: stream(interfaceMethods.watchInterfaces),
      addAddress: unary(interfaceMethods.addAddress),
      removeAddress: unary(interfaceMethods.removeAddress),
      addRoute: unary(interfaceMethods.addRoute),
      removeRoute: unary(interfaceMethods.removeRoute),
      adopt: unary(interfaceMethods.adoptInterface),
    },
    responders: {
      create: unary(responderMethods.createResponder),
      get: unary(responderMethods.getResponder),
      list: unary(responderMethods.listResponders),
      delete: unary(responderMethods.deleteResponder),
    },
    links: {
      create: unary(linkMethods.createLink),
      get: unary(linkMethods.getLink),
      list: unary(linkMethods.listLinks),
      update: unary(linkMethods.updateLink),
      delete: unary(linkMethods.deleteLink),
      watch: stream(linkMethods.watchLinks),
      probe: stream(linkMethods.probeLink),
    },
    packets: {
      capture: stream(packetMethods.capturePackets),
      stream: (open) => openStream({ client, closed: closed.signal, failed }, open),
    },
    flows: { observe: stream(flowMethods.observeFlows), stats: () => unary(flowMethods.getFlowStats)({}) },
    node: {
      getNode: () => unary(nodeMethods.getNode)({}),
      getCaller: () => unary(nodeMethods.getCaller)({}),
      setLogLevel: unary(nodeMethods.setLogLevel),
      supportBundle: (signal) => stream(nodeMethods.collectSupportBundle)({}, signal),
    },
    audit: { list: unary(auditMethods.listAuditRecords), verify: () => unary(auditMethods.verifyAuditLog)({}) },
    close,
    async [Symbol.asyncDispose]() {
      close();
    },
  };
}

/** What grpc-js itself says of a server that is not there, in our form: verb, object, cause; and the cure, where TLS is the matter. */
function readable(status: DecodedStatus, target: string, tls: ClientTls | undefined): DecodedStatus {
  if (status.code !== 'UNAVAILABLE' || status.reason !== '') return status;
  const said = /^No connection established\. Last error: (?:Error: )?(.*?)\.? Resolution note: .*$/s.exec(status.message)?.[1];
  const failure = target.startsWith('unix:') ? undefined : explainTls(said ?? status.message, tls);
  if (failure !== undefined) {
    const preconditions = [{ type: 'TLS', subject: target, description: failure.cure }];
    return { ...status, reason: 'TLS_FAILED', message: `reach the agent on ${target}: ${failure.cause}`, preconditions };
  }
  return said === undefined ? status : { ...status, message: `reach the agent on ${target}: ${said || 'no connection'}` };
}

function targetOf(server: string, tls: ClientTls | undefined): { target: string; host: string; tls: ClientTls | undefined } {
  return asClientError(server, () => {
    const address = parseListenAddress(server);
    // A unix socket has a mode and needs no TLS, whatever the environment says for other addresses.
    if (address.kind === 'unix') return { target: formatAddress(address), host: '', tls: undefined };
    return { target: formatAddress(address), host: address.host, tls: wantsTls(tls) ? tls : undefined };
  });
}

function asClientError<Result>(server: string, run: () => Result): Result {
  try {
    return run();
  } catch (error) {
    if (error instanceof TaplaneError) throw new ClientError(statusOf(error), server);
    throw error;
  }
}

function statusOf(error: TaplaneError): DecodedStatus {
  const { code, message, reason, metadata, retryAfterMs } = error;
  return {
    code,
    message,
    reason,
    fields: [...error.fields],
    preconditions: [...error.preconditions],
    metadata: { ...metadata },
    retryAfterMs,
  };
}
