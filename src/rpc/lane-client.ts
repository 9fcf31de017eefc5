// The agent's side of a lane's socket.

import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { type Attachment, type FlowLimits, type LaneState, LaneServiceService as methods } from '../gen/taplane/lane/v1/lane_service.ts';
import { LANE_MESSAGE_BYTES } from './limits.ts';

export interface LaneClient {
  /** Declares all attachments; rejects when the lane does not answer in time. */
  setAttachments(attachments: Attachment[], keepRunning: boolean, flowLimits?: FlowLimits): Promise<LaneState>;
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
  const { path: method, requestSerialize, responseDeserialize } = methods.setAttachments;
  return {
    setAttachments: (attachments, keepRunning, flowLimits) =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(
          method,
          requestSerialize,
          responseDeserialize,
          { attachments, keepRunning, flowLimits },
          new Metadata(),
          { deadline: Date.now() + timeoutMs },
          (error, state) => {
            if (error) reject(error);
            else resolve(state as LaneState);
          },
        );
      }),
    close: () => client.close(),
  };
}
