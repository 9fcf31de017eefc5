// A capture for Wireshark, into the fifo that it made, until it sends SIGTERM or reads no more; and the check of a filter before it.

import { CapturePacketsRequest_Format } from '../gen/taplane/v1/packet_service.ts';
import { capture } from './capture-file.ts';
import { captureRequest, type PacketOptions } from './capture-request.ts';
import { CaptureTail } from './capture-tail.ts';
import { UsageError } from './exit-code.ts';
import type { ExtcapOptions } from './extcap.ts';
import { deviceOf } from './extcap-answer.ts';
import { print } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import { openSink } from './sink.ts';

export async function capturing(options: ExtcapOptions, settings: Settings): Promise<void> {
  if (options.fifo === undefined) throw new UsageError('--capture needs --fifo');
  const name = deviceOf(options.extcapInterface);
  // Before anything that may fail: whoever reads waits for ever when nobody has opened the other end. After a failure it is closed by the
  // end of the process, when the reason has been told: a reader that sees the end first asks for no reason.
  const sink = await openSink(options.fifo);
  // Wireshark takes every word on stderr for an error.
  await capture(name, wanted(options), settings, { open: async () => sink, tail: new CaptureTail(), say() {} });
}

/** Prints why a filter is refused, and nothing when it is not: only the agent has the libpcap that will compile it. */
export async function checkFilter(options: ExtcapOptions, settings: Settings): Promise<void> {
  const request = captureRequest(deviceOf(options.extcapInterface), CapturePacketsRequest_Format.FRAMES, wanted(options));
  try {
    await withClient(settings, async (client) => {
      for await (const _ of client.packets.capture(request, AbortSignal.timeout(settings.timeout))) return;
    });
  } catch (error) {
    if ((error as { code?: string }).code !== 'INVALID_ARGUMENT') throw error;
    print(`${(error as Error).message}\n`);
  }
}

function wanted({ extcapCaptureFilter, snapLength, direction }: ExtcapOptions): PacketOptions {
  return {
    ...(extcapCaptureFilter !== undefined && { filter: extcapCaptureFilter }),
    ...(snapLength !== undefined && { snapLength }),
    ...(direction !== undefined && { direction }),
  };
}
