// What packet replay does: reads, waits until a packet is due, sends what is due together. Answers whether the interface took every packet.

import { setTimeout as sleep } from 'node:timers/promises';
import { InjectTotals } from '../gen/taplane/v1/packet.ts';
import type { CapturedPacket } from '../packet/capture-reader.ts';
import { UsageError } from './exit-code.ts';
import { type Injection, inject } from './injection.ts';
import { type Interruption, interruption } from './interruption.ts';
import { message, printDocument } from './output.ts';
import { packets, rejections, sum } from './packet-account.ts';
import { progress } from './progress.ts';
import { capturedPace, type Pace, steadyPace, topSpeed } from './replay-pace.ts';
import { ReplaySource } from './replay-source.ts';
import { type Settings, withClient } from './settings.ts';

/** Frames of a request, and their bytes, before they are sent. */
const BATCH_FRAMES = 512;
const BATCH_BYTES = 16 * 1024;

/** Link types of tcpdump.org/linktypes whose packets begin with an IP header: RAW, its older numbers, IPV4, IPV6. */
const IP = [101, 12, 14, 228, 229];
const WORDS: Record<number, string> = { 1: 'Ethernet frames', 101: 'IP packets' };

export interface ReplayOptions {
  rate?: number;
  speed?: number;
  topSpeed?: boolean;
  loop: number;
  progress: boolean;
}

export async function replay(name: string, path: string, options: ReplayOptions, settings: Settings): Promise<boolean> {
  if (options.loop < 1) throw new UsageError('--loop must be at least 1');
  if (path === '-' && options.loop > 1) throw new UsageError('--loop needs a file: standard input can be read once');
  const source = await ReplaySource.open(path);
  using interrupted = interruption();
  return await withClient(settings, async (client) => {
    const injection = await inject(client, name, settings);
    const player = new Player(name, path, injection, interrupted);
    const startMs = performance.now();
    const fullSize = source.size && source.size * options.loop;
    {
      using _shown = progress(() => player.progress(fullSize && source.bytesRead / fullSize), { wanted: options.progress });
      try {
        await player.play(source, options);
      } catch (error) {
        // What is wrong with the file is told after what became of the packets before it.
        if (!(error instanceof UsageError)) throw error;
        const totals = await injection.finish();
        if (player.sent > 0) tell(totals, player, performance.now() - startMs);
        throw error;
      }
      await injection.finish();
    }
    const { totals } = injection;
    const passedMs = performance.now() - startMs;
    if (settings.output === 'json' || settings.output === 'yaml')
      await printDocument(settings.output, {
        ...(InjectTotals.toJSON(totals) as object),
        skipped: player.skipped,
        seconds: passedMs / 1000,
      });
    else tell(totals, player, passedMs);
    return sum(totals.rejected) === 0n;
  });
}

function tell(totals: InjectTotals, { sent, bytes, skipped }: Player, passedMs: number): void {
  const seconds = passedMs / 1000;
  const [perSecond, megabits] = [Math.round(sent / seconds), (bytes * 8) / seconds / 1e6];
  message(`${packets(sent)} sent in ${seconds.toFixed(seconds < 10 ? 2 : 0)} s: ${perSecond} a second, ${megabits.toFixed(1)} Mbit/s`);
  message(`${packets(totals.accepted)} accepted`);
  for (const { reason, count } of rejections(totals)) message(`${packets(count)} rejected: ${reason}`);
  if (skipped > 0) message(`${packets(skipped)} passed over: cut when they were captured`);
}

/** Sends packets when they are due. */
class Player {
  sent = 0;
  bytes = 0;
  /** Packets that were not whole. */
  skipped = 0;
  readonly #name: string;
  readonly #path: string;
  readonly #injection: Injection;
  readonly #interrupted: Interruption;
  #batch: Buffer[] = [];
  #batchBytes = 0;

  constructor(name: string, path: string, injection: Injection, interrupted: Interruption) {
    this.#name = name;
    this.#path = path;
    this.#injection = injection;
    this.#interrupted = interrupted;
  }

  progress(done: number | undefined) {
    return { packets: this.sent, bytes: this.bytes, dropped: Number(sum(this.#injection.totals.rejected)), done };
  }

  async play(source: ReplaySource, { rate, speed, topSpeed: pauseless, loop }: ReplayOptions): Promise<void> {
    const captured = capturedPace(speed ?? 1);
    const pace = pauseless ? topSpeed : rate === undefined ? captured : steadyPace(rate);
    const startMs = performance.now();
    for (let round = 0; round < loop && !this.#interrupted.signal.aborted; round += 1) {
      await this.#round(source, pace, startMs);
      captured.nextRound();
    }
    if (!this.#interrupted.signal.aborted) await this.#flush();
  }

  async #round(source: ReplaySource, pace: Pace, startMs: number): Promise<void> {
    for await (const piece of source.packets(this.#interrupted.signal)) {
      for (const packet of piece) {
        if (this.#interrupted.signal.aborted) return;
        this.#check(packet);
        // A packet that is not sent keeps its place in time.
        const dueMs = startMs + pace(packet);
        if (packet.bytes.length < packet.originalLength) {
          this.skipped += 1;
          continue;
        }
        if (dueMs > performance.now()) await this.#waitUntil(dueMs);
        if (this.#interrupted.signal.aborted) return;
        await this.#add(packet.bytes);
      }
    }
  }

  #check({ linkType }: CapturedPacket): void {
    const wanted = this.#injection.linkType;
    if (linkType === wanted || (wanted === 101 && IP.includes(linkType))) return;
    const words = (type: number): string => `${WORDS[type] ?? 'other packets'} (link type ${type})`;
    const kind = wanted === 1 ? 'a TUN' : 'a TAP';
    throw new UsageError(
      `replay ${this.#path} into ${this.#name}: the file holds ${words(linkType)}, the interface carries ${words(wanted)}; such a file needs ${kind}`,
    );
  }

  async #waitUntil(dueMs: number): Promise<void> {
    await this.#flush();
    for (let leftMs = dueMs - performance.now(); leftMs > 0 && !this.#interrupted.signal.aborted; leftMs = dueMs - performance.now()) {
      // setTimeout counts in 31 bits.
      await sleep(Math.min(leftMs, 2 ** 30), undefined, { signal: this.#interrupted.signal }).catch(() => {});
    }
  }

  async #add(frame: Buffer): Promise<void> {
    this.#batch.push(frame);
    this.#batchBytes += frame.length;
    if (this.#batchBytes >= BATCH_BYTES || this.#batch.length >= BATCH_FRAMES) await this.#flush();
  }

  async #flush(): Promise<void> {
    const [frames, bytes] = [this.#batch, this.#batchBytes];
    if (frames.length === 0) return;
    this.#batch = [];
    this.#batchBytes = 0;
    this.sent += frames.length;
    this.bytes += bytes;
    await this.#injection.send(frames);
  }
}
