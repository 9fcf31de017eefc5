// Every limit of grpc-js, said aloud: by default it has no bound on streams, session memory, answers, age or idle time.

import type { SecureServerOptions } from 'node:http2';
import { type ChannelOptions, type Server, ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';
import { TaplaneError } from '../errors.ts';
import type { ConnectionLimits } from './connections.ts';
import type { Gate } from './gate.ts';
import { toServiceError } from './status.ts';

export interface ServerLimits extends ConnectionLimits {
  /** Calls in progress on one connection; more wait in the client. */
  maxConcurrentStreams: number;
  /** Largest request and answer, bytes. */
  maxMessageBytes: number;
  /** Largest metadata of a call, bytes, counted as HTTP/2 does (name + value + 32 an entry). */
  maxMetadataBytes: number;
  /** Memory of one connection, MB (10^6 bytes), headers and queued frames together. */
  maxSessionMemoryMb: number;
  /** What one stream may have waiting for a slow client, bytes. */
  maxPendingBytes: number;
  /** A silent connection is pinged after this long, and closed when no answer comes, milliseconds. */
  keepaliveTimeMs: number;
  keepaliveTimeoutMs: number;
  /** A connection is asked to end after this long (grpc-js varies it by a tenth), and made to after the grace, milliseconds. */
  maxConnectionAgeMs: number;
  maxConnectionAgeGraceMs: number;
  /** A connection without calls ends after this long, milliseconds. */
  maxConnectionIdleMs: number;
}

/** A batch of packets: the frames that are asked for at most, and what stands around them. */
const BATCH_MOST_BYTES = 1_048_576 + 131_072;

export const DEFAULT_LIMITS: Readonly<ServerLimits> = {
  maxConnections: 256,
  maxConnectionsPerClient: 64,
  maxHandshakes: 64,
  maxHandshakesPerAddress: 16,
  handshakeTimeoutMs: 5_000,
  firstCallTimeoutMs: 20_000,
  maxConcurrentStreams: 100,
  maxMessageBytes: 4 * 1024 * 1024,
  maxMetadataBytes: 16 * 1024,
  maxSessionMemoryMb: 64,
  maxPendingBytes: 256 * 1024,
  keepaliveTimeMs: 60_000,
  keepaliveTimeoutMs: 10_000,
  maxConnectionAgeMs: 30 * 60_000,
  maxConnectionAgeGraceMs: 5 * 60_000,
  maxConnectionIdleMs: 15 * 60_000,
};

/** Between agent and lane: all attachments of a node in one message, however many the limits allow. */
export const LANE_MESSAGE_BYTES = 256 * 1024 * 1024;

/** As options of grpc-js. */
export function serverOptions(limits: ServerLimits): ChannelOptions {
  return {
    'grpc.max_concurrent_streams': limits.maxConcurrentStreams,
    'grpc.max_receive_message_length': limits.maxMessageBytes,
    // Batches of packets have a bound of their own, see packet_service.proto.
    'grpc.max_send_message_length': Math.max(limits.maxMessageBytes, BATCH_MOST_BYTES),
    'grpc-node.max_session_memory': limits.maxSessionMemoryMb,
    'grpc.keepalive_time_ms': limits.keepaliveTimeMs,
    'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
    'grpc.max_connection_age_ms': limits.maxConnectionAgeMs,
    'grpc.max_connection_age_grace_ms': limits.maxConnectionAgeGraceMs,
    'grpc.max_connection_idle_ms': limits.maxConnectionIdleMs,
    // Not `grpc.enable_channelz: 0`: grpc-js 1.14 then forgets its sessions, and forceShutdown() never ends.
  };
}

/** Streams that a client may reset at once and in each second after; cancelled calls are seldom and few. Every one has cost us a call. */
const RESET_BURST = 100;
const RESETS_PER_SECOND = 20;

/**
 * Bounds of Node's HTTP/2 for which grpc-js has no option, but an object that it hands on: to be called before the first listener or injector. A client
 * that exceeds one loses its connection. Throws when grpc-js has changed.
 */
export function boundSessions(server: Server, limits: ServerLimits): void {
  const { commonServerOptions: options } = server as unknown as { commonServerOptions?: SecureServerOptions };
  if (options?.maxSessionMemory !== limits.maxSessionMemoryMb) throw new Error('grpc-js no longer has commonServerOptions');
  options.streamResetBurst = RESET_BURST;
  options.streamResetRate = RESETS_PER_SECOND;
  // Beyond the streams that it may have open.
  options.maxSessionRejectedStreams = 100;
  options.maxSessionInvalidFrames = 100;
  // Told to clients; what exceeds the limit of metadata but not this gets a status.
  options.settings = { ...options.settings, maxHeaderListSize: 4 * limits.maxMetadataBytes };
}

/** Refuses calls with too much metadata; grpc-js has no option for it, and Node's own bound is 64 KiB. */
export function metadataLimit(maxBytes: number): ServerInterceptor {
  return (method, call) =>
    new ServerInterceptingCall(call, {
      start(next) {
        next({
          onReceiveMetadata(metadata, pass) {
            let bytes = 0;
            for (const [key, values] of Object.entries(metadata.toHttp2Headers())) {
              for (const value of Array.isArray(values) ? values : [values]) bytes += key.length + String(value).length + 32;
            }
            if (bytes <= maxBytes) return pass(metadata);
            const error = new TaplaneError(
              'RESOURCE_EXHAUSTED',
              'METADATA_TOO_LARGE',
              `read metadata of ${method.path}: ${bytes} bytes exceed the limit of ${maxBytes}`,
              {
                metadata: { subject: 'metadata', limitBytes: String(maxBytes) },
              },
            );
            call.sendStatus(toServiceError(error));
          },
        });
      },
    });
}

/**
 * Tells `called` of every call, by the name of its connection. What it throws is the end of the call. `stranger` hears of those whose caller nobody knows,
 * before their answer.
 */
export function knownCallers(called: (peer: string, path: string) => void, stranger: Gate['stranger']): ServerInterceptor {
  return (method, call) => {
    try {
      called(call.getPeer(), method.path);
      // Nothing is to be changed on the way: the call itself, without a layer around it.
      return call as ServerInterceptingCall;
    } catch (thrown) {
      const error = thrown as TaplaneError;
      const refuse = () => call.sendStatus(toServiceError(error));
      return new ServerInterceptingCall(call, {
        start() {
          if (stranger === undefined || error.code !== 'UNAUTHENTICATED') refuse();
          else stranger(method.path, error).then(refuse, refuse);
        },
      });
    }
  };
}
