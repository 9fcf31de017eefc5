// Moments as people write them. Pure.

import { InvalidArgumentError } from 'commander';
import type { Timestamp } from '../gen/google/protobuf/timestamp.ts';

const UNIT_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** `5m`, `1h30m`, `2d`: so long before `nowMs`; or a date and time, `2026-01-02T03:04:05Z`, of this place where it names no zone. */
export function parseMoment(text: string, nowMs: number): Timestamp {
  const ms = /^(\d+(\.\d+)?(ms|s|m|h|d|w))+$/.test(text)
    ? [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d|w)/g)].reduce(
        (at, [, count, unit]) => at - Number(count) * (UNIT_MS[unit ?? ''] ?? 0),
        nowMs,
      )
    : /^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$/.test(text)
      ? Date.parse(text.replace(' ', 'T'))
      : Number.NaN;
  if (!Number.isFinite(ms))
    throw new InvalidArgumentError('Expected how long ago, such as 5m or 1h30m, or a time such as 2026-01-02T03:04:05Z.');
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) };
}
