// What a process knows of itself: processor time, memory, descriptors, how late its event loop is, garbage collections. Watching costs a timer of
// 20 ms inside Node and a callback a collection.

import { readdirSync, readFileSync } from 'node:fs';
import { constants, monitorEventLoopDelay, PerformanceObserver, performance } from 'node:perf_hooks';
import type { ProcessFacts } from '../metrics/snapshot.ts';

const RESOLUTION_MS = 20;
const NANOS = 1e9;

const GC_KINDS: Readonly<Record<number, string>> = {
  [constants.NODE_PERFORMANCE_GC_MINOR]: 'minor',
  [constants.NODE_PERFORMANCE_GC_MAJOR]: 'major',
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: 'incremental',
  [constants.NODE_PERFORMANCE_GC_WEAKCB]: 'weakcb',
};

/** An entry of the type `gc`. */
interface CollectionEntry {
  readonly duration: number;
  readonly detail?: { readonly kind?: number };
}

export interface ProcessWatch {
  /** Delays and utilization are those since the last call. */
  facts(): ProcessFacts;
  close(): void;
}

export function watchProcess(): ProcessWatch {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  const gc: Record<string, { count: number; seconds: number }> = {};
  for (const kind of Object.values(GC_KINDS)) gc[kind] = { count: 0, seconds: 0 };
  const observer = new PerformanceObserver((list) => {
    for (const { detail, duration } of list.getEntries() as CollectionEntry[]) {
      const of = gc[GC_KINDS[detail?.kind ?? 0] ?? ''];
      if (of === undefined) continue;
      of.count++;
      of.seconds += duration / 1000;
    }
  });
  observer.observe({ entryTypes: ['gc'] });
  const maxFds = softFdLimit();
  let loop = performance.eventLoopUtilization();
  return {
    facts() {
      const { user, system } = process.cpuUsage();
      const { rss, heapUsed, heapTotal, external } = process.memoryUsage();
      const since = performance.eventLoopUtilization(loop);
      loop = performance.eventLoopUtilization();
      const loopDelay = { mean: late(delay.mean), p99: late(delay.percentile(99)), max: late(delay.max) };
      delay.reset();
      return {
        startTimeMs: performance.timeOrigin,
        userCpuSeconds: user / 1e6,
        systemCpuSeconds: system / 1e6,
        residentBytes: rss,
        heapUsedBytes: heapUsed,
        heapTotalBytes: heapTotal,
        externalBytes: external,
        openFds: openFds(),
        maxFds,
        loopDelay,
        loopUtilization: since.utilization,
        gc: Object.fromEntries(Object.entries(gc).map(([kind, counts]) => [kind, { ...counts }])),
      };
    },
    close() {
      delay.disable();
      observer.disconnect();
    },
  };
}

/** The histogram holds times between two rounds of the timer: what is beyond its period was late. NaN while it holds none. */
function late(nanos: number): number {
  return Number.isFinite(nanos) && nanos > 0 ? Math.max(0, nanos / NANOS - RESOLUTION_MS / 1000) : 0;
}

function openFds(): number {
  try {
    // The list itself is read through one.
    return readdirSync('/proc/self/fd').length - 1;
  } catch {
    return 0;
  }
}

function softFdLimit(): number {
  try {
    return Number(/^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
