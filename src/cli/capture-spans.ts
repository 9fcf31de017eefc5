// A capture over as many connections as it takes. At the agent a capture ends with its connection, so each connection is a span of its own,
// whose first batch has `opened`; what passed between two spans is missing, and that is told.

import type { PacketBatch } from '../gen/taplane/v1/packet.ts';
import type { CapturePacketsRequest_Format as Format } from '../gen/taplane/v1/packet_service.ts';
import type { ClientError } from '../rpc/client.ts';
import { type CaptureLimits, captureRequest, type PacketOptions } from './capture-request.ts';
import { firstAnswer } from './first-answer.ts';
import type { Interruption } from './interruption.ts';
import { Reconnection } from './reconnection.ts';
import { connectOptions, type Settings } from './settings.ts';

export interface SpansNeeds {
  settings: Settings;
  interrupted: Interruption;
  say(text: string): void;
  /** Packets so far, and their kept bytes: a later span gets what is left of the limits. */
  taken(): { packets: number; bytes: number };
}

/** Ends at a limit or with the interruption; throws what is no lost connection. */
export async function* captureSpans(
  name: string,
  format: Format,
  options: PacketOptions & CaptureLimits,
  { settings, interrupted, say, taken }: SpansNeeds,
): AsyncGenerator<PacketBatch> {
  const { connect } = await import('../rpc/client.ts');
  const reconnection = new Reconnection(interrupted.signal, say, 'beginning again: what passes meanwhile is missing');
  const startMs = performance.now();
  for (let left: typeof options | undefined = options; left !== undefined; left = rest(options, taken(), performance.now() - startMs)) {
    await using client = connect(settings.server, connectOptions(settings));
    using answer = firstAnswer(`capture ${name}`, settings, interrupted.stop);
    try {
      for await (const batch of client.packets.capture(captureRequest(name, format, left), interrupted.signal)) {
        answer.came();
        reconnection.connected();
        yield batch;
      }
      return await answer.check();
    } catch (error) {
      if (interrupted.signal.aborted) return await answer.check();
      if (!(await reconnection.again(error as ClientError))) throw error;
    }
  }
}

/** What is left of the limits; undefined when one is reached. */
function rest(
  options: PacketOptions & CaptureLimits,
  taken: { packets: number; bytes: number },
  passedMs: number,
): (PacketOptions & CaptureLimits) | undefined {
  const left = { ...options };
  if (options.count) left.count = options.count - taken.packets;
  if (options.bytes) left.bytes = options.bytes - taken.bytes;
  if (options.duration !== undefined) left.duration = options.duration - passedMs;
  return [left.count ?? 1, left.bytes ?? 1, left.duration ?? 1].some((limit) => limit <= 0) ? undefined : left;
}
