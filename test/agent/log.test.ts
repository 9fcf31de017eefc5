// The level of a log while the process runs, and what is kept of its lines.

import { afterEach, describe, expect, test, vi } from 'vitest';
import { openLog } from '../../src/agent/log.ts';
import { setLogLevel } from '../../src/agent/log-level.ts';
import { LogLevel, SetLogLevelRequest } from '../../src/gen/taplane/v1/node_service.ts';

afterEach(() => void vi.useRealTimers());

function opened(level: 'info' | 'warn' = 'info') {
  const lines: string[] = [];
  const log = openLog(level, { write: (line) => void lines.push(line) });
  return { log, lines, messages: () => lines.map((line) => (JSON.parse(line) as { msg: string }).msg) };
}

const request = (level: LogLevel, seconds?: bigint): SetLogLevelRequest =>
  SetLogLevelRequest.fromPartial({ level, ...(seconds === undefined ? {} : { duration: { seconds, nanos: 0 } }) });

describe('level', () => {
  test('debug for a while, then as configured by itself', () => {
    vi.useFakeTimers({ now: 1_700_000_000_000 });
    const { log, messages } = opened();
    log.debug({}, 'before');
    const answer = setLogLevel(log, request(LogLevel.DEBUG, 600n));
    expect(answer).toEqual({ level: LogLevel.DEBUG, configuredLevel: LogLevel.INFO, expireTime: { seconds: 1_700_000_600n, nanos: 0 } });
    log.debug({}, 'within');
    vi.advanceTimersByTime(599_999);
    expect(log.level).toBe('debug');
    vi.advanceTimersByTime(1);
    expect([log.level, log.expiresMs]).toEqual(['info', undefined]);
    log.debug({}, 'after');
    expect(messages()).toEqual(['log level set', 'within']);
  });

  test('set anew forgets the end of the one before', () => {
    vi.useFakeTimers();
    const { log } = opened();
    setLogLevel(log, request(LogLevel.DEBUG, 10n));
    expect(setLogLevel(log, request(LogLevel.ERROR)).expireTime).toBeUndefined();
    vi.advanceTimersByTime(60_000);
    expect(log.level).toBe('error');
    expect(setLogLevel(log, request(LogLevel.UNSPECIFIED)).level).toBe(LogLevel.INFO);
  });

  test('is told also when it is lowered', () => {
    const { log, messages } = opened();
    setLogLevel(log, request(LogLevel.ERROR));
    log.warn({}, 'not seen');
    expect(messages()).toEqual(['log level set']);
  });

  test.each([
    [9 as LogLevel, undefined, 'level'],
    [LogLevel.DEBUG, 0n, 'duration'],
    [LogLevel.DEBUG, 86_401n, 'duration'],
    [LogLevel.DEBUG, -1n, 'duration'],
  ])('%s for %s s is refused', (level, seconds, field) => {
    const { log } = opened();
    expect(() => setLogLevel(log, request(level, seconds))).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', fields: [expect.objectContaining({ field })] }),
    );
    expect(log.level).toBe('info');
  });
});

describe('what is kept', () => {
  test('the last lines, bounded, and how many there were of each level', () => {
    const { log } = opened();
    for (let index = 0; index < 5_000; index++) log.info({ id: `${index}`.padStart(200, '.') }, 'line');
    log.warn({ id: 'x'.repeat(100_000) }, 'long');
    const tail = log.tail();
    expect(tail.join('').length).toBeLessThanOrEqual(256 * 1024);
    expect(tail.length).toBeGreaterThan(500);
    expect(JSON.parse(tail.at(-2) as string)).toMatchObject({ id: expect.stringMatching(/4999$/) });
    expect(tail.at(-1)).toMatch(/^\{"level":"warn".*\(100\d+ characters\)\n$/);
    expect(log.lines()).toEqual({ debug: 0, info: 5000, warn: 1, error: 0 });
  });
});
