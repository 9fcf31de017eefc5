// A capture without a file: a line, or a document, for each packet, losses as they happen, and a summary at the end.

import { CapturePacketsRequest_Format } from '../gen/taplane/v1/packet_service.ts';
import { type CaptureLimits, captureRequest, type PacketOptions } from './capture-request.ts';
import { firstAnswer } from './first-answer.ts';
import { interruption } from './interruption.ts';
import { lossTeller } from './loss-teller.ts';
import { message } from './output.ts';
import { Totals, totalsLines } from './packet-account.ts';
import { packetPrinter } from './packet-print.ts';
import { type Settings, withClient } from './settings.ts';

export async function print(name: string, options: PacketOptions & CaptureLimits, settings: Settings): Promise<void> {
  const printer = await packetPrinter(settings);
  const request = captureRequest(name, CapturePacketsRequest_Format.FRAMES, options);
  using interrupted = interruption();
  using answer = firstAnswer(`capture ${name}`, settings, interrupted.stop);
  const totals = new Totals();
  let linkType = 0;
  let count = 0;
  let begun = false;
  try {
    using losses = lossTeller(message);
    await withClient(settings, async (client) => {
      for await (const batch of client.packets.capture(request, interrupted.signal)) {
        answer.came();
        begun = true;
        linkType = batch.opened?.linkType ?? linkType;
        totals.take(batch);
        count += await printer(batch, linkType);
        losses.take(batch.lost);
      }
    });
    await answer.check();
  } finally {
    if (begun) for (const line of totalsLines(totals.all, BigInt(count))) message(line);
  }
}
