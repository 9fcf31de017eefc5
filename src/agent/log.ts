// The log of a process: one JSON object a line, to stderr, written before the call returns, so that the last words before a crash are there.
// Fields are `level`, `time` (RFC 3339), `msg` and those of LOG_FIELDS, nothing else. `msg` never holds a value: search by it. The last lines are
// kept in memory for support bundles. What is logged can be changed while the process runs, for a while or until it ends.

import pino, { type DestinationStream } from 'pino';
import type { Config } from './config.ts';

/** What the rooms need of a log: fields first, then the message. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export type Level = Config['logLevel'];

/** Whether the log knows a level of this name. */
export function isLevel(text: string): text is Level {
  return ['debug', 'info', 'warn', 'error'].includes(text);
}

/** The log of an agent, with what may be asked of it and changed. */
export interface AgentLog extends Log {
  readonly configured: Level;
  readonly level: Level;
  /** When it is as configured again, milliseconds since 1970; undefined: not by itself. */
  readonly expiresMs: number | undefined;
  /** From now on, until `forMs` have passed or, without, until it is set anew. At most 2^31 ms. */
  setLevel(level: Level, forMs?: number): void;
  /** Lines since the start, by level. */
  lines(): Record<Level, number>;
  /** The last lines, each with its newline, oldest first: at most TAIL_BYTES. */
  tail(): string[];
}

const TAIL_BYTES = 256 * 1024;
/** A line that is longer is kept as a word about it. */
const TAIL_LINE_MOST = 16 * 1024;
const LEVEL = /^\{"level":"(debug|info|warn|error)"/;

/** Every field that a line may have besides `level`, `time` and `msg`, and what it holds. `test/agent/log-fields.test.ts` reads all calls. */
export const LOG_FIELDS = {
  address: 'address that was asked for or taken, without credentials',
  addresses: 'addresses that are served',
  bad_records: 'records of the state that did not read',
  bytes: 'size in bytes',
  collector: 'IPFIX collector, `host:port`',
  corrupt_files: 'files of the state that were put aside',
  count: 'how many of these there were since the last line',
  cure: 'what to do',
  details: 'more about an error, by name',
  duration_ms: 'how long it took',
  err: 'what went wrong, in words',
  ephemeral: 'the interface is to go with the agent',
  error: 'an unexpected error, with type and stack',
  error_id: 'id that the client was told',
  event: 'kind of an event',
  events: 'number of events',
  failures: 'failures in a row or since the start',
  file: 'path of a file',
  id: 'id of a message',
  identities: 'number of identities that have roles',
  in_force: 'version of the policy that stays in force',
  interface: 'kernel name of an interface',
  lane: 'name of a data-plane process',
  line: 'line of another program',
  link: 'id of a link',
  log_level: 'the least that is logged',
  lost: 'how many were lost',
  messages: 'number of messages',
  namespace: 'network namespace; empty for that of the agent',
  not_after: 'end of a certificate',
  path: 'method of the API, or path of a file',
  phase: 'what was under way with an interface when the agent before ended',
  pid: 'process id',
  port: 'port number',
  problems: 'what is wrong with a file',
  reason: 'why, in one word (UPPER_SNAKE_CASE) or in a sentence',
  retry_ms: 'when it is tried again',
  roles: 'number of roles',
  server: 'server of NATS, without credentials',
  signal: 'signal that was received',
  socket: 'path of a socket',
  startup_ms: 'how long the start took',
  step: 'part of a start, a stop or a change',
  steps: 'changes of the kernel, as `ip` would write them, or their number',
  subject: 'subject of NATS',
  subjects: 'subjects of NATS',
  version: 'version of a program',
  waiting: 'how many wait',
} as const;

/** Writes to stderr unless told otherwise. */
export function openLog(level: Level, destination: DestinationStream = standardError()): AgentLog {
  const tail = new Tail();
  const lines = { debug: 0, info: 0, warn: 0, error: 0 };
  const logger = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.err },
    },
    {
      write(line) {
        const of = LEVEL.exec(line)?.[1] as Level | undefined;
        if (of !== undefined) lines[of]++;
        tail.add(line);
        destination.write(line);
      },
    },
  );
  let fallBack: NodeJS.Timeout | undefined;
  let expiresMs: number | undefined;
  const set = (to: Level): void => {
    logger.level = to;
  };
  return {
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    configured: level,
    get level() {
      return logger.level as Level;
    },
    get expiresMs() {
      return expiresMs;
    },
    setLevel(to, forMs) {
      clearTimeout(fallBack);
      expiresMs = undefined;
      set(to);
      if (forMs === undefined || to === level) return;
      expiresMs = Date.now() + forMs;
      fallBack = setTimeout(() => {
        expiresMs = undefined;
        set(level);
      }, forMs);
      fallBack.unref();
    },
    lines: () => ({ ...lines }),
    tail: () => tail.lines(),
  };
}

class Tail {
  #lines: string[] = [];
  #bytes = 0;

  add(line: string): void {
    const kept = line.length <= TAIL_LINE_MOST ? line : `${line.slice(0, 120).replaceAll(/[\r\n]/g, ' ')}... (${line.length} characters)\n`;
    this.#lines.push(kept);
    this.#bytes += kept.length;
    if (this.#bytes <= TAIL_BYTES) return;
    // A quarter at a time: taking one line off the front of a long list at each line costs more than the line.
    let drop = 0;
    while (this.#bytes > (TAIL_BYTES * 3) / 4 && drop < this.#lines.length) this.#bytes -= this.#lines[drop++]?.length ?? 0;
    this.#lines = this.#lines.slice(drop);
  }

  lines(): string[] {
    return [...this.#lines];
  }
}

function standardError(): DestinationStream {
  const stream = pino.destination({ dest: 2, sync: true });
  // A log reader that went away (EPIPE) is no reason to end an agent that holds a node's interfaces.
  stream.on('error', () => {});
  return stream;
}
