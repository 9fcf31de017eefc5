// The server of a lane on its unix socket. It asks nobody who they are, so that its mode is 0600: the group of the agent's socket, whom a policy limits, must
// not come past the policy here.

import { Server, ServerCredentials } from '@grpc/grpc-js';
import {
  type LaneState,
  LaneServiceService as methods,
  type ProbePeerRequest,
  type SetAttachmentsRequest,
} from '../gen/taplane/lane/v1/lane_service.ts';
import type { ProbeLinkResponse } from '../gen/taplane/v1/link_service.ts';
import { OPEN_GATE } from './gate.ts';
import { rawMethod, serverStream, unary } from './handlers.ts';
import { DEFAULT_LIMITS, LANE_MESSAGE_BYTES, metadataLimit, serverOptions } from './limits.ts';
import { NOBODY } from './observed.ts';
import { type ErrorLog, errorExit } from './status.ts';
import { OWNER_MODE, reserveSocket } from './unix-socket.ts';

/** What the service needs of the lane. */
export interface LaneFacts {
  getLane(): LaneState;
  /** Throws TaplaneError OTHER_LANE when another process is meant. */
  setAttachments(request: SetAttachmentsRequest): LaneState;
  probePeer(request: ProbePeerRequest, signal: AbortSignal): AsyncIterable<ProbeLinkResponse>;
}

/** Serves on `path`. Throws TaplaneError SOCKET_IN_USE when another lane does. */
export async function startLaneServer(path: string, lane: LaneFacts, log: ErrorLog): Promise<{ stop(): Promise<void> }> {
  const limits = { ...DEFAULT_LIMITS, maxMessageBytes: LANE_MESSAGE_BYTES };
  const server = new Server({ ...serverOptions(limits), interceptors: [metadataLimit(limits.maxMetadataBytes)] });
  const needs = {
    exit: errorExit(log),
    gate: OPEN_GATE,
    calls: NOBODY,
    maxMessageBytes: LANE_MESSAGE_BYTES,
    maxPendingBytes: DEFAULT_LIMITS.maxPendingBytes,
  };
  server.addService(
    {
      getLane: rawMethod(methods.getLane),
      setAttachments: rawMethod(methods.setAttachments),
      probePeer: rawMethod(methods.probePeer),
    },
    {
      getLane: unary(methods.getLane, needs, async () => lane.getLane()),
      setAttachments: unary(methods.setAttachments, needs, async (request) => lane.setAttachments(request)),
      probePeer: serverStream(methods.probePeer, needs, (request, { signal }) => lane.probePeer(request, signal)),
    },
  );
  const socket = await reserveSocket(path, OWNER_MODE);
  try {
    await socket.bind(
      () =>
        new Promise<number>((resolve, reject) => {
          server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error, port) => (error ? reject(error) : resolve(port)));
        }),
    );
  } catch (error) {
    server.forceShutdown();
    await socket.remove();
    throw error;
  }
  return {
    async stop() {
      server.forceShutdown();
      await socket.remove();
    },
  };
}
