// A capture without a file: a line, or a document, for each packet, losses as they happen, and a summary at the end.

import { CapturePacketsRequest_Format } from '../gen/taplane/v1/packet_service.ts';
import { attachedLine, type CaptureLimits, type PacketOptions } from './capture-request.ts';
import { captureSpans } from './capture-spans.ts';
import { interruption } from './interruption.ts';
import { lossTeller } from './loss-teller.ts';
import { message } from './output.ts';
import { Totals, totalsLines } from './packet-account.ts';
import { packetPrinter } from './packet-print.ts';
import type { Settings } from './settings.ts';

export async function print(name: string, options: PacketOptions & CaptureLimits, settings: Settings): Promise<void> {
  const printer = await packetPrinter(settings);
  using interrupted = interruption();
  const totals = new Totals();
  const seen = { packets: 0, bytes: 0 };
  const needs = { settings, interrupted, say: message, taken: () => seen };
  let linkType: number | undefined;
  try {
    using losses = lossTeller(message);
    for await (const batch of captureSpans(name, CapturePacketsRequest_Format.FRAMES, options, needs)) {
      if (batch.opened !== undefined) {
        if (linkType !== undefined) totals.begin();
        linkType = batch.opened.linkType;
        message(attachedLine('capturing', name, batch.opened));
      }
      totals.take(batch);
      seen.packets += await printer(batch, linkType ?? 0);
      seen.bytes += batch.frames.reduce((bytes, { data }) => bytes + data.length, 0);
      losses.take(batch.lost);
    }
  } finally {
    if (linkType !== undefined) for (const line of totalsLines(totals.all, BigInt(seen.packets))) message(line);
  }
}
