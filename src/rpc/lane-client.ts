// The agent's side of a lane's socket.

import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { type Attachment, type FlowLimits, type LaneState, LaneServiceService as methods } from '../gen/taplane/lane/v1/lane_service.ts';
import { LANE_MESSAGE_BYTES } from './limits.ts';

export interface LaneClient {
  /** Declares all attachments; rejects when the lane does not answer in time. */
  setAttachments(attachments: Attachment[], keepRunning: boolean, flowLimits?: FlowLimits): Promise<LaneState>;
  /** Reads its state; rejects when the lane does not answer in time. */
  getLane(): Promise<LaneState>;
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
  const ask = <Request>(method: Method<Request>, request: Request): Promise<LaneState> =>
    new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = method;
      const deadline = Date.now() + timeoutMs;
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, new Metadata(), { deadline }, (error, state) => {
        if (error) reject(error);
        else resolve(state as LaneState);
      });
    });
  return {
    setAttachments: (attachments, keepRunning, flowLimits) => ask(methods.setAttachments, { attachments, keepRunning, flowLimits }),
    getLane: () => ask(methods.getLane, {}),
    close: () => client.close(),
  };
}

interface Method<Request> {
  path: string;
  requestSerialize(request: Request): Buffer;
  responseDeserialize(bytes: Buffer): LaneState;
}
