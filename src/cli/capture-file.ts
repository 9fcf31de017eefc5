// A capture as a pcapng file or pipe. However it ends - a limit, Ctrl-C, a reader that has seen enough, an agent that is gone - the file is
// whole and says how many packets were dropped. After a lost connection the same file goes on.

import { CapturePacketsRequest_Format } from '../gen/taplane/v1/packet_service.ts';
import { attachedLine, type CaptureLimits, type PacketOptions } from './capture-request.ts';
import { captureSpans } from './capture-spans.ts';
import { CaptureTail } from './capture-tail.ts';
import { UsageError } from './exit-code.ts';
import { interruption } from './interruption.ts';
import { sum, totalsLines } from './packet-account.ts';
import { type ProgressState, progress } from './progress.ts';
import type { Settings } from './settings.ts';
import { openSink, type Sink } from './sink.ts';

export async function write(
  name: string,
  path: string,
  options: PacketOptions & CaptureLimits & { progress: boolean },
  settings: Settings,
): Promise<void> {
  if (path === '-' && process.stdout.isTTY)
    throw new UsageError(
      `standard output is a terminal: give a file, or a pipe such as: taplane capture ${name} -w - | wireshark -k -i -; without -w there is a line a packet`,
    );
  const tail = new CaptureTail();
  const startMs = performance.now();
  using shown = progress(() => progressOf(tail, options, performance.now() - startMs), { wanted: options.progress });
  try {
    await capture(name, options, settings, { open: () => openSink(path), tail, say: shown.say });
  } finally {
    if (tail.bytes > 0) for (const line of totalsLines(tail.totals.all, BigInt(tail.packets))) shown.say(line);
  }
}

export interface CaptureTarget {
  /** Called with the first answer: a refusal leaves no empty file. */
  open(): Promise<Sink>;
  /** Knows afterwards what was written. */
  tail: CaptureTail;
  say(text: string): void;
}

export async function capture(
  name: string,
  options: PacketOptions & CaptureLimits,
  settings: Settings,
  { open, tail, say }: CaptureTarget,
): Promise<void> {
  using interrupted = interruption();
  const taken = () => ({ packets: tail.packets, bytes: tail.packetBytes });
  const needs = { settings, interrupted, say, taken };
  let sink: Sink | undefined;
  let isRead = true;
  try {
    for await (const batch of captureSpans(name, CapturePacketsRequest_Format.PCAPNG, options, needs)) {
      sink ??= await open();
      if (batch.opened !== undefined) say(attachedLine('capturing', name, batch.opened));
      isRead = await sink.write(tail.take(batch, nowNs()));
      if (!isRead) break;
    }
  } finally {
    try {
      if (isRead) await sink?.write(tail.end(nowNs()));
    } finally {
      await sink?.[Symbol.asyncDispose]();
    }
  }
}

function progressOf(tail: CaptureTail, { count, bytes, duration }: PacketOptions & CaptureLimits, passedMs: number): ProgressState {
  // The limit that is nearest.
  const shares = [count && tail.packets / count, bytes && tail.packetBytes / bytes, duration && passedMs / duration];
  const limits = shares.filter((share) => share !== undefined && share > 0);
  return {
    packets: tail.packets,
    bytes: tail.bytes,
    dropped: Number(sum(tail.totals.all.dropped)),
    done: limits.length === 0 ? undefined : Math.max(...(limits as number[])),
  };
}

function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}
