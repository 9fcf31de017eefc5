// What `node log-level` does.

import { LogLevel, logLevelToJSON, SetLogLevelResponse } from '../gen/taplane/v1/node_service.ts';
import { print, printDocument } from './output.ts';
import { type Settings, withClient } from './settings.ts';

export type LevelWord = 'debug' | 'info' | 'warn' | 'error' | 'default';

const LEVELS: Readonly<Record<LevelWord, LogLevel>> = {
  debug: LogLevel.DEBUG,
  info: LogLevel.INFO,
  warn: LogLevel.WARN,
  error: LogLevel.ERROR,
  default: LogLevel.UNSPECIFIED,
};

export async function setLevel(word: LevelWord, forMs: number | undefined, settings: Settings): Promise<void> {
  await withClient(settings, async ({ node }) => {
    const duration = forMs === undefined ? undefined : { seconds: BigInt(Math.floor(forMs / 1000)), nanos: Math.round(forMs % 1000) * 1e6 };
    const answer = await node.setLogLevel({ level: LEVELS[word], duration });
    if (settings.output === 'json' || settings.output === 'yaml') return printDocument(settings.output, SetLogLevelResponse.toJSON(answer));
    const { level, configuredLevel, expireTime } = answer;
    const until = expireTime === undefined ? '' : `, until ${new Date(Number(expireTime.seconds) * 1000).toISOString()}`;
    print(`log level ${wordOf(level)}${until} (configured: ${wordOf(configuredLevel)})\n`);
  });
}

function wordOf(level: LogLevel): string {
  return logLevelToJSON(level).replace('LOG_LEVEL_', '').toLowerCase();
}
