// SetLogLevel: levels of the API to those of the log, and how long they hold.

import { invalidFields } from '../errors.ts';
import { LogLevel, type SetLogLevelRequest, type SetLogLevelResponse } from '../gen/taplane/v1/node_service.ts';
import { timestamp } from '../resource/timestamp.ts';
import type { AgentLog, Level } from './log.ts';

const FOR_LEAST_MS = 1_000;
const FOR_MOST_MS = 86_400_000;

const LEVELS: Readonly<Record<number, Level>> = {
  [LogLevel.DEBUG]: 'debug',
  [LogLevel.INFO]: 'info',
  [LogLevel.WARN]: 'warn',
  [LogLevel.ERROR]: 'error',
};
const NUMBERS: Readonly<Record<Level, LogLevel>> = {
  debug: LogLevel.DEBUG,
  info: LogLevel.INFO,
  warn: LogLevel.WARN,
  error: LogLevel.ERROR,
};

/** Sets the level and says so in the log. Throws INVALID_ARGUMENT. */
export function setLogLevel(log: AgentLog, { level, duration }: SetLogLevelRequest): SetLogLevelResponse {
  const wanted = level === LogLevel.UNSPECIFIED ? log.configured : LEVELS[level];
  const forMs = duration && Number(duration.seconds) * 1000 + duration.nanos / 1e6;
  const violations = [
    ...(wanted === undefined ? [{ field: 'level', description: `${level} is no level` }] : []),
    ...(forMs !== undefined && !(forMs >= FOR_LEAST_MS && forMs <= FOR_MOST_MS)
      ? [{ field: 'duration', description: 'must be 1 s to 24 h' }]
      : []),
  ];
  if (wanted === undefined || violations.length > 0) throw invalidFields(violations);
  const isQuiet = wanted === 'warn' || wanted === 'error';
  const say = (): void => log.info({ log_level: wanted, ...(forMs === undefined ? {} : { duration_ms: forMs }) }, 'log level set');
  // While it can still be seen.
  if (isQuiet) say();
  log.setLevel(wanted, forMs);
  if (!isQuiet) say();
  const { expiresMs } = log;
  return {
    level: NUMBERS[log.level],
    configuredLevel: NUMBERS[log.configured],
    expireTime: expiresMs === undefined ? undefined : timestamp(expiresMs),
  };
}
