// The agent's log: one JSON object a line, to stderr, written before the call returns, so that the last words before a crash are
// there. Fields: level, time (RFC 3339), msg, and a fixed vocabulary: interface, step, errno, reason, cure, address, addresses,
// server, version, pid, port, signal, path, error, startup_ms, duration_ms, retry_ms. `msg` never holds a value: search by it.

import pino, { type DestinationStream } from 'pino';
import type { Config } from './config.ts';

/** What the rooms need of a log: fields first, then the message. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export function openLog(level: Config['logLevel'], destination: DestinationStream = standardError()): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.err },
    },
    destination,
  );
}

function standardError(): DestinationStream {
  const stream = pino.destination({ dest: 2, sync: true });
  // A log reader that went away (EPIPE) is no reason to end an agent that holds a node's interfaces.
  stream.on('error', () => {});
  return stream;
}
