// What a lane is made of: devices, the attachments that the agent has declared, the streams that came with connections.

import {
  type Attachment,
  type AttachmentState,
  type FlowLimits,
  Attachment_Kind as Kind,
  type StreamState,
  type StreamTotals,
} from '../gen/taplane/lane/v1/lane_service.ts';
import type { ProbeLinkRequest, ProbeLinkResponse } from '../gen/taplane/v1/link_service.ts';
import { Attachments } from './attachments.ts';
import { Devices } from './devices.ts';
import { FlowConnections } from './flow-connection.ts';
import { probe } from './link/probe.ts';
import { Meters } from './meters.ts';
import { type LaneLog, type PacketServer, startPacketServer } from './packet-server.ts';
import { Streams } from './streams.ts';

export interface Lane {
  setAttachments(wanted: readonly Attachment[], flowLimits?: FlowLimits): void;
  attachments(): AttachmentState[];
  streams(): StreamState[];
  /** Of all streams since the start. */
  streamTotals(): StreamTotals;
  /** It holds something: a declared attachment that could be made, or a stream. 'metering' when that is all that it does. */
  isUsed(): boolean | 'metering';
  /** Probes a peer of a link. Throws TaplaneError. */
  probe(linkUid: string, request: ProbeLinkRequest, signal: AbortSignal): AsyncIterable<ProbeLinkResponse>;
  close(): Promise<void>;
}

/** Opens a lane whose packet socket is `packetSocket`. */
export async function openLane(packetSocket: string, log: LaneLog): Promise<Lane> {
  const devices = new Devices();
  const meters = new Meters();
  const attachments = new Attachments(devices, meters);
  const streams = new Streams(devices);
  const server: PacketServer = await startPacketServer(packetSocket, streams, new FlowConnections(meters.outbox), log);
  return {
    setAttachments(wanted, flowLimits) {
      if (flowLimits !== undefined) meters.limit(flowLimits);
      attachments.set(wanted);
    },
    attachments: () => attachments.states(),
    streams: () => streams.states(),
    streamTotals: () => streams.totals(),
    probe: (linkUid, request, signal) => probe(linkUid, attachments.link(linkUid), request, signal),
    isUsed() {
      const held = attachments.states().filter(({ attached }) => attached);
      if (streams.size > 0 || held.some(({ kind }) => kind !== Kind.METER)) return true;
      return held.length > 0 || meters.isBusy ? 'metering' : false;
    },
    async close() {
      // While the agent still listens: nobody else can tell of these flows.
      await meters.close();
      await server.close();
      streams.close();
      attachments.close();
      devices.close();
    },
  };
}
