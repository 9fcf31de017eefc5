// The agent's side of a lane's socket.

import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { TaplaneError } from '../errors.ts';
import { type Attachment, type FlowLimits, type LaneState, LaneServiceService as methods } from '../gen/taplane/lane/v1/lane_service.ts';
import type { ProbeLinkRequest, ProbeLinkResponse } from '../gen/taplane/v1/link_service.ts';
import { LANE_MESSAGE_BYTES } from './limits.ts';
import { decodeStatus } from './status.ts';

export interface LaneClient {
  /**
   * Declares all attachments; rejects when the lane does not answer in time. With `process`, the state of a lane, only that process takes it.
   * `patienceMs` is waited beyond the usual; `logLevel` is the least that the lane logs.
   */
  setAttachments(
    attachments: Attachment[],
    keepRunning: boolean,
    flowLimits?: FlowLimits,
    process?: Pick<LaneState, 'pid' | 'instance'>,
    patienceMs?: number,
    logLevel?: string,
  ): Promise<LaneState>;
  /** Reads its state; rejects when the lane does not answer in time. */
  getLane(): Promise<LaneState>;
  /** Probes a peer of a link until its result; rejects with TaplaneError. */
  probePeer(linkUid: string, probe: ProbeLinkRequest, signal: AbortSignal): AsyncIterable<ProbeLinkResponse>;
  close(): void;
}

/** Connects with the first call. */
export function connectLane(path: string, timeoutMs: number): LaneClient {
  const client = new Client(`unix:${path}`, credentials.createInsecure(), {
    'grpc.default_authority': 'lane',
    'grpc.max_receive_message_length': LANE_MESSAGE_BYTES,
    'grpc.max_send_message_length': LANE_MESSAGE_BYTES,
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
    'grpc.use_local_subchannel_pool': 1,
    // A lane that was restarted is to be reached at once.
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.min_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 500,
  });
  /** Rejects when no answer comes in time. */
  const ask = <Request>(method: Method<Request>, request: Request, waitMs: number): Promise<LaneState> =>
    new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = method;
      const deadline = Date.now() + waitMs;
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, new Metadata(), { deadline }, (error, state) => {
        if (error) reject(error);
        else resolve(state as LaneState);
      });
    });
  return {
    setAttachments: (attachments, keepRunning, flowLimits, { pid, instance } = { pid: 0, instance: '' }, patienceMs = 0, logLevel = '') =>
      ask(methods.setAttachments, { attachments, keepRunning, flowLimits, pid, instance, logLevel }, timeoutMs + patienceMs),
    getLane: () => ask(methods.getLane, {}, timeoutMs),
    async *probePeer(linkUid, probe, signal) {
      const { path, requestSerialize, responseDeserialize } = methods.probePeer;
      const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, { linkUid, probe });
      // grpc-js emits the status of a cancelled call as an error after the iterator has stopped listening.
      call.on('error', () => {});
      const cancel = (): void => call.cancel();
      if (signal.aborted) cancel();
      signal.addEventListener('abort', cancel, { once: true });
      try {
        yield* call as AsyncIterable<ProbeLinkResponse>;
      } catch (error) {
        throw laneFailure(error as ServiceError);
      } finally {
        signal.removeEventListener('abort', cancel);
        call.cancel();
      }
    },
    close: () => client.close(),
  };
}

interface Method<Request> {
  path: string;
  requestSerialize(request: Request): Buffer;
  responseDeserialize(bytes: Buffer): LaneState;
}

/** What a lane has refused, in its own words; UNAVAILABLE when it was not there. */
function laneFailure(error: ServiceError): TaplaneError {
  const { code, reason, message, fields, preconditions, metadata, retryAfterMs } = decodeStatus(error);
  if (reason === '' || code === 'UNKNOWN' || code === 'DATA_LOSS')
    return new TaplaneError('UNAVAILABLE', 'LANE_UNAVAILABLE', `ask the data-plane process: ${message}`, { retryAfterMs: 250 });
  const options = { fields, preconditions, metadata, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
  return new TaplaneError(code, reason, message, options);
}
