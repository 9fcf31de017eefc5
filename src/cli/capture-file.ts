// A capture as a pcapng file or pipe. However it ends - a limit, Ctrl-C, a reader that has seen enough, an agent that is gone - the file is
// whole and says how many packets were dropped.

import type { PacketBatch } from '../gen/taplane/v1/packet.ts';
import { CapturePacketsRequest_Format } from '../gen/taplane/v1/packet_service.ts';
import { type CaptureLimits, captureRequest, type PacketOptions } from './capture-request.ts';
import { CaptureTail } from './capture-tail.ts';
import { UsageError } from './exit-code.ts';
import { firstAnswer } from './first-answer.ts';
import { interruption } from './interruption.ts';
import { sum, totalsLines } from './packet-account.ts';
import { type ProgressState, progress } from './progress.ts';
import { type Settings, withClient } from './settings.ts';
import { openSink } from './sink.ts';

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
    await capture(name, path, options, settings, tail);
  } finally {
    if (tail.bytes > 0) for (const line of totalsLines(tail.totals.all, BigInt(tail.packets))) shown.say(line);
  }
}

/** Writes to `path` what `tail` then knows of. Opens it with the first answer: a refusal leaves no empty file. */
export async function capture(
  name: string,
  path: string,
  options: PacketOptions & CaptureLimits,
  settings: Settings,
  tail = new CaptureTail(),
): Promise<void> {
  const request = captureRequest(name, CapturePacketsRequest_Format.PCAPNG, options);
  using interrupted = interruption();
  using answer = firstAnswer(`capture ${name}`, settings, interrupted.stop);
  await withClient(settings, async (client) => {
    const batches = client.packets.capture(request, interrupted.signal)[Symbol.asyncIterator]();
    const first = await batches.next();
    answer.came();
    if (first.done) return answer.check();
    let isRead = true;
    await using sink = await openSink(path);
    try {
      for (let next: IteratorResult<PacketBatch> = first; !next.done && isRead; next = await batches.next()) {
        tail.take(next.value, nowNs());
        isRead = await sink.write(next.value.pcapng);
      }
    } finally {
      if (isRead) await sink.write(tail.end(nowNs()));
      await batches.return?.();
    }
  });
}

function progressOf(tail: CaptureTail, { count, bytes, duration }: PacketOptions & CaptureLimits, passedMs: number): ProgressState {
  // The limit that is nearest.
  const shares = [count && tail.packets / count, bytes && tail.bytes / bytes, duration && passedMs / duration];
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
