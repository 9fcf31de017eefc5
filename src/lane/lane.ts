// What a lane is made of: devices, the attachments that the agent has declared, the streams that came with connections.

import type { Attachment, AttachmentState, StreamState } from '../gen/taplane/lane/v1/lane_service.ts';
import { Attachments } from './attachments.ts';
import { Devices } from './devices.ts';
import { type LaneLog, type PacketServer, startPacketServer } from './packet-server.ts';
import { Streams } from './streams.ts';

export interface Lane {
  setAttachments(wanted: readonly Attachment[]): void;
  attachments(): AttachmentState[];
  streams(): StreamState[];
  /** It holds something: a declared attachment that could be made, or a stream. */
  isUsed(): boolean;
  close(): Promise<void>;
}

/** Opens a lane whose packet socket is `packetSocket`. */
export async function openLane(packetSocket: string, log: LaneLog): Promise<Lane> {
  const devices = new Devices();
  const attachments = new Attachments(devices);
  const streams = new Streams(devices);
  const server: PacketServer = await startPacketServer(packetSocket, streams, log);
  return {
    setAttachments: (wanted) => attachments.set(wanted),
    attachments: () => attachments.states(),
    streams: () => streams.states(),
    isUsed: () => streams.size > 0 || attachments.states().some(({ attached }) => attached),
    async close() {
      await server.close();
      streams.close();
      attachments.close();
      devices.close();
    },
  };
}
